"""Which arms are held against which, and whether validation had levelled off."""

import json
from pathlib import Path

import pytest

from hdml.arms import arm_specs
from hdml.compare import comparisons, still_rising


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["npair", "npair+hdml"], [("npair", ["npair+hdml"])]),
        (
            ["untrained", "multi-similarity", "npair", "npair+hdml", "multi-similarity+hdml", "npair+hdml no-pull"],
            [
                ("npair", ["untrained", "multi-similarity", "npair+hdml", "multi-similarity+hdml", "npair+hdml no-pull"]),
                ("multi-similarity", ["multi-similarity+hdml"]),
                ("npair+hdml no-pull", ["npair+hdml"]),
            ],
        ),
        (
            ["npair", "npair+hdml", "npair paper", "npair+hdml paper no-pull"],
            [
                ("npair", ["npair+hdml", "npair paper", "npair+hdml paper no-pull"]),
                ("npair paper", ["npair+hdml paper no-pull"]),
                ("npair paper", ["npair+hdml"]),
                ("npair+hdml paper no-pull", ["npair+hdml"]),
            ],
        ),
        (["npair", "proxy-anchor"], [("npair", ["proxy-anchor"])]),
        (["untrained", "triplet+hdml"], [("untrained", ["triplet+hdml"])]),
        (["npair+hdml", "npair+hdml no-pull"], [("npair+hdml no-pull", ["npair+hdml"])]),
    ],
)
def test_arms_are_held_against_their_own_loss_and_the_method_against_its_controls(
    names: list[str], expected: list[tuple[str, list[str]]]
) -> None:
    assert comparisons(arm_specs(names)) == expected


@pytest.mark.parametrize(
    ("scores", "rising"),
    [([0.1, 0.2], True), ([0.2, 0.205], False), ([0.3, 0.2], False), ([0.2, 0.4, 0.405], False), ([0.2], False)],
)
def test_validation_rises_when_the_last_stretch_brought_more_than_a_point(
    tmp_path: Path, scores: list[float], rising: bool
) -> None:
    rows = [{"step": step, "validation": {"map_at_r": score}} for step, score in enumerate(scores)]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in [*rows, {"step": 9, "validation": None}]))
    assert still_rising(tmp_path) == rising
