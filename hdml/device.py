"""What a device was asked for while this process ran."""

import sys

import torch


def peak_memory(device: torch.device) -> int | None:
    """Most bytes that this process held on the GPU, or on the CPU most bytes resident; None where the system does not tell."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    if sys.platform == "win32":
        return None
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak
