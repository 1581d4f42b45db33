"""Taps: outputs of a model's submodules, read by forward hooks.

Axes: ``N`` examples.
"""

__all__ = ["Tap", "Taps", "default_stages", "list_taps"]

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor, nn

from limbeck.errors import ConfigError, DataError
from limbeck.inputs import Inputs
from limbeck.models.calling import call_model, evaluating


class Tap(NamedTuple):
    """One submodule.

    Attributes:
        name: As ``named_modules`` has it.
        kind: Its class.
        shape: Of its output for one example, without the axis of examples.
    """

    name: str
    kind: str
    shape: tuple[int, ...]


class Taps:
    """Keeps the outputs of some submodules of each call of a model, with their gradient.

    A submodule that is called several times keeps its last output. Of a tuple or an object with several outputs the
    first tensor counts.

    Args:
        model: Whose.
        names: Of the submodules.

    Raises:
        ConfigError: If there is no submodule of a name.

    Example:
        >>> net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 4))
        >>> with Taps(net, ["1"]) as taps:
        ...     logits = net(torch.ones(5, 2))
        ...     taps.take()["1"].shape
        torch.Size([5, 3])
    """

    def __init__(self, model: nn.Module, names: Iterable[str]) -> None:
        parts = dict(model.named_modules())
        self.names = tuple(names)
        for name in self.names:
            if name not in parts or not name:
                near = difflib.get_close_matches(name, parts, 1, cutoff=0.4)
                cure = f"did you mean {near[0]}?" if near else "limbeck taps lists them"
                raise ConfigError(f"the model {type(model).__name__} has no layer {name!r}: {cure}")
        self._found: dict[str, Tensor] = {}
        self._handles = [parts[name].register_forward_hook(self._keeper(name)) for name in self.names]

    def _keeper(self, name: str) -> Any:
        def keep(_: nn.Module, __: Any, output: Any) -> None:
            found = tensor_in(output)
            if found is not None:
                self._found[name] = found

        return keep

    def take(self, count: int | None = None) -> dict[str, Tensor]:
        """The outputs of the call before, each once.

        Args:
            count: Examples of that call; None not to compare.

        Returns:
            Tensors by name, ``(N, ...)``.

        Raises:
            DataError: If a submodule was not called, or gave other rows than one per example.
        """
        found, self._found = self._found, {}
        for name in self.names:
            if name not in found:
                raise DataError(f"layer {name} gave no tensor: the model did not call it, or it is part of another one")
            if count is not None and (found[name].ndim < 2 or len(found[name]) != count):
                raise DataError(
                    f"layer {name} gives shape {tuple(found[name].shape)} for {count} examples: a feature method "
                    "needs one row per example"
                )
        return {name: found[name] for name in self.names}

    def close(self) -> None:
        """Remove the hooks from the model."""
        for handle in self._handles:
            handle.remove()
        self._found = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def tensor_in(output: Any) -> Tensor | None:
    """The first tensor in what a submodule returned, or None."""
    if isinstance(output, Tensor):
        return output
    values: Any = output.values() if isinstance(output, Mapping) else output
    if isinstance(output, Mapping | tuple | list):
        return next((each for each in values if isinstance(each, Tensor)), None)
    return None


def list_taps(model: nn.Module, inputs: Inputs) -> list[Tap]:
    """Every submodule that gives a tensor of one row per example, in the order in which they finish.

    Args:
        model: Any.
        inputs: A batch of examples.

    Returns:
        Their names and the shapes of their outputs.

    Example:
        >>> list_taps(nn.Sequential(nn.Linear(2, 3), nn.ReLU()), torch.ones(5, 2))
        [Tap(name='0', kind='Linear', shape=(3,)), Tap(name='1', kind='ReLU', shape=(3,))]
    """
    found: dict[str, Tap] = {}

    def note(name: str, part: nn.Module) -> Any:
        def look(_: nn.Module, __: Any, output: Any) -> None:
            tensor = tensor_in(output)
            if tensor is not None and tensor.ndim >= 2:
                found[name] = Tap(name, type(part).__name__, tuple(tensor.shape[1:]))

        return look

    handles = [part.register_forward_hook(note(name, part)) for name, part in model.named_modules() if name]
    try:
        with evaluating(model), torch.no_grad():
            call_model(model, inputs)
    finally:
        for handle in handles:
            handle.remove()
    return list(found.values())


def default_stages(taps: Sequence[Tap]) -> list[str]:
    """The layers that stand for a network's stages: one for each size of feature map, each block, or each hidden layer.

    Args:
        taps: From :func:`list_taps`.

    Returns:
        Names, from the first to the last: of feature maps the last layer of each size, larger than one pixel; of
        sequences the blocks; else what goes into each further linear layer.

    Example:
        >>> net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 4))
        >>> default_stages(list_taps(net, torch.ones(5, 2)))
        ['1', '3']
    """
    maps = [tap for tap in taps if len(tap.shape) == 3 and min(tap.shape[1:]) > 1]
    if maps:
        last = {tap.shape[1:]: tap.name for tap in maps}  # in the order of the first of each size
        return list(last.values())
    sequences = [tap for tap in taps if len(tap.shape) == 2]
    if sequences:
        return _blocks([tap.name for tap in sequences])
    hidden: list[str] = []
    begun, before = False, ""
    for tap in taps:
        if "Linear" in tap.kind:
            hidden += [before] if begun else []
            begun = True
        before = tap.name
    return hidden


def _blocks(names: Sequence[str]) -> list[str]:
    """The longest list of numbered siblings."""
    siblings: dict[str, list[str]] = {}
    for name in names:
        parent, _, last = name.rpartition(".")
        if last.isdigit():
            siblings.setdefault(parent, []).append(name)
    return max(siblings.values(), key=len, default=list(names[-1:]))
