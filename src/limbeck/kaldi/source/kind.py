"""Kaldi data directories as a kind of data on disk."""

__all__ = ["KIND", "is_kaldi"]

import os
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

from limbeck.data.data_set import DataSet
from limbeck.data.examples import Examples
from limbeck.errors import ConfigError
from limbeck.options import DataOptions, SpeechOptions
from limbeck.options.kinds import DATA_KINDS


def is_kaldi(path: str | Path) -> bool:
    """Whether a path is a Kaldi data directory, or a script file of features.

    Args:
        path: Any path.

    Returns:
        Whether it is.
    """
    place = Path(path)
    return os.path.exists(place / "feats.scp") or (place.suffix == ".scp" and os.path.isfile(place))


class _Kaldi:
    """Features, and labels out of alignments."""

    name = "a Kaldi directory"
    what = DATA_KINDS["kaldi"]
    settings = frozenset({*(f.name for f in fields(SpeechOptions)), "validation_data", "test_data"})

    def claims(self, path: Path, options: DataOptions) -> bool:
        """Whether it has features."""
        return is_kaldi(path)

    def open(self, path: Path, options: DataOptions, progress: Callable[[int, int], None] | None) -> DataSet:
        """Read the directories that options name."""
        from limbeck.kaldi.source.opening import open_speech

        return open_speech(options, progress=progress)

    def open_inputs(self, path: Path, options: DataOptions, like: DataSet | None) -> Examples:
        """Read features alone, with the front end of the data beside which they are used."""
        from limbeck.kaldi.source.opening import open_transfer

        if like is None or like.front_end is None:
            raise ConfigError(f"{path} is a Kaldi directory, and is used beside another alone: give one as data too")
        return open_transfer(path, like.front_end, options)


KIND = _Kaldi()
