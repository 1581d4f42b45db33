"""PyTorch's fused transformer layers, disabled where an inner layer was replaced, since they read its weights.

In evaluation without gradient ``nn.TransformerEncoderLayer`` hands the weights of ``linear1`` and ``linear2`` to one
kernel, and ``nn.TransformerEncoder`` with a padding mask does so for nested tensors. The plain way computes the same,
but for what stands at padded positions, which the second makes zero.
"""

__all__ = ["masked_encoders", "plain_layers", "take_off_fused"]

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

Change = tuple[Any, str, Any]


def masked_encoders(model: nn.Module, call: Callable[[], object]) -> set[int]:
    """Which encoders of a network get a padding mask: theirs are not answered alike without the fused layers.

    Args:
        model: Any module.
        call: Asks it about an example.

    Returns:
        The ``id`` of each.
    """
    found: set[int] = set()

    def watch(encoder: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
        if named.get("src_key_padding_mask") is not None or (len(inputs) > 2 and inputs[2] is not None):
            found.add(id(encoder))

    encoders = [part for part in model.modules() if isinstance(part, nn.TransformerEncoder)]
    hooks = [each.register_forward_pre_hook(watch, with_kwargs=True) for each in encoders]
    try:
        if encoders:
            call()
    finally:
        for hook in hooks:
            hook.remove()
    return found


@contextmanager
def plain_layers(model: nn.Module, masked: Collection[int]) -> Iterator[None]:
    """A network without its fused layers for the time.

    Args:
        model: Any module; it is afterwards as it was.
        masked: Encoders that keep theirs, from :func:`masked_encoders`.

    Yields:
        Nothing.
    """
    kept = {id(part) for each in model.modules() if id(each) in masked for part in each.modules()}
    changes = [change for part in model.modules() if id(part) not in kept for change in _changes(part)]
    try:
        for part, name, _ in changes:
            setattr(part, name, _OFF[name])
        yield
    finally:
        for part, name, before in changes:
            setattr(part, name, before)


def take_off_fused(model: nn.Module) -> None:
    """Let transformer layers in which a linear layer was replaced call it.

    Args:
        model: Any module; its attributes are changed, and no weight.
    """
    for part in model.modules():
        layers = part.layers if isinstance(part, nn.TransformerEncoder) else [part]
        if any(isinstance(each, nn.TransformerEncoderLayer) and _replaced(each) for each in layers):
            for owner, name, _ in _changes(part):
                setattr(owner, name, _OFF[name])


_OFF: dict[str, Any] = {"activation_relu_or_gelu": 0, "use_nested_tensor": False}
"""What makes PyTorch go the plain way; neither counts for anything else."""


def _changes(part: nn.Module) -> list[Change]:
    if isinstance(part, nn.TransformerEncoderLayer):
        return [(part, "activation_relu_or_gelu", part.activation_relu_or_gelu)]
    if isinstance(part, nn.TransformerEncoder):
        return [(part, "use_nested_tensor", part.use_nested_tensor)]
    return []


def _replaced(layer: nn.TransformerEncoderLayer) -> bool:
    whole = type(layer.linear1) is nn.Linear and type(layer.linear2) is nn.Linear
    return not whole or type(layer.self_attn) is not nn.MultiheadAttention
