"""The nodes of an nnet3 network: its configuration lines."""

__all__ = ["NetworkNode", "parse_line"]

import re
from dataclasses import dataclass

from limbeck.errors import DataError
from limbeck.kaldi.nnet3.descriptors import Descriptor, Node
from limbeck.kaldi.nnet3.parsing import parse_descriptor

_KEY = re.compile(r"(?:^|\s)([a-z][a-z-]*)=")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.\-]{0,200}")
_KEYS = {
    "input-node": ({"name", "dim"}, set()),
    "component-node": ({"name", "component", "input"}, set()),
    "dim-range-node": ({"name", "input-node", "dim-offset", "dim"}, set()),
    "output-node": ({"name", "input"}, {"objective"}),
}
_LARGEST = 1 << 24


@dataclass(frozen=True)
class NetworkNode:
    """A node.

    Attributes:
        kind: "input-node", "component-node", "dim-range-node" or "output-node".
        name: Its name.
        reads: What it reads; None for an input.
        component: Of a component node: the component's name.
        dim: Of an input or a range: its columns.
        first: Of a range: the first column.
        objective: Of an output: "linear" or "quadratic", or "" where the line does not say.
        line: As it stood in the file, or as it is written.
    """

    kind: str
    name: str
    reads: Descriptor | None = None
    component: str = ""
    dim: int = 0
    first: int = 0
    objective: str = ""
    line: str = ""

    def written(self) -> str:
        """The configuration line."""
        if self.line:
            return self.line
        if self.kind == "component-node":
            return f"component-node name={self.name} component={self.component} input={self.reads}"
        if self.kind == "output-node":
            return f"output-node name={self.name} input={self.reads}" + (
                f" objective={self.objective}" if self.objective else ""
            )
        if self.kind == "dim-range-node":
            return f"dim-range-node name={self.name} input-node={self.reads} dim-offset={self.first} dim={self.dim}"
        return f"input-node name={self.name} dim={self.dim}"


def parse_line(text: str) -> NetworkNode | None:
    """Read a configuration line.

    Args:
        text: The line.

    Returns:
        The node; None where the line is empty or a comment.

    Raises:
        DataError: If it is malformed.

    Example:
        >>> parse_line("component-node name=a component=b input=Offset(input, -1)").reads.offset
        -1
    """
    text = text.split("#", 1)[0].strip()
    if not text:
        return None
    kind, _, rest = text.partition(" ")
    if kind not in _KEYS:
        hint = "; components are not made here: run nnet3-init" if kind == "component" else ""
        raise DataError(f"a configuration line begins with {', '.join(_KEYS)}, and not with {kind[:40]!r}{hint}")
    values = _values(rest)
    needed, allowed = _KEYS[kind]
    for name in sorted(needed - values.keys()):
        raise DataError(f"the line {text[:80]!r} lacks {name}=")
    for name in sorted(values.keys() - needed - allowed):
        raise DataError(f"the line {text[:80]!r} has {name}=, which a {kind} does not have")
    if not _NAME.fullmatch(values["name"]):
        raise DataError(f"the line {text[:80]!r} has a name that is not one: letters, digits, '_', '-' and '.'")
    reads = parse_descriptor(values["input"]) if "input" in values else None
    if "input-node" in values:
        reads = Node(values["input-node"])
    numbers = {name: _number(text, name, values[name]) for name in ("dim", "dim-offset") if name in values}
    objective = values.get("objective", "")
    if objective not in ("", "linear", "quadratic"):
        raise DataError(f"the line {text[:80]!r} has an objective that is neither linear nor quadratic")
    return NetworkNode(
        kind, values["name"], reads, values.get("component", ""), numbers.get("dim", 0), numbers.get("dim-offset", 0),
        objective, text,
    )  # fmt: skip


def _values(text: str) -> dict[str, str]:
    keys = list(_KEY.finditer(text))
    if text[: keys[0].start() if keys else len(text)].strip():
        raise DataError(f"the configuration {text[:80]!r} should be name=value, and so on")
    ends = [match.start() for match in keys[1:]] + [len(text)]
    found: dict[str, str] = {}
    for match, end in zip(keys, ends, strict=True):
        value = text[match.end() : end].strip()
        if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"":
            value = value[1:-1]
        if match[1] in found:
            raise DataError(f"the configuration {text[:80]!r} has {match[1]}= twice")
        found[match[1]] = value
    return found


def _number(text: str, name: str, value: str) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", value) or not (0 if name == "dim-offset" else 1) <= int(value) <= _LARGEST:
        raise DataError(f"the line {text[:80]!r} has {name}={value[:20]}")
    return int(value)
