"""HDML as a loss in somebody's own loop: one backward pass, every module moved by its own loss alone."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hdml.hardness import HardnessAware, StepLosses, pairs_of
from hdml.losses import metric_loss

N, FEATURES, D, CLASSES = 4, 12, 6, 9


class Loop:
    """A backbone and a head of the user's own, without anything of hdml's."""

    def __init__(self, loss: str = "npair") -> None:
        torch.manual_seed(0)
        self.backbone = nn.Sequential(nn.Linear(5, FEATURES), nn.Tanh())
        self.head = nn.Sequential(nn.BatchNorm1d(FEATURES), nn.Linear(FEATURES, D))
        # A wide margin, so that every triplet counts.
        tuple_loss = metric_loss(loss, classes_per_batch=N, margin=100.0)
        self.hardness = HardnessAware(tuple_loss, features=FEATURES, dimension=D, classes=CLASSES, window=3)
        self.hardness.metric_loss_avg.add(tuple_loss.at_chance / 2)
        self.hardness.generator_loss_avg.add(0.05)
        self.photos = torch.randn(2 * N, 5)
        self.labels = torch.tensor([3, 0, 8, 5, 5, 3, 0, 8])

    def losses(self) -> StepLosses:
        features = self.backbone(self.photos)
        found: StepLosses = self.hardness(features, self.head(features), self.labels, head=self.head)
        return found

    def modules(self) -> dict[str, list[nn.Module]]:
        return {
            "model": [self.backbone, self.head],
            "generator": [self.hardness.generator],
            "classifier": [self.hardness.classifier],
        }

    def gradients(self) -> dict[str, list[Tensor | None]]:
        return {name: [p.grad for part in parts for p in part.parameters()] for name, parts in self.modules().items()}


@pytest.mark.parametrize("loss", ["npair", "triplet"])
def test_one_backward_pass_gives_each_module_the_gradient_of_its_own_loss(loss: str) -> None:
    loop = Loop(loss)
    losses = loop.losses()
    expected = {
        name: torch.autograd.grad(
            losses.by_module[name], [p for part in parts for p in part.parameters()], retain_graph=True, materialize_grads=True
        )
        for name, parts in loop.modules().items()
    }
    torch.autograd.backward(losses.total)
    for name, gradients in loop.gradients().items():
        torch.testing.assert_close(tuple(gradients), expected[name])
        assert all(gradient.abs().sum() > 0 for gradient in expected[name] if gradient.dim() > 1), name


@pytest.mark.parametrize("name", ["model", "generator", "classifier"])
def test_no_loss_reaches_a_module_of_another(name: str) -> None:
    loop = Loop()
    torch.autograd.backward(loop.losses().by_module[name])
    for other, gradients in loop.gradients().items():
        if other != name:
            assert all(gradient is None for gradient in gradients), other


def test_order_of_the_photos_does_not_matter() -> None:
    loop = Loop()
    start = copy.deepcopy(loop.hardness.state_dict())
    one = loop.losses()
    order = torch.tensor([0, 5, 1, 6, 2, 7, 3, 4])  # each class's second photo right behind its first
    loop.photos, loop.labels = loop.photos[order], loop.labels[order]
    loop.hardness.load_state_dict(start)
    torch.testing.assert_close(loop.losses().by_module, one.by_module)


def test_running_means_move_in_training_alone_and_are_saved() -> None:
    loop = Loop()
    loop.hardness.eval()
    before = loop.hardness.pulling_share
    loop.losses()
    assert loop.hardness.pulling_share == before
    loop.hardness.train()
    raw = loop.losses().figures.metric_loss
    assert loop.hardness.metric_loss_avg.mean == pytest.approx((loop.hardness.loss.at_chance / 2 + raw) / 2)
    other = Loop()
    other.hardness.load_state_dict(loop.hardness.state_dict())
    assert other.hardness.pulling_share == loop.hardness.pulling_share != before


def test_statistics_of_the_users_own_head_see_real_photos_alone() -> None:
    loop = Loop()
    features = loop.backbone(loop.photos)
    loop.head(features)
    after_real = copy.deepcopy(dict(loop.head.named_buffers()))
    loop.hardness(features, loop.head(features).detach(), loop.labels, head=loop.head)
    assert loop.head[0].num_batches_tracked == after_real["0.num_batches_tracked"] + 1


@pytest.mark.parametrize(
    ("labels", "said"),
    [([1, 1, 2], "class 2 has 1"), ([4, 7, 4, 7, 7], "class 7 has 3"), ([6], "class 6 has 1")],
)
def test_batch_that_is_not_of_pairs_raises_with_the_class_and_its_count(labels: list[int], said: str) -> None:
    with pytest.raises(ValueError, match=f"exactly 2 photos, but {said}"):
        pairs_of(torch.tensor(labels))


def test_pairs_come_in_the_order_of_their_first_photos() -> None:
    first, second = pairs_of(torch.tensor([3, 0, 8, 0, 8, 3]))
    assert (first.tolist(), second.tolist()) == ([0, 1, 2], [5, 3, 4])


def test_public_names_are_those_of_the_package() -> None:
    import hdml

    public: dict[str, Any] = {name: getattr(hdml, name) for name in hdml.__all__}
    assert public["HardnessAware"] is HardnessAware
    assert public["metric_loss"] is metric_loss
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = hdml.Nothing  # type: ignore[attr-defined]
