"""I-vectors: one for each utterance or speaker, or online ones, a row for every few frames.

Axes: ``N`` frames of an utterance, ``E`` values of an i-vector.
"""

__all__ = ["IVectors", "read_ivectors"]

from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from limbeck.errors import FormatError, MismatchError
from limbeck.kaldi.formats.opened import Table
from limbeck.kaldi.formats.scp import read_entry

Values = NDArray[np.float32]

_LATE = 50  # frames by which online i-vectors may end before the utterance, as for nnet3-compute
_PERIOD = 10


@dataclass(frozen=True, eq=False)
class IVectors:
    """I-vectors of utterances or of speakers.

    Attributes:
        name: Where they come from, for messages.
        dim: How many values one has, ``E``.
        values: By utterance or speaker: ``(E,)``, or online ones ``(rows, E)``.
        period: Frames from one row of online i-vectors to the next; None for one of a whole utterance.
        speakers: The speaker of each utterance, where i-vectors are of speakers.
        hint: What to do where an utterance has none.
    """

    name: str
    dim: int
    values: Mapping[str, Values]
    period: int | None = None
    speakers: Mapping[str, str] | None = None
    hint: str = ""

    def of(self, key: str) -> Values:
        """What is held of an utterance, or of its speaker.

        Args:
            key: The utterance.

        Returns:
            ``(E,)``, or online i-vectors ``(rows, E)``.

        Raises:
            MismatchError: If there is none.
        """
        if key in self.values:
            return self.values[key]
        if self.speakers is not None and self.speakers.get(key) in self.values:
            return self.values[self.speakers[key]]
        also = "" if self.speakers is None or key not in self.speakers else f" or of its speaker {self.speakers[key]}"
        raise MismatchError(f"{self.name} has no i-vector of {key}{also}{self.hint}")

    def frames(self, key: str, count: int) -> Values:
        """The i-vector of each frame of an utterance.

        Args:
            key: The utterance.
            count: Its frames, ``N``.

        Returns:
            float32 ``(N, E)``: frame ``n`` has row ``n // period`` of online i-vectors, or the last there is.

        Raises:
            MismatchError: If there is none, or online i-vectors end long before the utterance.
        """
        found = self.of(key)
        if self.period is None:
            return np.broadcast_to(found, (count, self.dim))
        missing = count - len(found) * self.period
        if missing > _LATE:
            raise MismatchError(
                f"{self.name}: {len(found)} online i-vectors of {key}, one for {self.period} frames, end {missing} "
                f"frames before the utterance: are they really one for {self.period} frames?"
            )
        return found[np.minimum(np.arange(count) // self.period, len(found) - 1)]


def read_ivectors(
    given: str | PathLike[str],
    *,
    online: bool | None = None,
    period: int | None = None,
    speakers: Mapping[str, str] | None = None,
    hint: str = "",
    root: str | PathLike[str] | None = None,
    allow_pipes: bool = False,
) -> IVectors:
    r"""Read i-vectors into memory.

    Args:
        given: An archive, a script file or a specifier; or the folder that ``extract_ivectors_online.sh`` writes, with
            ``ivector_online.scp`` and ``ivector_period``.
        online: Whether they are online ones, matrices; None: as the content says.
        period: Frames from one row of online ones to the next; None: as the folder says, else 10.
        speakers: The speaker of each utterance, where i-vectors may be of speakers.
        hint: What to do where an utterance has none, for the message.
        root: The folder to which paths in a script file are relative.
        allow_pipes: Run commands of a specifier or a script file, in a shell.

    Returns:
        The i-vectors.

    Raises:
        FormatError: If one is damaged, empty, not finite, or of another dimension than those before it.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp(), "ivectors.ark")
        >>> _ = file.write_text("ann [ 1 2 ]\n")
        >>> read_ivectors(file, speakers={"utt1": "ann"}).frames("utt1", 2)
        array([[1., 2.],
               [1., 2.]], dtype=float32)
    """
    folder = Path(given)
    if folder.is_dir():
        given = folder / "ivector_online.scp"
        if not given.is_file():
            raise FormatError(given, "is missing: a folder of i-vectors has it, with ivector_period")
        period = period or _stored_period(folder / "ivector_period")
    table = Table(given, root=root, allow_pipes=allow_pipes)
    if online is None:
        online = _are_matrices(table, allow_pipes)
    found: dict[str, Values] = {}
    dim = 0
    for key, value in table.read("matrix" if online else "vector"):
        if not value.size:
            raise FormatError(table.name, f"the i-vector of {key} is empty")
        if not np.isfinite(value).all():
            raise FormatError(table.name, f"the i-vector of {key} holds NaN or infinity")
        dim = dim or value.shape[-1]
        if value.shape[-1] != dim:
            raise FormatError(table.name, f"the i-vector of {key} has {value.shape[-1]} values, and others have {dim}")
        found[key] = value
    if not found:
        raise FormatError(table.name, "holds no i-vector")
    return IVectors(table.name, dim, found, (period or _PERIOD) if online else None, speakers, hint)


def _are_matrices(table: Table, allow_pipes: bool) -> bool:
    if table.entries is None:
        return table.holds == "matrix"
    if not table.entries:
        return False
    try:
        read_entry(table.entries[0], "vector", allow_pipes=allow_pipes)
    except FormatError:
        return True
    return False


def _stored_period(path: Path) -> int:
    try:
        text = path.read_text("ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise FormatError(path, f"cannot be read as frames from one i-vector to the next: {error}") from error
    if not (text.isdigit() and 0 < int(text[:9]) <= 10_000 and len(text) < 6):
        raise FormatError(path, f"holds {text[:20]!r}, and is to hold the frames from one i-vector to the next")
    return int(text)
