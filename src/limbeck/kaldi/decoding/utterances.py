"""Utterances of a Kaldi directory, script file or archive, as a network needs them.

Axes: ``N`` frames of an utterance, ``D`` features.
"""

__all__ = ["Utterances"]

import os
from collections.abc import Callable, Iterator
from os import PathLike
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from limbeck.errors import DataError, FormatError, MismatchError
from limbeck.kaldi.decoding.fronts import Front, settled
from limbeck.kaldi.decoding.options import FeatureOptions
from limbeck.kaldi.formats.cmvn import accumulate_cmvn, add_deltas, apply_cmvn
from limbeck.kaldi.formats.lines import read_map
from limbeck.kaldi.formats.opened import Table

Frames = NDArray[np.float32]


class Utterances:
    """Features by utterance after CMVN and deltas, read anew at each iteration, one utterance in memory at a time.

    Neighbours are put together by the network, since those of an ensemble may see different ones.

    Args:
        feats: A Kaldi data directory, a script file or an archive, or a specifier of one, such as ``ark:-``.
        options: Where things are, and what is done where no network says it.
        front: What is done to single frames, settled with a network; None for what the options say.

    Attributes:
        count: How many utterances there are, or None for an archive.

    Raises:
        FormatError: If there is no such file, or it holds no features.
    """

    def __init__(
        self, feats: str | PathLike[str], options: FeatureOptions | None = None, *, front: Front | None = None
    ) -> None:
        self.options = FeatureOptions() if options is None else options
        self.front = settled(self.options, None) if front is None else front
        settings = self.options
        place = Path(feats, "feats.scp") if os.path.isdir(feats) else feats
        self._table = Table(place, root=settings.feats_root, allow_pipes=settings.allow_pipes)
        self.path = self._table.path or Path(self._table.name)
        if self._table.kind not in {"scp", "matrices"}:
            raise FormatError(
                self.path,
                f"holds no features: a script file or an archive of matrices, and not {self._table.kind}",
            )
        entries = self._table.entries
        self.count = None if entries is None else len(entries)
        if self.count == 0:
            raise FormatError(self.path, "holds no utterance")
        self._stats = self._speaker_stats() if self.front.cmvn == "speaker" else None

    def keep(self, most: int) -> None:
        """Keep at most so many utterances of a script file, evenly spaced.

        Args:
            most: At least 1.
        """
        entries = self._table.entries
        if entries is not None and len(entries) > most:
            places = np.linspace(0, len(entries) - 1, most).round().astype(int).tolist()
            self._table.entries = [entries[place] for place in places]
            self.count = most

    def __iter__(self) -> Iterator[tuple[str, Frames]]:
        """The utterance and its frames, after CMVN and deltas, with i-vectors."""
        width: int | None = None
        for key, frames in self._table.read():
            if not len(frames):
                raise DataError(f"{self.path}: the utterance {key} has no frame")
            if not np.isfinite(frames).all():
                row, column = np.argwhere(~np.isfinite(frames))[0].tolist()
                raise DataError(f"{self.path}: frame {row} of {key} holds {frames[row, column]} at feature {column}")
            if width is not None and frames.shape[1] != width:
                raise MismatchError(
                    f"{self.path}: {key} has {frames.shape[1]} features, and the utterances before it have {width}"
                )
            width = frames.shape[1]
            yield key, self._prepared(key, frames)

    def _prepared(self, key: str, frames: Frames) -> Frames:
        front = self.front
        if front.cmvn != "none":
            stats = accumulate_cmvn(frames) if self._stats is None else self._stats(key)
            try:
                frames = apply_cmvn(frames, stats, variance=front.norm_vars)
            except DataError as error:
                raise type(error)(f"{key}: {error}") from error
        frames = add_deltas(frames, order=front.deltas, window=front.delta_window) if front.deltas else frames
        return front.appended(key, frames)

    def _speaker_stats(self) -> Callable[[str], NDArray[np.float64]]:
        options = self.options
        given = options.cmvn_scp or self.path.parent / "cmvn.scp"
        owners_path = options.utt2spk or self.path.parent / "utt2spk"
        for place, flag, cure in (
            (given, "--cmvn-scp", "statistics by speaker"),
            (owners_path, "--utt2spk", "the speaker of each utterance"),
        ):
            if place != options.cmvn_scp and not place.is_file():
                raise FormatError(
                    place, f"is missing, and --cmvn speaker needs {cure}: give {flag}, or --cmvn utterance"
                )
        table = Table(given, root=options.feats_root, allow_pipes=options.allow_pipes)
        if table.kind not in {"scp", "matrices"}:
            raise FormatError(table.name, f"holds no CMVN statistics, which are matrices, but {table.kind}")
        stats = dict(table.read(dtype=np.float64))
        owners = read_map(owners_path)

        def find(key: str) -> NDArray[np.float64]:
            if key not in owners:
                raise MismatchError(f"{owners_path} names no speaker of the utterance {key}")
            if owners[key] not in stats:
                raise MismatchError(f"{table.name} has no statistics of {owners[key]}, the speaker of {key}")
            return stats[owners[key]]

        return find
