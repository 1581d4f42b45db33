"""The transition model before an nnet3 network in a ``final.mdl``, kept whole so that it can be written again.

What it means for alignments is read by :mod:`limbeck.kaldi.formats.transition_model`.
"""

__all__ = ["Transitions", "read_transitions", "transition_bytes"]

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limbeck.kaldi.formats.matrix import int_vector_bytes, read_int_vector, read_vector, vector_bytes
from limbeck.kaldi.formats.stream import KaldiStream
from limbeck.kaldi.nnet3.text import number_text, vector_text

_MOST = 1 << 20
_LARGEST_PHONE = 1 << 20


@dataclass(frozen=True)
class _State:
    """Pdf class of the forward transitions, that of the self loop (None where the topology has one for both)."""

    forward: int
    loop: int | None
    moves: tuple[tuple[int, float], ...]


@dataclass(frozen=True, eq=False)
class Transitions:
    """Topology, tuples and log-probabilities.

    Attributes:
        entries: Phones and states of each entry of the topology.
        extended: Whether self loops have pdf classes of their own.
        tuples: Phone, state and pdf, and for "Tuples" the pdf of the self loop, int32 ``(count, 3 or 4)``.
        log_probs: By transition id; the first is 0.
    """

    entries: tuple[tuple[tuple[int, ...], tuple[_State, ...]], ...]
    extended: bool
    tuples: NDArray[np.int32]
    log_probs: NDArray[np.float32]


def read_transitions(stream: KaldiStream) -> Transitions:
    """Read a transition model.

    Args:
        stream: Before ``<TransitionModel>``, its mode known.

    Returns:
        The transition model.

    Raises:
        FormatError: If it is malformed or cut short.
    """
    stream.expect("<TransitionModel>")
    stream.expect("<Topology>")
    entries, extended = (_binary_topology if stream.binary else _text_topology)(stream)
    fields = 3 if stream.expect("<Triples>", "<Tuples>") == "<Triples>" else 4
    start = stream.offset
    count = stream.int32("number of tuples")
    if not 1 <= count <= _MOST:
        raise stream.error(f"the number of tuples is {count}", offset=start)
    rows = [[stream.int32("a tuple") for _ in range(fields)] for _ in range(count)]
    stream.expect("</Triples>" if fields == 3 else "</Tuples>")
    stream.expect("<LogProbs>")
    log_probs = read_vector(stream, what="log-probabilities of transitions")
    stream.expect("</LogProbs>")
    stream.expect("</TransitionModel>")
    return Transitions(entries, extended, np.array(rows, np.int32), log_probs)


_Entries = tuple[tuple[tuple[int, ...], tuple[_State, ...]], ...]


def _count(stream: KaldiStream, what: str, *, least: int = 0) -> int:
    start = stream.offset
    value = stream.int32(what)
    if not least <= value <= _MOST:
        raise stream.error(f"{what} is {value}", offset=start)
    return value


def _binary_topology(stream: KaldiStream) -> tuple[_Entries, bool]:
    start = stream.offset
    phones = read_int_vector(stream, what="phones of the topology")
    places = read_int_vector(stream, what="entries of phones")
    count = stream.int32("number of entries of the topology")
    extended = count == -1
    if extended:
        count = stream.int32("number of entries of the topology")
    if not 0 <= count <= _MOST or phones.size and not 0 < phones.min() <= phones.max() < places.size:
        raise stream.error("the topology names phones that have no entry", offset=start)
    entries: list[tuple[_State, ...]] = []
    for _ in range(count):
        states = []
        for _ in range(_count(stream, "number of states")):
            forward = stream.int32("pdf class")
            loop = stream.int32("pdf class of the self loop") if extended else None
            moves = [
                (stream.int32("state"), stream.float32("probability"))
                for _ in range(_count(stream, "number of transitions"))
            ]
            states.append(_State(forward, loop, tuple(moves)))
        entries.append(tuple(states))
    stream.expect("</Topology>")
    owners: list[list[int]] = [[] for _ in entries]
    for phone in phones.tolist():
        if not 0 <= places[phone] < count:
            raise stream.error(f"phone {phone} has no entry in the topology", offset=start)
        owners[places[phone]].append(phone)
    return tuple((tuple(mine), states) for mine, states in zip(owners, entries, strict=True)), extended


def _text_topology(stream: KaldiStream) -> tuple[_Entries, bool]:
    found: list[tuple[tuple[int, ...], tuple[_State, ...]]] = []
    extended = False
    while stream.expect("<TopologyEntry>", "</Topology>") == "<TopologyEntry>":
        stream.expect("<ForPhones>")
        phones: list[int] = []
        while stream.peek_token() != "</ForPhones>":
            start = stream.offset
            phones.append(stream.int32("a phone"))
            if not 0 < phones[-1] <= _LARGEST_PHONE:
                raise stream.error(f"a topology entry names phone {phones[-1]}", offset=start)
        stream.expect("</ForPhones>")
        states: list[_State] = []
        while stream.expect("<State>", "</TopologyEntry>") == "<State>":
            stream.int32("number of a state")
            forward, loop, moves = -1, None, []
            while (token := stream.token()) != "</State>":
                if token in ("<PdfClass>", "<ForwardPdfClass>"):
                    forward = stream.int32("pdf class")
                elif token == "<SelfLoopPdfClass>":
                    loop, extended = stream.int32("pdf class of the self loop"), True
                elif token == "<Transition>":
                    moves.append((stream.int32("state"), stream.float32("probability")))
                elif token != "<Final>":
                    raise stream.error(f"found {token!r} in a state of the topology")
            states.append(_State(forward, loop, tuple(moves)))
        found.append((tuple(phones), tuple(states)))
    return tuple(found), extended


def transition_bytes(transitions: Transitions, *, binary: bool) -> list[bytes | memoryview]:
    """Write a transition model as Kaldi does.

    Args:
        transitions: The transition model.
        binary: True for binary.

    Returns:
        The bytes, in pieces.
    """
    line = b"" if binary else b"\n"
    word: Callable[[int], bytes] = _int if binary else lambda value: b"%d " % value
    fields = b"Triples> " if transitions.tuples.shape[1] == 3 else b"Tuples> "
    pieces: list[bytes | memoryview] = [b"<TransitionModel> " + line, b"<Topology> " + line]
    pieces += _binary_entries(transitions) if binary else _text_entries(transitions)
    pieces += [b"</Topology> " + line, b"<" + fields, word(len(transitions.tuples)) + line]
    pieces += [b"".join(map(word, row)) + line for row in transitions.tuples.tolist()]
    pieces += [b"</" + fields + line, b"<LogProbs> " + line]
    pieces += vector_bytes(transitions.log_probs, binary=True) if binary else vector_text(transitions.log_probs)
    return [*pieces, b"</LogProbs> " + line, b"</TransitionModel> " + line]


def _int(value: int) -> bytes:
    return struct.pack("<Bi", 4, value)


def _binary_entries(transitions: Transitions) -> list[Any]:
    owners = {phone: place for place, (phones, _) in enumerate(transitions.entries) for phone in phones}
    phones = np.array(sorted(owners), np.int32)
    places = np.full(int(phones.max(initial=-1)) + 1, -1, np.int32)
    places[phones] = [owners[phone] for phone in phones.tolist()]
    pieces: list[Any] = [*int_vector_bytes(phones, binary=True), *int_vector_bytes(places, binary=True)]
    pieces.append((_int(-1) if transitions.extended else b"") + _int(len(transitions.entries)))
    for _, states in transitions.entries:
        pieces.append(_int(len(states)))
        for state in states:
            pieces.append(_int(state.forward))
            if transitions.extended:
                pieces.append(_int(state.forward if state.loop is None else state.loop))
            pieces.append(_int(len(state.moves)))
            pieces += [_int(target) + struct.pack("<Bf", 4, chance) for target, chance in state.moves]
    return pieces


def _text_entries(transitions: Transitions) -> list[Any]:
    pieces: list[Any] = []
    for phones, states in transitions.entries:
        pieces.append(b"<TopologyEntry> \n<ForPhones> \n" + b"".join(b"%d " % phone for phone in phones))
        pieces.append(b"\n</ForPhones> \n")
        for number, state in enumerate(states):
            text = b"<State> %d " % number
            if state.forward >= 0 and transitions.extended:
                loop = state.forward if state.loop is None else state.loop
                text += b"<ForwardPdfClass> %d <SelfLoopPdfClass> %d " % (state.forward, loop)
            elif state.forward >= 0:
                text += b"<PdfClass> %d " % state.forward
            for target, chance in state.moves:
                text += b"<Transition> %d " % target + number_text(chance, np.float32) + b" "
            pieces.append(text + b"</State> \n")
        pieces.append(b"</TopologyEntry> \n")
    return pieces
