"""HDML as a loss in somebody's own loop: one backward pass, every module moved by its own loss alone."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hdml.hardness import VARIANTS, HardnessAware, StepLosses
from hdml.metric_losses import LOSSES, metric_loss
from hdml.tuples import pair_tuples
from tests.hdml import references

N, FEATURES, D, CLASSES = 4, 12, 6, 9
TAKE_HDML = [name for name, spec in LOSSES.items() if spec.takes_hdml]
# Wide margins, so that every tuple counts.
OPEN = {
    "triplet": {"margin": 100.0},
    "contrastive": {"neg_margin": 2.5},
    "margin": {"margin": 2.5},
    "multi-similarity": {"beta": 5.0},
}


class Loop:
    """A backbone and a head of the user's own, without anything of hdml's."""

    def __init__(self, loss: str = "npair", **settings: Any) -> None:
        torch.manual_seed(0)
        self.backbone = nn.Sequential(nn.Linear(5, FEATURES), nn.Tanh())
        self.head = nn.Sequential(nn.BatchNorm1d(FEATURES), nn.Linear(FEATURES, D))
        tuple_loss = metric_loss(loss, classes_per_batch=N, options=OPEN.get(loss, {}))
        self.hardness = HardnessAware(tuple_loss, features=FEATURES, dimension=D, classes=CLASSES, window=3, **settings)
        for modules in (self.backbone, self.head, self.hardness):
            modules.double()
        if not self.hardness.paper:  # so that negatives are pulled and synthetics weigh: at the start neither is
            self.hardness.metric_loss_avg.add(tuple_loss.at_chance / 2)
            self.hardness.generator_loss_avg.add(0.05)
        self.photos = torch.randn(2 * N, 5, dtype=torch.float64)
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


@pytest.mark.parametrize("loss", TAKE_HDML)
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


def by_loops(loop: Loop, *, paper: bool, penalty: float) -> dict[str, Tensor]:
    """The objective of N-pair HDML from the equations, one tuple at a time (arXiv:1903.05503, sections 3.2 and 3.3)."""
    hardness = loop.hardness
    share, weight = hardness.pulling_share, references.exp_weight(hardness.beta, hardness.generator_loss_avg.mean.item())
    features = loop.backbone(loop.photos)
    embeddings = loop.head(features)
    tuples = pair_tuples(loop.labels)
    a, p, n = tuples.of(embeddings)
    real = references.npair(a, p, n)
    pulled = [[references.pull(a[i], p[i], n[i, j], share) for j in range(N - 1)] for i in range(N)]
    rows = torch.cat([embeddings, *(torch.stack(block) for block in pulled)])
    order = [*tuples.anchors.tolist(), *tuples.positives.tolist(), *range(2 * N, len(rows))]
    again = loop.head(hardness.generator(rows)[order])
    synthetic = references.npair(again[:N], again[N : 2 * N], again[2 * N :].reshape(N, N - 1, D))
    lengths = sum((x**2).sum() for x in torch.cat([a, p])) / N / 4
    l2 = hardness.regulariser * lengths + penalty
    owners = [loop.labels[i] for i in order[: 2 * N]] + [loop.labels[i] for i in tuples.negatives.flatten()]
    generated = hardness.generator(rows.detach())
    logs = [torch.log_softmax(hardness.classifier(generated[row]), 0)[owners[k]] for k, row in enumerate(order)]
    first, others = -sum(logs[:N]) / N, -sum(logs[N:]) / (N * N)
    error = sum(((features[k].detach() - generated[k]) ** 2).sum() for k in range(2 * N))
    if paper:
        compared = sum((row**2).sum() for row in again[N:]) / (N * N)
        again_l2 = hardness.regulariser * (sum((row**2).sum() for row in again[:N]) / N + compared) / 4
        model = weight * (real + l2) + (1 - weight) * (synthetic + again_l2)
        generator = 0.5 * error + 0.5 * 1e4 * (first + others)
    else:
        model = weight * real + (1 - weight) * synthetic + l2
        spread = sum(((y - features.detach().mean(0)) ** 2).sum() for y in features.detach())
        generator = (error / spread + (first + others) / 2 / torch.log(torch.tensor(float(CLASSES), dtype=torch.float64))) / 2
    return {"model": model, "generator": generator}


@pytest.mark.parametrize("setting", ["default", "paper"])
def test_objective_equals_loops_with_gradients(setting: str) -> None:
    loop = Loop(setting=setting, regulariser=0.3)
    if setting == "paper":  # a block of the authors' own, from which λ = e^{−90/50} and the weight of real tuples is e^{−1e4/2e4}
        loop.hardness.metric_loss_avg.last.fill_(50.0)
        loop.hardness.generator_loss_avg.last.fill_(2e4)
    share = loop.hardness.pulling_share
    assert 0.1 < share < 0.9
    expected = by_loops(loop, paper=setting == "paper", penalty=0.7)
    features = loop.backbone(loop.photos)
    found = loop.hardness(features, loop.head(features), loop.labels, head=loop.head, penalty=0.7)
    own = {"model": [loop.backbone, loop.head], "generator": [loop.hardness.generator]}
    for name, modules in own.items():
        torch.testing.assert_close(found.by_module[name], expected[name], rtol=1e-9, atol=1e-10)
        parameters = [parameter for module in modules for parameter in module.parameters()]
        torch.testing.assert_close(
            torch.autograd.grad(found.by_module[name], parameters, retain_graph=True),
            torch.autograd.grad(expected[name], parameters, retain_graph=True),
            rtol=1e-6,
            atol=1e-9,
        )


@pytest.mark.parametrize("loss", TAKE_HDML)
@pytest.mark.parametrize(("metric_avg", "generator_avg"), [(0.0, 0.0), (float("inf"), float("inf")), (1e-12, 1e-12)])
def test_objective_stays_finite_at_the_ends_of_the_running_means(loss: str, metric_avg: float, generator_avg: float) -> None:
    loop = Loop(loss)
    loop.hardness.metric_loss_avg.values.fill_(metric_avg)
    loop.hardness.generator_loss_avg.values.fill_(generator_avg)
    losses = loop.losses()
    torch.autograd.backward(losses.total)
    assert all(torch.isfinite(value) for value in losses.by_module.values())
    assert all(torch.isfinite(g).all() for gradients in loop.gradients().values() for g in gradients if g is not None)


def test_paper_setting_averages_the_weighted_loss_with_its_penalties() -> None:
    """The authors' J_avg is not the raw loss, which is why α = 90 pulls at all (METHOD, trap 1)."""
    loop = Loop(setting="paper", regulariser=0.3)
    loop.hardness.generator_loss_avg.last.fill_(2e4)
    features = loop.backbone(loop.photos)
    losses = loop.hardness(features, loop.head(features), loop.labels, head=loop.head, penalty=0.7)
    embeddings = loop.head(features)
    lengths = 0.25 * 2 * embeddings.square().sum(1).mean()
    logged = losses.figures.real_weight * (losses.figures.metric_loss + 0.3 * lengths.item() + 0.7)
    block = loop.hardness.metric_loss_avg
    assert (block.total.item(), block.count.item()) == (pytest.approx(logged), 1)


def test_default_setting_averages_the_raw_loss_over_tuples() -> None:
    """Also for a loss of the library, whose mean over violations alone would not fall (METHOD; docs/method.md)."""
    loop = Loop("contrastive")
    features = loop.backbone(loop.photos)
    embeddings = loop.head(features)
    losses = loop.hardness(features, embeddings, loop.labels, head=loop.head)
    raw = references.contrastive(*pair_tuples(loop.labels).of(embeddings), pos_margin=0.0, neg_margin=2.5).item()
    assert loop.hardness.metric_loss_avg.values[-1].item() == pytest.approx(raw)
    assert losses.figures.metric_loss != pytest.approx(raw)


@pytest.mark.parametrize("loss", TAKE_HDML)
def test_one_alpha_gives_one_share_at_the_same_part_of_chance(loss: str) -> None:
    """Whatever the loss, its margin and N (METHOD, trap 2)."""
    loop = Loop(loss)
    assert loop.hardness.pulling_share == pytest.approx(0.6065306597)  # e^{−0.25/0.5}


def test_losses_that_normalise_are_pulled_on_the_sphere() -> None:
    loop = Loop("multi-similarity")
    one = loop.losses().figures
    loop.hardness.metric_loss_avg.values.copy_(Loop("multi-similarity").hardness.metric_loss_avg.values)
    with torch.no_grad():
        loop.head[1].weight *= 10
        loop.head[1].bias *= 10
    ten = loop.losses().figures
    assert ten.pulled_distance == pytest.approx(one.pulled_distance)
    assert ten.metric_loss == pytest.approx(one.metric_loss)


@pytest.mark.parametrize("loss", [name for name in TAKE_HDML if LOSSES[name].normalizes])
def test_losses_that_normalise_see_the_distance_of_the_pull(loss: str) -> None:
    """A point of the segment would be normalised back out, farther away than the equations ask for."""
    figures = Loop(loss, variants=["no-generator"]).losses().figures
    assert figures.pulled_distance < 0.95 * figures.real_distance
    assert figures.synthetic_distance == pytest.approx(figures.pulled_distance)


def test_no_pull_leaves_negatives_where_they_are() -> None:
    figures = Loop(variants=["no-pull"]).losses().figures
    assert figures.pulling_share == 1.0
    assert figures.pulled_distance == pytest.approx(figures.real_distance)


def test_without_the_generator_the_pulled_negatives_meet_the_loss() -> None:
    loop = Loop(variants=["no-generator"])
    features = loop.backbone(loop.photos)
    embeddings = loop.head(features)
    share = loop.hardness.pulling_share
    a, p, n = pair_tuples(loop.labels).of(embeddings)
    pulled = torch.stack([torch.stack([references.pull(a[i], p[i], x, share) for x in n[i]]) for i in range(N)])
    found = loop.hardness(features, embeddings, loop.labels, head=loop.head).figures.synthetic_loss
    assert found == pytest.approx(references.npair(a, p, pulled).item())


@pytest.mark.parametrize(
    ("setting", "variants", "seen"),
    [("default", [], 1), ("default", ["in-statistics"], 2), ("paper", [], 2), ("paper", ["out-of-statistics"], 1)],
)
def test_head_counts_the_batches_that_its_statistics_learn_from(setting: str, variants: list[str], seen: int) -> None:
    loop = Loop(setting=setting, variants=variants)
    loop.losses()
    assert loop.head[0].num_batches_tracked == seen


def test_consistency_is_zero_where_embedding_again_gives_the_distance_back() -> None:
    """Taught the distances of a frozen head, the generator's inconsistency falls and nothing else moves."""
    loop = Loop(variants=["consistent"])
    before = [p.detach().clone() for p in [*loop.backbone.parameters(), *loop.head.parameters()]]
    optimizer = torch.optim.Adam(loop.hardness.generator.parameters(), lr=0.02)
    gaps = []
    for _ in range(150):
        optimizer.zero_grad()
        losses = loop.losses()
        figures = losses.figures
        gaps.append(losses.by_module["generator"].item() - (figures.reconstruction_loss + figures.label_loss) / 2)
        torch.autograd.backward(losses.by_module["generator"])
        optimizer.step()
    assert gaps[-1] < 0.2 * gaps[0]
    torch.testing.assert_close([*loop.backbone.parameters(), *loop.head.parameters()], before, rtol=0, atol=0)


def test_adaptive_share_falls_while_too_few_synthetics_are_hard() -> None:
    loop = Loop(variants=["adaptive"])
    for label in loop.labels.unique():  # the two photos of a class all but the same: every positive is near
        one, other = torch.nonzero(loop.labels == label)[:, 0]
        loop.photos[other] = loop.photos[one] + 0.01
    assert loop.hardness.pulling_share == 1.0
    figures = loop.losses().figures
    assert figures.violations < 0.5
    assert loop.hardness.pulling_share == pytest.approx(1.0 - 0.02 * (0.5 - figures.violations))


def test_label_bound_negatives_are_pulled_as_far_as_they_keep_their_label() -> None:
    loop = Loop(variants=["label-bound"])
    features = loop.backbone(loop.photos)
    embeddings = loop.head(features)
    tuples = pair_tuples(loop.labels)
    a, p, n = tuples.of(embeddings)
    wanted = n.clone()
    moved = 0
    for share in torch.linspace(1.0, loop.hardness.pulling_share, 5).tolist():
        pulled = torch.stack([torch.stack([references.pull(a[i], p[i], x, share) for x in n[i]]) for i in range(N)])
        generated = copy.deepcopy(loop.hardness.generator)(torch.cat([embeddings, pulled.flatten(0, 1)]))[len(embeddings) :]
        named = loop.hardness.classifier(generated).argmax(1).reshape(N, N - 1)
        for i in range(N):
            for j in range(N - 1):
                if named[i, j] == loop.labels[tuples.negatives[i, j]]:
                    wanted[i, j] = pulled[i, j]
                    moved += share < 1.0
    assert 0 < moved < 4 * N * (N - 1)  # some are moved, and some would be moved farther if they kept their label
    d_ap = (a - p).norm(dim=-1).mean()
    figures = loop.losses().figures
    assert figures.pulled_distance == pytest.approx(((a[:, None] - wanted).norm(dim=-1).mean() / d_ap).item())


def test_loss_without_tuples_and_unknown_variant_are_refused_with_the_reason() -> None:
    with pytest.raises(ValueError, match="proxy-anchor cannot be made hardness-aware: it compares every photo"):
        HardnessAware(
            metric_loss("proxy-anchor", classes_per_batch=N, classes=CLASSES, dimension=D),
            features=FEATURES,
            dimension=D,
            classes=9,
        )
    with pytest.raises(ValueError, match=f"{', '.join(VARIANTS)}, got 'harder'"):
        Loop(variants=["harder"])


def test_public_names_are_those_of_the_package() -> None:
    import hdml

    public: dict[str, Any] = {name: getattr(hdml, name) for name in hdml.__all__}
    assert public["HardnessAware"] is HardnessAware
    assert public["metric_loss"] is metric_loss
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = hdml.Nothing  # type: ignore[attr-defined]
