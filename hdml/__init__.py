"""Hardness-aware deep metric learning: the learning half of the product, and the only package that imports torch.

For a training loop of one's own (examples/own_loop.py): :class:`hdml.hardness.HardnessAware`, a metric loss made hardness-aware,
and :func:`hdml.metric_losses.metric_loss`, the losses by name.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hdml.hardness import HardnessAware
    from hdml.metric_losses import metric_loss

__all__ = ["HardnessAware", "metric_loss"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Imports torch only when a public name is asked for: the version alone must not cost it."""
    if name == "HardnessAware":
        from hdml.hardness import HardnessAware

        return HardnessAware
    if name == "metric_loss":
        from hdml.metric_losses import metric_loss

        return metric_loss
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
