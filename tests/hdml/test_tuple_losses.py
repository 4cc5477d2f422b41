"""The losses that the lens computes without torch against those that training computes."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from hdml.metric_losses import LOSSES
from indexing.tuple_losses import TUPLE_LOSSES, violated, violation_rule

OTHER_OPTIONS = {
    "triplet": {"margin": 0.3},
    "contrastive": {"pos_margin": 0.1, "neg_margin": 1.3},
    "margin": {"margin": 0.1, "beta": 0.9},
    "multi-similarity": {"alpha": 3.0, "beta": 20.0, "base": 0.3},
    "angular": {"alpha": 30.0},
}


def test_every_loss_that_takes_hdml_can_be_looked_at() -> None:
    assert set(TUPLE_LOSSES) == {name for name, spec in LOSSES.items() if spec.takes_hdml}


@pytest.mark.parametrize("name", TUPLE_LOSSES)
@pytest.mark.parametrize("chosen", ["none", "defaults", "others"])
def test_loss_of_each_tuple_is_that_of_training(name: str, chosen: str) -> None:
    """Those of no options must be those of the defaults: files exported before there were options have none."""
    rng = np.random.default_rng(4)
    anchors, positives, negatives = rng.standard_normal((3, 12, 5)).astype(np.float32)
    options = {"none": {}, "defaults": LOSSES[name].options, "others": OTHER_OPTIONS.get(name, {})}[chosen]
    found = TUPLE_LOSSES[name](anchors, positives, negatives, **options)
    reference = LOSSES[name].tuple_loss
    assert reference is not None
    for row in range(12):
        one = [torch.from_numpy(rows[row : row + 1]) for rows in (anchors, positives, negatives)]
        expected = reference(one[0], one[1], one[2][:, None], **{**LOSSES[name].options, **options}).item()
        assert found[row] == pytest.approx(expected, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("name", ["triplet", "contrastive", "margin"])
@pytest.mark.parametrize("chosen", ["none", "others"])
def test_a_negative_violates_the_margin_where_its_own_term_of_the_loss_is_positive(name: str, chosen: str) -> None:
    rng = np.random.default_rng(5)
    anchors, positives, negatives = (torch.from_numpy(rows) for rows in rng.standard_normal((3, 200, 2)).astype(np.float32))
    if LOSSES[name].normalizes:
        anchors, positives, negatives = (F.normalize(rows) for rows in (anchors, positives, negatives))
    options = OTHER_OPTIONS[name] if chosen == "others" else {}
    d_ap, d_an = ((anchors - others).norm(dim=1).numpy() for others in (positives, negatives))
    found = violated(d_ap, d_an, loss=name, options=options)
    settings = {**LOSSES[name].options, **options}
    for row in range(200):
        if name == "triplet":
            expected = d_ap[row] ** 2 - d_an[row] ** 2 + settings["margin"] > 0
        else:
            expected = settings.get("neg_margin", settings.get("beta", 0) + settings.get("margin", 0)) - d_an[row] > 0
        assert found[row] == expected
    assert 0 < found.sum() < 200
    number = {"triplet": "margin", "contrastive": "neg_margin"}.get(name)
    assert f"{settings[number] if number else settings['beta'] + settings['margin']:g}" in violation_rule(name, options)


def test_without_a_margin_a_negative_nearer_than_the_positive_counts() -> None:
    d_an = np.array([0.5, 1.0, 1.5])
    assert violated(np.array([1.0]), d_an, loss="npair", options={}).tolist() == [True, False, False]
    assert violation_rule("npair", {}) == "d < d⁺, nearer than the positive; npair has no margin"
