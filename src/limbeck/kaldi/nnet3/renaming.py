"""Descriptors whose nodes have other names."""

__all__ = ["renamed"]

import re
from collections.abc import Mapping
from dataclasses import replace

from limbeck.kaldi.nnet3.nodes import NetworkNode, parse_line

_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_.\-]*(?!\s*\()")


def renamed(node: NetworkNode, names: Mapping[str, str]) -> NetworkNode:
    """A node that reads others by new names.

    Args:
        node: The node.
        names: New names by old ones.

    Returns:
        The node; as it was where it reads none of them.

    Example:
        >>> node = parse_line("output-node name=output input=Sum(a, Offset(ab, 1))")
        >>> renamed(node, {"a": "c"}).written()
        'output-node name=output input=Sum(c, Offset(ab, 1))'
    """
    if node.reads is None or not names.keys() & set(node.reads.names()):
        return node
    text = _WORD.sub(lambda match: names.get(match[0], match[0]), str(node.reads))
    key = "input-node" if node.kind == "dim-range-node" else "input"
    blank = replace(node, line="").written()
    found = parse_line(blank.replace(f" {key}={node.reads}", f" {key}={text}", 1))
    assert found is not None
    return found
