"""The answer to a search as programs read it, on the command line and over HTTP."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from indexing.calibration import Calibration, read_calibration
from indexing.rocchio import Weights
from indexing.search import MinScore, OpenIndex, Result, least_match

if TYPE_CHECKING:
    from indexing.grouping import Copy


def answer(
    query: str,
    opened: OpenIndex,
    results: list[Result],
    elapsed_ms: float,
    *,
    min_score: MinScore = None,
    copies: Mapping[int, Sequence["Copy"]] | None = None,
    weights: Weights | None = None,
) -> dict[str, Any]:
    """What a search found, the verdicts on it, and what else a program needs to know of it.

    Args:
        results: best first, those below ``min_score`` too: the best of all gives the verdict on the query.
        min_score: least score of the results that are kept.
        copies: what stands behind results, by their ids, where copies were grouped.
        weights: of the query and its examples, where there were examples.

    Raises:
        HdmlError: ``min_score`` is "auto" and the index is not calibrated.
    """
    known = read_calibration(opened.catalogue)
    least = min_score if min_score != "auto" else least_match(known, opened.name)
    found = known if isinstance(known, Calibration) else None
    kept = [result for result in results if least is None or result.score >= least]
    return {
        "query": query,
        "index": opened.name,
        "model": opened.model,
        "elapsed_ms": round(elapsed_ms, 3),
        **({} if weights is None else {"weights": asdict(weights)}),
        "verdict": found.verdict(results[0].score if results else None) if found else None,
        "calibration": found.summary() if found else None,
        "votes": label_votes(kept),
        "results": [
            {
                **asdict(result),
                "verdict": found.verdict(result.score) if found else None,
                **({} if copies is None else {"copies": [asdict(copy) for copy in copies.get(result.id, ())]}),
            }
            for result in kept
        ],
    }


def label_votes(results: list[Result]) -> list[dict[str, Any]]:
    """What results say that a query is: labels with their number of results, the most first, the nearest first among equals."""
    votes = Counter(result.label for result in results if result.label is not None)
    return [{"label": label, "results": count} for label, count in votes.most_common()]
