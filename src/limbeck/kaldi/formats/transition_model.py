"""The transition model at the start of Kaldi's ``final.mdl``: from transition ids to pdf ids and phones.

The file holds a topology (for each phone the states of its HMM and their transitions), then tuples of phone,
HMM state and pdf; transition ids count the transitions of each tuple's state in order, from 1. What follows
(probabilities, Gaussians or a network) is not read.
"""

__all__ = ["TransitionModel", "read_alignments", "read_topology", "read_transition_model"]

from collections.abc import Iterator
from dataclasses import dataclass
from os import PathLike

import numpy as np
from numpy.typing import NDArray

from limbeck.errors import MismatchError
from limbeck.kaldi.formats.matrix import read_int_vector
from limbeck.kaldi.formats.stream import KaldiStream
from limbeck.kaldi.formats.table import open_stream, read_ark

_MOST_STATES = 1 << 12  # of a phone, and transitions of a state: a topology has three to five
_MOST_IDS = 1 << 24
_LEAVES = np.uint64(63)

# A state: the pdf class of its forward transitions, that of its self loop, and where its transitions go.
_State = tuple[int, int, list[int]]


@dataclass(frozen=True, eq=False)
class TransitionModel:
    """What each transition id stands for; index 0 is not a transition id and is -1.

    Attributes:
        tid_to_pdf: Pdf id from 0, int32 ``(transition ids + 1,)``.
        tid_to_phone: Phone id from 1, int32 ``(transition ids + 1,)``.
        pdf_count: One more than the largest pdf id.
        tid_to_state: HMM state from 0, int32 ``(transition ids + 1,)``.
        tid_to_next: The states of the same phone that may follow that state, as bits; bit 63 where the phone may end.
    """

    tid_to_pdf: NDArray[np.int32]
    tid_to_phone: NDArray[np.int32]
    pdf_count: int
    tid_to_state: NDArray[np.int32]
    tid_to_next: NDArray[np.uint64]

    @property
    def transition_count(self) -> int:
        """The largest transition id."""
        return len(self.tid_to_pdf) - 1

    def pdfs(self, alignment: NDArray[np.int32], *, name: str = "alignment") -> NDArray[np.int32]:
        """Turn an alignment into pdf ids.

        Args:
            alignment: Transition ids, ``(frames,)``.
            name: Named in errors.

        Returns:
            Pdf ids from 0, int32 ``(frames,)``.

        Raises:
            MismatchError: If an id is not one of this model's, or they follow each other as no HMM of this model
                could, so that the alignment belongs to another.
        """
        if alignment.size and not 1 <= int(alignment.min()) <= int(alignment.max()) <= self.transition_count:
            raise MismatchError(
                f"{name} holds transition ids from {alignment.min()} to {alignment.max()}, and the "
                f"transition model has 1 to {self.transition_count}: it was made with another final.mdl"
            )
        if (wrong := self._first_impossible(alignment)) is not None:
            raise MismatchError(
                f"{name} goes from transition id {alignment[wrong]} to {alignment[wrong + 1]} in frame {wrong + 1}, "
                "which no HMM of the transition model does: it was made with another final.mdl"
            )
        return self.tid_to_pdf[alignment]

    def _first_impossible(self, alignment: NDArray[np.int32]) -> int | None:
        """The first frame whose successor is in a state that cannot follow; self loops may be first or last."""
        phones, states, following = (
            table[alignment] for table in (self.tid_to_phone, self.tid_to_state, self.tid_to_next)
        )
        same = phones[1:] == phones[:-1]
        within = same & ((following[:-1] >> states[1:].astype(np.uint64)) & np.uint64(1)).astype(bool)
        stays = same & (states[1:] == states[:-1])
        anew = (following[:-1] >> _LEAVES).astype(bool) & (states[1:] == 0)
        wrong = np.flatnonzero(~(within | stays | anew))
        return int(wrong[0]) if wrong.size else None


def read_transition_model(path: str | PathLike[str]) -> TransitionModel:
    """Read the transition model of a ``final.mdl``, binary or text.

    Args:
        path: The model.

    Returns:
        The transition model.

    Raises:
        FormatError: If it is malformed, truncated, or of a topology that Kaldi no longer reads.
    """
    with open_stream(path) as stream:
        if stream.peek() == b"\0":
            if stream.take(2, "header") != b"\0B":
                raise stream.error("a Kaldi binary file starts with a zero byte and 'B'", offset=0)
            stream.binary = True
        stream.expect("<TransitionModel>")
        stream.expect("<Topology>")
        read = _read_binary_topology if stream.binary else _read_text_topology
        topology = read(stream)
        return _read_tuples(stream, topology)


def read_topology(path: str | PathLike[str]) -> dict[int, int]:
    """Read a topology in text, as ``topo`` in a lang directory.

    Args:
        path: The file.

    Returns:
        How many HMM states each phone has.

    Raises:
        FormatError: If it is malformed or truncated.
    """
    with open_stream(path) as stream:
        stream.expect("<Topology>")
        return {phone: len(states) for phone, states in _read_text_topology(stream).items()}


def read_alignments(path: str | PathLike[str]) -> Iterator[tuple[str, NDArray[np.int32]]]:
    """Read alignments, as in ``ali.1.gz``: an archive of integer vectors, gzipped or not, binary or text.

    Args:
        path: The archive.

    Yields:
        The utterance and its transition ids, int32 ``(frames,)``.

    Raises:
        FormatError: If it is malformed or truncated.
    """
    yield from read_ark(path, "integers")


def _read_tuples(stream: KaldiStream, topology: dict[int, list[_State]]) -> TransitionModel:
    token = stream.expect("<Triples>", "<Tuples>")
    fields = 3 if token == "<Triples>" else 4
    start = stream.offset
    size = stream.int32("number of tuples")
    if size < 1:
        raise stream.error(f"the number of tuples is {size}", offset=start)
    pdfs, phones, places, following = [-1], [-1], [-1], [0]
    for _ in range(size):  # each takes bytes of the file, so a size that lies ends at the file's end
        start = stream.offset
        values = [stream.int32(name) for name in ("phone", "HMM state", "pdf", "self-loop pdf")[:fields]]
        phone, state, forward, loop = (*values, values[-1])[:4]
        states = topology.get(phone)
        if states is None or not 0 <= state < len(states):
            raise stream.error(f"a tuple of phone {phone} and state {state}, which the topology has not", offset=start)
        if min(forward, loop) < 0 or max(forward, loop) >= _MOST_IDS:
            raise stream.error(f"a tuple with the impossible pdf {forward} or {loop}", offset=start)
        targets = states[state][2]
        pdfs += [loop if target == state else forward for target in targets]
        phones += [phone] * len(targets)
        places += [state] * len(targets)
        following += [_bits(states, targets)] * len(targets)
        if len(pdfs) > _MOST_IDS:
            raise stream.error(f"more than {_MOST_IDS} transition ids", offset=start)
    stream.expect(token.replace("<", "</"))
    if len(pdfs) == 1:
        raise stream.error("a transition model without transitions")
    return TransitionModel(
        np.array(pdfs, np.int32),
        np.array(phones, np.int32),
        max(pdfs) + 1,
        np.array(places, np.int32),
        np.array(following, np.uint64),
    )


def _bits(states: list[_State], targets: list[int]) -> int:
    """The states among the targets as bits; a state without transitions is the end of the phone."""
    bits = 0
    for target in targets:
        ends = not 0 <= target < len(states) or not states[target][2]
        bits |= 1 << (int(_LEAVES) if ends else min(target, 62))
    return bits


def _count(stream: KaldiStream, what: str) -> int:
    start = stream.offset
    value = stream.int32(what)
    if not 0 <= value <= _MOST_STATES:
        raise stream.error(f"{what} is {value}, and must be from 0 to {_MOST_STATES}", offset=start)
    return value


def _read_binary_topology(stream: KaldiStream) -> dict[int, list[_State]]:
    phones = read_int_vector(stream, what="phones of the topology")
    phone_to_entry = read_int_vector(stream, what="entries of the phones")
    start = stream.offset
    size = stream.int32("number of topology entries")
    two_classes = size == -1  # forward transitions and self loops have pdf classes of their own
    if two_classes:
        size = stream.int32("number of topology entries")
    if not 0 <= size <= max(1, len(phones)):
        raise stream.error(f"a topology of {size} entries for {len(phones)} phones", offset=start)
    entries = []
    for _ in range(size):
        states: list[_State] = []
        for _ in range(_count(stream, "number of HMM states")):
            forward = stream.int32("pdf class")
            loop = stream.int32("self-loop pdf class") if two_classes else forward
            targets = []
            for _ in range(_count(stream, "number of transitions")):
                targets.append(stream.int32("target state"))
                stream.float32("transition probability")
            states.append((forward, loop, targets))
        entries.append(states)
    stream.expect("</Topology>")
    topology = {}
    for phone in phones.tolist():
        entry = int(phone_to_entry[phone]) if 0 <= phone < len(phone_to_entry) else -1
        if not 0 <= entry < len(entries):
            raise stream.error(f"phone {phone} has no entry in the topology", offset=start)
        topology[phone] = entries[entry]
    return topology


def _read_text_topology(stream: KaldiStream) -> dict[int, list[_State]]:
    topology: dict[int, list[_State]] = {}
    while stream.expect("<TopologyEntry>", "</Topology>") == "<TopologyEntry>":
        stream.expect("<ForPhones>")
        phones = []
        while stream.peek_token() != "</ForPhones>":
            phones.append(stream.int32("phone"))
        stream.expect("</ForPhones>")
        states: list[_State] = []
        while stream.expect("<State>", "</TopologyEntry>") == "<State>":
            states.append(_read_text_state(stream, len(states)))
        for phone in phones:
            topology[phone] = states
    return topology


def _read_text_state(stream: KaldiStream, expected: int) -> _State:
    if stream.int32("state") != expected or expected >= _MOST_STATES:
        raise stream.error(f"the states of a phone should count 0, 1, 2 ..., and {expected} was to come")
    forward = loop = -1
    token = stream.expect("<PdfClass>", "<ForwardPdfClass>", "<Transition>", "</State>")
    if token == "<PdfClass>":
        forward = loop = stream.int32("pdf class")
    elif token == "<ForwardPdfClass>":
        forward = stream.int32("pdf class")
        stream.expect("<SelfLoopPdfClass>")
        loop = stream.int32("self-loop pdf class")
    if token not in ("<Transition>", "</State>"):
        token = stream.expect("<Transition>", "</State>")
    targets = []
    while token == "<Transition>":
        targets.append(stream.int32("target state"))
        stream.float32("transition probability")
        token = stream.expect("<Transition>", "</State>")
    return forward, loop, targets
