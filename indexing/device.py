"""Which processors may be used: one rule for ``--device auto|cpu|cuda``, and how many cores there are."""

import ctypes
import os
import sys
from functools import cache
from pathlib import Path

from indexing.errors import HdmlError

DEVICES = ("auto", "cpu", "cuda")


def check_device(device: str) -> None:
    """Raise HdmlError unless ``device`` is a word that ``--device`` knows."""
    if device not in DEVICES:
        raise HdmlError(f"the device must be one of {', '.join(DEVICES)}, not {device!r}")


def cuda_device_count() -> int:
    """Number of GPUs that NVIDIA's driver reports, 0 without a driver.

    Asking the driver costs a millisecond; loading CUDA's libraries only to learn that there is no GPU costs seconds.
    """
    try:
        driver = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return 0
    count = ctypes.c_int(0)
    if driver.cuInit(0) != 0 or driver.cuDeviceGetCount(ctypes.byref(count)) != 0:
        return 0
    return count.value


def onnx_providers(device: str) -> list[str]:
    """onnxruntime providers to ask for; the caller must check which ones its session really got.

    Raises:
        HdmlError: ``device`` is unknown, or "cuda" and there is no GPU.
    """
    check_device(device)
    if device == "cpu":
        return ["CPUExecutionProvider"]
    if cuda_device_count() == 0:
        if device == "cuda":
            raise HdmlError('the device "cuda" needs an NVIDIA GPU with its driver, but none was found; use --device cpu or auto')
        return ["CPUExecutionProvider"]
    import onnxruntime

    onnxruntime.preload_dlls()  # finds the CUDA libraries that pip installed; without it the provider loads none of them
    available = onnxruntime.get_available_providers()
    return [name for name in ("CUDAExecutionProvider", "CPUExecutionProvider") if name in available]


def available_cores() -> int:
    """Cores that this process may use, which containers and batch systems restrict."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


@cache
def has_vnni(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether the CPU has VNNI, its instructions for int8, as Linux tells it; False where nobody tells."""
    try:
        with cpuinfo.open(encoding="utf-8") as lines:
            flags = next((line for line in lines if line.startswith("flags")), "")
    except OSError:
        return False
    return not {"avx512_vnni", "avx_vnni"}.isdisjoint(flags.split())
