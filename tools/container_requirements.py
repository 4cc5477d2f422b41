"""What the container installs: this project's dependencies without those that only training needs, for one kind of device.

    python tools/container_requirements.py cpu|cuda

The project itself takes the packages for CUDA wherever there are any; an image for a CPU is smaller by gigabytes without them.
"""

import re
import sys
import tomllib
from pathlib import Path

_TRAINING = ("torch", "torchvision", "pytorch-metric-learning", "safetensors", "onnxscript")
_OF_CPU, _OF_CUDA = ("faiss-cpu", "onnxruntime"), ("faiss-gpu", "onnxruntime-gpu")


def requirements(dependencies: list[str], device: str) -> list[str]:
    """Those that searching and indexing need on a device, ``cpu`` or ``cuda``, without what says on which platforms."""
    left_out = {*_TRAINING, *(_OF_CUDA if device == "cpu" else _OF_CPU)}
    named = {dependency.partition(";")[0].strip() for dependency in dependencies}
    return sorted(one for one in named if re.split(r"[<>=!\[ ]", one, maxsplit=1)[0] not in left_out)


def main() -> None:
    if sys.argv[1:] not in (["cpu"], ["cuda"]):
        sys.exit("error: the device must be cpu or cuda, as in: python tools/container_requirements.py cpu")
    project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))
    print("\n".join(requirements(project["project"]["dependencies"], sys.argv[1])))


if __name__ == "__main__":
    main()
