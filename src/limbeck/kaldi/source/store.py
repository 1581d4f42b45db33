"""Unspliced features of utterances: all in memory, or read from their archives in chunks.

Axes: ``N`` frames asked for, ``U`` utterances, ``D`` features.
"""

__all__ = ["FrameStore", "checked_frames"]

from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from limbeck.errors import FormatError
from limbeck.kaldi.formats.scp import ScpEntry

_STRETCH = 1 << 16
"""Frames that are read at a time where nobody said which will be wanted."""


class Reader(Protocol):
    """Reads utterances by their numbers, in any order that suits it."""

    def __call__(self, numbers: Sequence[int]) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """Give each utterance's number and its frames ``(length, D)``."""


class FrameStore:
    """The frames of a data directory, found by utterance and place.

    Args:
        lengths: Frames of each utterance, int64 ``(U,)``.
        features: How many features a frame has, D.
        reader: Reads utterances that are not in memory.
        frames: All frames in order, float32 ``(frames, D)``, or None to read them when they are wanted.
        device: Where frames are kept.
        ivector: How many of the features, at the end, are an i-vector's.

    Example:
        >>> store = FrameStore(torch.tensor([2, 1]), 1, None, torch.tensor([[1.0], [2.0], [7.0]]))
        >>> store.gather(torch.tensor([0, 1]), torch.tensor([1, 0]), torch.tensor([-1, 0, 1]))[:, :, 0]
        tensor([[1., 2., 2.],
                [7., 7., 7.]])
    """

    def __init__(
        self,
        lengths: Tensor,
        features: int,
        reader: Reader | None,
        frames: Tensor | None = None,
        device: torch.device | str = "cpu",
        ivector: int = 0,
    ) -> None:
        self.device = torch.device(device)
        self.lengths = lengths.to(self.device)
        self.features, self.ivector = features, ivector
        self.in_memory = frames is not None
        self._reader = reader
        self._copies: dict[torch.device, FrameStore] = {self.device: self}
        self._frames = torch.empty(0, features) if frames is None else frames.to(self.device)
        # Where each utterance's frames begin; -1 where they are not here.
        self._begins = torch.full_like(self.lengths, -1) if frames is None else self.lengths.cumsum(0) - self.lengths

    def to(self, device: torch.device | str) -> "FrameStore":
        """The store on a device; the same one each time, so that what was read serves all who ask there."""
        place = torch.empty(0, device=device).device
        if place not in self._copies:
            frames = self._frames if self.in_memory else None
            copied = FrameStore(self.lengths, self.features, self._reader, frames, place, self.ivector)
            copied._copies = self._copies
            self._copies[place] = copied
        return self._copies[place]

    def hold(self, utterances: Tensor) -> None:
        """Read some utterances, and forget the others; nothing happens where all are in memory."""
        if self.in_memory or bool((self._begins[utterances] >= 0).all()):
            return
        assert self._reader is not None
        lengths = self.lengths[utterances]
        begins = lengths.cumsum(0) - lengths
        place = dict(zip(utterances.tolist(), begins.tolist(), strict=True))
        total = int(lengths.sum())
        frames = torch.empty(total, self.features)
        held = frames.numpy()
        for number, matrix in self._reader(utterances.tolist()):
            held[place[number] : place[number] + len(matrix)] = matrix
        self._frames = frames.to(self.device)
        self._begins = torch.full_like(self.lengths, -1)
        self._begins[utterances] = begins

    def gather(self, utterances: Tensor, places: Tensor, offsets: Tensor, columns: slice = slice(None)) -> Tensor:
        """Frames and their neighbours.

        Args:
            utterances: Which utterance each is in, int64 ``(N,)``.
            places: Which frame of it, int64 ``(N,)``.
            offsets: Places of the neighbours, int64 ``(C,)``.
            columns: Which features; all where it is left out.

        Returns:
            float32 ``(N, C, D)``; beyond the ends of an utterance its first or last frame is repeated.
        """
        begins = self._begins[utterances]
        if not self.in_memory and bool((begins < 0).any()):
            self.hold(self._stretch(utterances))
            begins = self._begins[utterances]
        around = (places[:, None] + offsets).clamp_min_(0)
        around = torch.minimum(around, self.lengths[utterances][:, None] - 1) + begins[:, None]
        found = self._frames[:, columns].index_select(0, around.flatten())
        return found.view(len(utterances), len(offsets), found.shape[1])

    def _stretch(self, utterances: Tensor) -> Tensor:
        """The utterances wanted, and as many of those that follow as are worth reading with them."""
        wanted = torch.unique(utterances)
        room = _STRETCH - int(self.lengths[wanted].sum())
        following = torch.arange(int(wanted[-1]) + 1, len(self.lengths), device=self.device)
        following = following[self.lengths[following].cumsum(0) <= room]
        return torch.cat([wanted, following])


def checked_frames(
    entries: Sequence[ScpEntry], read: Iterable[tuple[str, NDArray[np.float32]]]
) -> Iterator[NDArray[np.float32]]:
    """Utterances as they are read, each refused that has no frame, another dimension, NaN or infinity.

    Args:
        entries: Where each comes from.
        read: Their names and frames, in the same order.

    Yields:
        The frames of each.

    Raises:
        FormatError: If an utterance cannot be used.
    """
    first: tuple[str, int] | None = None
    for entry, (key, matrix) in zip(entries, read, strict=True):
        if not len(matrix):
            raise FormatError(entry.source, f"utterance {key} has no frame: remove it from feats.scp")
        if first is None:
            first = key, matrix.shape[1]
        if matrix.shape[1] != first[1]:
            raise FormatError(
                entry.source, f"utterance {key} has {matrix.shape[1]} features, and {first[0]} has {first[1]}"
            )
        finite = np.isfinite(matrix)
        if not finite.all():
            frame, feature = (int(place) for place in np.argwhere(~finite)[0])
            raise FormatError(
                entry.source,
                f"utterance {key} holds {matrix[frame, feature]} in frame {frame}, feature {feature}: "
                "make its features again, or remove it from feats.scp",
            )
        yield matrix
