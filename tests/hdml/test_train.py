"""One step, and the loop that can be killed: who learns from what, and that a resumed run equals an uninterrupted one."""

import copy
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from hdml.augmentation import TrainingPhotos
from hdml.averages import WindowMean
from hdml.checkpoint import load_tensors
from hdml.class_split import ClassSplit, split_classes
from hdml.config import TrainConfig
from hdml.data import read_labelled_folder
from hdml.model import build_backbone
from hdml.run import CHECKPOINT, LOG, MODEL, read_log
from hdml.train import LoadedBatch, TrainProgress, Waited, rate_factor, train
from hdml.trainee import Trainee, make_loss, step_losses, update
from indexing.errors import HdmlError

CPU = torch.device("cpu")
NO_AUTOCAST = torch.autocast("cpu", enabled=False)
N, CLASSES = 4, 9
WIDE: dict[str, dict[str, float]] = {"npair": {}, "triplet": {"margin": 1000.0}}  # every triplet counts


def make_config(**settings: Any) -> TrainConfig:
    defaults: dict[str, Any] = {
        "backbone": "resnet18",
        "weights": "none",
        "image_size": 32,
        "method": "hdml",
        "loss": "npair",
        "test_classes": "last:2",
        "steps": 6,
        "classes_per_batch": 4,
        "dimension": 16,
        "evaluations": 2,
    }
    return TrainConfig(**{**defaults, **settings})


def make_trainee(config: TrainConfig) -> Trainee:
    torch.manual_seed(0)
    loss = make_loss(config, classes_per_batch=N, classes=CLASSES)
    backbone = build_backbone(config.backbone, image_size=config.image_size)
    trainee = Trainee(backbone, config, loss=loss, classes=CLASSES, window=3, device=CPU)
    if trainee.hardness is not None:
        trainee.hardness.metric_loss_avg.add(0.5)  # so that negatives are pulled and synthetics weigh: at the start neither is
        trainee.hardness.generator_loss_avg.add(0.05)
    return trainee


def window_of(*values: float) -> WindowMean:
    window = WindowMean(3)
    for value in values:
        window.add(value)
    return window


def random_batch() -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    return torch.randn(2 * N, 3, 32, 32), torch.tensor([3, 0, 8, 5]).repeat(2)


def parameters_of(trainee: Trainee) -> dict[str, list[Tensor]]:
    return {name: [p.detach().clone() for p in module.parameters()] for name, module in trainee.modules().items()}


@pytest.mark.parametrize("loss", ["npair", "triplet"])
@pytest.mark.parametrize("module", ["model", "generator", "classifier"])
def test_each_loss_moves_every_parameter_of_its_own_module_and_none_of_another(loss: str, module: str) -> None:
    trainee = make_trainee(make_config(loss=loss, loss_options=WIDE[loss], weight_decay=0.0))
    losses = step_losses(trainee, *random_batch(), autocast=NO_AUTOCAST)
    before = parameters_of(trainee)
    alone = copy.copy(losses)
    object.__setattr__(alone, "by_module", {module: losses.by_module[module]})
    update(trainee, alone)
    for name, parameters in parameters_of(trainee).items():
        changed = [not torch.equal(old, new) for old, new in zip(before[name], parameters, strict=True)]
        assert all(changed) if name == module else not any(changed), name


def test_one_step_gives_each_module_the_gradient_of_its_own_loss() -> None:
    trainee = make_trainee(make_config())
    losses = step_losses(trainee, *random_batch(), autocast=NO_AUTOCAST)
    expected = {
        name: torch.autograd.grad(loss, list(trainee.modules()[name].parameters()), retain_graph=True)
        for name, loss in losses.by_module.items()
    }
    update(trainee, losses)
    for name, module in trainee.modules().items():
        found = tuple(parameter.grad for parameter in module.parameters())
        torch.testing.assert_close(found, expected[name], rtol=0, atol=0)


@pytest.mark.parametrize("loss", ["npair", "triplet"])
def test_synthetic_loss_reaches_the_backbone_through_generator_and_pull(loss: str) -> None:
    """With the weight all on synthetic tuples (J_gen = 0) and no regulariser, the backbone still learns."""
    config = make_config(loss=loss, loss_options=WIDE[loss], regulariser=0.0)
    trainee = make_trainee(config)
    trainee.hardness.generator_loss_avg = window_of(0.0)
    losses = step_losses(trainee, *random_batch(), autocast=NO_AUTOCAST)
    assert losses.figures.real_weight == 0.0
    assert losses.by_module["model"].item() == pytest.approx(losses.figures.synthetic_loss)
    gradients = torch.autograd.grad(losses.by_module["model"], list(trainee.model.backbone.parameters()))
    assert all(gradient.abs().sum() > 0 for gradient in gradients)


def test_running_mean_sees_the_raw_loss_and_not_the_weighted_one() -> None:
    """The authors' code feeds the weighted loss with its L2 penalty to J_avg (METHOD, trap 1)."""
    config = make_config(regulariser=10.0)
    trainee = make_trainee(config)
    losses = step_losses(trainee, *random_batch(), autocast=NO_AUTOCAST)
    update(trainee, losses)
    raw = losses.figures.metric_loss
    assert trainee.metric_loss_avg.mean.item() == pytest.approx((0.5 + raw) / 2)
    assert abs(losses.by_module["model"].item() - raw) > 1.0


def test_first_step_neither_pulls_nor_trusts_the_generator() -> None:
    trainee = make_trainee(make_config())
    trainee.hardness.metric_loss_avg = window_of()
    trainee.hardness.generator_loss_avg = window_of()
    figures = step_losses(trainee, *random_batch(), autocast=NO_AUTOCAST).figures
    assert (figures.pulling_share, figures.real_weight) == (1.0, 1.0)


def test_plain_method_is_the_metric_loss_alone() -> None:
    config = make_config(method="plain")
    trainee = make_trainee(config)
    losses = step_losses(trainee, *random_batch(), autocast=NO_AUTOCAST)
    assert set(losses.by_module) == set(trainee.modules()) == {"model"}
    assert losses.figures.synthetic_loss is None


def test_proxies_learn_with_a_rate_of_their_own() -> None:
    trainee = make_trainee(make_config(method="plain", loss="proxy-anchor", loss_lr=0.5, weight_decay=0.0))
    before = [parameter.detach().clone() for parameter in trainee.loss.parameters()]
    update(trainee, step_losses(trainee, *random_batch(), autocast=NO_AUTOCAST))
    moved = [(old - new).abs().max().item() for old, new in zip(before, trainee.loss.parameters(), strict=True)]
    assert moved == pytest.approx([0.5] * len(before), rel=1e-3)  # Adam's first step is the rate


def test_paper_setting_decays_weights_through_the_loss() -> None:
    """Coupled: half the factor times the squared length of the weights is part of what Adam follows (METHOD, habits)."""
    trainee = make_trainee(make_config(setting="paper", method="plain", weight_decay=0.3))
    losses = step_losses(trainee, *random_batch(), autocast=NO_AUTOCAST)
    scales = [name for name, module in trainee.model.named_modules() if isinstance(module, torch.nn.modules.batchnorm._BatchNorm)]
    decayed = {name: p for name, p in trainee.model.named_parameters() if name.rpartition(".")[0] not in scales}
    assert len(scales) == 21
    squares = sum(float(parameter.square().sum()) for parameter in decayed.values())
    lengths = 0.5 * losses.embeddings.square().sum(1).mean().item()
    expected = losses.figures.metric_loss + 0.15 * squares + trainee.regulariser * lengths
    assert losses.by_module["model"].item() == pytest.approx(expected, rel=1e-5)
    assert isinstance(trainee.optimizer, torch.optim.Adam)
    assert all(group["weight_decay"] == 0 for group in trainee.optimizer.param_groups)


@pytest.mark.parametrize("method", ["hdml", "plain"])
def test_paper_setting_sums_triplets_in_thirds(method: str) -> None:
    """α = 7 goes with the sum of 40 triplets (METHOD, settings); the authors' triplets have no regulariser."""
    trainee = make_trainee(make_config(setting="paper", loss="triplet", method=method, weight_decay=0.0))
    torch.manual_seed(1)
    losses = step_losses(trainee, torch.randn(6, 3, 32, 32), torch.tensor([3, 0, 3, 0, 8, 5]), autocast=NO_AUTOCAST)
    a, p, n = losses.embeddings.chunk(3)
    by_hand = torch.relu((a - p).square().sum(1) - (a - n).square().sum(1) + 1.0).sum()
    assert losses.figures.metric_loss == pytest.approx(by_hand.item())
    weight, synthetic = (1.0, 0.0) if method == "plain" else (losses.figures.real_weight, losses.figures.synthetic_loss)
    assert losses.by_module["model"].item() == pytest.approx(weight * by_hand.item() + (1 - weight) * synthetic)


def test_rates_of_the_paper_setting_are_halved_twice() -> None:
    trainee, rates = make_config(setting="paper", steps=8000), {}
    for step in (0, 5631, 5632, 6847, 6848, 7999):
        rates[step] = rate_factor(step, trainee)
    assert rates == {0: 1.0, 5631: 1.0, 5632: 0.5, 6847: 0.5, 6848: 0.25, 7999: 0.25}


def test_frozen_batchnorm_of_the_backbone_keeps_its_statistics_and_the_heads_does_not() -> None:
    trainee = make_trainee(make_config(freeze_bn=True))
    trainee.train()
    before = {name: buffer.clone() for name, buffer in trainee.model.named_buffers()}
    update(trainee, step_losses(trainee, *random_batch(), autocast=NO_AUTOCAST))
    changed = {name for name, buffer in trainee.model.named_buffers() if not torch.equal(buffer, before[name])}
    assert changed == {"head.norm.running_mean", "head.norm.running_var", "head.norm.num_batches_tracked"}


def test_arms_of_one_seed_start_from_the_same_model() -> None:
    """Neither the generator nor proxies take random numbers that the model would have had."""
    starts = []
    for settings in ({"method": "hdml"}, {"method": "plain"}, {"method": "plain", "loss": "soft-triple"}):
        trainee = make_trainee(make_config(**settings))
        starts.append([parameter.detach().clone() for parameter in trainee.model.parameters()])
    torch.testing.assert_close(starts[0], starts[1], rtol=0, atol=0)
    torch.testing.assert_close(starts[0], starts[2], rtol=0, atol=0)


def test_gradient_that_is_not_finite_stops_with_a_sentence_and_saves_nothing(
    shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TrainingPhotos, "batch", lambda self, photos, *_, **__: torch.full((len(photos), 3, 32, 32), math.nan))
    with pytest.raises(HdmlError, match=r"must be finite.* at step 1 .*lower --lr"):
        run_training(shapes, tmp_path / "run", make_config())
    assert not {CHECKPOINT, MODEL} & {path.name for path in (tmp_path / "run").iterdir()}


def test_waiting_for_batches_is_counted_and_working_on_them_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr("hdml.train.time.monotonic", lambda: clock[0])

    def loaded() -> Iterator[LoadedBatch]:
        for step in range(3):
            clock[0] += 2.0
            yield step, torch.zeros(0), torch.zeros(0)

    batches = Waited(loaded())
    for step, _, _ in batches:
        clock[0] += 5.0
        assert batches.seconds == 2.0 * (step + 1)
    assert (batches.seconds, clock[0]) == (6.0, 21.0)


class Killed(Exception):
    """Stands for the end of the process between two steps."""


def run_training(shapes: Path, run: Path, config: TrainConfig, *, kill_after: int | None = None) -> ClassSplit:
    run.mkdir(exist_ok=True)
    photos = read_labelled_folder(shapes)
    split = split_classes(photos, config.test_classes)
    decoded = TrainingPhotos(shapes, config.image_size)
    assert decoded.read(photos.photos, keep=set(photos.photos), on_read=lambda: None) == {}

    def report(progress: TrainProgress) -> None:
        if progress.step == kill_after:
            raise Killed

    torch.manual_seed(config.seed)
    train(
        config,
        build_backbone(config.backbone, image_size=config.image_size),
        decoded,
        train_set=photos.of_classes(split.train),
        validation_set=photos.of_classes(split.validation),
        run=run,
        device=CPU,
        report=report,
    )
    return split


@pytest.fixture
def threads(request: pytest.FixtureRequest) -> Iterator[None]:
    """As many torch threads as the test asks for."""
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("threads", "settings"),
    [
        (1, {}),
        (1, {"backbone": "efficientnet_b0"}),
        (1, {"setting": "paper", "loss": "triplet"}),
        (1, {"loss": "soft-triple", "method": "plain", "reestimate_bn": True, "freeze_bn": True}),
        (2, {"method": "plain", "steps": 4}),
    ],
    indirect=["threads"],
)
@pytest.mark.usefixtures("threads")
def test_resumed_run_equals_uninterrupted_run_bit_for_bit(shapes: Path, tmp_path: Path, settings: dict[str, Any]) -> None:
    """EfficientNet's stochastic depth draws random numbers within the step; two threads share out their sums."""
    config = make_config(**settings)
    run_training(shapes, tmp_path / "whole", config)
    with pytest.raises(Killed):
        run_training(shapes, tmp_path / "killed", config, kill_after=config.steps - 1)
    _, state = load_tensors(tmp_path / "killed" / CHECKPOINT)
    assert 0 < state["steps_done"] < config.steps - 1
    torch.manual_seed(999)
    run_training(shapes, tmp_path / "killed", config)
    for name in (CHECKPOINT, MODEL):
        whole, whole_state = load_tensors(tmp_path / "whole" / name)
        resumed, resumed_state = load_tensors(tmp_path / "killed" / name)
        assert whole.keys() == resumed.keys()
        assert all(torch.equal(whole[key], resumed[key]) for key in whole)
        for state in (whole_state, resumed_state):
            for seconds in ("seconds", "waited"):
                state.pop(seconds, None)
        assert whole_state == resumed_state
    assert (tmp_path / "whole" / LOG).read_text() == (tmp_path / "killed" / LOG).read_text()


def test_chosen_model_is_the_best_on_validation_classes(shapes: Path, tmp_path: Path) -> None:
    """Test classes choose nothing (METHOD, trap 6): the log of validation explains the choice in full."""
    split = run_training(shapes, tmp_path / "run", make_config(steps=8, evaluations=4))
    assert not set(split.validation) & set(split.test)
    assert not set(split.validation) & set(split.train)
    scores = {row["step"] + 1: row["validation"]["map_at_r"] for row in read_log(tmp_path / "run") if row["validation"]}
    _, state = load_tensors(tmp_path / "run" / MODEL)
    assert list(scores) == [2, 4, 6, 8]
    assert state["steps_done"] == max(scores, key=lambda step: scores[step])
    assert state["validation"]["map_at_r"] == max(scores.values())


def test_log_has_a_line_of_json_for_every_step(shapes: Path, tmp_path: Path) -> None:
    run_training(shapes, tmp_path / "run", make_config())
    rows = [json.loads(line) for line in (tmp_path / "run" / LOG).read_text().splitlines()]
    assert [row["step"] for row in rows] == list(range(6))
    assert all(0 <= row["pulling_share"] <= 1 and 0 <= row["real_weight"] <= 1 for row in rows)
