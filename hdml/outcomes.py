"""What became of each query of a run's final evaluation, kept beside the run for comparisons."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hdml.evaluate import QueryOutcomes
from hdml.run import write_whole
from hdml.splits import EvaluationSet
from indexing.errors import HdmlError

OUTCOMES = "outcomes.json"


@dataclass(frozen=True)
class Outcomes:
    """Outcomes with the photos that their positions count in.

    Attributes:
        of_queries: hits at 1 and average precision, by query.
        paths: of all photos, below the data's folder; the queries', then the gallery's if it is apart.
        labels: [n] names of the photos' classes.
    """

    of_queries: QueryOutcomes
    paths: tuple[Path, ...]
    labels: tuple[str, ...]


def write_outcomes(run: Path, outcomes: QueryOutcomes, photos: EvaluationSet) -> None:
    """Write outcomes.json into a run."""
    behind = 0 if photos.gallery is None else len(photos.queries.paths)
    answer = {
        "paths": [path.as_posix() for part in photos.parts for path in part.paths],
        "labels": [part.classes[int(label)] for part in photos.parts for label in part.labels],
        "queries": outcomes.queries.tolist(),
        "nearest": (outcomes.nearest + behind).tolist(),
        "hit_at_1": outcomes.hit_at_1.tolist(),
        "average_precision_at_r": outcomes.average_precision_at_r.tolist(),
        "r_precision": outcomes.r_precision.tolist(),
    }
    write_whole(run / OUTCOMES, json.dumps(answer))


def read_outcomes(run: Path) -> Outcomes:
    """What :func:`write_outcomes` wrote; raises HdmlError when it is missing or damaged."""
    file = run / OUTCOMES
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        of_queries = QueryOutcomes(
            queries=np.array(found["queries"], np.int64),
            nearest=np.array(found["nearest"], np.int64),
            hit_at_k={1: np.array(found["hit_at_1"], bool)},
            average_precision_at_r=np.array(found["average_precision_at_r"], np.float64),
            r_precision=np.array(found["r_precision"], np.float64),
        )
        return Outcomes(of_queries, tuple(Path(path) for path in found["paths"]), tuple(found["labels"]))
    except (OSError, ValueError, KeyError) as error:
        raise HdmlError(f"{file} should hold what became of each query but cannot be read ({error}); remove {run}.") from error
