"""One shard: a safetensors file whose header seals itself and names the checksums of its arrays.

The header takes the first 4096 bytes, padded with spaces as the format allows, so the arrays begin at a page and a
shard's bytes can be written before its checksums are known. Its metadata::

    format   limbeck.softtargets 1
    plan     SHA-256 of the manifest without its list of shards: a shard of another store is refused
    shard    its number; the first row follows from it
    sums     what the fidelity card is added up from
    <name>   SHA-256 of each array
    seal     SHA-256 of the header, with zeros in this place

Axes: ``N`` rows.
"""

__all__ = ["HEADER_BYTES", "Header", "Layout", "build_header", "read_header", "shard_name"]

import hashlib
import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from limbeck.errors import FormatError
from limbeck.softtargets.encodings import Field

HEADER_BYTES = 4096
_FORMAT = "limbeck.softtargets 1"
_NO_SEAL = "0" * 64
_KINDS = {"<f4": "F32", "<f2": "F16", "u1": "U8", "i1": "I8", "<u2": "U16", "<u4": "U32", "<i8": "I64"}


def shard_name(number: int) -> str:
    """File name of a shard.

    Args:
        number: From 0.

    Returns:
        The name.

    Example:
        >>> shard_name(3)
        'shard-00003.safetensors'
    """
    return f"shard-{number:05d}.safetensors"


@dataclass(frozen=True)
class Layout:
    """Where the arrays of a shard lie.

    Attributes:
        fields: The arrays, widest type first.
        rows: How many rows N.

    Example:
        >>> layout = Layout((Field("scores", "<f2", 10),), rows=3)
        >>> layout.offset("scores"), layout.size
        (4096, 4156)
    """

    fields: tuple[Field, ...]
    rows: int

    def offset(self, name: str) -> int:
        """Where an array begins in the file, bytes."""
        place = HEADER_BYTES
        for field in self.fields:
            if field.name == name:
                return place
            place += field.row_bytes * self.rows
        raise KeyError(name)

    @property
    def size(self) -> int:
        """Size of the file, bytes."""
        return HEADER_BYTES + self.rows * sum(field.row_bytes for field in self.fields)


def build_header(
    layout: Layout, *, plan: str, number: int, sums: Sequence[float], checksums: Mapping[str, str]
) -> tuple[bytes, str]:
    """The first 4096 bytes of a shard.

    Args:
        layout: Its arrays.
        plan: Digest of the plan it belongs to.
        number: Which shard.
        sums: What the card is added up from.
        checksums: SHA-256 of each array.

    Returns:
        The bytes, and their seal.
    """
    blank = _render(layout, plan, number, sums, checksums, _NO_SEAL)
    seal = hashlib.sha256(blank).hexdigest()
    return _render(layout, plan, number, sums, checksums, seal), seal


def _render(
    layout: Layout, plan: str, number: int, sums: Sequence[float], checksums: Mapping[str, str], seal: str
) -> bytes:
    metadata = {"format": _FORMAT, "plan": plan, "shard": str(number), "sums": json.dumps(list(sums))}
    metadata |= {field.name: checksums[field.name] for field in layout.fields} | {"seal": seal}
    described: dict[str, Any] = {"__metadata__": metadata}
    for field in layout.fields:
        start = layout.offset(field.name) - HEADER_BYTES
        described[field.name] = {
            "dtype": _KINDS[field.dtype],
            "shape": [layout.rows, field.width],
            "data_offsets": [start, start + layout.rows * field.row_bytes],
        }
    text = json.dumps(described, separators=(",", ":")).encode()
    room = HEADER_BYTES - 8
    assert len(text) <= room, "a header has few and short entries"
    return struct.pack("<Q", room) + text.ljust(room)


@dataclass(frozen=True)
class Header:
    """What a shard's header says beyond its layout.

    Attributes:
        sums: What the card is added up from.
        checksums: SHA-256 of each array.
        seal: SHA-256 of the header.
    """

    sums: tuple[float, ...]
    checksums: dict[str, str]
    seal: str


def read_header(path: Path, layout: Layout, *, plan: str, number: int, seal: str | None = None) -> Header:
    """Read and check a shard's header and size.

    Every byte is compared with what this layout, plan and number make it.

    Args:
        path: The shard.
        layout: What it must hold.
        plan: Digest of the plan that it must belong to.
        number: Which shard it must be.
        seal: The seal that the manifest lists, where there is one.

    Returns:
        Sums, checksums and seal.

    Raises:
        FormatError: If the file is missing, of another size, corrupt, or of another store or place.
    """
    try:
        with path.open("rb") as file:
            found = file.read(HEADER_BYTES)
            size = file.seek(0, 2)
    except OSError as error:
        raise FormatError(path, f"cannot be read: {error.strerror or error}") from error
    if size != layout.size:
        raise FormatError(path, f"has {size} bytes and should have {layout.size}: write the store again")
    try:
        metadata = json.loads(found[8:])["__metadata__"]
        sums = tuple(float(value) for value in json.loads(metadata["sums"]))
        header = Header(sums, {field.name: str(metadata[field.name]) for field in layout.fields}, metadata["seal"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise FormatError(path, "its header is damaged: write the store again") from error
    if metadata.get("plan") != plan and seal is None:
        raise FormatError(path, f"belongs to the store {metadata.get('plan')}, and not to {plan}")
    expected, true_seal = build_header(layout, plan=plan, number=number, sums=sums, checksums=header.checksums)
    if found != expected or (seal is not None and true_seal != seal):
        raise FormatError(path, "its header is damaged, or is that of another shard: write the store again")
    return header
