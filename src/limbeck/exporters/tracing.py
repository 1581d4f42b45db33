"""Tracing of a model to a program of tensor operations with any batch size, for all graph exporters.

Axes: ``N`` examples, ``L`` tokens.
"""

__all__ = ["Traced", "bare_inputs", "portable", "traced", "widened"]

import inspect
import io
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from limbeck.errors import ConfigError
from limbeck.inputs import BARE, Inputs, places_in, tensors_of
from limbeck.models.calling import logits_of, two_of_one, weights_dtype
from limbeck.models.copying import copy_module
from limbeck.models.int8 import Int8Linear, Int8Portable
from limbeck.models.wrapped import unwrapped
from limbeck.options.text import TOKEN_INPUTS

_AT_LEAST = 5
"""Examples in the batch that is traced: a size that few models have as another of their sizes."""


@dataclass(frozen=True, eq=False)
class Traced:
    """A program, and what its inputs are called.

    Attributes:
        program: The exported program, whose output is float32 logits, or what the module said by ``output_name``.
        inputs: Names of its inputs.
        output: Name of its output.
        lengths: Which inputs have an axis of any length after that of examples.
    """

    program: torch.export.ExportedProgram
    inputs: tuple[str, ...]
    output: str
    lengths: tuple[str, ...]


class _Logits(nn.Module):
    """A model whose output is its logits and nothing else, in float32."""

    def __init__(self, model: nn.Module, dtype: torch.dtype | None, *, heads: bool) -> None:
        super().__init__()
        self.model, self.dtype, self.heads = model, dtype, heads

    def forward(self, inputs: Tensor) -> Tensor:
        return self.taken(self.model(self.cast(inputs)), inputs)

    def cast(self, values: Tensor) -> Tensor:
        return values if self.dtype is None or not values.is_floating_point() else values.to(self.dtype)

    def taken(self, returned: object, first: Tensor) -> Tensor:
        logits = logits_of(returned)
        return (two_of_one(logits, first.shape[0]) if self.heads else logits).float()


def _by_name(names: Sequence[str]) -> type[_Logits]:
    """The same for inputs by name: torch.export goes by the names in a signature."""

    def forward(self: Any, **inputs: Tensor) -> Tensor:
        returned = self.model(**{name: self.cast(values) for name, values in inputs.items()})
        logits: Tensor = self.taken(returned, next(iter(inputs.values())))
        return logits

    parameters = [inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD) for name in ("self", *names)]
    # The attribute is inspect's, and typeshed does not know it of functions.
    forward.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return type("_NamedLogits", (_Logits,), {"forward": forward})


def bare_inputs(inputs: Inputs) -> tuple[Inputs, bool]:
    """What a model is given of some inputs, without the places of positions or labels that are examples.

    Args:
        inputs: Of a batch.

    Returns:
        The inputs, and whether each row of them is one example.

    Example:
        >>> bare_inputs({"x": torch.zeros(1)})
        ({'x': tensor([0.])}, True)
    """
    key = places_in(inputs)
    if key is None or not isinstance(inputs, Mapping):
        return inputs, True
    rest = {name: each for name, each in inputs.items() if name != key}
    return (rest.get(BARE, rest) if len(rest) == 1 else rest), False


def portable(model: nn.Module) -> nn.Module:
    """A copy of a model on the CPU in evaluation mode, of operations that other runtimes have.

    Args:
        model: Any module; wrappers such as that of ``torch.compile`` are taken off.

    Returns:
        The copy, in which linear layers of 8 bits compute the same by ordinary products.
    """
    return _with_int8(model, Int8Portable)


def widened(model: nn.Module) -> nn.Module:
    """A copy of a model in which layers of 8 bits are linear layers again, so that a format rounds them in its own way.

    Args:
        model: Any module; wrappers such as that of ``torch.compile`` are taken off.

    Returns:
        The copy, on the CPU in evaluation mode; its weights are what the bytes stand for.
    """
    return _with_int8(model, Int8Linear.widened)


def _with_int8(model: nn.Module, instead: Callable[[Int8Linear], nn.Module]) -> nn.Module:
    made = copy_module(unwrapped(model)).cpu().eval().requires_grad_(False)
    if type(made) is Int8Linear:
        return instead(made)
    for parent in list(made.modules()):
        for name, child in list(parent._modules.items()):
            if type(child) is Int8Linear:
                setattr(parent, name, instead(child))
    return made


def traced(model: nn.Module, example: Inputs) -> Traced:
    """Trace a model with any number of examples, and of tokens where it takes texts.

    Args:
        model: From :func:`portable`. Attributes ``input_name`` and ``output_name`` name a single input and the output.
        example: What it takes.

    Returns:
        The program.

    Raises:
        ConfigError: If a branch depends on values, the number of examples is fixed by the model's code, or it fails.
    """
    given, rows = bare_inputs(example)
    names = tuple(given) if isinstance(given, Mapping) else (getattr(model, "input_name", "inputs"),)
    output = getattr(model, "output_name", "logits")
    wrapper = _by_name(names) if isinstance(given, Mapping) else _Logits
    whole = wrapper(model, weights_dtype(model), heads=rows and output == "logits").eval()
    values = [_several(each) for each in tensors_of(given)]
    lengths = tuple(name for name in names if name in TOKEN_INPUTS)
    dynamic = torch.export.Dim.DYNAMIC
    shapes = [{0: dynamic, **({1: dynamic} if name in lengths else {})} for name in names]
    args = () if isinstance(given, Mapping) else tuple(values)
    kwargs = dict(zip(names, values, strict=True)) if isinstance(given, Mapping) else {}
    spec: Any = dict(zip(names, shapes, strict=True)) if isinstance(given, Mapping) else tuple(shapes)
    with hushed(), torch.no_grad():
        before = torch.backends.mha.get_fastpath_enabled()
        torch.backends.mha.set_fastpath_enabled(False)  # an operator that no other runtime has
        try:
            program = torch.export.export(whole, args, kwargs, dynamic_shapes=spec, strict=False)
        except Exception as error:  # torch.export has many types, none of them public
            raise ConfigError(_refused(error, model)) from error
        finally:
            torch.backends.mha.set_fastpath_enabled(before)
    for part in program.graph_module.modules():
        for node in part.graph.nodes if isinstance(part, torch.fx.GraphModule) else ():
            node.meta.pop("stack_trace", None)  # lines of the user's code, with the paths of his machine
    return Traced(program, names, output, lengths)


def _several(values: Tensor) -> Tensor:
    """The example repeated to a batch: a batch of one would be of one for ever."""
    count = len(values)
    return values if count >= _AT_LEAST else values.repeat(-(-_AT_LEAST // count), *[1] * (values.ndim - 1))[:_AT_LEAST]


@contextmanager
def hushed() -> Iterator[None]:
    """Without what exporters say of themselves: warnings, logs, and what they print.

    Yields:
        Nothing.
    """
    names = ("torch", "torch.export", "torch.onnx", "onnxscript", "onnx_ir")
    before = {name: logging.getLogger(name).level for name in names}
    try:
        for name in names:
            logging.getLogger(name).setLevel(logging.CRITICAL)
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)


def _refused(error: BaseException, model: nn.Module) -> str:
    """One line on why a model cannot be traced, with the cure."""
    said = " ".join(str(error).split())
    chain: list[str] = []
    at: BaseException | None = error
    while at is not None and len(chain) < 8:
        chain.append(f"{type(at).__name__} {at}")
        at = at.__cause__ or at.__context__
    told, name = " ".join(chain), type(model).__name__
    place = _place_in_code(error)
    if "DataDependent" in told or "data-dependent" in told or "_local_scalar_dense" in told:
        return (
            f"{name} cannot be exported: its forward decides by values of its inputs{place}, and an exported program "
            "takes one way for all: write it with torch.where, or without .item() and `if`"
        )
    if "Constraints violated" in told or "specialized" in told or "ConstraintViolation" in told:
        return (
            f"{name} cannot be exported: its forward fixes the number of examples or tokens: where it uses len(x) or "
            "a number in a view, use x.shape[0] and -1"
        )
    return f"{name} cannot be exported: tracing fails{place}: {type(error).__name__}: {said[:240]}"


def _place_in_code(error: BaseException) -> str:
    """File and line of the last frame that is neither PyTorch's nor Limbeck's."""
    at, found = error.__traceback__, ""
    while at is not None:
        module = at.tb_frame.f_globals.get("__name__", "")
        if module.partition(".")[0] not in {"torch", "limbeck", "contextlib"}:
            found = f" ({at.tb_frame.f_code.co_filename.rpartition('/')[2]}, line {at.tb_lineno})"
        at = at.tb_next
    return found
