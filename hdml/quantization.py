"""An int8 encoder made of a float one: onnxruntime's static quantisation, weights channel by channel.

Activations are uint8 and weights int8, the pair that VNNI multiplies. The range of each activation is the least and the greatest
value that it takes on calibration photos: clipped ranges (percentiles, entropy) agreed less with the float encoder
(docs/int8.md), and ranges are all that is kept of a batch, however many photos there are.
"""

import hashlib
import json
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from indexing.encoder import EncoderMetadata, read_metadata, write_metadata
from indexing.preprocess import Preprocessing

METHOD = "static, QDQ, uint8 activations by their least and greatest values, int8 weights per channel"
_OPERATORS = ["Conv", "MatMul", "Gemm", "Add", "Relu", "Clip", "MaxPool", "AveragePool", "Concat"]


def quantize_encoder(encoder: Path, target: Path, batches: Iterable[NDArray[np.float32]]) -> EncoderMetadata:
    """Write the int8 encoder of a float encoder, and return its metadata, with a fingerprint of its own.

    What comes after the feature map, which is pooling, head and length, stays float: it costs next to nothing.

    Args:
        encoder: as hdml's export wrote it.
        target: file to write.
        batches: of calibration photos as the encoder takes them, [B, 3, crop, crop]; at least one.
    """
    import onnx
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    metadata = read_metadata(encoder)
    with tempfile.TemporaryDirectory() as folder:
        prepared = Path(folder) / "prepared.onnx"
        quant_pre_process(encoder, prepared, skip_symbolic_shape=True)  # fuses BatchNorm into convolutions
        model = onnx.load(prepared)
        for position, node in enumerate(model.graph.node):
            node.name = node.name or f"node_{position}"  # they are chosen by name
        onnx.save(model, prepared)
        quantize_static(
            prepared,
            target,
            _Reader(batches),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=_OPERATORS,
            nodes_to_quantize=_nodes_before(model, "feature_map"),
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
    fingerprint = _fingerprint(onnx.load(target), metadata.preprocessing)
    quantized = replace(metadata, fingerprint=fingerprint, quantization={"of": metadata.fingerprint, "method": METHOD})
    write_metadata(target, quantized)
    return quantized


class _Reader:
    """Batches in the form in which onnxruntime's calibration asks for them."""

    def __init__(self, batches: Iterable[NDArray[np.float32]]) -> None:
        self._batches: Iterator[NDArray[np.float32]] = iter(batches)

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        batch = next(self._batches, None)
        return None if batch is None else {"images": batch}


def _nodes_before(model: Any, output: str) -> list[str]:
    """Names of the nodes that an output is computed from."""
    producer = {name: node for node in model.graph.node for name in node.output}
    found: dict[str, None] = {}
    waiting = [output]
    while waiting:
        node = producer.get(waiting.pop())
        if node is not None and node.name not in found:
            found[node.name] = None
            waiting.extend(node.input)
    return list(found)


def _fingerprint(model: Any, preprocessing: Preprocessing) -> str:
    """16 hexadecimal digits of everything that decides an embedding: constants, with ranges among them, and the preprocessing."""
    from onnx import numpy_helper

    digest = hashlib.sha256(json.dumps(asdict(preprocessing), sort_keys=True).encode())
    for tensor in sorted(model.graph.initializer, key=lambda tensor: tensor.name):
        digest.update(tensor.name.encode())
        digest.update(numpy_helper.to_array(tensor).tobytes())
    return digest.hexdigest()[:16]
