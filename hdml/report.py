"""A comparison of training arms as one HTML file, as Markdown and as JSON.

The page needs nothing beside itself: photos are small copies inside it, plots are SVG whose horizontal places are percentages,
and a policy in its head forbids the browser to load anything. All text from the user's data is escaped.
"""

import json
import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from hdml.comparison import MEASURES, Answer, Arm, Comparison, Disagreement, Paired, deviation, percent, points
from hdml.significance import Verdict, paired_t
from indexing.page import in_bytes, picture, printable, templates

HTML, MARKDOWN, JSON = "report.html", "report.md", "report.json"
SHOWN_DISAGREEMENTS = 24
PLOTTED = ("map_at_r", "recall_at_1")
_TEMPLATE = "report.html.jinja"
_LEAST_ROOM = 0.01  # of an axis beside its values, in 0–1
_MARKS = {Verdict.BETTER: "▲", Verdict.WORSE: "▼", Verdict.EQUIVALENT: "=", Verdict.INCONCLUSIVE: "?"}
_MARKDOWN_SPECIAL = "\\`*_{}[]()<>#+-!|~&"


def write_report(comparison: Comparison, folder: Path) -> Path:
    """Write report.html, report.md and report.json into ``folder``, which is made, and return the path of the first."""
    folder.mkdir(parents=True, exist_ok=True)
    page = folder / HTML
    page.write_text(to_html(comparison), encoding="utf-8")
    (folder / MARKDOWN).write_text(to_markdown(comparison), encoding="utf-8")
    answer = json.dumps(comparison.to_json(page), indent=2, allow_nan=False)
    (folder / JSON).write_text(answer + "\n", encoding="utf-8")
    return page


@dataclass(frozen=True)
class Axis:
    """From values to horizontal places in percent; what lies beyond an end is drawn at that end."""

    low: float
    high: float

    def at(self, value: float) -> str:
        """Place of a value, such as 43.21%."""
        share = (min(max(value, self.low), self.high) - self.low) / (self.high - self.low)
        return f"{100 * share:.2f}%"

    def holds(self, value: float) -> bool:
        return self.low <= value <= self.high

    def ticks(self) -> list[float]:
        """Some three to six round values within the axis."""
        rough = (self.high - self.low) / 6
        magnitude = 10 ** math.floor(math.log10(rough))
        step = next(factor * magnitude for factor in (1, 2, 5, 10) if factor * magnitude >= rough)
        return [number * step for number in range(math.ceil(self.low / step), math.floor(self.high / step) + 1)]


def axis_of_arms(arms: Sequence[Arm], measure: str) -> Axis:
    """An axis that holds every seed of every arm; intervals of the means that dwarf their range run off its ends."""
    seen = [value for arm in arms for value in arm.measured(measure)]
    room = max(max(seen) - min(seen), _LEAST_ROOM)
    least, most = max(0.0, min(seen) - room), min(1.0, max(seen) + room)
    bounds = [bound for arm in arms for bound in interval_of(arm, measure) if math.isfinite(bound)]
    shown = seen + [min(max(bound, least), most) for bound in bounds]
    return Axis(min(shown) - 0.05 * room, max(shown) + 0.05 * room)


def axis_of_differences(pairs: Sequence[Paired], margin: float) -> Axis:
    """An axis with 0 and the margin in it; intervals that dwarf every difference do not stretch it and run off its ends."""
    differences = [value for pair in pairs for value in pair.per_seed]
    largest = 3 * max(margin, *map(abs, differences))
    bounds = [bound for pair in pairs for bound in (pair.low, pair.high, pair.bootstrap_low, pair.bootstrap_high)]
    seen = [min(max(bound, -largest), largest) for bound in bounds if bound is not None and math.isfinite(bound)]
    low, high = min(*differences, *seen, -1.5 * margin), max(*differences, *seen, 1.5 * margin)
    return Axis(low - 0.04 * (high - low), high + 0.04 * (high - low))


def interval_of(arm: Arm, measure: str) -> tuple[float, float]:
    """The 95 % t-interval of an arm's mean over seeds; infinite when seeds do not tell."""
    found = paired_t(arm.measured(measure))
    return found.low, found.high


def to_html(comparison: Comparison) -> str:
    """The page, whole, photos included."""
    environment = templates(Path(__file__).parent)
    environment.filters |= {
        "points": points,
        "percent": _unbroken,
        "share": _share,
        "bytes": in_bytes,
        "duration": _duration,
        "p": _p,
    }
    margin = comparison.margin
    headline, _, rest = comparison.verdict.partition(". ")
    return printable(
        environment.get_template(_TEMPLATE).render(
            comparison=comparison,
            headline=headline.removesuffix(".") + ".",
            explanation=rest,
            decisive=[pair for pair in comparison.paired if _is_main(pair, comparison)],
            cost=_relative_cost(comparison),
            measures=MEASURES,
            panels=[(measure, axis_of_arms(comparison.arms, measure)) for measure in PLOTTED],
            differences=[
                (measure, pairs, axis_of_differences(pairs, margin)) for measure, pairs in _by_measure(comparison.paired)
            ],
            interval_of=interval_of,
            mean=statistics.fmean,
            deviation=deviation,
            marks=_MARKS,
            margin=margin,
            isfinite=math.isfinite,
            disagreements=comparison.disagreements[:SHOWN_DISAGREEMENTS],
            disagreements_in_all=_disagreements_in_all(comparison),
            picture=lru_cache(lambda path: picture(comparison.photos / path)),
        )
    )


def to_markdown(comparison: Comparison) -> str:
    """The report without plots and pictures, for an issue or a README."""
    sections = [
        f"# {_md(comparison.data)}: comparison of training arms",
        f"**{_md(comparison.verdict)}**",
        "## Arms",
        _table(["arm", *MEASURES.values(), "seconds", "peak memory", "what it is"], map(_arm_row, comparison.arms)),
        "Means over seeds ± standard deviation, in points.",
        "## Paired differences",
        _table(
            ["arm", "against", "measure", "difference", "interval", "other classes", "p", "verdict"],
            map(_pair_row, comparison.paired),
        ),
        "Points, arm minus other, paired by seed. The interval's level and p are after Holm; *other classes* is a "
        "bootstrap over the query classes with the gallery fixed.",
        "## Where arms disagree",
        *_disagreement_lines(comparison),
        "## Left out for the budget",
        "\n".join(f"- {_md(sentence)}" for sentence in comparison.dropped) or "Nothing.",
        "## Protocol",
        _table(["", ""], ([name, value] for name, value in comparison.protocol.items())),
        "## Repeat it",
        "\n".join("    " + line for line in comparison.command.splitlines()),
    ]
    return printable("\n\n".join(sections) + "\n")


def _arm_row(arm: Arm) -> list[str]:
    spreads = [_spread(arm.measured(measure)) for measure in MEASURES]
    return [arm.name, *spreads, _duration(statistics.fmean(arm.seconds)), in_bytes(arm.peak_memory), arm.description]


def _pair_row(pair: Paired) -> list[str]:
    interval = f"{points(pair.low)} to {points(pair.high)} ({percent(pair.level)})" if math.isfinite(pair.low) else "unknown"
    drawn = pair.bootstrap_low is not None
    classes = f"{points(pair.bootstrap_low)} to {points(pair.bootstrap_high)}" if drawn else "not drawn"
    names = [pair.arm, pair.against, MEASURES[pair.measure]]
    return [*names, points(pair.difference), interval, classes, _p(pair.p), str(pair.verdict)]


def _disagreement_lines(comparison: Comparison) -> list[str]:
    if not comparison.disagreements:
        return ["None: every arm is right about the same photos."]
    arms = list(comparison.disagreements[0].answers)
    rows = (
        [_photo(found.query, found.label), *_answers(found, arms)] for found in comparison.disagreements[:SHOWN_DISAGREEMENTS]
    )
    told = f"{len(comparison.disagreements[:SHOWN_DISAGREEMENTS])} of {_disagreements_in_all(comparison)} photos, of one seed."
    return [_table(["photo", *arms], rows), told]


def _answers(found: Disagreement, arms: Sequence[str]) -> list[str]:
    def told(answer: Answer) -> str:
        return ("right: " if answer.right else "wrong: ") + _photo(answer.path, answer.label)

    return [told(found.answers[arm]) for arm in arms]


def _photo(path: Path, label: str) -> str:
    return f"{path.as_posix()} ({label})"


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    cells = [[_md(cell) for cell in row] for row in (head, *rows)]
    return "\n".join("| " + " | ".join(row) + " |" for row in (cells[0], ["---"] * len(cells[0]), *cells[1:]))


def _md(text: str) -> str:
    """Text that Markdown shows as it is, on one line."""
    return "".join("\\" + letter if letter in _MARKDOWN_SPECIAL else letter for letter in " ".join(text.split()))


def _by_measure(pairs: Sequence[Paired]) -> list[tuple[str, list[Paired]]]:
    groups = ((measure, [pair for pair in pairs if pair.measure == measure]) for measure in MEASURES)
    return [(measure, group) for measure, group in groups if group]


def _is_main(pair: Paired, comparison: Comparison) -> bool:
    return (pair.arm, pair.against) == (comparison.method, comparison.reference)


def _relative_cost(comparison: Comparison) -> float | None:
    """Seconds of the method over those of the reference; None when the reference takes none."""
    seconds: dict[str, float] = {arm.name: statistics.fmean(arm.seconds) for arm in comparison.arms}
    return seconds[comparison.method] / seconds[comparison.reference] if seconds[comparison.reference] else None


def _disagreements_in_all(comparison: Comparison) -> int:
    told = comparison.disagreements_in_all
    return len(comparison.disagreements) if told is None else told


def _share(value: float) -> str:
    return f"{100 * value:.1f}"


def _spread(values: Sequence[float]) -> str:
    spread = deviation(values)
    return _share(statistics.fmean(values)) + ("" if spread is None else f" ± {_share(spread)}")


def _unbroken(level: float) -> str:
    return percent(level).replace(" ", "\N{NO-BREAK SPACE}")


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"
