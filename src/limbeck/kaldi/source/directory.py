"""A Kaldi data directory: where the features of each utterance are, who speaks, and the CMVN statistics.

Axes: ``D`` features.
"""

__all__ = ["KaldiDirectory", "open_directory"]

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from limbeck.errors import ConfigError, FormatError
from limbeck.kaldi.formats.lines import read_map
from limbeck.kaldi.formats.scp import ScpEntry, read_entries, read_scp
from limbeck.kaldi.source.frontend import Statistics


@dataclass(frozen=True)
class KaldiDirectory:
    """What a data directory holds; the features themselves stay where they are.

    Attributes:
        path: The directory.
        entries: Where each utterance's features are, in the order of ``feats.scp``.
        speakers: Who speaks in each, where ``utt2spk`` is there; else the utterance itself.
        cmvn: Where the CMVN statistics are, by speaker or utterance; empty without ``cmvn.scp``.
        allow_pipes: Whether entries may be commands.
    """

    path: Path
    entries: tuple[ScpEntry, ...]
    speakers: tuple[str, ...]
    cmvn: dict[str, ScpEntry] = field(default_factory=dict)
    allow_pipes: bool = False

    @property
    def owners(self) -> dict[str, str]:
        """The speaker of each utterance."""
        return {entry.key: speaker for entry, speaker in zip(self.entries, self.speakers, strict=True)}

    def statistics(
        self, numbers: Sequence[int], whose: Literal["none", "speaker", "utterance"]
    ) -> dict[str, Statistics]:
        """Read the CMVN statistics that some utterances need.

        Args:
            numbers: Which utterances, counted as in ``entries``.
            whose: The speakers' or the utterances'; "none" reads nothing.

        Returns:
            Statistics by utterance, one array for all of a speaker. Those of utterances in a directory without
            ``cmvn.scp`` are left to be computed from each utterance.

        Raises:
            FormatError: If there are none for a speaker or an utterance, or they are damaged.
        """
        if whose == "none" or (whose == "utterance" and not self.cmvn):
            return {}
        if not self.cmvn:
            raise FormatError(
                self.path / "cmvn.scp",
                "is missing, and CMVN by speaker needs it: make it with compute-cmvn-stats, or use --cmvn utterance",
            )
        names = {self.entries[n].key: self.speakers[n] if whose == "speaker" else self.entries[n].key for n in numbers}
        for key, name in names.items():
            if name not in self.cmvn:
                if whose == "speaker" and not (self.path / "utt2spk").exists():
                    raise FormatError(
                        self.path / "utt2spk",
                        f"is missing, so {key} has no speaker whose statistics cmvn.scp could hold: add the file, or "
                        "use --cmvn utterance",
                    )
                cure = "" if whose == "utterance" else ", or use --cmvn utterance"
                raise FormatError(
                    self.path / "cmvn.scp",
                    f"has no statistics of {whose} {name}, which {key} needs: add them{cure}",
                )
        wanted = sorted({self.cmvn[name] for name in names.values()}, key=lambda e: (e.source, e.offset or 0))
        read = dict(read_entries(wanted, dtype=np.float64, allow_pipes=self.allow_pipes))
        return {key: read[name] for key, name in names.items()}


def open_directory(path: str | Path, *, allow_pipes: bool = False) -> KaldiDirectory:
    """Read the tables of a data directory.

    Args:
        path: A folder with ``feats.scp``, or a script file itself, beside which the other tables are.
        allow_pipes: Accept script lines that are commands, which run in a shell.

    Returns:
        The directory.

    Raises:
        FormatError: If a table is missing, malformed, or does not name each utterance.
        RunError: If a script line is a command and that is not allowed.
        ConfigError: If there is no such folder.
    """
    given = Path(path)
    scp = given if given.is_file() else given / "feats.scp"
    if not scp.exists():
        raise ConfigError(f"{given} is no Kaldi data directory: it has no feats.scp")
    folder = scp.parent
    entries = read_scp(scp, allow_pipes=allow_pipes)
    if not entries:
        raise FormatError(scp, "is empty: there is no utterance")
    speakers = tuple(entry.key for entry in entries)
    if (folder / "utt2spk").exists():
        table = read_map(folder / "utt2spk")
        missing = next((entry.key for entry in entries if entry.key not in table), None)
        if missing is not None:
            raise FormatError(folder / "utt2spk", f"does not name the speaker of {missing}, which is in {scp}")
        speakers = tuple(table[entry.key] for entry in entries)
    cmvn: dict[str, ScpEntry] = {}
    if (folder / "cmvn.scp").exists():
        cmvn = {entry.key: entry for entry in read_scp(folder / "cmvn.scp", allow_pipes=allow_pipes)}
    return KaldiDirectory(folder, tuple(entries), speakers, cmvn, allow_pipes)
