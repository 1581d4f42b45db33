"""Edits of a network as ``nnet3-copy --edits`` has them: low rank, fixed affine components, other outputs, new names.

Singular value decompositions are of float64, so that the product of the two halves is the nearest of its rank.
"""

__all__ = ["apply_edits"]

import fnmatch
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limbeck.errors import ConfigError, DataError
from limbeck.kaldi.nnet3.components import Component
from limbeck.kaldi.nnet3.descriptors import Node
from limbeck.kaldi.nnet3.fields import Field, Value
from limbeck.kaldi.nnet3.network import Nnet3
from limbeck.kaldi.nnet3.nodes import NetworkNode
from limbeck.kaldi.nnet3.renaming import renamed

_DENSE = ("NaturalGradientAffine", "Affine")


@dataclass
class _Editing:
    """A network that is being changed, and what is told of it."""

    nnet: Nnet3
    notes: list[str]


def apply_edits(nnet: Nnet3, edits: str) -> tuple[Nnet3, tuple[str, ...]]:
    """Edit a network.

    Args:
        nnet: The network.
        edits: Lines of a word and ``name=value``, apart by ``;`` or new lines:
            ``apply-svd name=PATTERN bottleneck-dim=N energy-threshold=E shrinkage-threshold=S`` (a dimension or a share
            of the energy), ``reduce-rank name=PATTERN rank=N``, ``convert-to-fixed-affine name=PATTERN``,
            ``set-learning-rate-factor name=PATTERN learning-rate-factor=F``, ``rename-node old-name=A new-name=B``,
            ``remove-output-nodes name=PATTERN``, ``remove-orphans``. In a pattern ``*`` stands for anything.

    Returns:
        A new network, and what was done and left, in words.

    Raises:
        ConfigError: If an edit is unknown, incomplete, or fits nothing.
        DataError: If the network cannot be without what an edit takes away.
    """
    state = _Editing(nnet, [])
    lines = [line.split("#", 1)[0].strip() for line in re.split(r"[;\n]", edits)]
    if not any(lines):
        raise ConfigError(f"there is no edit in {edits!r}: known are {', '.join(_EDITS)}")
    for line in filter(None, lines):
        word, *rest = line.split()
        if word not in _EDITS:
            raise ConfigError(f"the edit {word!r} is not known: known are {', '.join(_EDITS)}")
        needed, allowed, run = _EDITS[word]
        values: dict[str, str] = {}
        for pair in rest:
            name, equals, value = pair.partition("=")
            if not equals or name not in needed | allowed or name in values or not value:
                wanted = ", ".join(f"{each}=" for each in sorted(needed | allowed)) or "nothing else"
                raise ConfigError(f"the edit {line!r} has {pair!r}: {word} takes {wanted}")
            values[name] = value
        for name in sorted(needed - values.keys()):
            raise ConfigError(f"the edit {line!r} lacks {name}=")
        run(state, line, values)
    return state.nnet, tuple(state.notes)


def _whole(line: str, values: dict[str, str], name: str) -> int | None:
    if name not in values:
        return None
    if not re.fullmatch(r"[0-9]{1,7}", values[name]) or int(values[name]) < 1:
        raise ConfigError(f"the edit {line!r}: {name} must be a whole number from 1 on")
    return int(values[name])


def _share(line: str, values: dict[str, str], name: str, *, top: float) -> float | None:
    if name not in values:
        return None
    try:
        value = float(values[name])
    except ValueError:
        value = -1.0
    if not 0 < value <= top:
        raise ConfigError(f"the edit {line!r}: {name} must be above 0 and at most {top:g}")
    return value


def _matching(nnet: Nnet3, line: str, pattern: str, kinds: Iterable[str] | None = None) -> list[Component]:
    fits = re.compile(fnmatch.translate(re.sub(r"([\[\]?])", r"[\1]", pattern)))
    found = [part for part in nnet.components if fits.fullmatch(part.name)]
    if not found:
        raise ConfigError(f"the edit {line!r} fits no component")
    return [part for part in found if kinds is None or part.kind in kinds]


def _replaced(nnet: Nnet3, changed: dict[str, Component]) -> Nnet3:
    return replace(nnet, components=tuple(changed.get(part.name, part) for part in nnet.components))


def _decompose(weight: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    left, values, right = np.linalg.svd(np.asarray(weight, np.float64), full_matrices=False)
    return left, values, right


def _apply_svd(state: _Editing, line: str, values: dict[str, str]) -> None:
    limit = _whole(line, values, "bottleneck-dim")
    energy = _share(line, values, "energy-threshold", top=1.0)
    shrinkage = _share(line, values, "shrinkage-threshold", top=1.0) or 1.0
    if limit is None and energy is None:
        raise ConfigError(f"the edit {line!r} needs bottleneck-dim= or energy-threshold=")
    pairs: list[Component] = []
    split: set[str] = set()
    for part in _matching(state.nnet, line, values["name"], _DENSE):
        weight = part.array("LinearParams", axes=2)
        outputs, inputs = weight.shape
        # Kaldi looks at the limit before it looks at the energy, and the rank found for one component is the next's.
        if limit is not None and min(inputs, outputs) <= limit:
            state.notes.append(f"{part.name} is left as it is: {inputs} to {outputs} is not above rank {limit}")
            continue
        left, singular, right = _decompose(weight)
        if energy is not None:
            kept = np.cumsum(singular**2) >= energy * (singular**2).sum()
            limit = int(np.argmax(kept)) + 1 if kept.any() else len(singular)
        assert limit is not None
        share = limit * (inputs + outputs) / (inputs * outputs)
        if share > shrinkage:
            state.notes.append(
                f"{part.name} is left as it is: rank {limit} would make {share:.2f} of its size, above {shrinkage:g}"
            )
            continue
        root = np.sqrt(singular[:limit])
        pairs += _halves(part, left[:, :limit] * root, root[:, None] * right[:limit])
        split.add(part.name)
        lost = 1 - (singular[:limit] ** 2).sum() / max((singular**2).sum(), 1e-300)
        state.notes.append(f"{part.name}: {inputs} to {outputs} over rank {limit}, {lost:.2%} of the energy is lost")
    if not split:
        return
    kept_parts = tuple(part for part in state.nnet.components if part.name not in split)
    nodes = [each for node in state.nnet.nodes for each in _split_node(node, split)]
    ends = {node.name: f"{node.name}_b" for node in state.nnet.nodes if node.component in split}
    state.nnet = Nnet3(tuple(renamed(node, ends) for node in nodes), (*kept_parts, *pairs))


def _halves(part: Component, left: NDArray[np.float64], right: NDArray[np.float64]) -> list[Component]:
    shared = tuple(
        field
        for field in part.fields
        if field.tag in ("LearningRateFactor", "MaxChange", "L2Regularize", "LearningRate")
    )
    first = (
        Field("Params", (Value("M", right.astype(np.float32)),)),
        Field("UseNaturalGradient", (Value("b", True),)),
        Field("RankInOut", (Value("i", 40), Value("i", 80))),
        Field("Alpha", (Value("f", 4.0),)),
        Field("NumSamplesHistory", (Value("f", 2000.0),)),
        Field("UpdatePeriod", (Value("i", 4),)),
    )
    second = (
        Field("LinearParams", (Value("M", left.astype(np.float32)),)),
        Field("BiasParams", (Value("V", part.array("BiasParams")),)),
        Field("RankIn", (Value("i", 20),)),
        Field("RankOut", (Value("i", 80),)),
        Field("UpdatePeriod", (Value("i", 4),)),
        Field("NumSamplesHistory", (Value("f", 2000.0),)),
        Field("Alpha", (Value("f", 4.0),)),
    )
    return [
        Component(f"{part.name}_a", "Linear", (*shared, *first)),
        Component(f"{part.name}_b", "NaturalGradientAffine", (*shared, *second)),
    ]


def _split_node(node: NetworkNode, split: set[str]) -> list[NetworkNode]:
    if node.component not in split:
        return [node]
    first = NetworkNode("component-node", f"{node.name}_a", node.reads, f"{node.component}_a")
    second = NetworkNode("component-node", f"{node.name}_b", Node(first.name), f"{node.component}_b")
    return [first, second]


def _reduce_rank(state: _Editing, line: str, values: dict[str, str]) -> None:
    rank = _whole(line, values, "rank")
    assert rank is not None
    changed = {}
    for part in _matching(state.nnet, line, values["name"], _DENSE):
        weight = part.array("LinearParams", axes=2)
        if min(weight.shape) <= rank:
            state.notes.append(f"{part.name} is left as it is: {weight.shape} is not above rank {rank}")
            continue
        left, singular, right = _decompose(weight)
        near = (left[:, :rank] * singular[:rank]) @ right[:rank]
        changed[part.name] = part.with_arrays(LinearParams=near.astype(np.float32))
        state.notes.append(f"{part.name}: rank {min(weight.shape)} to {rank}")
    state.nnet = _replaced(state.nnet, changed)


def _fix_affine(state: _Editing, line: str, values: dict[str, str]) -> None:
    changed = {}
    for part in _matching(state.nnet, line, values["name"], _DENSE):
        kept = tuple(field for field in part.fields if field.tag in ("LinearParams", "BiasParams"))
        changed[part.name] = Component(part.name, "FixedAffine", kept)
    state.nnet = _replaced(state.nnet, changed)


def _set_factor(state: _Editing, line: str, values: dict[str, str]) -> None:
    try:
        factor = float(values["learning-rate-factor"])
    except ValueError:
        factor = -1.0
    if not 0 <= factor < 1e6:
        raise ConfigError(f"the edit {line!r}: learning-rate-factor must be at least 0")
    changed = {}
    for part in _matching(state.nnet, line, values["name"]):
        if not part.has("LearningRate"):
            continue
        rest = tuple(field for field in part.fields if field.tag != "LearningRateFactor")
        fresh = () if factor == 1 else (Field("LearningRateFactor", (Value("f", float(np.float32(factor))),)),)
        changed[part.name] = replace(part, fields=(*fresh, *rest))
    state.nnet = _replaced(state.nnet, changed)


def _rename_node(state: _Editing, line: str, values: dict[str, str]) -> None:
    old, new = values["old-name"], values["new-name"]
    if old not in state.nnet.node_named or new in state.nnet.node_named:
        what = f"there is a node {new} already" if old in state.nnet.node_named else f"there is no node {old}"
        raise ConfigError(f"the edit {line!r}: {what}")
    nodes = [
        replace(node, name=new, line="") if node.name == old else renamed(node, {old: new}) for node in state.nnet.nodes
    ]
    state.nnet = replace(state.nnet, nodes=tuple(nodes))


def _remove_outputs(state: _Editing, line: str, values: dict[str, str]) -> None:
    fits = re.compile(fnmatch.translate(values["name"]))
    left = tuple(n for n in state.nnet.nodes if n.kind != "output-node" or not fits.fullmatch(n.name))
    if len(left) == len(state.nnet.nodes):
        raise ConfigError(f"the edit {line!r} fits no output")
    if not any(node.kind == "output-node" for node in left):
        raise DataError(f"the edit {line!r} would leave no output")
    state.nnet = replace(state.nnet, nodes=left)


def _remove_orphans(state: _Editing, line: str, values: dict[str, str]) -> None:
    nnet = state.nnet
    needed = {node.name for node in nnet.nodes if node.kind in ("output-node", "input-node")}
    waiting = list(needed)
    while waiting:
        reads = nnet.node_named[waiting.pop()].reads
        fresh = set(reads.names()) - needed if reads is not None else set()
        needed |= fresh
        waiting += fresh
    nodes = tuple(node for node in nnet.nodes if node.name in needed)
    used = {node.component for node in nodes}
    if len(nodes) < len(nnet.nodes):
        state.notes.append(f"{len(nnet.nodes) - len(nodes)} nodes that nothing reads are left out")
    state.nnet = Nnet3(nodes, tuple(part for part in nnet.components if part.name in used))


_Run = Callable[[_Editing, str, dict[str, str]], None]
_EDITS: dict[str, tuple[set[str], set[str], _Run]] = {
    "apply-svd": ({"name"}, {"bottleneck-dim", "energy-threshold", "shrinkage-threshold"}, _apply_svd),
    "reduce-rank": ({"name", "rank"}, set(), _reduce_rank),
    "convert-to-fixed-affine": ({"name"}, set(), _fix_affine),
    "set-learning-rate-factor": ({"name", "learning-rate-factor"}, set(), _set_factor),
    "rename-node": ({"old-name", "new-name"}, set(), _rename_node),
    "remove-output-nodes": ({"name"}, set(), _remove_outputs),
    "remove-orphans": (set(), set(), _remove_orphans),
}
