"""The outputs of utterances, in chunks or whole, like ``nnet3-compute``.

Axes: ``N`` frames of one utterance, ``D`` features, ``E`` values of an i-vector, ``K`` outputs.
"""

__all__ = ["Computer"]

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from limbeck.errors import DataError, MismatchError
from limbeck.kaldi.nnet3.module import Nnet3Module, Schedule
from limbeck.kaldi.nnet3.options import ComputeOptions
from limbeck.kaldi.nnet3.planning import modulus_of

Frames = NDArray[np.float32]
_LATE = 50  # frames by which online i-vectors may end too early
_MOST_FRAMES = 1 << 11  # of a network that is the same everywhere, run together
_STEP = 64  # outputs of such are counted up to a multiple, so that utterances of many lengths share their schedules
_MOST_TOGETHER = 1 << 13  # input frames of chunks that are run together
_MOST_VALUES = 1 << 23  # of the widest node, held at once


@dataclass(frozen=True)
class _Chunk:
    """Outputs from one frame on, how many of them are computed, and the input frames that are given for them."""

    start: int
    outputs: int
    run: int
    first: int
    last: int


class Computer:
    """Runs utterances through one network, and remembers how chunks of each kind are computed.

    Args:
        module: The network.
        options: How utterances are cut.
    """

    def __init__(self, module: Nnet3Module, options: ComputeOptions | None = None) -> None:
        self.module, self.options = module, ComputeOptions() if options is None else options
        self.modulus = modulus_of(module.nnet, module.output)
        self._schedules: dict[tuple[int, int, int], Schedule] = {}

    def __call__(self, frames: Frames, ivector: Frames | None = None, *, online: bool = False) -> Frames:
        """The outputs of one utterance.

        Args:
            frames: float32 ``(N, D)``.
            ivector: One for the utterance, ``(E,)``; or for ``online`` a row for every so many frames.
            online: Whether there are many.

        Returns:
            float32 ``(ceil(N / factor), K)``.

        Raises:
            MismatchError: If a dimension is not the network's, or the i-vectors end too early.
            DataError: If there is no frame.
        """
        if frames.ndim != 2 or not len(frames):
            raise DataError(
                f"the frames of an utterance are a matrix with at least one row, and this is {frames.shape}"
            )
        chunks = self._chunks(len(frames), pieces=online or self.module.depends)
        rows = None if ivector is None else self._ivectors(ivector, chunks, len(frames), online=online)
        found = np.empty((-(-len(frames) // self.options.frame_subsampling_factor), self.module.outputs), np.float32)
        kinds: dict[tuple[int, int, int], list[int]] = {}
        for number, chunk in enumerate(chunks):
            kinds.setdefault((chunk.run, chunk.first - chunk.start, chunk.last - chunk.start), []).append(number)
        given = torch.from_numpy(np.ascontiguousarray(frames, np.float32))
        for kind, members in kinds.items():
            schedule = self._schedule(kind)
            together = max(1, min(_MOST_TOGETHER // schedule.length, _MOST_VALUES // (kind[0] * self.module.widest)))
            for place in range(0, len(members), together):
                self._run(schedule, [chunks[n] for n in members[place : place + together]], given,
                          None if rows is None else rows[members[place : place + together]], found)  # fmt: skip
        return found

    @torch.no_grad()
    def _run(
        self,
        schedule: Schedule,
        chunks: list[_Chunk],
        frames: torch.Tensor,
        ivectors: Frames | None,
        found: Frames,
    ) -> None:
        factor = self.options.frame_subsampling_factor
        starts = torch.tensor([chunk.first for chunk in chunks])
        places = (starts[:, None] + torch.arange(schedule.length)).clamp_(0, len(frames) - 1)
        device = next(iter(self.module.parameters()), frames).device
        given = None if ivectors is None else torch.from_numpy(ivectors).to(device)
        values = self.module.run(frames[places].to(device), schedule, given).float().cpu().numpy()
        for chunk, mine in zip(chunks, values, strict=True):
            found[chunk.start // factor : chunk.start // factor + chunk.outputs] = mine[: chunk.outputs]

    def _chunks(self, count: int, *, pieces: bool) -> list[_Chunk]:
        options, (left, right) = self.options, self.module.context
        factor = options.frame_subsampling_factor
        step = math.lcm(factor, self.modulus)
        fitting = max(1, min(_MOST_FRAMES, _MOST_VALUES // self.module.widest) // _STEP * _STEP * factor)
        size = options.frames_per_chunk if pieces else min(fitting, count)
        size = -(-size // step) * step
        total = -(-count // factor)
        found = []
        for start in range(0, total * factor, size):
            outputs = min(size // factor, total - start // factor)
            run = outputs if pieces else -(-outputs // _STEP) * _STEP
            last = start + (outputs - 1) * factor
            end = start + (run - 1) * factor
            before, after = options.extra_left_context, options.extra_right_context
            if start == 0 and options.extra_left_context_initial >= 0:
                before = options.extra_left_context_initial
            if last // factor == total - 1 and options.extra_right_context_final >= 0:
                after = options.extra_right_context_final
            extra = (before, after) if self.module.depends else (0, 0)
            found.append(_Chunk(start, outputs, run, start - left - extra[0], end + right + extra[1]))
        return found

    def _schedule(self, kind: tuple[int, int, int]) -> Schedule:
        if kind not in self._schedules:
            outputs, first, last = kind
            times = np.arange(outputs, dtype=np.int64) * self.options.frame_subsampling_factor
            if len(self._schedules) > 1000:  # utterances of many lengths
                self._schedules.clear()
            self._schedules[kind] = self.module.schedule(times, first=first, last=last)
        return self._schedules[kind]

    def _ivectors(self, given: Frames, chunks: list[_Chunk], count: int, *, online: bool) -> Frames:
        given = np.ascontiguousarray(given, np.float32)
        if not online:
            if given.ndim != 1:
                raise MismatchError(f"an i-vector is a vector, and this is of shape {given.shape}")
            return np.broadcast_to(given, (len(chunks), given.size)).copy()
        period = self.options.online_ivector_period
        if given.ndim != 2 or not len(given):
            raise MismatchError(f"online i-vectors are a matrix with at least one row, and this is {given.shape}")
        if count - len(given) * period > _LATE:
            raise MismatchError(
                f"{len(given)} online i-vectors, one for {period} frames, end {count - len(given) * period} frames "
                "before the utterance: is --online-ivector-period right?"
            )
        factor = self.options.frame_subsampling_factor
        middles = [chunk.start + (chunk.outputs - 1) * factor // 2 for chunk in chunks]
        chosen: Frames = given[np.minimum(np.array(middles) // period, len(given) - 1)]
        return chosen
