"""Files of nnet3: a raw network, or a ``final.mdl`` with a transition model, the network and priors of pdfs."""

__all__ = ["Nnet3Model", "read_nnet3", "read_nnet3_bytes", "write_nnet3"]

import io
from collections.abc import Iterator
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from limbeck.formats._bounded import open_regular
from limbeck.kaldi.formats.matrix import read_vector, vector_bytes
from limbeck.kaldi.formats.stream import KaldiStream
from limbeck.kaldi.nnet3.network import Nnet3, network_bytes, read_network_body
from limbeck.kaldi.nnet3.text import vector_text
from limbeck.kaldi.nnet3.transitions import Transitions, read_transitions, transition_bytes
from limbeck.system.files import replace_bytes


@dataclass(frozen=True, eq=False)
class Nnet3Model:
    """What a file of nnet3 holds.

    Attributes:
        nnet: The network.
        transitions: The transition model of a ``final.mdl``; None for a raw network.
        priors: Priors of pdfs, or an empty vector.
        context: Frames to the left and right, as the file says; Kaldi works them out anew.
        binary: How the file was written.
    """

    nnet: Nnet3
    transitions: Transitions | None = None
    priors: NDArray[np.float32] | None = None
    context: tuple[int, int] = (0, 0)
    binary: bool = True


def read_nnet3(path: str | PathLike[str]) -> Nnet3Model:
    """Read a raw network or a ``final.mdl``, text or binary, as detected from the magic bytes.

    Args:
        path: The file.

    Returns:
        What it holds.

    Raises:
        FormatError: If it is malformed, truncated, or something follows its end.
    """
    with open_regular(path) as (file, size):
        return _read(KaldiStream(file, str(path), end=size))


def read_nnet3_bytes(data: bytes, name: str = "network") -> Nnet3Model:
    """Read a network that is in memory; see :func:`read_nnet3`.

    Args:
        data: The whole file.
        name: Named in errors.

    Returns:
        What it holds.

    Raises:
        FormatError: As :func:`read_nnet3`.
    """
    return _read(KaldiStream(io.BytesIO(data), name, end=len(data)))


def _read(stream: KaldiStream) -> Nnet3Model:
    stream.skip_byte_order_mark()
    if stream.peek() == b"\0":
        if stream.take(2, "header") != b"\0B":
            raise stream.error("a Kaldi binary file starts with a zero byte and 'B'", offset=0)
        stream.binary = True
    transitions, priors, context = None, None, (0, 0)
    if stream.peek_token().startswith("<T"):
        transitions = read_transitions(stream)
    if not stream.binary:
        stream.skip_space()
    if stream.peek_token() == "<Nnet>":
        raise stream.error(
            "a network of nnet1, and one of nnet3 is wanted: limbeck compress makes those of nnet1 smaller, and "
            "limbeck kaldi nnet1-finetune trains them"
        )
    nnet = read_network_body(stream)
    if transitions is not None:
        stream.expect("<LeftContext>")
        left = stream.int32("left context")
        stream.expect("<RightContext>")
        context = left, stream.int32("right context")
        stream.expect("<Priors>")
        priors = read_vector(stream, what="priors")
    if not stream.binary:
        stream.skip_space()
    if not stream.at_end():
        raise stream.error("bytes follow the end of the network")
    return Nnet3Model(nnet, transitions, priors, context, stream.binary)


def write_nnet3(path: str | PathLike[str], model: Nnet3Model, *, binary: bool | None = None) -> None:
    """Write a raw network or a ``final.mdl``; the file is replaced whole or not at all.

    Args:
        path: The file; its folder must exist.
        model: What it holds.
        binary: True for binary, False for text; None: as it was read.

    Raises:
        DataError: If a value cannot be written in that mode.
        RunError: If the file cannot be written.
    """  # noqa: DOC502
    replace_bytes(Path(path), b"".join(_pieces(model, model.binary if binary is None else binary)))


def _pieces(model: Nnet3Model, binary: bool) -> Iterator[bytes | memoryview]:
    yield b"\0B" if binary else b""
    if model.transitions is not None:
        yield from transition_bytes(model.transitions, binary=binary)
    yield from network_bytes(model.nnet, binary=binary)
    if model.transitions is None:
        return
    for tag, value in zip((b"<LeftContext> ", b"<RightContext> "), model.context, strict=True):
        yield tag + (b"\4" + value.to_bytes(4, "little", signed=True) if binary else b"%d " % value)
    yield b"<Priors> "
    priors = np.empty(0, np.float32) if model.priors is None else model.priors
    yield from vector_bytes(priors, binary=True) if binary else vector_text(priors)
