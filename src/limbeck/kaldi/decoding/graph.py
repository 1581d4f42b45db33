"""A decoding graph with its words and transition ids, checked to belong together before a decoder sees it."""

__all__ = ["Graph", "check_packages", "load_fst"]

from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limbeck.errors import FormatError, MismatchError, MissingExtraError, RunError
from limbeck.kaldi.formats.lines import read_symbols
from limbeck.kaldi.formats.openfst import GraphSummary, summarise_fst
from limbeck.kaldi.formats.transition_model import TransitionModel, read_transition_model


@dataclass(frozen=True, eq=False)
class Graph:
    """Where a graph is, and what its labels mean.

    Attributes:
        path: HCLG.fst.
        summary: What it holds.
        words: The word of each output label.
        transitions: What each input label stands for.
    """

    path: Path
    summary: GraphSummary
    words: dict[int, str]
    transitions: TransitionModel

    @classmethod
    def open(cls, folder: Path, model: Path) -> "Graph":
        """Read a graph's folder.

        Args:
            folder: Holds HCLG.fst and words.txt.
            model: The final.mdl with which the graph was made.

        Returns:
            The graph.

        Raises:
            FormatError: If a file is missing or damaged.
            MismatchError: If the graph's labels are not the model's and the words'.
        """
        path = folder / "HCLG.fst"
        summary, words = summarise_fst(path), read_symbols(folder / "words.txt")
        transitions = read_transition_model(model)
        if summary.largest_input > transitions.transition_count:
            raise MismatchError(
                f"{path} has the transition id {summary.largest_input}, and {model} has 1 to "
                f"{transitions.transition_count}: the graph was made with another final.mdl"
            )
        if summary.largest_output > max(words, default=0):
            raise MismatchError(
                f"{path} has the word {summary.largest_output}, and {folder / 'words.txt'} ends with "
                f"{max(words, default=0)}: they are of different graphs"
            )
        return cls(path, summary, words, transitions)

    @cached_property
    def columns(self) -> NDArray[np.int32]:
        """For each transition id from 1, its pdf."""
        return self.transitions.tid_to_pdf[1:]

    def check_pdfs(self, outputs: int, model: Path) -> None:
        """Refuse a network of another number of pdfs.

        Args:
            outputs: Outputs of the network.
            model: The network, for the message.

        Raises:
            MismatchError: If it is not that of the transition model.
        """
        if outputs != self.transitions.pdf_count:
            raise MismatchError(
                f"{model} has {outputs} outputs, and the transition model has {self.transitions.pdf_count} pdfs"
            )


def check_packages() -> None:
    """Refuse versions of the decoder's packages that hang or fail when they meet, before they are imported.

    Raises:
        MissingExtraError: If one is not installed.
        RunError: If their versions do not go together.
    """
    try:
        fst = version("kaldifst")
        decoder = version("kaldi-decoder")
    except PackageNotFoundError as error:
        raise MissingExtraError(str(error.name), "kaldi") from error
    try:
        trainer: str | None = version("kaldi-hmm-gmm")
    except PackageNotFoundError:
        trainer = None
    if _numbers(decoder) >= (0, 3) and (trainer is not None or _numbers(fst) < (1, 8)):
        also = "" if trainer is None else f" and kaldi-hmm-gmm {trainer}"
        raise RunError(
            f"kaldi-decoder {decoder} hangs beside kaldifst {fst}{also}: install the extra in an environment of its "
            "own, pip install '.[kaldi]' in a clone"
        )


def _numbers(version_text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version_text.split(".")[:2] if part.isdigit())


def load_fst(graph: Graph) -> Any:
    """The graph in the decoder's own form.

    Args:
        graph: A graph that was checked.

    Returns:
        A ``kaldifst`` graph.

    Raises:
        FormatError: If the library cannot read it.
    """
    check_packages()
    import kaldifst

    kind = kaldifst.StdConstFst if graph.summary.kind == "const" else kaldifst.StdVectorFst
    try:
        fst = kind.read(str(graph.path))
    except (RuntimeError, ValueError) as error:
        raise FormatError(graph.path, f"cannot be read by kaldifst: {error}") from error
    if fst is None:
        raise FormatError(graph.path, "cannot be read by kaldifst")
    return fst
