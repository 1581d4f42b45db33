"""Phones instead of pdfs, and filterbanks without context, for reports.

Axes: ``N`` frames, ``K`` pdfs, ``P`` phones.
"""

__all__ = ["Phones", "heard", "one_utterance", "phones_of", "spectrogram"]

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from limbeck.data.examples import Examples
from limbeck.errors import DataError, LimbeckError
from limbeck.kaldi.formats.lines import read_symbols
from limbeck.kaldi.formats.transition_model import read_transition_model
from limbeck.kaldi.source.frontend import Splicing
from limbeck.kaldi.source.spliced import Spliced

_FRAME_SHIFT = 0.01


@dataclass(frozen=True, eq=False)
class Phones:
    """The phone that each pdf belongs to.

    Attributes:
        of_pdf: Phone of each pdf, int64 ``(K,)``; the first one where several share it.
        names: Of the phones, ``P`` of them; their numbers where no names are known.
    """

    of_pdf: NDArray[np.int64]
    names: tuple[str, ...]

    def add_up(self, posteriors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Posteriors of phones.

        Args:
            posteriors: Of pdfs, ``(N, K)``.

        Returns:
            float32 ``(N, P)``.

        Example:
            >>> Phones(np.array([0, 1, 0]), ("a", "b")).add_up(np.array([[0.25, 0.5, 0.25]], np.float32))
            array([[0.5, 0.5]], dtype=float32)
        """
        found = np.zeros((len(self.names), len(posteriors)), np.float32)
        np.add.at(found, self.of_pdf, posteriors.T)
        return np.ascontiguousarray(found.T)


def phones_of(mdl: Path) -> Phones:
    """Read which phone each pdf belongs to.

    Args:
        mdl: A ``final.mdl``; a ``phones.txt`` beside it has the names.

    Returns:
        The phones.
    """
    model = read_transition_model(mdl)
    of_pdf: NDArray[np.int64] = np.zeros(model.pdf_count, np.int64)
    of_pdf[model.tid_to_pdf[:0:-1]] = model.tid_to_phone[:0:-1]  # from behind, so that the first stays
    table = mdl.parent / "phones.txt"
    names = read_symbols(table) if table.exists() else {}
    return Phones(of_pdf, tuple(names.get(phone, str(phone)) for phone in range(int(model.tid_to_phone.max()) + 1)))


def heard(
    config: Mapping[str, Any], examples: Examples, ask: Callable[[Examples], Iterator[tuple[str, Tensor]]]
) -> tuple[tuple[Any, ...] | None, list[str]]:
    """One utterance that a run was evaluated on, and what its models take each frame for.

    Args:
        config: The run's settings, which name the transition model.
        examples: The part that it was evaluated on.
        ask: Gives each model's role and log-probabilities of some examples; it may raise LimbeckError at any of them.

    Returns:
        Key, spectrogram, posteriors of phones by role, the right phones, their names and the frame shift in seconds;
        None where the phones are not known. And what could not be shown, a note each.
    """
    mdl = Path(str(config.get("mdl") or Path(str(config.get("ali", ""))) / "final.mdl"))
    if not mdl.is_file() or examples.labels is None:
        return None, []
    one = one_utterance(examples)
    assert isinstance(one.inputs, Spliced) and one.labels is not None
    found: dict[str, NDArray[np.float32]] = {}
    notes = []
    try:
        phones = phones_of(mdl)
        for role, log_probs in ask(one):
            found[role] = phones.add_up(log_probs.exp().numpy())
    except LimbeckError as error:
        notes.append(f"Not all posteriors could be shown: {error}")
        if not found:
            return None, notes
    truth = phones.of_pdf[one.labels.long().cpu().numpy()]
    return (one.inputs.keys[0], spectrogram(one), found, truth, phones.names, _FRAME_SHIFT), notes


def one_utterance(examples: Examples, *, least: int = 200, most: int = 450) -> Examples:
    """The first utterance of a length that makes a readable figure, or the first of all.

    Args:
        examples: Frames of speech.
        least: Fewest frames.
        most: Most frames.

    Returns:
        The utterance.

    Raises:
        DataError: If these are no frames of speech.
    """
    if not isinstance(examples.inputs, Spliced):
        raise DataError("an utterance is of speech, and these examples are none")
    counts = examples.inputs.groups().bincount()
    fitting = ((counts >= least) & (counts <= most)).nonzero().flatten().tolist()
    return examples.take_groups(torch.tensor([next(iter(fitting), 0)]))


def spectrogram(examples: Examples) -> NDArray[np.float32]:
    """The features of each frame alone, after CMVN.

    Args:
        examples: Frames of speech.

    Returns:
        float32 ``(N, D)``.

    Raises:
        DataError: If these are no frames of speech.
    """
    if not isinstance(examples.inputs, Spliced):
        raise DataError("a spectrogram is of speech, and these examples are none")
    frames: NDArray[np.float32] = examples.inputs.spliced(slice(None), Splicing((0,))).flatten(1).cpu().numpy()
    return frames
