"""Which layers of a network can be replaced, found by a trial with one example.

A layer is not always called: attention and many user networks read ``layer.weight`` instead. What replaces it
then has nothing to take. The fused layers of PyTorch's transformers are taken off for the trial, as they are where a
layer is replaced, but for encoders with a padding mask.
"""

__all__ = ["whole_layers"]

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from limbeck.errors import UserCodeError
from limbeck.inputs import Inputs, first_few, move
from limbeck.models.calling import call_model, evaluating
from limbeck.models.fused import masked_encoders, plain_layers

_CLOSE = 1e-3


class _Opaque(nn.Module):
    """A layer behind a call: it does the same, and shows no weight."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self._inside = [layer]  # in a list, so that it is not found as a part
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        result: Tensor = self._inside[0](x)
        return result


def whole_layers(model: nn.Module, example: Inputs) -> dict[str, str]:
    """Linear layers and convolutions that must stay as they are, each with the reason.

    Args:
        model: Any module; it is left as it was.
        example: One batch of inputs, of which one example is used, with gradient and without: networks take other
            paths then.

    Returns:
        Reasons by the layers' names.

    Example:
        >>> class Net(nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.called, self.taken = nn.Linear(4, 4), nn.Linear(4, 4)
        ...
        ...     def forward(self, x):
        ...         return nn.functional.linear(self.called(x), self.taken.weight)
        >>> sorted(whole_layers(Net(), torch.zeros(1, 4)))
        ['taken']
    """
    layers = {
        name: part
        for name, part in model.named_modules()
        if name and (type(part) is nn.Linear or type(part) is nn.Conv2d)
    }
    with evaluating(model), torch.random.fork_rng(devices=[]):
        expected = _answers(model, example)
        masked = masked_encoders(model, lambda: _answers(model, example))
        if not all(bool(answer.isfinite().all()) for answer in expected):
            return {}  # whoever looks at the weights says what is wrong with them
        with plain_layers(model, masked):
            return _reasons(model, layers, example, expected)


def _reasons(
    model: nn.Module, layers: Mapping[str, nn.Module], example: Inputs, expected: Sequence[Tensor]
) -> dict[str, str]:
    """Each layer that cannot be replaced, tried all together, then one by one."""
    if _fault(model, list(layers.values()), example, expected) is None:
        return {}
    found = {name: _fault(model, [layer], example, expected) for name, layer in layers.items()}
    reasons = {name: reason for name, reason in found.items() if reason is not None}
    free = [layer for name, layer in layers.items() if name not in reasons]
    together = _fault(model, free, example, expected) if free else None
    if together is not None:
        reasons |= {name: together for name in layers if name not in reasons}
    return reasons


def _answers(model: nn.Module, example: Inputs) -> list[Tensor]:
    first = next(model.parameters(), None)
    inputs = first_few(example) if first is None else move(first_few(example), first.device)
    found = []
    for graph in (False, True):
        with torch.set_grad_enabled(graph):
            found.append(call_model(model, inputs).detach())
    return found


def _fault(model: nn.Module, layers: Sequence[nn.Module], example: Inputs, expected: Sequence[Tensor]) -> str | None:
    """Why layers cannot be replaced, or None."""
    opaque = {id(layer): _Opaque(layer) for layer in layers}
    with _replaced(model, opaque):
        try:
            answers = _answers(model, example)
        except Exception as error:  # any error of a user's module where a weight is missing
            raised = error.__cause__ if isinstance(error, UserCodeError) else error
            if isinstance(raised, AttributeError) and _Opaque.__name__ in str(raised):
                return "the network takes its weights instead of calling it"
            return f"the network fails with another in its place: {' '.join(str(raised).split())[:100]}"
    for found, wanted in zip(answers, expected, strict=True):
        size = max(1.0, float(wanted.abs().max()))
        if found.shape != wanted.shape or not float((found - wanted).abs().max()) <= _CLOSE * size:
            return "the network answers otherwise where another layer that does the same is in its place"
    if any(part.calls == 0 for part in opaque.values()):
        return "the network never called it for an example that was tried"
    return None


@contextmanager
def _replaced(model: nn.Module, new: Mapping[int, nn.Module]) -> Iterator[None]:
    places = [
        (parent, name, child)
        for parent in model.modules()
        for name, child in parent._modules.items()
        if child is not None and id(child) in new
    ]
    try:
        for parent, name, child in places:
            parent._modules[name] = new[id(child)]
        yield
    finally:
        for parent, name, child in places:
            parent._modules[name] = child
