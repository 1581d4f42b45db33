"""An nnet3 network as a torch module that can be asked and trained. Axes: ``B`` chunks, ``T`` times, ``D`` features.

Chunks of one length go through together, and each component sees all their times at once.
"""

__all__ = ["Nnet3Module", "Schedule"]

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from limbeck.errors import DataError, MismatchError
from limbeck.kaldi.nnet3.components import offsets_of
from limbeck.kaldi.nnet3.descriptors import Times
from limbeck.kaldi.nnet3.expressions import Expression, TorchBuilder, places_of
from limbeck.kaldi.nnet3.layers import layer_of
from limbeck.kaldi.nnet3.network import Nnet3
from limbeck.kaldi.nnet3.nodes import NetworkNode
from limbeck.kaldi.nnet3.planning import Plan, Reach, context_of
from limbeck.kaldi.nnet3.runs import Run, runs_of

IVECTOR = "ivector"
_STEP = 64  # outputs of a run are counted up to a multiple, so that runs of many lengths share their schedules
_MOST_VALUES = 1 << 24
"""Of a node for one chunk: a small file may say that it has any number of columns."""


@dataclass(frozen=True, eq=False)
class _Step:
    """A node: what it reads, at which places of it for each offset of its component, and which nodes are read last."""

    node: NetworkNode
    reads: Expression
    places: tuple[slice | Tensor, ...]
    last_of: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Schedule:
    """How the outputs of chunks of one kind are computed.

    Attributes:
        steps: Each after those whose values it reads; the output last.
        inputs: The times of each input that are used.
        first: Time of the first input frame that a chunk has to give.
        length: How many input frames it has to give.
    """

    steps: tuple[_Step, ...]
    inputs: Mapping[str, Times]
    first: int
    length: int


class _Values(dict[str, Tensor]):
    def __init__(self, like: Tensor) -> None:
        super().__init__()
        self.like, self.chunks = like, len(like)


class Nnet3Module(nn.Module):
    """A network with one output, in test mode: batch norm as trained, no dropout.

    Args:
        nnet: The network.
        output: Which output.

    Attributes:
        nnet: As given; :meth:`current` has the present weights.
        context: Frames that an output needs to the left and right of its own.
        dim: Columns of the input.
        ivector_dim: Columns of the i-vector, or 0.
        outputs: Columns of the output.
        widest: Columns of the widest node, or of what it reads.
        depends: Whether outputs depend on where a chunk begins or ends.
        presentation: How frames are shown to it where each is seen alone, or None.

    Raises:
        DataError: If a component is not run here, the network is recurrent, or has other inputs.
    """

    def __init__(self, nnet: Nnet3, *, output: str = "output") -> None:
        super().__init__()
        order = nnet.order(output)
        used = dict.fromkeys(node.component for node in order if node.component)
        layers = [layer_of(nnet.component_named[name]) for name in used]
        strange = [node.name for node in order if node.kind == "input-node" and node.name not in ("input", IVECTOR)]
        if strange:
            raise DataError(f"the input {strange[0]} is not known: a network reads input and ivector")
        if "input" not in {node.name for node in order}:
            raise DataError(f"the output {output} does not read the input")
        self.nnet, self.output, self._order = nnet, output, order
        self._place = {name: number for number, name in enumerate(used)}
        self.layers = nn.ModuleList(layers)
        self.context = context_of(nnet, output)
        self.dim = nnet.inputs["input"]
        self.ivector_dim = nnet.inputs[IVECTOR] if IVECTOR in {node.name for node in order} else 0
        self.outputs = cast(int, nnet.outputs[output])
        self.widest = max(_columns(nnet, node) for node in order)
        self.depends = any(node.reads is not None and node.reads.depends for node in order)
        self.presentation: Any = None
        self._schedules: dict[int, Schedule] = {}
        self.eval()

    def train(self, mode: bool = True) -> "Nnet3Module":
        """Nothing differs in training: batch norm keeps its statistics, and nothing is dropped."""
        super().train(mode)
        return self

    def schedule(self, times: Times, *, first: int, last: int) -> Schedule:
        """How outputs at some times are computed, when input frames from ``first`` to ``last`` are there.

        Args:
            times: Wanted, increasing; 0 is the first output's.
            first: Time of the first input frame.
            last: Time of the last.

        Returns:
            The schedule.

        Raises:
            DataError: If one of the times cannot be computed from these frames.
        """  # noqa: DOC502
        nnet = self.nnet
        given = {"input": (first, last), IVECTOR: (0, 0)}
        plan = Plan(Reach(nnet, self.output, times, given), times)
        builder = TorchBuilder(plan.times)
        steps = []
        for node in plan.order:
            mine = plan.times[node.name]
            if node.reads is None or not mine.size:
                continue
            if mine.size * _columns(nnet, node) > _MOST_VALUES:
                raise DataError(f"the node {node.name} would hold more than {_MOST_VALUES} values for one chunk")
            offsets = offsets_of(nnet.component_named[node.component]) if node.component else (0,)
            wanted = np.unique(np.concatenate([mine + offset for offset in offsets]))
            reads = node.reads.build(wanted, plan.lookup, nnet.dims, builder)
            steps.append(_Step(node, reads, tuple(places_of(wanted, mine + offset) for offset in offsets)))
        inputs = {node.name: plan.times[node.name] for node in plan.order if node.reads is None}
        return Schedule(_with_ends(steps), inputs, first, last - first + 1)

    def run(self, frames: Tensor, schedule: Schedule, ivectors: Tensor | None = None) -> Tensor:
        """The outputs of chunks.

        Args:
            frames: Input frames, ``(B, schedule.length, D)``.
            schedule: For chunks of this kind.
            ivectors: One for each chunk, ``(B, E)``, where the network reads them.

        Returns:
            ``(B, times, K)``.

        Raises:
            MismatchError: If frames or i-vectors have other dimensions than the network's inputs.
        """
        self._check(frames, ivectors)
        values = _Values(frames)
        values["input"] = frames[:, schedule.inputs["input"] - schedule.first]
        if ivectors is not None:
            values[IVECTOR] = ivectors[:, None, :]
        found = frames
        for step in schedule.steps:
            found = step.reads.run(values)
            if step.node.component:
                pieces = [_at(found, places) for places in step.places]
                joined = pieces[0] if len(pieces) == 1 else torch.cat(pieces, -1)
                found = self.layers[self._place[step.node.component]](joined)
            elif step.node.kind == "dim-range-node":
                found = found[..., step.node.first : step.node.first + step.node.dim]
            values[step.node.name] = found
            for name in step.last_of:
                del values[name]
        return found

    def _check(self, frames: Tensor, ivectors: Tensor | None) -> None:
        if frames.shape[-1] != self.dim:
            raise MismatchError(f"frames of {frames.shape[-1]} features for a network of {self.dim} inputs")
        if self.ivector_dim and ivectors is None:
            raise MismatchError(f"the network reads i-vectors of {self.ivector_dim} values, and none are given")
        if ivectors is not None and ivectors.shape[-1] != self.ivector_dim:
            wanted = f"of {self.ivector_dim}" if self.ivector_dim else "of none"
            raise MismatchError(f"i-vectors of {ivectors.shape[-1]} values for a network {wanted}")

    def forward(self, x: Tensor) -> Tensor:
        """The output for single frames, each given with the neighbours that it needs.

        Args:
            x: ``(N, left + 1 + right, D)``; where the network reads i-vectors, the same flat and each frame's i-vector
                after it, ``(N, (left + 1 + right) D + E)``.

        Returns:
            ``(N, K)``.

        Raises:
            MismatchError: If there are other neighbours, or another dimension.
        """
        left, right = self.context
        ivectors = None
        if self.ivector_dim:
            wide = (left + 1 + right) * self.dim
            if x.ndim != 2 or x.shape[1] != wide + self.ivector_dim:
                raise MismatchError(
                    f"inputs of shape {tuple(x.shape[1:])}, and the network reads {left + 1 + right} frames of "
                    f"{self.dim} features and an i-vector of {self.ivector_dim} values"
                )
            x, ivectors = x[:, :wide].reshape(len(x), -1, self.dim), x[:, wide:]
        if x.ndim != 3 or x.shape[1] != left + 1 + right:
            raise MismatchError(
                f"frames of shape {tuple(x.shape[1:])}, and the network sees {left} frames to the left and {right} to "
                f"the right, ({left + 1 + right}, {self.dim})"
            )
        if not torch.is_grad_enabled() and left + right and not self.depends:
            runs = runs_of(x, ivectors)
            if len(runs) <= len(x) // 4:
                return self._together(x, runs, ivectors)
        return self.run(x, self._windows(1), ivectors)[:, 0]

    def _windows(self, count: int) -> Schedule:
        """How the outputs of so many consecutive frames are computed, with the context that they need."""
        if count not in self._schedules:
            left, right = self.context
            times = np.arange(count, dtype=np.int64)
            self._schedules[count] = self.schedule(times, first=-left, last=count - 1 + right)
        return self._schedules[count]

    def _together(self, x: Tensor, runs: list[Run], ivectors: Tensor | None) -> Tensor:
        """The outputs of windows, those of a run computed as one piece of an utterance."""
        found = x.new_empty((len(x), self.outputs))
        sizes: dict[int, list[Run]] = {}
        for run in runs:
            sizes.setdefault(-(-run.count // _STEP) * _STEP, []).append(run)
        for size, members in sizes.items():
            most = max(1, _MOST_VALUES // (size * self.widest))
            for place in range(0, len(members), most):
                some = members[place : place + most]
                frames = torch.stack([run.frames(x, size) for run in some])
                beside = None if ivectors is None else ivectors[[run.first for run in some]]
                values = self.run(frames, self._windows(size), beside)
                for run, mine in zip(some, values, strict=True):
                    found[run.first : run.first + run.count] = mine[: run.count]
        return found

    def current(self) -> Nnet3:
        """The network with the present weights."""
        changed = {
            name: self.nnet.component_named[name].with_arrays(**cast(Any, self.layers[place]).arrays())
            for name, place in self._place.items()
        }
        parts = tuple(changed.get(part.name, part) for part in self.nnet.components)
        return replace(self.nnet, components=parts)


def _columns(nnet: Nnet3, node: NetworkNode) -> int:
    """Columns of a node or of what its component reads at all of its offsets, whichever is more."""
    read = 0 if node.reads is None else node.reads.dim(nnet.dims)
    count = len(offsets_of(nnet.component_named[node.component])) if node.component else 1
    return max(nnet.dims.get(node.name, 0), read * count)


def _with_ends(steps: list[_Step]) -> tuple[_Step, ...]:
    """Steps that know which values nobody reads after them."""
    last: dict[str, int] = {}
    for number, step in enumerate(steps):
        last |= dict.fromkeys(step.node.reads.names() if step.node.reads is not None else (), number)
    inside = {step.node.name for step in steps}
    found = []
    for number, step in enumerate(steps):
        over = tuple(name for name, place in last.items() if place == number and name in inside)
        found.append(replace(step, last_of=over))
    return tuple(found)


def _at(values: Tensor, places: slice | Tensor) -> Tensor:
    if isinstance(places, slice):
        return values[:, places]
    return values.index_select(1, places.to(values.device))
