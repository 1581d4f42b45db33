"""Kaldi data directories as a kind of data on disk."""

__all__ = ["KIND"]

from collections.abc import Callable
from pathlib import Path
from typing import Any

from limbeck.data.data_set import DataSet
from limbeck.data.examples import Examples
from limbeck.errors import ConfigError
from limbeck.kaldi.options import SpeechOptions, is_kaldi
from limbeck.kaldi.source.frontend import KEY, FrontEnd, read_front_end
from limbeck.options import DataOptions
from limbeck.options.kinds import DATA_KINDS


class _Kaldi:
    """Features, and labels out of alignments."""

    name = "a Kaldi directory"
    what = DATA_KINDS["kaldi"]
    settings = frozenset({"validation_data", "test_data"})
    options = SpeechOptions
    reading_key = KEY
    not_predicted = "is a Kaldi directory: posteriors of its frames are written by limbeck forward"

    def claims(self, path: Path, options: DataOptions) -> bool:
        """Whether it has features."""
        return is_kaldi(path)

    def open(self, path: Path, options: DataOptions, progress: Callable[[int, int], None] | None) -> DataSet:
        """Read the directories that options name."""
        from limbeck.kaldi.source.opening import open_speech

        return open_speech(_own(options), progress=progress)

    def open_inputs(self, path: Path, options: DataOptions, like: DataSet | None) -> Examples:
        """Read features alone, with the front end of the data beside which they are used."""
        from limbeck.kaldi.source.opening import open_transfer

        if like is None or not isinstance(like.reading, FrontEnd):
            raise ConfigError(f"{path} is a Kaldi directory, and is used beside another alone: give one as data too")
        return open_transfer(path, like.reading, _own(options))

    def reading_in(self, folder: Path, described: Any) -> FrontEnd:
        """The front end that a model's ``config.json`` describes."""
        return read_front_end(folder, described)


def _own(options: DataOptions) -> SpeechOptions:
    assert isinstance(options, SpeechOptions), "the registry makes settings of a kind's own class"
    return options


KIND = _Kaldi()
