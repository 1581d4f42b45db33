"""Which models do the same at each step, so that a CUDA graph of one step can be replayed."""

__all__ = ["capturable"]

from torch import nn

_PURE = ("torch.nn.modules.", "limbeck.", "timm.")
"""Packages whose modules decide nothing in Python between two steps."""


def capturable(model: nn.Module) -> bool:
    """Whether a model's steps are known to be the same kernels every time.

    Modules of PyTorch, timm and Limbeck are. A user's own may count calls or draw random numbers in Python, which a
    graph would repeat: ``cuda_graphs="on"`` says that they do not.

    Args:
        model: Any module.

    Returns:
        Whether each of its modules is of a class that is known.

    Example:
        >>> class Own(nn.Linear):
        ...     pass
        >>> Own.__module__ = "mine"
        >>> capturable(nn.Sequential(nn.Linear(2, 2), nn.ReLU())), capturable(nn.Sequential(Own(2, 2)))
        (True, False)
    """
    return all(type(part).__module__.startswith(_PURE) for part in model.modules())
