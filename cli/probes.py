"""What hdml doctor tries out: each probe runs in an interpreter of its own, where a library may crash without harm.

``python -P -m cli.probes NAME`` prints the probe's Evidence as JSON; a traceback or a signal is a finding too.
"""

import json
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Evidence:
    """What a library showed when it was used: the device that it computed on, and more about that device or its files."""

    device: str
    detail: str = ""


def probe_torch() -> Evidence:
    """Add numbers where training would run, and look for downloaded ImageNet weights."""
    import torch
    import torchvision  # noqa: F401  # fails by itself when it does not fit torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    if torch.ones(8, device=device).sum().item() != 8:
        raise ArithmeticError(f"torch adds wrongly on {device}")
    weights = sorted(path.name for path in (Path(torch.hub.get_dir()) / "checkpoints").glob("*.pth"))
    return Evidence(device, ", ".join(weights))


def probe_onnxruntime() -> Evidence:
    """Run a network of one addition, by the same device rule as an encoder."""
    import numpy as np
    from onnx import TensorProto, helper, save

    from indexing.encoder import open_session

    row = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [4]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Add", ["x", "x"], ["y"])], "probe", row[:1], row[1:])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "probe.onnx"
        save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10), path)
        session = open_session(path)
        (doubled,) = session.run(None, {"x": np.arange(4, dtype=np.float32)})
    if doubled.tolist() != [0, 2, 4, 6]:
        raise ArithmeticError(f"onnxruntime doubles 0, 1, 2, 3 to {doubled.tolist()}")
    providers = session.get_providers()
    return Evidence("cuda" if "CUDAExecutionProvider" in providers else "cpu", ", ".join(providers))


def probe_faiss() -> Evidence:
    """Search four vectors for themselves, by the same device rule as an index."""
    import faiss
    import numpy as np

    from indexing.index import to_device

    vectors = np.eye(4, dtype=np.float32)
    flat = faiss.IndexFlatIP(4)
    flat.add(vectors)
    index, device = to_device(flat, "auto")
    found = index.search(vectors, 1)[1].ravel().tolist()
    if found != [0, 1, 2, 3]:
        raise ArithmeticError(f"faiss finds {found} instead of 0, 1, 2, 3")
    return Evidence(device)


PROBES: dict[str, Callable[[], Evidence]] = {
    "torch": probe_torch,
    "onnxruntime": probe_onnxruntime,
    "faiss": probe_faiss,
}

if __name__ == "__main__":
    sys.stdout.write(json.dumps(asdict(PROBES[sys.argv[1]]())))
