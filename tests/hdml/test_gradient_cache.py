"""Chunks of a batch give the gradients of the whole batch, in the memory of a chunk."""

import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hdml.checkpoint import load_tensors
from hdml.gradient_cache import features_in_chunks
from hdml.model import Backbone, build_backbone, freeze_batchnorm, reestimate_batchnorm
from hdml.run import MODEL
from hdml.trainee import step_losses, update
from tests.hdml.test_train import NO_AUTOCAST, N, make_config, make_trainee, random_batch, run_training

CHUNK = 3  # of 8 photos: 3, 3 and 2


@pytest.fixture(autouse=True)
def double() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def whole_pass_in_chunks(backbone: nn.Module, images: Tensor, chunk: int) -> Tensor:
    """The same chunks with all their activations kept."""
    return torch.cat([backbone(part) for part in images.split(chunk)])


def backbone_and_images(name: str, *, frozen: bool) -> tuple[Backbone, Tensor]:
    torch.manual_seed(0)
    backbone = build_backbone(name, image_size=32).train()
    images = torch.randn(2 * N, 3, 32, 32)
    if frozen:
        reestimate_batchnorm(backbone, [images])  # by the statistics of an untrained network, features all but vanish
        freeze_batchnorm(backbone)
    return backbone, images


def features_and_gradients(features_of: Any, name: str, chunk: int | None, *, frozen: bool) -> tuple[Tensor, ...]:
    """Of a loss that joins all rows, then the buffers."""
    backbone, images = backbone_and_images(name, frozen=frozen)
    torch.manual_seed(5)
    features = features_of(backbone, images, chunk)
    (features @ features.T).logsumexp(1).sum().backward()
    gradients = [parameter.grad for parameter in backbone.parameters()]
    return (features.detach(), *gradients, *backbone.buffers(), torch.get_rng_state())


def gradients_of_a_step(chunk: int | None) -> dict[str, list[Tensor]]:
    """Of every parameter of model, generator and classifier."""
    trainee = make_trainee(make_config(freeze_bn=True, chunk=chunk))
    images, labels = random_batch()
    reestimate_batchnorm(trainee.model, [images])
    trainee.train()
    update(trainee, step_losses(trainee, images, labels, autocast=NO_AUTOCAST))
    return {name: [parameter.grad for parameter in module.parameters()] for name, module in trainee.modules().items()}


def test_step_in_chunks_has_the_gradients_of_the_whole_batch() -> None:
    """HDML over N-pair, the backbone's BatchNorm frozen."""
    whole, chunked = gradients_of_a_step(None), gradients_of_a_step(CHUNK)
    torch.testing.assert_close(chunked, whole, rtol=0, atol=1e-10)
    assert all(gradient.norm() > 1e-5 for gradients in whole.values() for gradient in gradients)


@pytest.mark.parametrize("frozen", [True, False])
@pytest.mark.parametrize("name", ["resnet18", "efficientnet_b0"])
def test_second_pass_repeats_the_first(name: str, frozen: bool) -> None:
    """Stochastic depth and dropout included; running statistics learn from every chunk once, as in a single pass."""
    kept = features_and_gradients(whole_pass_in_chunks, name, CHUNK, frozen=frozen)
    cached = features_and_gradients(features_in_chunks, name, CHUNK, frozen=frozen)
    torch.testing.assert_close(cached, kept, rtol=0, atol=1e-10)


def test_random_depth_is_drawn() -> None:
    """What the comparison above rests on: another seed gives other features."""
    backbone, images = backbone_and_images("efficientnet_b0", frozen=True)
    drawn = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        drawn.append(features_in_chunks(backbone, images, CHUNK))
    assert not torch.allclose(*drawn)


@pytest.mark.parametrize(("chunk", "most"), [(CHUNK, CHUNK), (None, 2 * N)])
def test_activations_of_one_chunk_at_a_time_are_held(chunk: int | None, most: int) -> None:
    backbone, images = backbone_and_images("resnet18", frozen=True)
    alive: list[weakref.ref[Tensor]] = []
    held: list[int] = []

    def note(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
        alive.append(weakref.ref(output))
        held.append(sum(len(found) for reference in alive if (found := reference()) is not None))

    backbone.network.layer1.register_forward_hook(note)
    features = features_in_chunks(backbone, images, chunk)
    features.square().sum().backward()
    assert max(held) == most
    assert len(held) == (1 if chunk is None else 2 * 3)


def test_chunk_is_part_of_a_run(shapes: Path, tmp_path: Path) -> None:
    """In chunks, BatchNorm that is not frozen normalises otherwise: the model is another one."""
    torch.set_default_dtype(torch.float32)
    models = []
    for chunk in (None, CHUNK):
        run_training(shapes, tmp_path / str(chunk), make_config(steps=2, evaluations=1, chunk=chunk))
        models.append(load_tensors(tmp_path / str(chunk) / MODEL)[0])
    name = "model.backbone.network.conv1.weight"
    assert not torch.equal(models[0][name], models[1][name])
    assert (
        models[1]["model.backbone.network.bn1.num_batches_tracked"]
        == 3 * models[0]["model.backbone.network.bn1.num_batches_tracked"]
    )
