"""A network's operations one by one, as :func:`torch.export.export` traces them."""

__all__ = ["Node", "nodes_of"]

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from limbeck.errors import ConfigError
from limbeck.inputs import Inputs, in_blocks

_EXAMPLES = 2


@dataclass(frozen=True)
class Node:
    """One operation.

    Attributes:
        name: Of its result.
        operation: Such as "conv2d"; "output" at the end. In place or not is one.
        arguments: Its arguments in order: a :class:`torch.fx.Node` where it is a value.
        shape: Of its result; empty where it is not a tensor.
        tensors: Names of parameters and buffers by the names of values.
    """

    name: str
    operation: str
    arguments: tuple[Any, ...]
    shape: tuple[int, ...]
    tensors: dict[str, str]

    @property
    def inputs(self) -> list[str]:
        """Names of all values that it takes."""
        found: list[str] = []
        fx.node.map_arg(self.arguments, lambda each: found.append(each.name))
        return found

    def at(self, place: int) -> str | None:
        """The name of the value that is an argument, or None."""
        given = self.arguments[place] if place < len(self.arguments) else None
        return given.name if isinstance(given, fx.Node) else None

    def tensor(self, place: int) -> str | None:
        """The name of the parameter or buffer that is an argument, or None."""
        return self.tensors.get(self.at(place) or "")

    def shape_of(self, place: int) -> tuple[int, ...]:
        """The shape of an argument."""
        given = self.arguments[place]
        return _shape(given) if isinstance(given, fx.Node) else ()

    def number(self, place: int, default: int) -> int:
        """An argument that is an integer."""
        return int(self.arguments[place]) if place < len(self.arguments) else default

    def numbers(self, place: int) -> tuple[int, ...]:
        """An argument that is an integer or several."""
        given = self.arguments[place] if place < len(self.arguments) else None
        return () if given is None else (given,) if isinstance(given, int) else tuple(given)


def nodes_of(network: nn.Module, example: Inputs) -> Iterator[Node]:
    """The operations of a network, in order.

    Args:
        network: In evaluation mode on the CPU.
        example: A batch of inputs.

    Yields:
        Each operation, and the output.

    Raises:
        ConfigError: If the network cannot be traced.
    """
    few = next(iter(in_blocks(example, _EXAMPLES)))
    given = ((few,), {}) if isinstance(few, Tensor) else ((), dict(few))
    try:
        with torch.no_grad():
            program = torch.export.export(network, *given, strict=False)
    except Exception as error:  # torch.export has many types
        said = " ".join(str(error).split())[:160]
        raise ConfigError(
            f"the structure of {type(network).__name__} is unknown, so no unit can be pruned: torch.export "
            f"cannot trace it ({said}): use low rank instead (by rank)"
        ) from error
    signature = program.graph_signature
    tensors = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
    for node in program.graph.nodes:
        if node.op == "output":
            yield Node(node.name, "output", tuple(node.args), (), tensors)
        elif node.op == "call_function":
            name = str(getattr(node.target, "_opname", getattr(node.target, "__name__", node.target)))
            yield Node(node.name, name.rstrip("_") or name, tuple(node.args), _shape(node), tensors)


def _shape(node: fx.Node) -> tuple[int, ...]:
    value = node.meta.get("val")
    return tuple(int(side) for side in value.shape) if isinstance(value, Tensor) else ()
