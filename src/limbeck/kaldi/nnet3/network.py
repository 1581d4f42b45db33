"""An nnet3 network: nodes and components that fit together, in an order in which they can be computed.

Reading it says what is there. Whether it can be run is another question: see :mod:`limbeck.kaldi.nnet3.module`.
"""

__all__ = ["Nnet3", "network_bytes", "read_network_body"]

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from limbeck.errors import DataError
from limbeck.kaldi.formats.stream import KaldiStream
from limbeck.kaldi.nnet3.components import Component, component_bytes, dims_of, read_component
from limbeck.kaldi.nnet3.nodes import NetworkNode, parse_line

_MOST = 10_000
_LONGEST_LINE = 1 << 16


@dataclass(frozen=True, eq=False)
class Nnet3:
    """Nodes and components.

    Args:
        nodes: In the order of the file.
        components: In the order of the file.

    Raises:
        DataError: If a name is there twice or missing, or dimensions do not fit.
    """

    nodes: tuple[NetworkNode, ...]
    components: tuple[Component, ...]

    def __post_init__(self) -> None:
        for what, named in (("node", self.nodes), ("component", self.components)):
            names = [each.name for each in named]
            if len(set(names)) != len(names):
                twice = next(name for place, name in enumerate(names) if name in names[:place])
                raise DataError(f"there are two {what}s with the name {twice}")
        for node in self.nodes:
            if node.kind == "component-node" and node.component not in self.component_named:
                raise DataError(f"the node {node.name} uses the component {node.component}, which is not there")
            for name in node.reads.names() if node.reads is not None else ():
                other = self.node_named.get(name)
                if other is None:
                    raise DataError(f"the node {node.name} reads {name}, which is not there")
                if other.kind == "output-node":
                    raise DataError(f"the node {node.name} reads the output {name}, and nothing may read an output")
        for node in self.nodes:
            self._check_dims(node)

    @cached_property
    def node_named(self) -> dict[str, NetworkNode]:
        """Nodes by name."""
        return {node.name: node for node in self.nodes}

    @cached_property
    def component_named(self) -> dict[str, Component]:
        """Components by name."""
        return {component.name: component for component in self.components}

    @cached_property
    def component_dims(self) -> dict[str, tuple[int, int] | None]:
        """Inputs and outputs of each component; None where its type is not known."""
        return {component.name: dims_of(component) for component in self.components}

    @cached_property
    def dims(self) -> dict[str, int]:
        """Columns of each node that can be read, but for those after a component whose type is not known."""
        found: dict[str, int] = {}
        for node in self.nodes:
            if node.kind in ("input-node", "dim-range-node"):
                found[node.name] = node.dim
            elif node.kind == "component-node" and (dims := self.component_dims[node.component]) is not None:
                found[node.name] = dims[1]
        return found

    def _check_dims(self, node: NetworkNode) -> None:
        if node.reads is None or not all(name in self.dims for name in node.reads.names()):
            return
        columns = node.reads.dim(self.dims)
        if node.kind == "component-node":
            dims = self.component_dims[node.component]
            if dims is not None and dims[0] != columns:
                raise DataError(
                    f"the node {node.name} reads {columns} columns, and its component {node.component} has {dims[0]} "
                    "inputs"
                )
        elif node.kind == "dim-range-node" and node.first + node.dim > columns:
            raise DataError(f"the node {node.name} reads columns up to {node.first + node.dim} of {columns}")

    @property
    def inputs(self) -> dict[str, int]:
        """The inputs, and how many columns each has."""
        return {node.name: node.dim for node in self.nodes if node.kind == "input-node"}

    @property
    def outputs(self) -> dict[str, int | None]:
        """The outputs, and how many columns each has; None where that is not known."""
        found: dict[str, int | None] = {}
        for node in self.nodes:
            if node.kind == "output-node" and node.reads is not None:
                known = all(name in self.dims for name in node.reads.names())
                found[node.name] = node.reads.dim(self.dims) if known else None
        return found

    @property
    def parameter_count(self) -> int:
        """Numbers in all components that training changes."""
        return sum(component.parameter_count for component in self.components)

    def order(self, output: str) -> list[NetworkNode]:
        """The nodes that an output needs, each after those that it reads.

        Args:
            output: Name of the output.

        Returns:
            The nodes, the output last.

        Raises:
            DataError: If there is no such output, or nodes read each other in a circle.
        """
        if output not in self.outputs:
            raise DataError(f"there is no output {output}: there are {', '.join(self.outputs) or 'none'}")
        reads = {node.name: set(node.reads.names()) if node.reads is not None else set() for node in self.nodes}
        needed, waiting = {output}, [output]
        while waiting:
            fresh = reads[waiting.pop()] - needed
            needed |= fresh
            waiting += fresh
        left = {name: set(reads[name]) for name in needed}
        readers: dict[str, list[str]] = {name: [] for name in needed}
        for name, others in left.items():
            for other in others:
                readers[other].append(name)
        ready = [node.name for node in self.nodes if node.name in needed and not left[node.name]]
        found: list[str] = []
        while ready:
            name = ready.pop()
            found.append(name)
            for reader in readers[name]:
                left[reader].discard(name)
                if not left[reader]:
                    ready.append(reader)
        if len(found) < len(needed):
            circle = next(node.name for node in self.nodes if node.name in needed and node.name not in found)
            raise DataError(f"the node {circle} reads itself over others: recurrent networks are not run here")
        return [self.node_named[name] for name in found]


def read_network_body(stream: KaldiStream) -> Nnet3:
    """Read a network, from ``<Nnet3>`` to ``</Nnet3>``.

    Args:
        stream: Before the first tag, its mode known.

    Returns:
        The network.

    Raises:
        FormatError: If it is malformed or cut short.
    """
    start = stream.offset
    stream.expect("<Nnet3>")
    if stream.peek() == b"\n":
        stream.take(1, "a line")
    nodes = list(_read_lines(stream))
    stream.expect("<NumComponents>")
    place = stream.offset
    count = stream.int32("number of components")
    if not 0 <= count <= _MOST:
        raise stream.error(f"{count} components: at most {_MOST} are read", offset=place)
    components: list[Component] = []
    for _ in range(count):
        place = stream.offset
        try:
            component = read_component(stream)
            dims_of(component)
        except DataError as error:
            raise stream.error(str(error), offset=place) from error
        components.append(component)
    stream.expect("</Nnet3>")
    try:
        return Nnet3(tuple(nodes), tuple(components))
    except DataError as error:
        raise stream.error(str(error), offset=start) from error


def _read_lines(stream: KaldiStream) -> Iterator[NetworkNode]:
    """Configuration lines, up to and with the empty one."""
    count = 0
    while True:
        start = stream.offset
        line = _line(stream)
        try:
            text = line.decode("ascii").strip()
            if not text:
                return
            node = parse_line(text)
        except (UnicodeDecodeError, DataError) as error:
            reason = "a configuration line that is not ASCII" if isinstance(error, UnicodeDecodeError) else str(error)
            raise stream.error(reason, offset=start) from error
        if node is not None:
            count += 1
            if count > _MOST:
                raise stream.error(f"more than {_MOST} nodes", offset=start)
            yield node


def _line(stream: KaldiStream) -> bytes:
    size = 256
    while True:
        ahead = stream.peek(size)
        end = ahead.find(b"\n")
        if end >= 0:
            return stream.take(end + 1, "a configuration line")
        if len(ahead) < size:
            raise stream.error("truncated: the file ends inside a configuration line")
        if size >= _LONGEST_LINE:
            raise stream.error(f"a configuration line of more than {_LONGEST_LINE} bytes")
        size *= 4


def network_bytes(nnet: Nnet3, *, binary: bool) -> Iterator[bytes | memoryview]:
    """Write a network as Kaldi does, without the mark of binary files.

    Args:
        nnet: The network.
        binary: True for binary.

    Yields:
        The bytes, in pieces.
    """
    yield b"<Nnet3> \n"
    for node in nnet.nodes:
        yield node.written().encode() + b"\n"
    count = len(nnet.components)
    number = b"\4" + count.to_bytes(4, "little") if binary else b"%d \n" % count
    yield b"\n<NumComponents> " + number
    for component in nnet.components:
        yield from component_bytes(component, binary=binary)
    yield b"</Nnet3> "
