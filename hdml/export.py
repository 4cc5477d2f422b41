"""Export: the encoder and the synthesizer as ONNX files, each held to what torch computes before it may take its name."""

import hashlib
import json
import logging
import shutil
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

import hdml
from hdml.agreement import top_agreement
from hdml.embed import embed_photos
from hdml.model import EmbeddingHead, EncoderNetwork, FeatureGenerator, averages_places
from hdml.synthesis import pull_negatives, pull_on_sphere
from indexing.catalogue import Catalogue
from indexing.encoder import EncoderMetadata, open_session, put_metadata, write_metadata
from indexing.errors import HdmlError
from indexing.indexer import update_index
from indexing.preprocess import Preprocessing, evaluation_preprocessing
from indexing.regions import REGIONS

PARITY_PHOTOS = 64
PARITY_TOLERANCE = 1e-4
"""Largest difference allowed in any coordinate of a unit embedding, and in a norm or a synthetic as a share of its length."""
_OPSET = 18


@dataclass(frozen=True)
class ParityCard:
    """How far the vectors that the indexer stores are from those that training reported on, over the same photo files.

    Attributes:
        photos: number of files compared.
        max_difference, mean_difference: between coordinates of unit embeddings.
        norm_difference: largest, as a share of the norm.
        top_10_agreement: mean share of each photo's ten nearest others that both sides agree on.
    """

    photos: int
    max_difference: float
    mean_difference: float
    norm_difference: float
    top_10_agreement: float


class PlaceHead(nn.Module):
    """Feature map [B, F, h, w] → what each place would embed to [B, D, h, w]; without a head, the features of the place."""

    def __init__(self, head: EmbeddingHead | None) -> None:
        super().__init__()
        self.head = head

    def forward(self, feature_map: Tensor) -> Tensor:
        return feature_map * 1 if self.head is None else self.head.at_each_place(feature_map)


class SynthesizerNetwork(nn.Module):
    """Tuples of embeddings [B, D] and λ → pulled negatives [B, D] and re-embedded synthetics [B, D].

    Embeddings are as the head gives them, or with ``on_sphere`` of unit length, as what comes out is then.
    """

    def __init__(self, generator: FeatureGenerator, head: EmbeddingHead, *, on_sphere: bool) -> None:
        super().__init__()
        self.generator = generator
        self.head = head
        self.on_sphere = on_sphere

    def forward(self, anchors: Tensor, positives: Tensor, negatives: Tensor, share: Tensor) -> tuple[Tensor, Tensor]:
        pull = pull_on_sphere if self.on_sphere else pull_negatives
        pulled = pull(anchors, positives, negatives, share)
        synthetic = self.head(self.generator(pulled))
        return pulled, F.normalize(synthetic) if self.on_sphere else synthetic


def export_encoder(
    network: EncoderNetwork, path: Path, *, image_size: int, backbone: str, training_data: str, photos: Sequence[Path]
) -> ParityCard:
    """Write encoder.onnx, metadata inside, once it agrees with torch on real photo files.

    Args:
        photos: files to compare on; at most ``PARITY_PHOTOS`` of them are, evenly spaced.

    Raises:
        HdmlError: some embedding differs by more than ``PARITY_TOLERANCE``; what was at ``path`` before stays.
    """
    network.eval().cpu()
    preprocessing = evaluation_preprocessing(image_size)
    metadata = EncoderMetadata(
        dimension=network.dimension,
        preprocessing=preprocessing,
        normalisation="l2",
        fingerprint=fingerprint_of(network, preprocessing),
        backbone=backbone,
        training_data=training_data,
        version=hdml.__version__,
    )
    unchecked = path.with_name(f"unchecked-{path.name}")
    _to_onnx(
        network,
        (torch.zeros(2, 3, image_size, image_size),),
        unchecked,
        inputs=["images"],
        outputs=["embedding", "norm", "feature_map"],
        batched=(True,),
    )
    write_metadata(unchecked, metadata)
    card = check_parity(network, unchecked, preprocessing, photos)
    worst = float(np.max([card.max_difference, card.norm_difference]))  # NaN if any is, unlike max()
    if not worst <= PARITY_TOLERANCE:
        raise HdmlError(
            f"The exported encoder must give torch's embeddings within {PARITY_TOLERANCE:g}, but on {card.photos} photos it "
            f"differs by up to {worst:.2g}; {unchecked} is kept for a look, please report it."
        )
    if averages_places(network.backbone, image_size):
        _export_regions(network, path.with_name(REGIONS), image_size, fingerprint=metadata.fingerprint)
    unchecked.replace(path)
    return card


def _export_regions(network: EncoderNetwork, path: Path, image_size: int, *, fingerprint: str) -> None:
    """Write regions.onnx, which makes of the encoder's feature map what each place would embed to, once it agrees with torch.

    A file of its own: onnxruntime computes every output of a graph, so that embedding would pay for it.
    """
    head = PlaceHead(network.head)
    with torch.inference_mode():
        _, _, feature_map = network(torch.randn(2, 3, image_size, image_size, generator=torch.Generator().manual_seed(0)))
        expected = head(feature_map).numpy()
    unchecked = path.with_name(f"unchecked-{path.name}")
    _to_onnx(head, (feature_map.clone(),), unchecked, inputs=["feature_map"], outputs=["local_embeddings"], batched=(True,))
    put_metadata(unchecked, json.dumps({"format": 1, "fingerprint": fingerprint, "dimension": network.dimension}))
    (found,) = open_session(unchecked, device="cpu").run(None, {"feature_map": feature_map.numpy()})
    worst = float(np.abs(found - expected).max() / np.abs(expected).max())
    if not worst <= PARITY_TOLERANCE:
        raise HdmlError(
            f"The exported regions must be torch's within {PARITY_TOLERANCE:g} of the largest, but differ by up to {worst:.2g}; "
            f"{unchecked} is kept for a look, please report it."
        )
    unchecked.replace(path)


def export_synthesizer(
    generator: FeatureGenerator,
    head: EmbeddingHead,
    path: Path,
    *,
    share: float,
    loss: str,
    on_sphere: bool,
    fingerprint: str,
    embeddings: NDArray[np.float32],
    norms: NDArray[np.float32],
    loss_options: Mapping[str, float] | None = None,
    training: Mapping[str, Any] | None = None,
) -> float:
    """Write synthesizer.onnx once it agrees with torch on tuples of real embeddings; returns the largest difference.

    Args:
        share: the model's own λ, kept in the metadata.
        fingerprint: of the encoder whose embeddings it works on.
        on_sphere: whether the loss sees directions alone, so that synthesis works on unit embeddings.
        embeddings: [n ≥ 2, D] of real photos, of unit length.
        norms: [n] their lengths before.
        loss_options: of the loss, its defaults included.
        training: what the lens is to know of the run, see :func:`hdml.run.lens_history`.

    Raises:
        HdmlError: a synthetic differs by more than ``PARITY_TOLERANCE`` of its length.
    """
    network = SynthesizerNetwork(generator, head, on_sphere=on_sphere).eval().cpu()
    real = torch.from_numpy(embeddings if on_sphere else embeddings * norms[:, None])
    tuples = (real, real.roll(1, 0), real.roll(2, 0))
    unchecked = path.with_name(f"unchecked-{path.name}")
    _to_onnx(
        network,
        (*tuples, torch.tensor(share)),
        unchecked,
        inputs=["anchors", "positives", "negatives", "lambda"],
        outputs=["pulled", "synthetic"],
        batched=(True, True, True, False),
    )
    facts = {"dimension": head.linear.out_features, "fingerprint": fingerprint, "lambda": share, "loss": loss}
    facts |= {"loss_options": dict(loss_options or {}), **({} if training is None else {"training": dict(training)})}
    put_metadata(unchecked, json.dumps({"format": 1, "method": "hdml", **facts, "on_sphere": on_sphere}))
    with torch.inference_mode():
        expected = network(*tuples, torch.tensor(share))
    names = ("anchors", "positives", "negatives")
    feed = {name: rows.numpy() for name, rows in zip(names, tuples, strict=True)}
    found = open_session(unchecked, device="cpu").run(None, {**feed, "lambda": np.array(share, np.float32)})
    worst = float(np.max([_relative_difference(f, e.numpy()) for f, e in zip(found, expected, strict=True)]))
    if not worst <= PARITY_TOLERANCE:
        raise HdmlError(
            f"The exported synthesizer must give torch's synthetics within {PARITY_TOLERANCE:g} of their length, but differs "
            f"by up to {worst:.2g}; {unchecked} is kept for a look, please report it."
        )
    unchecked.replace(path)
    return worst


def check_parity(network: EncoderNetwork, encoder: Path, preprocessing: Preprocessing, photos: Sequence[Path]) -> ParityCard:
    """Compare torch's evaluation path with the vectors that the real indexer stores for the same files.

    Raises:
        HdmlError: no photos to compare on.
    """
    if not photos:
        raise HdmlError("The exported encoder has to be compared with torch on photo files, but there are none.")
    chosen = [photos[index * len(photos) // min(len(photos), PARITY_PHOTOS)] for index in range(min(len(photos), PARITY_PHOTOS))]
    with tempfile.TemporaryDirectory() as folder:
        gallery = Path(folder) / "gallery"
        gallery.mkdir()
        copies = [gallery / f"{index:04d}{photo.suffix}" for index, photo in enumerate(chosen)]
        for photo, copy in zip(chosen, copies, strict=True):
            shutil.copyfile(photo, copy)
        reported = embed_photos(network, copies, preprocessing, torch.device("cpu"))
        update_index(gallery, Path(folder) / "index", encoder, device="cpu")
        stored, norms = _stored_vectors(Path(folder) / "index", [copy.name for copy in copies])
    difference = np.abs(stored - reported.embeddings)
    return ParityCard(
        photos=len(chosen),
        max_difference=float(difference.max()),
        mean_difference=float(difference.mean()),
        norm_difference=float((np.abs(norms - reported.norms) / np.maximum(reported.norms, np.finfo(np.float32).eps)).max()),
        top_10_agreement=top_agreement(stored, reported.embeddings),
    )


def _stored_vectors(index: Path, names: Sequence[str]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    with Catalogue(index) as catalogue:
        items = [catalogue.item_at(name) for name in names]
    return np.stack([item.vector for item in items]), np.array([item.norm for item in items], np.float32)


def _relative_difference(found: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    lengths = np.linalg.norm(expected, axis=1, keepdims=True)
    return float((np.abs(found - expected) / np.maximum(lengths, np.finfo(np.float32).eps)).max())


def fingerprint_of(network: EncoderNetwork, preprocessing: Preprocessing) -> str:
    """16 hexadecimal digits of everything that decides an embedding: weights, their names, and the preprocessing."""
    digest = hashlib.sha256(json.dumps(asdict(preprocessing), sort_keys=True).encode())
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def _to_onnx(
    network: nn.Module,
    arguments: tuple[Tensor, ...],
    path: Path,
    *,
    inputs: list[str],
    outputs: list[str],
    batched: tuple[bool, ...],
) -> None:
    batch = torch.export.Dim("batch")
    # The exporter tells of every version of every operator that it considered; what matters is the parity check.
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    logging.getLogger("onnxscript").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network,
            arguments,
            path,
            input_names=inputs,
            output_names=outputs,
            dynamic_shapes=tuple({0: batch} if is_batched else None for is_batched in batched),
            opset_version=_OPSET,
            dynamo=True,
            external_data=False,
            verbose=False,
        )
