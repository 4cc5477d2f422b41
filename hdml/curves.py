"""The curves of a run as one HTML file that needs nothing beside itself: everything that its log holds, over the steps."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hdml.run import read_log, read_record
from indexing.errors import HdmlError

CURVES = "curves.html"
PANELS: tuple[tuple[str, dict[str, str]], ...] = (
    ("Losses of the embedding", {"metric_loss": "J_m, real tuples", "synthetic_loss": "J_syn, synthetic tuples"}),
    (
        "Losses of generator and classifier",
        {"reconstruction_loss": "J_recon", "label_loss": "J_soft", "classifier_loss": "classifier"},
    ),
    ("How hard, and how much it counts", {"pulling_share": "λ", "real_weight": "exp(−β/J_gen), weight of real tuples"}),
    (
        "Distance of negatives, in distances of the positive",
        {"real_distance": "real", "pulled_distance": "pulled", "synthetic_distance": "embedded again"},
    ),
    (
        "Synthetic negatives, share",
        {"label_preservation": "keep their label", "violations": "nearer than the positive"},
    ),
    ("Directions that a batch spreads over", {"effective_rank": "effective rank"}),
    ("Likeness within a batch", {"similarity": "mean cosine of two photos"}),
    ("Validation classes", {"recall_at_1": "R@1", "map_at_r": "MAP@R"}),
)
"""Title and series of every panel, by the names in log.jsonl (:class:`hdml.diagnostics.StepFigures`)."""
_SMOOTHED = 9  # steps of the running mean that is drawn over the raw values
_COLOURS = ("#2f6fde", "#d9822b", "#2e9e6b")


def write_curves(run: Path) -> Path:
    """Draw the log of a run, finished or not, into its curves.html.

    Raises:
        HdmlError: the folder is no run, or has no step logged yet.
    """
    from plotly.graph_objects import Figure, Scatter
    from plotly.subplots import make_subplots

    record, rows = read_record(run), list(read_log(run))
    if not rows:
        raise HdmlError(f"Curves need a run with at least one step, but {run} has logged none.")
    panels = [(title, drawn) for title, names in PANELS if (drawn := _series_of(rows, names))]
    figure: Figure = make_subplots(
        rows=-(-len(panels) // 2),
        cols=2,
        subplot_titles=[_heading(title, drawn) for title, drawn in panels],
        vertical_spacing=0.1,
    )
    for position, (_, drawn) in enumerate(panels):
        place = {"row": position // 2 + 1, "col": position % 2 + 1}
        for (name, steps, values), colour in zip(drawn, _COLOURS, strict=False):
            shared = {"x": steps, "name": name}
            dense = len(values) > 4 * _SMOOTHED
            if dense:
                raw = Scatter(y=values, line={"color": colour, "width": 1}, opacity=0.25, hoverinfo="skip", **shared)
                figure.add_trace(raw, **place)
            mean = running_mean(values, _SMOOTHED) if dense else values
            mode = "lines" if len(values) > 1 else "markers"
            figure.add_trace(Scatter(y=mean, line={"color": colour, "width": 2}, mode=mode, **shared), **place)
    config = record["config"]
    figure.update_layout(
        title=f"{run.name}: {config['loss']}, {config['method']}, {len(rows)} of {config['steps']} steps",
        template="plotly_white",
        height=330 * -(-len(panels) // 2) + 120,
        font={"family": "system-ui, sans-serif"},
        showlegend=False,  # the headings name the colours, each beside its curves
        margin={"t": 140},
        hovermode="x unified",
    )
    target = run / CURVES
    figure.write_html(target, include_plotlyjs=True, config={"displaylogo": False})
    return target


def running_mean(values: Sequence[float], size: int) -> list[float]:
    """Mean of each value and of those up to ``size − 1`` before it."""
    return [sum(values[max(0, end - size) : end]) / min(size, end) for end in range(1, len(values) + 1)]


def _heading(title: str, drawn: Sequence[tuple[str, list[int], list[float]]]) -> str:
    names = " · ".join(
        f'<span style="color:{colour}">{name}</span>' for (name, _, _), colour in zip(drawn, _COLOURS, strict=False)
    )
    return f"<b>{title}</b><br>{names}"


def _series_of(rows: Sequence[dict[str, Any]], names: dict[str, str]) -> list[tuple[str, list[int], list[float]]]:
    """(name, steps, values) of each series that the log holds; validation's lie within an object of their own."""
    found = []
    for key, name in names.items():
        points = [(row["step"] + 1, value) for row in rows if (value := _value(row, key)) is not None]
        if points:
            found.append((name, [step for step, _ in points], [value for _, value in points]))
    return found


def _value(row: dict[str, Any], key: str) -> float | None:
    validation = row.get("validation")
    if key == "recall_at_1":
        return validation["recall_at_k"]["1"] if validation else None
    if key == "map_at_r":
        return validation["map_at_r"] if validation else None
    return row.get(key)
