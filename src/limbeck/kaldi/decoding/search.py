"""The best path of words through a graph, for one utterance or, in several processes, for many.

Axes: ``N`` frames, ``K`` pdfs.
"""

__all__ = ["Found", "search"]

import multiprocessing
import tempfile
import time
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from limbeck.errors import DataError, MismatchError, RunError
from limbeck.kaldi.decoding.graph import Graph, load_fst
from limbeck.kaldi.decoding.lattices import RawLattice, determinise
from limbeck.kaldi.decoding.options import SearchOptions
from limbeck.kaldi.formats.compact_lattice import CompactLattice

Scores = NDArray[np.float32]


class Found(NamedTuple):
    """The result of a search.

    Attributes:
        key: The utterance.
        words: The words of the best path.
        complete: Whether the path ends where the graph may end.
        frames: Frames of the utterance.
        seconds: Processor time of the search.
        lattice: The best path of each sequence of words within the lattice's beam, where lattices are wanted.
    """

    key: str
    words: tuple[str, ...]
    complete: bool
    frames: int
    seconds: float
    lattice: CompactLattice | None = None


def search(
    utterances: Iterable[tuple[str, Scores]],
    graph: Graph,
    *,
    scale: float,
    options: SearchOptions | None = None,
    lattices: bool = False,
) -> Iterator[Found]:
    """Find the words of utterances.

    Args:
        utterances: Keys and log-likelihoods by pdf, ``(N, K)``, up to a constant a frame.
        graph: The graph.
        scale: The log-likelihoods are multiplied by this.
        options: Beam, and how many processes.
        lattices: Whether lattices are wanted, for which the library has a slower search without ``max_active``.

    Yields:
        What was found, in the order of the utterances.

    Raises:
        RunError: If a process dies.
        DataError: If scaled log-likelihoods are not finite.
    """  # noqa: DOC502
    chosen = SearchOptions() if options is None else options
    if chosen.jobs == 1:
        decoder = _Decoder(graph, chosen, lattices=lattices)
        for key, scores in utterances:
            yield decoder.find(key, scores, scale)
        return
    # Fresh processes: a fork would copy whatever threads hold at that moment.
    context = multiprocessing.get_context("spawn")
    waiting: deque[Future[Found]] = deque()
    with ProcessPoolExecutor(chosen.jobs, context, _start, (graph, chosen, lattices)) as pool:
        try:
            for key, scores in utterances:
                waiting.append(pool.submit(_find, key, scores, scale))
                while len(waiting) > 2 * chosen.jobs:  # so many score matrices are in memory at once
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except BrokenProcessPool as error:
            raise RunError("a decoding process died, perhaps for want of memory: use fewer --jobs") from error
        finally:
            for future in waiting:
                future.cancel()


class _Decoder:
    def __init__(self, graph: Graph, options: SearchOptions, *, lattices: bool = False) -> None:
        self.graph, self.fst = graph, load_fst(graph)
        self.options, self.lattices = options, lattices

    def find(self, key: str, scores: Scores, scale: float) -> Found:
        import kaldi_decoder
        import kaldifst

        if scores.ndim != 2 or scores.shape[1] != self.graph.transitions.pdf_count:
            raise MismatchError(
                f"{key} has scores of shape {scores.shape}, and the transition model has "
                f"{self.graph.transitions.pdf_count} pdfs"
            )
        start = time.process_time()
        # The decoder reads column `label - 1`, and a label is a transition id.
        with np.errstate(over="ignore", invalid="ignore"):
            by_transition = (scores * np.float32(scale))[:, self.graph.columns]
        if not np.isfinite(by_transition).all():
            raise DataError(f"{key}: log-likelihoods times the acoustic scale {scale:g} are not finite numbers")
        decoder = self._decoder(kaldi_decoder)
        decoder.decode(kaldi_decoder.DecodableCtc(np.ascontiguousarray(by_transition)))
        complete = bool(np.isfinite(decoder.final_relative_cost()) if self.lattices else decoder.reached_final())
        found, best = decoder.get_best_path(use_final_probs=complete)
        labels: list[int] = kaldifst.get_linear_symbol_sequence(best)[2] if found else []
        words = tuple(self.graph.words.get(label, f"<{label}>") for label in labels)
        lattice = None
        if self.lattices and found:
            raw = _written(decoder.get_raw_lattice(use_final_probs=complete)[1])
            lattice = determinise(RawLattice.parse(raw), beam=self.options.lattice_beam, scale=scale)
        return Found(key, words, complete, len(scores), time.process_time() - start, lattice)

    def _decoder(self, library: Any) -> Any:
        """A decoder of the library for one utterance."""
        options = self.options
        if self.lattices:
            settings = library.LatticeSimpleDecoderConfig(beam=options.beam, lattice_beam=options.lattice_beam)
            return library.LatticeSimpleDecoder(self.fst, settings)
        settings = library.FasterDecoderOptions(beam=options.beam, max_active=options.max_active)
        return library.FasterDecoder(self.fst, settings)


def _written(lattice: Any) -> bytes:
    """A lattice of the library as bytes: it gives no other way to its arcs."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "lattice")
        lattice.write(str(path))
        return path.read_bytes()


_worker: Any = None  # the decoder of a process of the pool


def _start(graph: Graph, options: SearchOptions, lattices: bool) -> None:
    global _worker
    _worker = _Decoder(graph, options, lattices=lattices)


def _find(key: str, scores: Scores, scale: float) -> Found:
    found: Found = _worker.find(key, scores, scale)
    return found
