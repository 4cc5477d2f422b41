"""What a person sees while a command works: sentences, progress bars and tables, apart from what a program reads."""

import json
import sys
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID
    from rich.table import Table

    from hdml.comparison import Comparison
    from hdml.train import TrainProgress
    from indexing.gallery import Failure

_MEASURES = ("R@1", "R@2", "R@4", "R@8", "MAP@R", "NMI", "F1")
_PLAIN_SECONDS = 10.0
_LISTED_FAILURES = 20


class Display:
    """Says things to a person: on standard output, or on standard error when a program reads the output.

    Bars are drawn on a terminal; in a log, a line every ten seconds stands in for them. rich is loaded for bars and tables
    alone, since loading it takes longer than many a command.
    """

    def __init__(self, *, json_output: bool) -> None:
        self._stderr = json_output
        self._progress: Progress | None = None
        self._tasks: dict[str, TaskID] = {}
        self._told = 0.0

    @cached_property
    def console(self) -> "Console":
        """What draws bars and tables."""
        from rich.console import Console

        return Console(stderr=self._stderr, highlight=False, soft_wrap=True)

    def say(self, sentence: str) -> None:
        if self._progress is None:
            typer.echo(sentence, err=self._stderr)
        else:
            self.console.print(sentence, markup=False)

    def list_failures(self, failed: "Sequence[Failure]") -> None:
        """The first of what was left out, each with its reason."""
        for failure in failed[:_LISTED_FAILURES]:
            self.say(f"Left out: {failure.path}: {failure.reason}")
        if len(failed) > _LISTED_FAILURES:
            self.say(f"… and {len(failed) - _LISTED_FAILURES} more; --json lists them all.")

    @contextmanager
    def bars(self) -> Iterator[None]:
        """Progress bars below whatever is said meanwhile."""
        if not (sys.stderr if self._stderr else sys.stdout).isatty():
            yield
            return
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, TextColumn("{task.fields[figures]}", markup=False), console=self.console) as progress:
            self._progress = progress
            try:
                yield
            finally:
                self._progress = None
                self._tasks.clear()

    def advance(self, description: str, done: int, total: int, figures: str = "") -> None:
        """Move the bar of this description."""
        if self._progress is None:
            self._tell(description, done, total, figures)
            return
        if description not in self._tasks:
            self._tasks[description] = self._progress.add_task(description, figures="")
        self._progress.update(self._tasks[description], completed=done, total=total, figures=figures)

    def read(self, done: int, total: int) -> None:
        self.advance("Reading photos", done, total)

    def embedded(self, done: int, total: int) -> None:
        self.advance("Embedding photos", done, total)

    def step(self, progress: "TrainProgress") -> None:
        figures = progress.figures
        parts = [f"{progress.images_per_second:.0f} images/s", f"J_m {figures.metric_loss:.3f}"]
        parts.append(f"J_avg {progress.metric_loss_avg:.3f}")
        if figures.synthetic_loss is not None:
            parts += [f"J_syn {figures.synthetic_loss:.3f}", f"λ {figures.pulling_share:.2f}", f"w {figures.real_weight:.2f}"]
        self.advance("Training", progress.step, progress.steps, "  ".join(parts))
        if progress.validation is not None:
            recall = progress.validation.recall_at_k[1]
            self.say(f"step {progress.step}: validation R@1 {recall:.3f}, MAP@R {progress.validation.map_at_r:.3f}")

    def before_and_after(self, record: Mapping[str, Any]) -> None:
        """The untrained backbone's own features and the trained embeddings: one table, and one of seen classes if asked for."""
        since = ", before the refit" if "refit" in record else ""
        self._compare(record["measured_on"], record, since)
        if "seen" in record:
            self._compare("seen classes", record["seen"], since)

    def _compare(self, measured_on: str, evaluations: Mapping[str, Any], since: str) -> None:
        title = f"Retrieval on {measured_on} ({evaluations['after']['classes']} classes){since}"
        table = _table("", *_MEASURES, title=title, right=_MEASURES)
        for name, key in (("before: untrained", "before"), ("after: trained", "after")):
            table.add_row(name, *_row(evaluations[key]))
        self.console.print(table)

    def evaluation(self, evaluation: Mapping[str, Any]) -> None:
        """One row of measures."""
        table = _table(*_MEASURES, right=_MEASURES)
        table.add_row(*_row(evaluation))
        self.console.print(table)

    def cell_step(self, cell: str, done: int, total: int) -> None:
        """The bar of a run of a comparison, which leaves when the run is trained: there can be dozens."""
        self.advance(cell, done, total)
        if done == total and self._progress is not None:
            self._progress.remove_task(self._tasks.pop(cell))

    def comparison(self, comparison: "Comparison") -> None:
        """The verdict, and a table of the arms with their differences from the reference."""
        from hdml.comparison import points

        self.say(f"\n{comparison.verdict}\n")
        against = {(pair.arm, pair.measure): pair for pair in comparison.paired if pair.against == comparison.reference}
        figures = ("R@1", "MAP@R", f"MAP@R against {comparison.reference}")
        title = f"{len(comparison.arms[0].map_at_r)} seeds"
        table = _table("arm", *figures, "verdict", "seconds", title=title, right=(*figures, "seconds"))
        for arm in comparison.arms:
            pair = against.get((arm.name, "map_at_r"))
            told = (
                [f"{points(pair.difference)} ({points(pair.low)} to {points(pair.high)})", str(pair.verdict)]
                if pair
                else ["", ""]
            )
            means = [f"{100 * sum(values) / len(values):.1f}" for values in (arm.recall_at_1, arm.map_at_r)]
            table.add_row(arm.name, *means, *told, f"{sum(arm.seconds) / len(arm.seconds):.0f}")
        self.console.print(table)

    def losses(self) -> None:
        """All losses by name, with what each takes."""
        from hdml.metric_losses import LOSSES

        table = _table("loss", "HDML", "photos per class", "options and defaults", "from")
        for spec in LOSSES.values():
            options = ", ".join(f"{name}={value:g}" for name, value in spec.options.items())
            table.add_row(spec.name, "yes" if spec.takes_hdml else "no", str(spec.photos_per_class), options, spec.source)
        self.console.print(table)

    def parity(self, card: Mapping[str, Any]) -> None:
        """The parity card of an exported encoder, in one sentence."""
        self.say(
            f"Checked against torch on {card['photos']} photo files: embeddings differ by {card['max_difference']:.1e} at most "
            f"and {card['mean_difference']:.1e} on average; the ten nearest agree to {card['top_10_agreement']:.1%}."
        )

    def int8(self, card: Mapping[str, Any]) -> None:
        """How an int8 encoder compares with the float one, in one sentence."""
        measures = (("R@1", card["recall_at_1"]), ("MAP@R", card["map_at_r"]))
        found = "".join(f", {name} {100 * of['float32']:.1f} → {100 * of['int8']:.1f}" for name, of in measures if of)
        self.say(
            f"Calibrated on {card['calibration_photos']} photos; checked on {card['photos']} ({card['checked_on']}): the ten "
            f"nearest agree to {card['top_10_agreement']:.1%}{found}."
        )

    def _tell(self, description: str, done: int, total: int, figures: str) -> None:
        now = time.monotonic()
        if now - self._told >= _PLAIN_SECONDS or done == total:
            self._told = now
            self.say(f"{description} {done}/{total}  {figures}".rstrip())


def _table(*headings: str, title: str | None = None, right: Collection[str] = ()) -> "Table":
    """A table without rows yet; ``right`` are the headings of its columns of numbers."""
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    for heading in headings:
        table.add_column(heading, justify="right" if heading in right else "left")
    return table


def _row(evaluation: Mapping[str, Any]) -> list[str]:
    """The ``_MEASURES``, in points."""
    recall = [evaluation["recall_at_k"][k] for k in ("1", "2", "4", "8")]
    return [f"{100 * value:.1f}" for value in (*recall, *(evaluation[name] for name in ("map_at_r", "nmi", "f1")))]


def print_json(answer: Mapping[str, Any]) -> None:
    """One JSON object as one line on standard output."""
    sys.stdout.write(json.dumps(answer, ensure_ascii=False) + "\n")
    sys.stdout.flush()
