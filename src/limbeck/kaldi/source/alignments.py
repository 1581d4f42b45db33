"""Labels of frames: alignments of a GMM or network, turned into pdf ids, and matched with the features."""

__all__ = ["Alignment", "Match", "match_frames", "read_labels", "refuse_too_many", "write_pdf_counts"]

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from limbeck.errors import DataError, FormatError, MismatchError
from limbeck.kaldi.formats.matrix import vector_bytes
from limbeck.kaldi.formats.specifiers import file_of
from limbeck.kaldi.formats.transition_model import TransitionModel, read_alignments, read_transition_model
from limbeck.system.files import replace_bytes

_NAMED = 3
"""How many utterances a message names."""


@dataclass(frozen=True, eq=False)
class Alignment:
    """The pdf of every frame of every aligned utterance.

    Attributes:
        pdfs: Pdf ids by utterance, int16 or int32 ``(frames,)``.
        pdf_count: How many pdfs the model has.
        transitions: The model that the transition ids belong to.
    """

    pdfs: dict[str, NDArray[np.signedinteger]]
    pdf_count: int
    transitions: TransitionModel


@dataclass(frozen=True)
class Match:
    """Which utterances have labels that fit their features.

    Attributes:
        kept: Numbers of those that do.
        without: Names of those without labels.
        differing: Name, frames and labels of those whose counts differ.
    """

    kept: tuple[int, ...]
    without: tuple[str, ...]
    differing: tuple[tuple[str, int, int], ...]

    @property
    def left_out(self) -> int:
        """How many are left out."""
        return len(self.without) + len(self.differing)

    def sentence(self, name: str) -> str:
        """What was left out, in words; empty where nothing was."""
        parts = []
        if self.without:
            parts.append(f"{len(self.without)} have no labels ({_some(self.without)})")
        if self.differing:
            shown = [f"{key}: {frames} frames, {labels} labels" for key, frames, labels in self.differing]
            parts.append(f"{len(self.differing)} have another number of labels than frames ({_some(shown)})")
        if not parts:
            return ""
        total = len(self.kept) + self.left_out
        return f"{name}: {self.left_out} of {total} utterances are left out: {'; '.join(parts)}"


def read_labels(
    path: str | Path, *, transition_model: str | Path | None = None, transitions: TransitionModel | None = None
) -> Alignment:
    """Read an alignment directory.

    Args:
        path: A folder with ``ali.*.gz`` and ``final.mdl``, or one archive of transition ids.
        transition_model: The model file, where it is elsewhere.
        transitions: The model to use where the folder has none: that of the training data.

    Returns:
        The labels.

    Raises:
        FormatError: If a file is missing, damaged, or has an utterance a second time.
        MismatchError: If the alignment was made with another model.
    """
    folder = file_of(path)
    files = [folder] if folder.is_file() else _archives(folder)
    model_path = Path(transition_model) if transition_model is not None else None
    own = (folder if folder.is_dir() else folder.parent) / "final.mdl"
    if model_path is None and own.exists():
        model_path = own
    if model_path is not None:
        transitions = read_transition_model(model_path)
    if transitions is None:
        raise FormatError(own, "is missing: it says which pdf a transition id belongs to; name it with --mdl")
    small = np.int16 if transitions.pdf_count <= np.iinfo(np.int16).max else np.int32
    found: dict[str, NDArray[np.signedinteger]] = {}
    for file in files:
        for key, ids in read_alignments(file):
            if key in found:
                raise FormatError(file, f"has an alignment of {key}, which another file or entry has too")
            found[key] = transitions.pdfs(ids, name=f"the alignment of {key} in {file}").astype(small)
    if not found:
        raise FormatError(folder, "holds no alignment")
    return Alignment(found, transitions.pdf_count, transitions)


def _archives(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise FormatError(folder, "there is no such alignment folder")
    files = [path for path in folder.iterdir() if re.fullmatch(r"ali\.\d+(?:\.gz)?|ali\.(?:gz|ark)", path.name)]
    if not files:
        raise FormatError(folder, "has no ali.1.gz: is it an alignment directory?")
    files.sort(key=lambda path: [int(part) for part in re.findall(r"\d+", path.name)])
    jobs = folder / "num_jobs"
    if jobs.exists():
        said = jobs.read_text("utf-8", errors="replace").strip()
        if said.isdecimal() and int(said) != len(files):
            raise FormatError(jobs, f"says {said} jobs, and there are {len(files)} files ali.*.gz: some are missing")
    return files


def match_frames(
    keys: Sequence[str], lengths: Sequence[int | None], labels: Mapping[str, NDArray[np.signedinteger]]
) -> Match:
    """Find the utterances whose labels fit.

    Args:
        keys: Names of the utterances.
        lengths: Frames of each; None where it was not read because there are no labels.
        labels: Labels by utterance.

    Returns:
        Which are kept, and which are left out and why.

    Example:
        >>> match_frames(["a", "b"], [3, None], {"a": np.zeros(3, np.int16)}).without
        ('b',)
    """
    kept: list[int] = []
    without: list[str] = []
    differing: list[tuple[str, int, int]] = []
    for number, (key, length) in enumerate(zip(keys, lengths, strict=True)):
        if key not in labels or length is None:
            without.append(key)
        elif len(labels[key]) != length:
            differing.append((key, length, len(labels[key])))
        else:
            kept.append(number)
    return Match(tuple(kept), tuple(without), tuple(differing))


def refuse_too_many(match: Match, name: str, most: float) -> None:
    """Raise where more utterances are left out than may be.

    Args:
        match: What was found.
        name: The data directory.
        most: Largest share.

    Raises:
        MismatchError: If a larger share is left out, or nothing is left.
    """
    total = len(match.kept) + match.left_out
    if match.left_out > most * total or not match.kept:
        raise MismatchError(
            f"{match.sentence(name)}; at most {most:.0%} may be: do alignments and features belong together? "
            "(--most-left-out allows more)"
        )


def write_pdf_counts(path: Path, counts: ArrayLike) -> None:
    """Write counts of pdfs as ``analyze-counts`` does: a text vector of the counts plus a half.

    Args:
        path: The file.
        counts: Frames of each pdf, ``(K,)``.

    Raises:
        DataError: If there is none.
    """
    values = np.asarray(counts, np.float64)
    if values.ndim != 1 or not values.size:
        raise DataError("there are no counts of pdfs to write")
    replace_bytes(path, [bytes(piece) for piece in vector_bytes(values + 0.5, binary=False)])


def _some(names: Sequence[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")
