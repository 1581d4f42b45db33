"""Scoring: word errors (insertions, deletions, substitutions), frame errors and cross-entropy.

Axes: ``N`` frames, ``K`` pdfs.
"""

__all__ = ["FrameErrors", "WordErrors", "frame_errors", "word_errors"]

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from limbeck.errors import MismatchError, MissingExtraError


@dataclass(frozen=True)
class WordErrors:
    """Word errors of one utterance or, added up, of many.

    Attributes:
        insertions: Words that were not said.
        deletions: Words that were said and not found.
        substitutions: Words found in place of others.
        words: Words that were said.

    Example:
        >>> total = WordErrors(1, 0, 1, 8) + WordErrors(0, 1, 0, 2)
        >>> total.rate
        0.3
    """

    insertions: int = 0
    deletions: int = 0
    substitutions: int = 0
    words: int = 0

    @property
    def total(self) -> int:
        """All errors."""
        return self.insertions + self.deletions + self.substitutions

    @property
    def rate(self) -> float:
        """The word error rate: errors for each word that was said; 0 where none was said and none found."""
        return self.total / self.words if self.words else float(bool(self.total))

    def __add__(self, other: "WordErrors") -> "WordErrors":
        return WordErrors(
            self.insertions + other.insertions,
            self.deletions + other.deletions,
            self.substitutions + other.substitutions,
            self.words + other.words,
        )


def word_errors(said: Sequence[str], found: Sequence[str]) -> WordErrors:
    """The fewest errors that turn what was said into what was found.

    Args:
        said: Words of the reference.
        found: Words of the hypothesis.

    Returns:
        The errors.

    Raises:
        MissingExtraError: If kaldialign is not installed.

    Example:
        >>> word_errors(["GOOD", "MORNING"], ["GOOD", "OLD", "MOANING"])
        WordErrors(insertions=1, deletions=0, substitutions=1, words=2)
    """
    try:
        from kaldialign import edit_distance
    except ImportError as error:
        raise MissingExtraError("kaldialign", "kaldi") from error
    counted = edit_distance(list(said), list(found))
    return WordErrors(int(counted["ins"]), int(counted["del"]), int(counted["sub"]), len(said))


@dataclass(frozen=True)
class FrameErrors:
    """How the network did on frames whose pdf is known.

    Attributes:
        frames: Frames.
        right: Frames whose likeliest pdf is the right one.
        nats: Sum over frames of minus the logarithm of the right pdf's posterior.

    Example:
        >>> (FrameErrors(4, 1, 8.0) + FrameErrors(4, 3, 0.0)).accuracy
        0.5
    """

    frames: int = 0
    right: int = 0
    nats: float = 0.0

    @property
    def accuracy(self) -> float:
        """Share of frames that are right."""
        return self.right / self.frames if self.frames else 0.0

    @property
    def cross_entropy(self) -> float:
        """Nats per frame."""
        return self.nats / self.frames if self.frames else 0.0

    def __add__(self, other: "FrameErrors") -> "FrameErrors":
        return FrameErrors(self.frames + other.frames, self.right + other.right, self.nats + other.nats)


def frame_errors(logits: NDArray[np.float32], pdfs: NDArray[np.int32], *, key: str) -> FrameErrors:
    """Compare a network's scores with an alignment.

    Args:
        logits: Logits, or log-posteriors, ``(N, K)``.
        pdfs: The right pdf of each frame, ``(N,)``.
        key: The utterance, for errors.

    Returns:
        The counts.

    Raises:
        MismatchError: If the alignment has another number of frames, or a pdf that the network has not.

    Example:
        >>> frame_errors(np.float32([[0, 5], [0, 5]]), np.int32([1, 0]), key="utt1").right
        1
    """
    if len(pdfs) != len(logits):
        raise MismatchError(f"{key} has {len(logits)} frames, and its alignment has {len(pdfs)}")
    if int(pdfs.max()) >= logits.shape[1]:
        raise MismatchError(f"the alignment of {key} has the pdf {pdfs.max()}, and there are {logits.shape[1]} outputs")
    wide = logits.astype(np.float64)
    top = wide.max(1)
    log_sum = top + np.log(np.exp(wide - top[:, None]).sum(1))
    nats = float((log_sum - wide[np.arange(len(pdfs)), pdfs]).sum())
    return FrameErrors(len(pdfs), int((logits.argmax(1) == pdfs).sum()), nats)
