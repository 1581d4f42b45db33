"""Models inside a wrapper, such as that of ``torch.compile``, and weights that were saved under its names."""

__all__ = ["load_weights", "unwrapped"]

from collections.abc import Mapping

from torch import Tensor, nn

_COMPILED = "_orig_mod"
_PARALLEL = "module"


def unwrapped(model: nn.Module) -> nn.Module:
    """The model inside the wrappers of ``torch.compile``, ``DataParallel`` and ``DistributedDataParallel``.

    Args:
        model: Any module.

    Returns:
        The module that holds the weights, itself where there is no wrapper.

    Example:
        >>> net = nn.Linear(2, 2)
        >>> unwrapped(nn.DataParallel(net)) is net, unwrapped(net) is net
        (True, True)
    """
    parallel = (nn.DataParallel, nn.parallel.DistributedDataParallel)
    while True:
        inside = model.module if isinstance(model, parallel) else model._modules.get(_COMPILED)
        if not isinstance(inside, nn.Module):
            return model
        model = inside


def load_weights(model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Load saved weights by their names, whether or not model and weights were wrapped.

    Args:
        model: Where they go.
        weights: By name, as ``state_dict`` gave them.

    Raises:
        RuntimeError: If they do not fit, as ``load_state_dict`` has it.

    Example:
        >>> net, saved = nn.Linear(2, 2), nn.DataParallel(nn.Linear(2, 2)).state_dict()
        >>> load_weights(net, saved)
        >>> bool((net.weight == saved["module.weight"]).all())
        True
    """  # noqa: DOC502
    names = list(model.state_dict())
    if set(names) != set(weights):
        places = {_plain(name): name for name in names}
        # Where two names become one, nothing is guessed.
        if len(places) == len(names) and len({_plain(name) for name in weights}) == len(weights):
            weights = {places.get(_plain(name), name): value for name, value in weights.items()}
    model.load_state_dict(weights)


def _plain(name: str) -> str:
    parts = [part for part in name.split(".") if part != _COMPILED]
    while parts and parts[0] == _PARALLEL:
        parts = parts[1:]
    return ".".join(parts)
