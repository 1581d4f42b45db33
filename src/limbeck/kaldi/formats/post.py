"""Kaldi's ``Posterior``: for each frame of an utterance a few pdfs with their probabilities.

Binary, an object is the number of frames, then for each frame the number of its pairs and the pairs, every number with
a byte before it that holds its size, 4. As text it is ``[ 7 0.75 12 0.25 ] [ 7 1 ]`` on one line.

Axes: ``M`` pairs of an utterance, ``N`` frames, ``K`` pdfs.
"""

__all__ = ["PAIR", "dense_posteriors", "posterior_bytes", "read_posterior", "sparse_posteriors"]

import struct

import numpy as np
from numpy.typing import NDArray

from limbeck.errors import DataError
from limbeck.kaldi.formats.numbers import parse_float32
from limbeck.kaldi.formats.stream import KaldiStream

PAIR = np.dtype([("frame", "<i4"), ("pdf", "<i4"), ("value", "<f4")])
"""A pdf of a frame, as posteriors are held in memory."""
_PACKED = np.dtype([("size1", "u1"), ("pdf", "<i4"), ("size2", "u1"), ("value", "<f4")])
_MOST_FRAMES = 1 << 26
_LONGEST_TEXT = 1 << 28


def read_posterior(stream: KaldiStream, *, what: str = "posterior") -> NDArray[np.void]:
    """Read one object, whose header was passed.

    Args:
        stream: In the mode of the object.
        what: Name for the errors.

    Returns:
        The pairs in order, of dtype :data:`PAIR`, ``(M,)``.

    Raises:
        FormatError: If it is malformed or truncated, a frame has no pdf, or a value is not a probability.
    """
    rows = _read_binary(stream, what) if stream.binary else _read_text(stream, what)
    pairs = np.concatenate(rows) if rows else np.empty(0, PAIR)
    wrong = ~(np.isfinite(pairs["value"]) & (pairs["value"] >= 0)) | (pairs["pdf"] < 0)
    if wrong.any():
        first = pairs[int(wrong.argmax())]
        raise stream.error(
            f"{what}: frame {first['frame']} gives the pdf {first['pdf']} the probability {first['value']:g}"
        )
    return pairs


def _read_binary(stream: KaldiStream, what: str) -> list[NDArray[np.void]]:
    start = stream.offset
    frames = stream.int32(f"number of frames of {what}")
    if not 0 <= frames <= _MOST_FRAMES:
        raise stream.error(f"{what} has {frames} frames", offset=start)
    rows = []
    for frame in range(frames):
        start = stream.offset
        count = stream.int32(f"frame {frame} of {what}")
        if count < 1:
            raise stream.error(f"{what}: frame {frame} has {count} pdfs, where at least one is needed", offset=start)
        packed = stream.array("u1", count * _PACKED.itemsize, f"frame {frame} of {what}").view(_PACKED)
        if ((packed["size1"] != 4) | (packed["size2"] != 4)).any():
            raise stream.error(f"{what}: frame {frame} holds numbers of another size than 4 bytes", offset=start)
        rows.append(_row(frame, packed["pdf"], packed["value"]))
    return rows


def _read_text(stream: KaldiStream, what: str) -> list[NDArray[np.void]]:
    start = stream.offset
    chunks, size = [], 0
    for chunk, offset in stream.until(b"\n", what):
        chunks.append(chunk)
        size += len(chunk)
        if size > _LONGEST_TEXT:
            raise stream.error(f"{what} has more than {_LONGEST_TEXT} bytes of text", offset=offset)
    line = b"".join(chunks)
    rows = []
    for frame, part in enumerate(line.split(b"]")[:-1]):
        words = part.split()
        numbers = words[1:]
        values = [parse_float32(word) for word in numbers[1::2]]
        if (
            words[:1] != [b"["]
            or not numbers
            or len(numbers) % 2
            or not all(word.isdigit() and len(word) < 10 for word in numbers[::2])
            or None in values
        ):
            raise stream.error(f"{what}: frame {frame} should be [ pdf probability ... ]", offset=start)
        pdfs = np.array([int(word) for word in numbers[::2]], np.int32)
        rows.append(_row(frame, pdfs, np.array(values, np.float32)))
    if line.split(b"]")[-1].strip():
        raise stream.error(f"{what} should end with ] at the end of its line", offset=start)
    return rows


def _row(frame: int, pdfs: NDArray[np.int32], values: NDArray[np.float32]) -> NDArray[np.void]:
    row = np.empty(len(pdfs), PAIR)
    row["frame"], row["pdf"], row["value"] = frame, pdfs, values
    return row


def posterior_bytes(pairs: NDArray[np.void], *, binary: bool) -> list[bytes]:
    r"""One object as it stands in an archive, without the binary header.

    Args:
        pairs: As from :func:`sparse_posteriors`, frames in order, each at least once, ``(M,)``.
        binary: Binary, or text.

    Returns:
        The bytes, in pieces.

    Raises:
        DataError: If a frame is missing.

    Example:
        >>> pairs = sparse_posteriors(np.array([[0.1, 0.9], [0.5, 0.5]], np.float32), least=0.2)
        >>> b"".join(posterior_bytes(pairs, binary=False))
        b'[ 1 1 ] [ 0 0.5 1 0.5 ] \n'
    """
    frames = int(pairs["frame"][-1]) + 1 if len(pairs) else 0
    counts = np.bincount(pairs["frame"], minlength=frames)
    if (counts == 0).any() or (np.diff(pairs["frame"]) < 0).any():
        raise DataError("each frame of posteriors needs at least one pdf, and frames are in order")
    pieces = [struct.pack("<Bi", 4, frames)] if binary else []
    packed = np.empty(len(pairs), _PACKED)
    packed["size1"] = packed["size2"] = 4
    packed["pdf"], packed["value"] = pairs["pdf"], pairs["value"]
    for row in np.split(packed, np.cumsum(counts)[:-1]) if frames else []:
        if binary:
            pieces.append(struct.pack("<Bi", 4, len(row)) + row.tobytes())
        else:
            pieces.append(b"[ " + b"".join(b"%d %.9g " % (p, v) for p, v in row[["pdf", "value"]].tolist()) + b"] ")
    return pieces if binary else [*pieces, b"\n"]


def sparse_posteriors(posteriors: NDArray[np.float32], *, least: float) -> NDArray[np.void]:
    """Keep the pdfs of a probability, and always the likeliest; each row is scaled to sum to 1 again.

    Args:
        posteriors: Rows that sum to 1, ``(N, K)``.
        least: The smallest probability that is kept.

    Returns:
        The pairs, of dtype :data:`PAIR`, ``(M,)``.

    Example:
        >>> sparse_posteriors(np.array([[0.1, 0.2, 0.6, 0.1]], np.float32), least=0.15)["value"]
        array([0.25, 0.75], dtype=float32)
    """
    kept = posteriors >= least
    kept[np.arange(len(kept)), posteriors.argmax(1)] = True
    pairs = np.empty(int(kept.sum()), PAIR)
    pairs["frame"], pairs["pdf"] = np.nonzero(kept)
    sums = np.where(kept, posteriors, 0).sum(1, dtype=np.float64)
    pairs["value"] = posteriors[kept] / sums[pairs["frame"]]
    return pairs


def dense_posteriors(pairs: NDArray[np.void], pdfs: int) -> NDArray[np.float32]:
    """All probabilities of each frame.

    Args:
        pairs: As from :func:`read_posterior`, ``(M,)``.
        pdfs: K.

    Returns:
        float32 ``(N, K)``; what a frame gives a pdf in several pairs is added up.

    Raises:
        DataError: If a pdf is K or more.
    """
    frames = int(pairs["frame"].max()) + 1 if len(pairs) else 0
    if len(pairs) and (highest := int(pairs["pdf"].max())) >= pdfs:
        raise DataError(f"there is a posterior of the pdf {highest}, and there are {pdfs} pdfs")
    dense = np.zeros((frames, pdfs), np.float32)
    np.add.at(dense, (pairs["frame"], pairs["pdf"]), pairs["value"])
    return dense
