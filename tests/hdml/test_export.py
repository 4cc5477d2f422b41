"""Exported files against torch: every family of backbones over real JPEG files, the synthesizer, and what is refused."""

import json
import math
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import torchvision
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

import hdml
from hdml import export
from hdml.export import PARITY_TOLERANCE, ParityCard, check_parity, export_encoder, export_synthesizer, fingerprint_of
from hdml.model import EmbeddingHead, EncoderNetwork, FeatureGenerator, build_backbone
from hdml.synthesis import synthesize
from hdml.tuples import pair_tuples
from hdml.weights import load_backbone
from indexing.encoder import Encoder, read_metadata, write_metadata
from indexing.errors import HdmlError
from indexing.preprocess import Preprocessing, load_array
from indexing.regions import REGIONS, RegionHead

# The smallest network of every family.
FAMILIES = ("resnet18", "googlenet", "mobilenet_v3_small", "efficientnet_b0", "convnext_tiny", "vit_b_16", "swin_t")
AVERAGING = ("resnet18", "googlenet", "efficientnet_b0", "swin_t")
FAMILY_SIZE = 64
DIMENSION = 16
PREPROCESSING = Preprocessing(resize=32, crop=32, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))


@pytest.fixture(scope="module")
def files(shapes: Path) -> list[Path]:
    """Twelve photos, one of each class."""
    return sorted(shapes.glob("*/0.jpg"))


def family_backbone(name: str, folder: Path) -> Any:
    """A backbone with weights that are anything but an initialisation's, GoogLeNet's from a file with its auxiliary heads."""
    torch.manual_seed(0)
    if name == "googlenet":
        whole = torchvision.models.googlenet(weights=None, aux_logits=True, transform_input=True, init_weights=False)
        torch.save(whole.state_dict(), folder / "googlenet.pth")
        backbone = load_backbone(name, str(folder / "googlenet.pth"), image_size=FAMILY_SIZE)
        assert backbone.network.transform_input
    else:
        backbone = build_backbone(name, image_size=FAMILY_SIZE)
    if name == "vit_b_16":
        del backbone.network.encoder.layers[2:]
        nn.init.normal_(backbone.network.encoder.pos_embedding)
    if hasattr(backbone.network, "features"):
        drop_repetitions(backbone.network.features)
    for parameter_name, parameter in backbone.named_parameters():
        if parameter_name.endswith("layer_scale"):
            nn.init.ones_(parameter)  # ConvNeXt starts with blocks that hardly do anything
    return backbone


def drop_repetitions(features: nn.Sequential) -> None:
    """Keep every kind of block, the second of a kind once (it has a residual, or shifted windows): the exporter's time goes by
    their number."""
    stages = [stage for stage in features if isinstance(stage, nn.Sequential) and len({type(block) for block in stage}) == 1]
    first, *others = [stage for stage in stages if len(stage) > 1] or [nn.Sequential()]
    del first[2:]
    for stage in others:
        del stage[1:]


def settle(module: nn.Module, inputs: Tensor) -> None:
    """Give every BatchNorm the statistics of some inputs, as training would: with fresh ones, untrained networks give every
    photo the same embedding, and parity would be easily had."""
    for part in module.modules():
        if isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d):
            part.momentum = 1.0
    with torch.no_grad():
        module.train()(inputs)
    module.eval()


def images_of(files: Sequence[Path], preprocessing: Preprocessing = PREPROCESSING) -> NDArray[np.float32]:
    return np.stack([load_array(file, preprocessing) for file in files])


@dataclass(frozen=True)
class Exported:
    """An exported encoder beside the torch network that it came from, and what the parity check found."""

    name: str
    network: EncoderNetwork
    path: Path
    card: ParityCard


@pytest.fixture(scope="module", params=FAMILIES)
def exported(request: pytest.FixtureRequest, files: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Exported]:
    folder = tmp_path_factory.mktemp(request.param)
    backbone = family_backbone(request.param, folder)
    network = EncoderNetwork(backbone, EmbeddingHead(backbone.dimension, DIMENSION))
    settle(network, torch.from_numpy(images_of(files, replace(PREPROCESSING, resize=FAMILY_SIZE, crop=FAMILY_SIZE))))
    path, about = folder / "encoder.onnx", {"backbone": request.param, "training_data": "shapes: 12 classes"}
    yield Exported(request.param, network, path, export_encoder(network, path, image_size=FAMILY_SIZE, photos=files, **about))
    path.unlink()


def torch_outputs(network: EncoderNetwork, images: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    with torch.inference_mode():
        return [output.numpy() for output in network.eval()(torch.from_numpy(images))]


def run_onnx(path: Path, images: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    """By onnxruntime alone, in the order that the file names its outputs."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    assert [node.name for node in session.get_inputs()] == ["images"]
    assert [node.name for node in session.get_outputs()] == ["embedding", "norm", "feature_map"]
    return list(session.run(None, {"images": images}))


def test_every_family_gives_torchs_outputs_for_batches_of_any_size(exported: Exported, files: list[Path]) -> None:
    images = images_of(files, read_metadata(exported.path).preprocessing)
    for batch in (images[:1], images[:3], images):
        found, expected = run_onnx(exported.path, batch), torch_outputs(exported.network, batch)
        assert [output.shape for output in found] == [output.shape for output in expected]
        assert found[0].shape == (len(batch), DIMENSION)
        assert found[2].ndim == 4
        scale = [1.0, expected[1].max(), np.abs(expected[2]).max()]
        for one, other, unit in zip(found, expected, scale, strict=True):
            np.testing.assert_allclose(one / unit, other / unit, atol=PARITY_TOLERANCE)
        np.testing.assert_allclose(np.linalg.norm(found[0], axis=1), 1, atol=1e-5)
    assert np.ptp(found[0], axis=0).max() > 100 * PARITY_TOLERANCE, (
        "all photos have one embedding, which nothing could differ from"
    )


def test_families_that_average_over_places_come_with_regions(exported: Exported, files: list[Path]) -> None:
    encoder = Encoder(exported.path, device="cpu")
    assert exported.path.with_name(REGIONS).exists() == (exported.name in AVERAGING)
    if exported.name in AVERAGING:
        images = images_of(files, encoder.preprocessing)
        embeddings, norms = encoder.encode(images)
        local = RegionHead(encoder).local_embeddings(encoder.look(images)[1])
        np.testing.assert_allclose(local.mean((2, 3)) / norms[:, None], embeddings, atol=PARITY_TOLERANCE)


def test_every_family_passes_the_parity_check_over_files(exported: Exported, files: list[Path]) -> None:
    assert exported.card.photos == len(files)
    assert 0 <= exported.card.mean_difference <= exported.card.max_difference <= PARITY_TOLERANCE
    assert exported.card.norm_difference <= PARITY_TOLERANCE
    assert exported.card.top_10_agreement == pytest.approx(1)


def test_metadata_inside_the_file_is_complete(exported: Exported) -> None:
    properties = {entry.key: entry.value for entry in onnx.load(exported.path).metadata_props}
    told = json.loads(properties["hdml"])
    assert len(bytes.fromhex(told.pop("checksum"))) == 8
    assert told == {
        "format": 1,
        "dimension": DIMENSION,
        "preprocessing": {
            "resize": FAMILY_SIZE,
            "crop": FAMILY_SIZE,
            "mean": [0.485, 0.456, 0.406],
            "std": [0.229, 0.224, 0.225],
            "interpolation": "bilinear",
        },
        "normalisation": "l2",
        "fingerprint": fingerprint_of(exported.network, read_metadata(exported.path).preprocessing),
        "backbone": exported.name,
        "training_data": "shapes: 12 classes",
        "version": hdml.__version__,
    }
    expected = {"encoder.onnx", REGIONS} if exported.name in AVERAGING else {"encoder.onnx"}
    assert {path.name for path in exported.path.parent.iterdir() if path.suffix == ".onnx"} == expected


def small_network(seed: int = 0, *, head: bool = True) -> EncoderNetwork:
    torch.manual_seed(seed)
    backbone = build_backbone("resnet18", image_size=32)
    network = EncoderNetwork(backbone, EmbeddingHead(backbone.dimension, DIMENSION) if head else None)
    return network.eval()


def export_small(network: EncoderNetwork, path: Path, files: list[Path]) -> ParityCard:
    return export_encoder(network, path, image_size=32, backbone="resnet18", training_data="none", photos=files)


@pytest.fixture(scope="module")
def untrained(files: list[Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[EncoderNetwork, Path]:
    """A backbone without a head, and its encoder."""
    network, path = small_network(head=False), tmp_path_factory.mktemp("untrained") / "encoder.onnx"
    settle(network, torch.from_numpy(images_of(files)))
    export_small(network, path, files)
    return network, path


def test_without_a_head_the_embedding_is_the_backbones_own_features(
    untrained: tuple[EncoderNetwork, Path], files: list[Path]
) -> None:
    network, path = untrained
    images = images_of(files)
    with torch.inference_mode():
        features = network.backbone(torch.from_numpy(images)).numpy()
    embeddings, norms, maps = run_onnx(path, images)
    np.testing.assert_allclose(embeddings * norms[:, None], features, atol=1e-4 * np.abs(features).max())
    np.testing.assert_allclose(
        maps.mean((2, 3)), features, atol=1e-4 * np.abs(features).max()
    )  # ResNet pools its map by the mean
    np.testing.assert_allclose(RegionHead(Encoder(path, device="cpu")).local_embeddings(maps), maps)


def test_parity_card_equals_plain_loops_over_both_sides(untrained: tuple[EncoderNetwork, Path], files: list[Path]) -> None:
    """Another network's encoder differs much, so that every figure of the card says something."""
    _, path = untrained
    other = small_network(seed=1, head=False)
    card = check_parity(other, path, PREPROCESSING, files)
    encoder = Encoder(path, device="cpu")
    vectors, lengths = zip(*(encoder.encode_photo(file) for file in files), strict=True)
    outputs = [torch_outputs(other, load_array(file, PREPROCESSING)[None]) for file in files]
    expected, norms = [output[0][0] for output in outputs], [float(output[1][0]) for output in outputs]
    differences = [
        abs(float(a) - float(b))
        for row, other_row in zip(vectors, expected, strict=True)
        for a, b in zip(row, other_row, strict=True)
    ]
    assert card.photos == len(files)
    assert card.max_difference == pytest.approx(max(differences), rel=1e-3)
    assert card.mean_difference == pytest.approx(sum(differences) / len(differences), rel=1e-3)
    assert card.norm_difference == pytest.approx(max(abs(a - b) / b for a, b in zip(lengths, norms, strict=True)), rel=1e-3)
    agreement = [len(nearest_ten(vectors, query) & nearest_ten(expected, query)) / 10 for query in range(len(files))]
    assert card.top_10_agreement == pytest.approx(sum(agreement) / len(agreement))
    assert card.max_difference > PARITY_TOLERANCE


def nearest_ten(vectors: Sequence[NDArray[np.float32]], query: int) -> set[int]:
    others = [index for index in range(len(vectors)) if index != query]
    return set(sorted(others, key=lambda index: -float(vectors[query] @ vectors[index]))[:10])


def test_at_most_64_photos_spread_over_all_are_compared(
    untrained: tuple[EncoderNetwork, Path], shapes: Path, tmp_path: Path
) -> None:
    """Of 128 files every second one is not there, and is not missed."""
    network, path = untrained
    photos = [photo for photo in sorted(shapes.rglob("*.jpg"))[:64] for photo in (photo, tmp_path / "absent.jpg")]
    assert check_parity(network, path, PREPROCESSING, photos).photos == 64


def test_parity_without_photos_is_refused(untrained: tuple[EncoderNetwork, Path]) -> None:
    with pytest.raises(HdmlError, match="compared with torch on photo files, but there are none"):
        check_parity(*untrained, PREPROCESSING, [])


@pytest.mark.parametrize("change", [{"resize": 34}, {"interpolation": "bicubic"}, {"mean": (0.5, 0.456, 0.406)}])
def test_parity_sees_an_encoder_whose_file_asks_for_another_preprocessing(
    untrained: tuple[EncoderNetwork, Path], files: list[Path], tmp_path: Path, change: dict[str, Any]
) -> None:
    """The indexer follows the file's metadata, torch's evaluation its own settings."""
    network, path = untrained
    other = Path(shutil.copy(path, tmp_path))
    write_metadata(other, replace(read_metadata(path), preprocessing=replace(PREPROCESSING, **change)))
    assert check_parity(network, other, PREPROCESSING, files).max_difference > 10 * PARITY_TOLERANCE


def shift_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the exporter write 0.01 too much into the largest constant: a fault that a look at some scores would miss."""
    to_onnx = export._to_onnx

    def to_tampered_onnx(network: nn.Module, arguments: Any, path: Path, **names: Any) -> None:
        to_onnx(network, arguments, path, **names)
        model = onnx.load(path)
        largest = max(model.graph.initializer, key=lambda tensor: len(tensor.raw_data))
        largest.raw_data = (onnx.numpy_helper.to_array(largest) + np.float32(0.01)).tobytes()
        onnx.save(model, path)

    monkeypatch.setattr(export, "_to_onnx", to_tampered_onnx)


def test_encoder_that_differs_is_refused_with_its_figure_and_the_old_one_stays(
    files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network, path, unchecked = small_network(), tmp_path / "encoder.onnx", tmp_path / "unchecked-encoder.onnx"
    path.write_bytes(b"the encoder of before")
    shift_weights(monkeypatch)
    with pytest.raises(HdmlError) as raised:
        export_small(network, path, files)
    card = check_parity(network, unchecked, PREPROCESSING, files)
    worst = max(card.max_difference, card.norm_difference)
    assert worst > PARITY_TOLERANCE
    assert str(raised.value).startswith("The exported encoder must give torch's embeddings within 0.0001, but on 12 photos")
    assert f"it differs by up to {worst:.2g}; {unchecked} is kept" in str(raised.value)
    assert path.read_bytes() == b"the encoder of before"


@pytest.mark.parametrize("figure", ["max_difference", "norm_difference"])
def test_figure_that_is_not_a_number_is_refused_too(
    untrained: tuple[EncoderNetwork, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, figure: str
) -> None:
    network, path = untrained
    good = ParityCard(photos=1, max_difference=0.0, mean_difference=0.0, norm_difference=0.0, top_10_agreement=1.0)
    monkeypatch.setattr(export, "_to_onnx", lambda network, arguments, unchecked, **names: shutil.copy(path, unchecked))
    monkeypatch.setattr(export, "check_parity", lambda *arguments: replace(good, **{figure: math.nan}))
    with pytest.raises(HdmlError, match="differs by up to nan"):
        export_small(network, tmp_path / "encoder.onnx", [])
    assert not (tmp_path / "encoder.onnx").exists()


def test_fingerprint_depends_on_weights_and_preprocessing_alone() -> None:
    fingerprint = fingerprint_of(small_network(), PREPROCESSING)
    assert re.fullmatch("[0-9a-f]{16}", fingerprint)
    assert fingerprint_of(small_network(), PREPROCESSING) == fingerprint
    assert fingerprint_of(small_network(seed=1), PREPROCESSING) != fingerprint
    assert fingerprint_of(small_network(), replace(PREPROCESSING, resize=36)) != fingerprint


@dataclass(frozen=True)
class Synthesizer:
    """An exported synthesizer beside the modules that it came from, in evaluation mode, and embeddings [7, D]."""

    generator: FeatureGenerator
    head: EmbeddingHead
    path: Path
    difference: float
    embeddings: NDArray[np.float32]

    def run(self, *rows: NDArray[np.float32], share: float) -> list[NDArray[np.float32]]:
        session = onnxruntime.InferenceSession(self.path, providers=["CPUExecutionProvider"])
        feed = dict(zip(("anchors", "positives", "negatives"), rows, strict=True))
        return list(session.run(["pulled", "synthetic"], {**feed, "lambda": np.array(share, np.float32)}))


@pytest.fixture(scope="module")
def synthesizer(tmp_path_factory: pytest.TempPathFactory) -> Synthesizer:
    path = tmp_path_factory.mktemp("synthesizer") / "synthesizer.onnx"
    torch.manual_seed(2)
    generator, head = FeatureGenerator(DIMENSION, 24), EmbeddingHead(24, DIMENSION)
    embeddings = 3 * np.random.default_rng(0).standard_normal((7, DIMENSION)).astype(np.float32)
    settle(generator, torch.from_numpy(embeddings))
    settle(head, generator(torch.from_numpy(embeddings)))
    return Synthesizer(generator, head, path, export_small_synthesizer(generator, head, path, embeddings), embeddings)


def export_small_synthesizer(
    generator: FeatureGenerator, head: EmbeddingHead, path: Path, embeddings: NDArray[np.float32], *, on_sphere: bool = False
) -> float:
    norms = np.linalg.norm(embeddings, axis=1)
    return export_synthesizer(
        generator,
        head,
        path,
        share=0.7,
        loss="triplet",
        on_sphere=on_sphere,
        fingerprint="0123456789abcdef",
        embeddings=embeddings / norms[:, None],
        norms=norms,
    )


@pytest.mark.parametrize("on_sphere", [False, True])
@pytest.mark.parametrize("share", [0.0, 0.35, 0.7, 1.0])
def test_synthesizer_gives_what_training_synthesises(
    synthesizer: Synthesizer, tmp_path: Path, share: float, on_sphere: bool
) -> None:
    """Every (anchor, negative) of a batch, whatever λ: it is an input, not the constant that the file was exported with."""
    path, embeddings = synthesizer.path, synthesizer.embeddings[:6]
    if on_sphere:
        embeddings = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
        path = tmp_path / "synthesizer.onnx"
        export_small_synthesizer(synthesizer.generator, synthesizer.head, path, synthesizer.embeddings, on_sphere=True)
    tuples, rows = pair_tuples(torch.arange(3).repeat(2)), torch.from_numpy(embeddings)
    with torch.inference_mode():
        expected = synthesize(
            rows, tuples, generator=synthesizer.generator, head=synthesizer.head, share=share, on_sphere=on_sphere
        )
    anchors, positives, negatives = tuples.of(rows)
    feed = [anchors.repeat_interleave(2, 0), positives.repeat_interleave(2, 0), negatives.flatten(0, 1)]
    pulled, synthetic = replace(synthesizer, path=path).run(*(row.numpy() for row in feed), share=share)
    wanted = expected.negatives.flatten(0, 1)
    np.testing.assert_allclose(pulled, expected.pulled.flatten(0, 1), atol=1e-5)
    np.testing.assert_allclose(synthetic, functional.normalize(wanted) if on_sphere else wanted, atol=1e-5)


def test_synthesizer_pulls_to_the_distance_of_the_paper(synthesizer: Synthesizer) -> None:
    """d → λ·d + (1−λ)·d⁺ towards the anchor, computed row by row; a negative nearer than the positive stays, and so does one
    that lies on the anchor, where the direction is undefined."""
    rng, share = np.random.default_rng(3), 0.4
    anchors, positives = rng.standard_normal((2, 6, DIMENSION)).astype(np.float32)
    negatives = (anchors + np.array([4, 2, 1, 0.5, 0.01, 0], np.float32)[:, None] * (positives - anchors)[:, ::-1]).copy()
    pulled, synthetic = synthesizer.run(anchors, positives, negatives, share=share)
    for found, anchor, positive, negative in zip(pulled, anchors, positives, negatives, strict=True):
        d_ap, d_an = np.linalg.norm(positive - anchor), np.linalg.norm(negative - anchor)
        expected = anchor + (negative - anchor) * (share * d_an + (1 - share) * d_ap) / d_an if d_an > d_ap else negative
        np.testing.assert_allclose(found, expected, atol=1e-5)
    assert np.isfinite(synthetic).all()


def test_synthesizer_takes_batches_of_any_size(synthesizer: Synthesizer) -> None:
    rows = synthesizer.embeddings
    whole = synthesizer.run(rows, rows[::-1].copy(), np.roll(rows, 2, 0), share=0.7)
    for index in range(len(rows)):
        one = synthesizer.run(rows[[index]], rows[::-1][[index]], np.roll(rows, 2, 0)[[index]], share=0.7)
        np.testing.assert_allclose(np.stack(one)[:, 0], np.stack(whole)[:, index], atol=1e-5)


def test_synthesizer_says_whose_it_is_and_passed_its_check(synthesizer: Synthesizer) -> None:
    properties = {entry.key: entry.value for entry in onnx.load(synthesizer.path).metadata_props}
    told = json.loads(properties["hdml"])
    assert len(bytes.fromhex(told.pop("checksum"))) == 8
    assert told == {
        "format": 1,
        "dimension": DIMENSION,
        "fingerprint": "0123456789abcdef",
        "lambda": 0.7,
        "method": "hdml",
        "loss": "triplet",
        "loss_options": {},
        "on_sphere": False,
    }
    assert 0 <= synthesizer.difference <= PARITY_TOLERANCE
    assert [path.name for path in synthesizer.path.parent.iterdir()] == ["synthesizer.onnx"]


def test_synthesizer_that_differs_is_refused_with_its_figure_and_the_old_one_stays(
    synthesizer: Synthesizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "synthesizer.onnx"
    path.write_bytes(b"the synthesizer of before")
    shift_weights(monkeypatch)
    with pytest.raises(HdmlError, match=r"torch's synthetics within 0\.0001 of their length, but differs by up to [\d.]+; "):
        export_small_synthesizer(synthesizer.generator, synthesizer.head, path, synthesizer.embeddings)
    assert path.read_bytes() == b"the synthesizer of before"
