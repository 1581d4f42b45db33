"""The components of an nnet3 network: a name, a type, its fields, and the dimensions that follow from them."""

__all__ = ["Component", "component_bytes", "dims_of", "offsets_of", "read_component"]

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limbeck.errors import DataError
from limbeck.kaldi.formats.stream import KaldiStream
from limbeck.kaldi.nnet3.fields import Field, Value, field_bytes, read_fields

_OPENING = re.compile(r"<([A-Z][A-Za-z0-9]{0,60})Component>")
_LARGEST = 1 << 24


@dataclass(frozen=True, eq=False)
class Component:
    """A component as it stands in a file.

    Attributes:
        name: What nodes call it.
        kind: Its type, without "Component", such as "NaturalGradientAffine".
        fields: In the order of the file.
        repeated: Whether the opening tag stands there twice, as older Kaldi wrote it.
    """

    name: str
    kind: str
    fields: tuple[Field, ...]
    repeated: bool = False

    def get(self, *tags: str, default: Any = None) -> Any:
        """The first value of the first of some tags that is there.

        Args:
            tags: Names of the same thing, newest first.
            default: Where none is there.

        Returns:
            The value.

        Raises:
            DataError: If none is there, and there is no default.
        """
        for tag in tags:
            for field in self.fields:
                if field.tag == tag and field.values:
                    return field.values[0].content
        if default is None:
            raise DataError(f"component {self.name}, a {self.kind}Component, lacks <{tags[0]}>")
        return default

    def has(self, tag: str) -> bool:
        """Whether a tag is there."""
        return any(field.tag == tag for field in self.fields)

    def number(self, *tags: str, low: int = 1, default: int | None = None) -> int:
        """A whole number that is at least ``low`` and not absurdly large."""
        value = self.get(*tags, default=default)
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= _LARGEST:
            raise DataError(f"component {self.name}, a {self.kind}Component, has <{tags[0]}> {str(value)[:20]}")
        return value

    def real(self, *tags: str, default: float | None = None) -> float:
        """A finite number."""
        value = self.get(*tags, default=default)
        if isinstance(value, bool) or not isinstance(value, float | int) or not np.isfinite(value):
            raise DataError(f"component {self.name}, a {self.kind}Component, has <{tags[0]}> {str(value)[:20]}")
        return float(value)

    def flag(self, tag: str, *, default: bool) -> bool:
        """T or F."""
        return bool(self.get(tag)) if self.has(tag) else default

    def array(self, *tags: str, axes: int = 1) -> NDArray[Any]:
        """A vector or matrix of finite numbers."""
        value = self.get(*tags)
        if not isinstance(value, np.ndarray) or (value.ndim != axes and value.size):
            raise DataError(
                f"component {self.name}, a {self.kind}Component, should have a "
                f"{'matrix' if axes == 2 else 'vector'} as <{tags[0]}>"
            )
        if not np.isfinite(value).all():
            raise DataError(f"component {self.name}, a {self.kind}Component: <{tags[0]}> holds NaN or infinity")
        return value

    def with_arrays(self, **arrays: NDArray[Any]) -> "Component":
        """The same component with other values of some arrays."""
        fields = [
            Field(field.tag, (Value(field.values[0].kind, arrays[field.tag]),)) if field.tag in arrays else field
            for field in self.fields
        ]
        return replace(self, fields=tuple(fields))

    @property
    def parameter_count(self) -> int:
        """Numbers that training changes."""
        if self.kind.startswith("Fixed"):
            return 0
        tags = ("LinearParams", "BiasParams", "Params", "Scales", "Offsets", "Bias", "Output")
        values = [value for field in self.fields if field.tag in tags for value in field.values]
        return sum(value.content.size for value in values if value.kind in "VM")


def read_component(stream: KaldiStream) -> Component:
    """Read a component, from ``<ComponentName>`` on.

    Args:
        stream: Before it.

    Returns:
        The component.

    Raises:
        FormatError: If it is malformed or cut short.
    """
    stream.expect("<ComponentName>")
    name = stream.token()
    start = stream.offset
    token = stream.token()
    match = _OPENING.fullmatch(token)
    if match is None:
        raise stream.error(f"found {token!r} where the type of the component {name} should be", offset=start)
    repeated = stream.peek_token() == token
    if repeated:
        stream.token()
    return Component(name, match[1], read_fields(stream, match[1]), repeated)


def component_bytes(component: Component, *, binary: bool) -> Iterator[bytes | memoryview]:
    """Write a component as Kaldi does.

    Args:
        component: The component.
        binary: True for binary.

    Yields:
        The bytes, in pieces.
    """
    opening = f"<{component.kind}Component> "
    yield f"<ComponentName> {component.name} {opening * (2 if component.repeated else 1)}".encode()
    for field in component.fields:
        yield from field_bytes(field, binary=binary)
    yield f"</{component.kind}Component> ".encode() + (b"" if binary else b"\n")


def dims_of(component: Component) -> tuple[int, int] | None:
    """How many inputs and outputs a component has.

    Args:
        component: Any.

    Returns:
        Both, or None where its type is not known.

    Raises:
        DataError: If its fields contradict each other.
    """
    find = _DIMS.get(component.kind)
    if find is None:
        return None
    dims = find(component)
    if not all(1 <= dim <= _LARGEST for dim in dims):
        raise DataError(f"component {component.name} has {dims[0]} inputs and {dims[1]} outputs")
    return dims


def offsets_of(component: Component) -> tuple[int, ...]:
    """The times, beside its own, at which a component reads its input.

    Args:
        component: Any.

    Returns:
        The offsets; ``(0,)`` for most.

    Raises:
        DataError: If they are none or absurd.
    """
    if component.kind != "Tdnn":
        return (0,)
    offsets = tuple(component.array("TimeOffsets").tolist())
    if not offsets or any(abs(offset) > 1 << 20 for offset in offsets):
        raise DataError(f"component {component.name} has the time offsets {offsets[:5]}")
    return offsets


Dims = tuple[int, int]


def _matrix(tag: str) -> Callable[[Component], Dims]:
    def find(part: Component) -> Dims:
        rows, columns = part.array(tag, axes=2).shape or (0, 0)
        if part.has("BiasParams") and part.array("BiasParams").size not in (rows,):
            raise DataError(f"component {part.name} has {rows} outputs and {part.array('BiasParams').size} biases")
        return columns, rows

    return find


def _tdnn(part: Component) -> Dims:
    rows, columns = part.array("LinearParams", axes=2).shape
    count, biases = len(offsets_of(part)), part.array("BiasParams").size
    if columns % count or biases not in (0, rows):
        raise DataError(
            f"component {part.name} has {columns} columns for {count} time offsets, and {biases} biases for {rows} rows"
        )
    return columns // count, rows


def _same(*tags: str) -> Callable[[Component], Dims]:
    return lambda part: (part.number(*tags), part.number(*tags))


def _length(tag: str) -> Callable[[Component], Dims]:
    return lambda part: (part.array(tag).size, part.array(tag).size)


def _given(part: Component) -> Dims:
    inputs, outputs = part.number("InputDim"), part.number("OutputDim")
    if inputs % outputs:
        raise DataError(f"component {part.name} has {inputs} inputs, which is not a multiple of its {outputs} outputs")
    return inputs, outputs


def _blocked(dim: int, part: Component, block: int) -> int:
    if dim % block:
        raise DataError(f"component {part.name} has {dim} columns, which is not a multiple of its blocks of {block}")
    return dim


def _batch_norm(part: Component) -> Dims:
    dim, block = part.number("Dim"), part.number("BlockDim", default=part.number("Dim"))
    for tag in ("StatsMean", "StatsVar"):
        if part.array(tag).size not in (0, block):
            raise DataError(f"component {part.name} has {part.array(tag).size} values of <{tag}> for {block} columns")
    return _blocked(dim, part, block), dim


def _normalize(part: Component) -> Dims:
    dim = part.number("InputDim", "Dim")
    block = part.number("BlockDim", default=dim)
    return _blocked(dim, part, block), dim + (dim // block if part.flag("AddLogStddev", default=False) else 0)


def _scale_and_offset(part: Component) -> Dims:
    dim, block = part.number("Dim"), part.array("Scales").size
    if not block or part.array("Offsets").size != block:
        raise DataError(f"component {part.name} has {block} scales and {part.array('Offsets').size} offsets")
    return _blocked(dim, part, block), dim


def _element_offset(part: Component) -> Dims:
    block = part.array("Offsets").size
    dim = part.number("Dim", default=max(block, 1))
    return _blocked(dim, part, max(block, 1)), dim


def _sizes(part: Component) -> Dims:
    sizes = part.array("Sizes")
    if not sizes.size or (sizes < 1).any():
        raise DataError(f"component {part.name} has groups without a column")
    return int(sizes.sum()), sizes.size


def _blocks(tag: str, outputs: bool) -> Callable[[Component], Dims]:
    def find(part: Component) -> Dims:
        rows, columns = part.array("LinearParams", axes=2).shape or (0, 0)
        count = part.number(tag)
        biases = part.array("BiasParams").size
        if biases != rows or (not outputs and rows % count):
            raise DataError(f"component {part.name} has {rows} rows, {count} blocks and {biases} biases")
        return columns * count, rows * count if outputs else rows

    return find


def _permute(part: Component) -> Dims:
    columns = part.array("ColumnMap")
    if not np.array_equal(np.sort(columns), np.arange(columns.size)):
        raise DataError(f"component {part.name}: <ColumnMap> is not a permutation")
    return columns.size, columns.size


def _convolution(part: Component) -> Dims:
    return (
        part.number("NumFiltersIn") * part.number("HeightIn"),
        part.number("NumFiltersOut") * part.number("HeightOut"),
    )


def _lstm(part: Component) -> Dims:
    cells = int(part.array("Params", axes=2).shape[1])
    return 5 * cells + (3 if part.flag("UseDropout", default=False) else 0), 2 * cells


def _extraction(part: Component) -> Dims:
    dim = part.number("InputDim")
    return dim, 1 + dim * (2 if part.flag("IncludeVarinance", default=True) else 1)


def _pooling(part: Component) -> Dims:
    dim, counts = part.number("InputDim", low=2), part.number("NumLogCountFeatures", low=0)
    return dim, counts + (dim - 1)


_DIMS: dict[str, Callable[[Component], Dims]] = {
    "NaturalGradientAffine": _matrix("LinearParams"),
    "Affine": _matrix("LinearParams"),
    "FixedAffine": _matrix("LinearParams"),
    "Linear": _matrix("Params"),
    "Tdnn": _tdnn,
    **{
        kind: _same("Dim")
        for kind in (
            "RectifiedLinear", "Sigmoid", "Tanh", "Softmax", "LogSoftmax", "GeneralDropout", "Dropout", "NoOp",
            "ClipGradient", "BackpropTruncation",
        )
    },
    "BatchNorm": _batch_norm,
    "Normalize": _normalize,
    "ScaleAndOffset": _scale_and_offset,
    "PerElementScale": _length("Params"),
    "NaturalGradientPerElementScale": _length("Params"),
    "PerElementOffset": _element_offset,
    "FixedScale": _length("Scales"),
    "FixedBias": _length("Bias"),
    "Permute": _permute,
    "Pnorm": _given,
    "ElementwiseProduct": _given,
    "SumBlock": _given,
    "SumGroup": _sizes,
    "ConstantFunction": lambda part: (part.number("InputDim"), part.array("Output").size),
    "BlockAffine": _blocks("NumBlocks", outputs=False),
    "RepeatedAffine": _blocks("NumRepeats", outputs=True),
    "TimeHeightConvolution": _convolution,
    "LstmNonlinearity": _lstm,
    "StatisticsExtraction": _extraction,
    "StatisticsPooling": _pooling,
}  # fmt: skip
