"""Decode the utterances of a directory and count what is wrong; choose the acoustic scale on another directory."""

__all__ = ["Judged", "Sources", "choose_scale", "decode_part", "find_alignments", "open_sources"]

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limbeck.errors import DataError, FormatError, MismatchError
from limbeck.kaldi.decoding.graph import Graph
from limbeck.kaldi.decoding.options import FeatureOptions, OutputOptions, SearchOptions
from limbeck.kaldi.decoding.outputs import Acoustic
from limbeck.kaldi.decoding.scoring import FrameErrors, WordErrors, frame_errors, word_errors
from limbeck.kaldi.decoding.search import search
from limbeck.kaldi.decoding.speakers import GroupedErrors, find_speakers
from limbeck.kaldi.decoding.utterances import Utterances
from limbeck.kaldi.formats.compact_lattice import CompactLattice
from limbeck.kaldi.formats.lines import read_table
from limbeck.kaldi.formats.specifiers import file_of
from limbeck.kaldi.formats.transition_model import TransitionModel, read_alignments
from limbeck.kaldi.forward import log_priors

Progress = Callable[[int, int], None]
_MOST_LEFT_OUT = 0.05
"""More than this share of utterances without a reference or a fitting alignment is a mistake, and not a few gaps."""


@dataclass(frozen=True, eq=False)
class Sources:
    """Where the scores of a part come from, and what they are judged by.

    Attributes:
        utterances: Features, or log-likelihoods where there is no model.
        model: Gives logits, or None.
        priors: Scaled log-priors ``(K,)`` taken off the logits, or None.
        text: What was said, or None.
        alignments: The right pdf of each frame, or None.
        speakers: Who speaks in each utterance, or None.
    """

    utterances: Utterances
    model: Acoustic | None
    priors: NDArray[np.float32] | None
    text: Mapping[str, Sequence[str]] | None
    alignments: Mapping[str, NDArray[np.int32]] | None
    speakers: Mapping[str, str] | None = None


@dataclass
class Judged:
    """What decoding a part gave.

    Attributes:
        scale: The acoustic scale.
        hypotheses: Words by utterance.
        by_utterance: Word errors of each utterance that has a reference.
        speakers: Who speaks in each utterance, or None.
        frames: Frame errors, over the utterances that have an alignment.
        unreferenced: Utterances without a reference.
        unaligned: Utterances without an alignment, or with one of another length.
        incomplete: Utterances whose best path ends where the graph may not end.
        frame_count: Frames decoded.
        network_seconds: Processor time of the network, features included.
        search_seconds: Processor time of the search.
    """

    scale: float
    hypotheses: dict[str, tuple[str, ...]] = field(default_factory=dict)
    by_utterance: dict[str, WordErrors] = field(default_factory=dict)
    speakers: Mapping[str, str] | None = None
    frames: FrameErrors = FrameErrors()
    unreferenced: list[str] = field(default_factory=list)
    unaligned: list[str] = field(default_factory=list)
    incomplete: list[str] = field(default_factory=list)
    frame_count: int = 0
    network_seconds: float = 0.0
    search_seconds: float = 0.0

    @property
    def words(self) -> WordErrors:
        """Word errors, over the utterances that have a reference."""
        return sum(self.by_utterance.values(), WordErrors())

    @property
    def unnamed(self) -> str | None:
        """The first utterance whose speaker is not known where speakers are, or None."""
        return (
            None
            if self.speakers is None
            else next((key for key in self.by_utterance if key not in self.speakers), None)
        )

    def grouped(self) -> GroupedErrors:
        """The same by speaker, or where one of them is not known by utterance."""
        return GroupedErrors.of(self.by_utterance, None if self.unnamed is not None else self.speakers)

    def to_dict(self, *, frame_shift: float) -> dict[str, Any]:
        """The figures, as values that JSON can hold.

        Args:
            frame_shift: Seconds from one frame to the next.

        Returns:
            Figures by name; those that could not be counted are left out.
        """
        audio = self.frame_count * frame_shift
        figures: dict[str, Any] = {
            "acoustic_scale": self.scale,
            "utterances": len(self.hypotheses),
            "audio_seconds": round(audio, 3),
            "real_time_factor": (self.network_seconds + self.search_seconds) / audio,
            "network_seconds": self.network_seconds,
            "search_seconds": self.search_seconds,
            "incomplete": len(self.incomplete),
        }
        words = self.words
        if words.words:
            grouped = self.grouped()
            figures |= {
                "wer": words.rate,
                "wer_interval": grouped.interval().to_dict(),
                "words": words.words,
                "insertions": words.insertions,
                "deletions": words.deletions,
                "substitutions": words.substitutions,
                "unreferenced": self.unreferenced,
                **grouped.to_dict(),
            }
        if self.frames.frames:
            figures |= {
                "frame_accuracy": self.frames.accuracy,
                "frame_cross_entropy": self.frames.cross_entropy,
                "frames": self.frames.frames,
                "unaligned": self.unaligned,
            }
        return figures


def decode_part(
    sources: Sources,
    graph: Graph,
    *,
    scale: float,
    options: SearchOptions | None = None,
    lattices: Callable[[str, CompactLattice], None] | None = None,
    progress: Progress | None = None,
) -> Judged:
    """Decode all utterances of a part, one after the other or in several processes.

    Args:
        sources: Where scores come from.
        graph: The graph.
        scale: The acoustic scale.
        options: How the graph is searched.
        lattices: Called with each utterance and its lattice, or None where none are wanted.
        progress: Told how many utterances are done, and of how many (0 where that is not known).

    Returns:
        Hypotheses and counts.

    Raises:
        MismatchError: If more than a twentieth of the utterances has no reference, or no fitting alignment.
        DataError: If there is no utterance.
    """
    judged = Judged(scale, speakers=sources.speakers)
    scores = _scores(sources, judged)
    for found in search(scores, graph, scale=scale, options=options, lattices=lattices is not None):
        judged.hypotheses[found.key] = found.words
        judged.frame_count += found.frames
        judged.search_seconds += found.seconds
        if not found.complete:
            judged.incomplete.append(found.key)
        if lattices is not None and found.lattice is not None:
            lattices(found.key, found.lattice)
        if sources.text is not None:
            if found.key in sources.text:
                judged.by_utterance[found.key] = word_errors(sources.text[found.key], found.words)
            else:
                judged.unreferenced.append(found.key)
        if progress is not None:
            progress(len(judged.hypotheses), sources.utterances.count or 0)
    if not judged.hypotheses:
        raise DataError(f"{sources.utterances.path} holds no utterance")
    count = len(judged.hypotheses)
    for what, names in (("text", judged.unreferenced), ("alignments", judged.unaligned)):
        if len(names) > _MOST_LEFT_OUT * count:
            raise MismatchError(
                f"{len(names)} of {count} utterances, {names[0]} the first of them, are not in the {what} or do not "
                "fit: these belong to other data"
            )
    return judged


def _scores(sources: Sources, judged: Judged) -> Iterator[tuple[str, NDArray[np.float32]]]:
    model = sources.model
    outputs = iter(sources.utterances) if model is None else model.run(sources.utterances)
    while True:
        start = time.process_time()
        pair = next(outputs, None)
        if pair is None:
            return
        key, scores = pair
        if sources.alignments is not None:
            pdfs = sources.alignments.get(key)
            if pdfs is None or len(pdfs) != len(scores):
                judged.unaligned.append(key)
            else:
                judged.frames += frame_errors(scores, pdfs, key=key)
        if sources.priors is not None:
            scores = scores - sources.priors
        judged.network_seconds += time.process_time() - start
        yield key, scores


def choose_scale(scales: Sequence[float], judge: Callable[[float], Judged]) -> tuple[Judged, list[Judged]]:
    """Find the scale of the lowest word error rate, going from the middle one downhill.

    Word errors over the scale have one valley, so once both neighbours are worse the rest is not tried: the smallest
    scales are also the slowest to decode with.

    Args:
        scales: Candidates.
        judge: Decodes with a scale.

    Returns:
        The best, and all that were tried, by scale.

    Raises:
        DataError: If no utterance has a reference.
    """
    ordered = sorted(set(scales))
    tried: dict[int, Judged] = {}

    def errors(place: int) -> int:
        if place not in tried:
            tried[place] = judge(ordered[place])
            if not tried[place].words.words:
                raise DataError("no utterance has a reference: the acoustic scale cannot be chosen; give --text")
        return tried[place].words.total

    best = len(ordered) // 2
    while True:
        near = [place for place in (best + 1, best - 1) if 0 <= place < len(ordered)]
        better = [place for place in near if errors(place) < errors(best)]
        if not better:
            errors(best)
            return tried[best], [tried[place] for place in sorted(tried)]
        best = min(better, key=errors)


def open_sources(
    place: str | Path,
    said: Path | None,
    aligned: Path | None,
    model: Acoustic | None,
    priors: OutputOptions,
    features: FeatureOptions,
    graph: Graph,
) -> Sources:
    """Open the features of a part, and what it is judged by.

    Args:
        place: A data directory, a script file or an archive, or a specifier: of features, or of log-likelihoods without
            a model.
        said: What was said; None for the ``text`` in the data directory, where there is one.
        aligned: Alignments, or None.
        model: Gives logits, or None.
        priors: Where the counts of pdfs are, which default to those of the model's training, and their scale.
        features: Where things are.
        graph: The graph, whose transition model reads the alignments.

    Returns:
        The sources.
    """
    if said is None and Path(place, "text").exists():
        said = Path(place, "text")
    scaled = None
    if model is not None:
        counts = model.read_counts(priors.class_frame_counts or model.stored_counts)
        if counts is not None:
            scaled = np.float32(priors.prior_scale) * log_priors(counts, floor=priors.prior_floor)
    text = None if said is None else file_of(said)
    return Sources(
        Utterances(place, features, front=None if model is None else model.front),
        model,
        scaled,
        None if text is None else read_table(text),
        None if aligned is None else find_alignments(file_of(aligned), graph.transitions),
        find_speakers(features.utt2spk, beside=[place, text]),
    )


def find_alignments(path: Path, transitions: TransitionModel) -> dict[str, NDArray[np.int32]]:
    """Read the alignments of a folder, or of one archive, as pdfs.

    Args:
        path: A folder with ``ali.1.gz`` and so on, or one such file.
        transitions: What the transition ids stand for.

    Returns:
        The pdf of each frame, by utterance.

    Raises:
        FormatError: If there is none, or one is damaged.
    """
    files = sorted(path.glob("ali.*.gz")) if path.is_dir() else [path]
    if not files:
        raise FormatError(path, "holds no alignments: ali.1.gz and so on are looked for")
    return {
        key: transitions.pdfs(ids, name=f"{file}: {key}")
        for file in files
        for key, ids in read_alignments(file)
        if len(ids)
    }
