"""Kaldi nnet1 networks: Kaldi binary, Kaldi text, and the older lower-case text dialect.

Reading takes what Kaldi takes where that is sane, and refuses what Kaldi passes over in silence: a missing
end, bytes after the end, a file without components. The grammar: ``[<Nnet>] component* [</Nnet>]``, each
component a tag, its output and input dimension, and its data.
"""

__all__ = ["Dialect", "Nnet", "dialect_of", "read_nnet", "read_nnet_bytes", "write_nnet"]

import io
from collections.abc import Iterator
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from limbeck.errors import ConfigError, DataError
from limbeck.formats._bounded import open_regular
from limbeck.kaldi.formats import nnet1_components as nc
from limbeck.kaldi.formats.nnet1_codec import component_bytes, legacy_component_bytes, read_component_body
from limbeck.kaldi.formats.nnet1_more import ALL_TAGS
from limbeck.kaldi.formats.stream import KaldiStream
from limbeck.system.files import replace_bytes

_MOST_COMPONENTS = 10_000
_DEEPEST = 8
_PROTOTYPE = "a prototype, which has no weights yet: run nnet-initialize on it, and give the network that it writes"
_OF_NNET3 = (
    "{} begins a network of nnet3 or another final.mdl, and a network of nnet1 is wanted: limbeck kaldi nnet3-copy "
    "makes those of nnet3 smaller, and nnet3-finetune trains them"
)

Dialect = Literal["binary", "text", "legacy"]


@dataclass(frozen=True)
class Nnet:
    """A network: components in order, the outputs of each being the inputs of the next.

    Args:
        components: At least one.

    Raises:
        DataError: If there is none, or dimensions do not chain.

    Example:
        >>> print(Nnet((nc.Splice(13, (-1, 0, 1)), nc.Sigmoid(39))))
         # component       inputs  outputs  parameters
         0 Splice              13       39           0
         1 Sigmoid             39       39           0
                                                     0
    """

    components: tuple[nc.Component, ...]

    def __post_init__(self) -> None:
        if not self.components:
            raise DataError("a network needs at least one component, and this has none")
        pairs = zip(self.components, self.components[1:], strict=False)
        for place, (left, right) in enumerate(pairs):
            if left.output_dim != right.input_dim:
                raise DataError(
                    f"component {place}, <{left.tag}>, has {left.output_dim} outputs, and the next, "
                    f"<{right.tag}>, has {right.input_dim} inputs"
                )

    @property
    def input_dim(self) -> int:
        """Number of inputs."""
        return self.components[0].input_dim

    @property
    def output_dim(self) -> int:
        """Number of outputs."""
        return self.components[-1].output_dim

    @property
    def parameter_count(self) -> int:
        """Number of float values in all components."""
        return sum(component.parameter_count for component in self.components)

    def for_kaldi(self) -> "Nnet":
        """Replace what stock Kaldi has not by what it has.

        A ReLU becomes a parametric one with slopes 1 and 0. An identity activation is left out; an affine
        transform with zero bias before it becomes a linear one.

        Returns:
            A network with the same outputs.

        Raises:
            DataError: If it holds a maxout, for which stock Kaldi has nothing.
        """
        result: list[nc.Component] = []
        for component in self.components:
            if isinstance(component, nc.Maxout):
                raise DataError("stock Kaldi has no maxout: this network can be written in the older dialect only")
            if isinstance(component, nc.Relu):
                ones = np.ones(component.dim, np.float32)
                result.append(nc.ParametricRelu(ones, np.zeros_like(ones)))
            elif not isinstance(component, nc.Linear):
                result.append(component)
            elif result and isinstance(last := result[-1], nc.AffineTransform) and not last.bias.any():
                result[-1] = nc.LinearTransform(last.weight, last.learn_rate)
        return Nnet(tuple(result) or self.components)

    def __str__(self) -> str:
        width = max(9, *(len(component.tag) for component in self.components))
        lines = [f" # {'component':<{width}}  {'inputs':>10}  {'outputs':>7}  {'parameters':>10}"]
        for place, part in enumerate(self.components):
            dims = f"{part.input_dim:>10}  {part.output_dim:>7}  {part.parameter_count:>10,}"
            lines.append(f"{place:>2} {part.tag:<{width}}  {dims}")
        return "\n".join([*lines, f"{self.parameter_count:>{width + 36},}"])


def read_nnet(path: str | PathLike[str]) -> Nnet:
    """Read a network in any of the dialects, detected from the magic bytes.

    Args:
        path: The file.

    Returns:
        The network, all weights float32 (doubles and compressed matrices are converted).

    Raises:
        FormatError: If it cannot be read, is malformed, truncated, empty, or something follows its end.
    """
    with open_regular(path) as (file, size):
        stream = KaldiStream(file, str(path), end=size)
        stream.skip_byte_order_mark()
        return _read(stream)


def read_nnet_bytes(data: bytes, name: str = "network") -> Nnet:
    r"""Read a network that is in memory; see :func:`read_nnet`.

    Args:
        data: The whole file.
        name: Named in errors.

    Returns:
        The network.

    Raises:
        FormatError: As :func:`read_nnet`.

    Example:
        >>> read_nnet_bytes(b"<relu> 4 4\n<softmax> 4 4\n").output_dim
        4
    """
    return _read(KaldiStream(io.BytesIO(data), name, end=len(data)))


def dialect_of(path: str | PathLike[str]) -> Dialect:
    """How a network's file is written.

    Args:
        path: The file.

    Returns:
        ``"binary"``; ``"legacy"`` where the first tag is in lower case; else ``"text"``.

    Raises:
        FormatError: If it cannot be read.
    """  # noqa: DOC502
    with open_regular(path) as (file, size):
        stream = KaldiStream(file, str(path), end=size)
        stream.skip_byte_order_mark()
        if stream.peek(2) == b"\0B":
            return "binary"
        return "legacy" if stream.peek_token().islower() else "text"


def write_nnet(path: str | PathLike[str], nnet: Nnet, *, dialect: Dialect = "binary") -> None:
    """Write a network; the file is replaced whole or not at all.

    Args:
        path: The file; its folder must exist.
        nnet: The network.
        dialect: ``"binary"``, byte for byte what Kaldi's ``nnet-copy`` writes; ``"text"``, Kaldi's text with
            nine digits, which restores every bit; ``"legacy"``, the older text with lower-case tags, which
            drops learning rates.

    Raises:
        ConfigError: If the dialect is unknown.
        DataError: If the dialect has not one of the components; :meth:`Nnet.for_kaldi` may help.
        RunError: If the file cannot be written.
    """
    if dialect not in get_args(Dialect):
        raise ConfigError(f"dialect must be one of {', '.join(get_args(Dialect))}, and is {dialect!r}")
    replace_bytes(Path(path), b"".join(_pieces(nnet, dialect)))


def _pieces(nnet: Nnet, dialect: Dialect) -> Iterator[bytes | memoryview]:
    if dialect == "legacy":
        for component in nnet.components:
            yield from legacy_component_bytes(component)
        return
    binary = dialect == "binary"
    yield b"\0B<Nnet> " if binary else b"<Nnet> \n"
    for component in nnet.components:
        yield from component_bytes(component, binary=binary)
    yield b"</Nnet> " if binary else b"</Nnet> \n"


def _read(stream: KaldiStream) -> Nnet:
    if stream.at_end():
        raise stream.error("an empty file, which holds no network")
    _read_mode(stream)
    wrapped = stream.peek_token() == "<Nnet>"
    if wrapped:
        stream.token()
    components: list[nc.Component] = []
    closed = False
    while stream.peek_token():
        start = stream.offset
        token = stream.token()
        if token == "</Nnet>":
            closed = True
            _refuse_trailing(stream)
            break
        if len(components) == _MOST_COMPONENTS:
            raise stream.error(f"more than {_MOST_COMPONENTS} components", offset=start)
        components.append(_read_component(stream, token, wrapped, start))
        if len(components) > 1 and components[-2].output_dim != components[-1].input_dim:
            left, right = components[-2:]
            raise stream.error(
                f"<{right.tag}> has {right.input_dim} inputs, and <{left.tag}> before it {left.output_dim} outputs",
                offset=start,
            )
    if not closed and (wrapped or not stream.at_end()):
        raise stream.error("truncated: <Nnet> was opened, and the file ends without </Nnet>")
    if not components:
        raise stream.error("a network without components")
    return Nnet(tuple(components))


def _read_mode(stream: KaldiStream) -> None:
    head = stream.peek(2)
    if head[:1] == b"\0":
        if head != b"\0B":
            raise stream.error("a Kaldi binary file starts with a zero byte and 'B'")
        stream.take(2, "header")
        stream.binary = True
    elif stream.peek(3) == b"\xef\xbb\xbf":
        raise stream.error("a byte order mark, which Kaldi does not read: save the text without it")
    elif not stream.peek_token().startswith("<"):
        raise stream.error("no nnet1 network: it starts with a zero byte and 'B', or with a tag such as <Nnet>")


def _refuse_trailing(stream: KaldiStream) -> None:
    if not stream.binary:
        stream.skip_space()
    if not stream.at_end():
        raise stream.error("bytes follow </Nnet>: Kaldi would ignore them in silence; one network a file")


def _read_nested(stream: KaldiStream, depth: int) -> tuple[nc.Component, ...]:
    """A network inside a component, from its tag to its end."""
    start = stream.offset
    if depth > _DEEPEST:
        raise stream.error(f"networks inside networks more than {_DEEPEST} deep", offset=start)
    stream.expect("<Nnet>")
    components: list[nc.Component] = []
    while (token := stream.token()) != "</Nnet>":
        if len(components) == _MOST_COMPONENTS:
            raise stream.error(f"more than {_MOST_COMPONENTS} components", offset=start)
        components.append(_read_component(stream, token, True, start, depth))
    if not components:
        raise stream.error("a network without components inside a component", offset=start)
    return tuple(components)


def _read_component(stream: KaldiStream, token: str, wrapped: bool, start: int, depth: int = 0) -> nc.Component:
    kind = ALL_TAGS.get(token[1:-1].lower()) if token[:1] == "<" and token[-1:] == ">" else None
    in_older_dialect = not (wrapped or stream.binary)
    if kind is None or (kind in (nc.Linear, nc.Maxout) and not in_older_dialect):
        if token == "<NnetProto>":
            raise stream.error(_PROTOTYPE, offset=start)
        if token in ("<Nnet3>", "<TransitionModel>"):
            raise stream.error(_OF_NNET3.format(token), offset=start)
        if (name := nc.NOT_RUN.get(token[1:-1].lower())) is not None:
            raise stream.error(f"<{name}> is a component of Kaldi's that is not run here", offset=start)
        hint = "; <Nnet> is written with a capital N" if token == "<nnet>" else ""
        known = ", ".join(sorted({kind.tag for kind in ALL_TAGS.values()}))
        raise stream.error(f"unknown component {token!r}{hint}; known are {known}", offset=start)
    if not stream.binary and stream.peek_token() == "<InputDim>":  # newer prototypes have no <NnetProto>
        raise stream.error(_PROTOTYPE, offset=start)
    outputs = stream.int32(f"outputs of {token}")
    inputs = stream.int32(f"inputs of {token}")
    if outputs < 1 or inputs < 1:
        raise stream.error(f"{token} has {outputs} outputs and {inputs} inputs: both must be positive", offset=start)
    component = read_component_body(stream, kind, outputs, inputs, lambda inside: _read_nested(inside, depth + 1))
    if not stream.binary:
        stream.skip_space()
    if stream.peek(2) == b"<!":
        stream.expect("<!EndOfComponent>")
    return component
