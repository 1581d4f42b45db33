"""One nnet1 component at a time: from the tokens of a file to a record and back, binary and text alike."""

__all__ = ["component_bytes", "legacy_component_bytes", "read_component_body"]

import struct
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from limbeck.errors import DataError
from limbeck.kaldi.formats import matrix as km
from limbeck.kaldi.formats import nnet1_components as nc
from limbeck.kaldi.formats.nnet1_layout import More, Parts
from limbeck.kaldi.formats.nnet1_more_codec import Nested, more_bytes, read_more
from limbeck.kaldi.formats.stream import KaldiStream

Piece = bytes | memoryview

# For each tag: the tokens that carry a number, the field each fills, in the order in which Kaldi writes them.
_NUMBERS: dict[type[nc.Component], dict[str, str]] = {
    nc.AffineTransform: {
        "<LearnRateCoef>": "learn_rate",
        "<BiasLearnRateCoef>": "bias_learn_rate",
        "<MaxNorm>": "max_norm",
    },
    nc.LinearTransform: {"<LearnRateCoef>": "learn_rate"},
    nc.ParametricRelu: {"<AlphaLearnRateCoef>": "alpha_learn_rate", "<BetaLearnRateCoef>": "beta_learn_rate"},
    nc.Dropout: {"<DropoutRate>": "rate"},
    nc.AddShift: {"<LearnRateCoef>": "learn_rate"},
    nc.Rescale: {"<LearnRateCoef>": "learn_rate"},
}
_MOST_INTEGERS = 1 << 20
_LEGACY_ONLY = (nc.Relu, nc.Linear, nc.Maxout)


def read_component_body(
    stream: KaldiStream, kind: type[nc.Component], outputs: int, inputs: int, nested: Nested
) -> nc.Component:
    """Read what follows a component's tag and dimensions, up to ``<!EndOfComponent>``.

    Args:
        stream: After the two dimensions.
        kind: The record's class, out of `nnet1_components.KNOWN_TAGS`.
        outputs: Output dimension of the header.
        inputs: Input dimension of the header.
        nested: Reads a network inside the component.

    Returns:
        The record, with the dimensions of the header.

    Raises:
        FormatError: If it is malformed, cut short, or of other dimensions.
    """
    start = stream.offset
    tag = f"<{kind.tag}>"
    try:
        if issubclass(kind, More):
            component = read_more(stream, kind, outputs, inputs, nested)
        else:
            numbers = _read_numbers(stream, kind, tag)
            component = _READERS.get(kind, _read_pointwise)(stream, _Header(kind, tag, outputs, inputs, numbers))
    except DataError as error:
        raise stream.error(str(error), offset=start) from error
    have = (component.output_dim, component.input_dim)
    if have != (outputs, inputs):
        raise stream.error(
            f"{tag} has {outputs} outputs and {inputs} inputs by its header, and {have[0]} and {have[1]} "
            f"by its data (the header gives the outputs first)",
            offset=start,
        )
    return component


def _read_numbers(stream: KaldiStream, kind: type[nc.Component], tag: str) -> dict[str, float]:
    """Return the numbers of the optional tokens, which may come in any order."""
    known = _NUMBERS.get(kind)
    found: dict[str, float] = {}
    while known is not None:
        if not stream.binary:
            stream.skip_space()
        ahead = stream.peek(2)
        if ahead[:1] != b"<" or ahead == b"<!":
            break
        start = stream.offset
        token = stream.token()
        if kind is nc.Dropout and token == "<DropoutRetention>":
            kept = stream.float32(f"{token} of {tag}")
            found["rate"] = float(np.float32(1) - np.float32(kept))
        elif token in known:
            found[known[token]] = stream.float32(f"{token} of {tag}")
        else:
            raise stream.error(f"{tag} has no token {token!r}, only {', '.join(known)}", offset=start)
    if kind is nc.Dropout and not found:
        raise stream.error(f"{tag} needs its <DropoutRate>")
    return found


class _Header(NamedTuple):
    kind: Any
    tag: str
    outputs: int
    inputs: int
    numbers: dict[str, float]


_Reader = Callable[[KaldiStream, _Header], nc.Component]


def _read_pointwise(stream: KaldiStream, head: _Header) -> nc.Component:
    if head.inputs != head.outputs:
        raise stream.error(
            f"{head.tag} has as many outputs as inputs, and its header says {head.outputs} and {head.inputs}"
        )
    component: nc.Component = head.kind(head.inputs, **head.numbers)
    return component


def _read_affine(stream: KaldiStream, head: _Header) -> nc.Component:
    weight = km.read_matrix(stream, what=f"weight of {head.tag}")
    if weight.shape != (head.outputs, head.inputs):
        raise stream.error(
            f"{head.tag} has {head.outputs} outputs and {head.inputs} inputs by its header, and a weight of "
            f"shape {weight.shape}"
        )
    return nc.AffineTransform(weight, km.read_vector(stream, what=f"bias of {head.tag}"), **head.numbers)


def _read_linear(stream: KaldiStream, head: _Header) -> nc.Component:
    return nc.LinearTransform(km.read_matrix(stream, what=f"weight of {head.tag}"), **head.numbers)


def _read_prelu(stream: KaldiStream, head: _Header) -> nc.Component:
    alpha = km.read_vector(stream, what=f"alpha of {head.tag}")
    return nc.ParametricRelu(alpha, km.read_vector(stream, what=f"beta of {head.tag}"), **head.numbers)


def _read_elementwise(stream: KaldiStream, head: _Header) -> nc.Component:
    component: nc.Component = head.kind(km.read_vector(stream, what=f"vector of {head.tag}"), **head.numbers)
    return component


def _read_integers(stream: KaldiStream, head: _Header) -> nc.Component:
    array = km.read_int_vector(stream, what=f"integers of {head.tag}")
    if array.size > _MOST_INTEGERS:
        raise stream.error(f"{head.tag} has {array.size} integers: at most {_MOST_INTEGERS} are read")
    values = tuple(array.tolist())
    if head.kind is nc.BlockSoftmax:
        return nc.BlockSoftmax(values)
    if head.kind is nc.Copy:
        return nc.Copy(head.inputs, tuple(value - 1 for value in values))
    return nc.Splice(head.inputs, values)


def _read_maxout(stream: KaldiStream, head: _Header) -> nc.Component:
    return nc.Maxout(head.inputs, head.outputs)


_READERS: dict[type[nc.Component], _Reader] = {
    nc.AffineTransform: _read_affine,
    nc.LinearTransform: _read_linear,
    nc.ParametricRelu: _read_prelu,
    nc.AddShift: _read_elementwise,
    nc.Rescale: _read_elementwise,
    nc.BlockSoftmax: _read_integers,
    nc.Copy: _read_integers,
    nc.Splice: _read_integers,
    nc.Maxout: _read_maxout,
}


def component_bytes(component: nc.Component, *, binary: bool) -> list[Piece]:
    """Write a component as Kaldi's ``nnet-copy`` does.

    Args:
        component: Any that stock Kaldi has.
        binary: True for binary.

    Returns:
        The bytes, in pieces.

    Raises:
        DataError: If stock Kaldi has no such component.
    """
    if isinstance(component, _LEGACY_ONLY):
        raise DataError(
            f"Kaldi has no <{component.tag}> component: call for_kaldi() on the network first, which makes a "
            f"ReLU a <ParametricRelu> and leaves out the identity (a maxout has no such form)"
        )
    newline = b"" if binary else b"\n"
    if isinstance(component, More):
        head = _int(component.output_dim, binary) + _int(component.input_dim, binary) + newline
        inside = more_bytes(component, binary=binary, write=lambda parts: _nested_bytes(parts, binary))
        return [f"<{component.tag}> ".encode() + head, *inside, b"<!EndOfComponent> " + newline]
    pieces: list[Piece] = [
        f"<{component.tag}> ".encode(),
        _int(component.output_dim, binary) + _int(component.input_dim, binary) + newline,
    ]
    for token, field in _NUMBERS.get(type(component), {}).items():
        pieces.append(f"{token} ".encode() + _float(getattr(component, field), binary))
    if isinstance(component, (nc.AffineTransform, nc.LinearTransform, nc.ParametricRelu)):
        pieces.append(newline)
    for array in component.arrays():
        write = km.matrix_bytes if array.ndim == 2 else km.vector_bytes
        pieces += write(array, binary=binary)
    if (integers := _integers(component)) is not None:
        pieces += km.int_vector_bytes(integers, binary=binary)
    return [*pieces, b"<!EndOfComponent> " + newline]


def _nested_bytes(parts: Parts, binary: bool) -> list[Piece]:
    newline = b"" if binary else b"\n"
    inside = [piece for part in parts for piece in component_bytes(part, binary=binary)]
    return [b"<Nnet> " + newline, *inside, b"</Nnet> " + newline]


def legacy_component_bytes(component: nc.Component) -> list[Piece]:
    """Write a component in the older text dialect: lower-case tags, no end tags, no learning rates.

    Args:
        component: An affine or linear transform, an activation, a softmax or a maxout.

    Returns:
        The bytes, in pieces.

    Raises:
        DataError: If the dialect has no such component.
    """
    if isinstance(component, nc.LinearTransform):
        zeros = np.zeros(component.output_dim, np.float32)
        identity = nc.Linear(component.output_dim)
        return [
            *legacy_component_bytes(nc.AffineTransform(component.weight, zeros)),
            *legacy_component_bytes(identity),
        ]
    if isinstance(component, nc.ParametricRelu) and component.is_relu:
        component = nc.Relu(component.output_dim)
    legacy = (nc.AffineTransform, nc.Sigmoid, nc.Tanh, nc.Softmax, *_LEGACY_ONLY)
    if not isinstance(component, legacy):
        raise DataError(f"the older text dialect has no <{component.tag}>: write Kaldi text or binary")
    head = f"<{component.tag.lower()}> {component.output_dim} {component.input_dim}\n".encode()
    if not isinstance(component, nc.AffineTransform):
        return [head]
    # The dialect's matrices start and end on lines of their own.
    rows = [piece for piece in km.matrix_bytes(component.weight, binary=False)[1:-1]]
    lines = b"".join(rows).replace(b" \n  ", b"\n").lstrip().rstrip(b" ")
    bias = b"".join(km.vector_bytes(component.bias, binary=False)).lstrip()
    return [head, b"[\n", lines, b"\n]\n", bias]


def _int(value: int, binary: bool) -> bytes:
    return struct.pack("<Bi", 4, value) if binary else b"%d " % value


def _float(value: float, binary: bool) -> bytes:
    if binary:
        return struct.pack("<Bf", 4, value)
    short = f"{value:.7g}"  # Kaldi's own seven digits where they are enough
    return (short if np.float32(short) == np.float32(value) else f"{value:.9g}").encode() + b" "


def _integers(component: nc.Component) -> NDArray[np.int32] | None:
    if isinstance(component, nc.BlockSoftmax):
        return np.array(component.block_dims, np.int32)
    if isinstance(component, nc.Splice):
        return np.array(component.offsets, np.int32)
    if isinstance(component, nc.Copy):
        return np.array(component.indices, np.int32) + np.int32(1)
    return None
