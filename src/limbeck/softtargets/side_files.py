"""Files beside the shards: the examples' numbers, and the profile of the tail. Sealed and checked as shards are."""

__all__ = ["check_shard", "check_tail", "index_header", "index_layout", "read_tail", "write_tail"]

import hashlib
from pathlib import Path

import numpy as np

from limbeck.errors import FormatError
from limbeck.softtargets.encodings import Field
from limbeck.softtargets.manifest import Plan
from limbeck.softtargets.shards import Header, Layout, build_header, read_header
from limbeck.softtargets.tail import TailProfile, means_rows
from limbeck.softtargets.topk import tail_of
from limbeck.system.files import replace_bytes

_CHUNK = 4 << 20
_INDEX, _TAIL = -1, -2
"""In the place of a shard's number."""
TAIL = "tail.safetensors"


def check_shard(path: Path, layout: Layout, *, plan: str, number: int) -> Header:
    """Check a shard wholly, header and data.

    Args:
        path: The shard.
        layout: What it must hold.
        plan: Digest of the plan that it must belong to.
        number: Which shard it must be.

    Returns:
        Its header.
    """
    header = read_header(path, layout, plan=plan, number=number)
    check_data(path, layout, header)
    return header


def check_data(path: Path, layout: Layout, header: Header) -> None:
    """Compare a shard's data with the checksums in its header; FormatError names the file."""
    try:
        with path.open("rb", buffering=0) as file:
            for field in layout.fields:
                place, end = (
                    layout.offset(field.name),
                    layout.offset(field.name) + layout.rows * field.row_bytes,
                )
                digest = hashlib.sha256()
                file.seek(place)
                while place < end:
                    piece = file.read(min(_CHUNK, end - place))
                    if not piece:
                        raise FormatError(path, "ends too early", offset=place)
                    digest.update(piece)
                    place += len(piece)
                if digest.hexdigest() != header.checksums[field.name]:
                    raise FormatError(
                        path, f"its array {field.name} does not match its checksum: write the store again"
                    )
    except OSError as error:
        raise FormatError(path, f"cannot be read: {error.strerror or error}") from error


def index_layout(plan: Plan) -> Layout:
    """Where the examples' numbers lie in ``index.safetensors``."""
    return Layout((Field("index", "<i8", 1),), plan.examples)


def index_header(plan: Plan) -> bytes:
    """The header of ``index.safetensors``."""
    checksums = {"index": plan.index or ""}
    return build_header(index_layout(plan), plan=plan.digest, number=_INDEX, sums=(), checksums=checksums)[0]


def _tail_layout(plan: Plan) -> Layout:
    """Means and directions, each as one row."""
    classes, codec = len(plan.classes), tail_of(plan.codec)
    assert codec is not None, "only a tail has a profile"
    sizes = {"means": means_rows(classes), "directions": codec.directions(classes)}
    return Layout(tuple(Field(name, "<f4", rows * classes) for name, rows in sizes.items() if rows), 1)


def write_tail(folder: Path, plan: Plan, profile: TailProfile) -> None:
    """Write a profile as ``tail.safetensors``, whole or not at all."""
    arrays = {"means": profile.means.tobytes(), "directions": profile.directions.tobytes()}
    arrays = {name: octets for name, octets in arrays.items() if octets}
    checksums = {name: hashlib.sha256(octets).hexdigest() for name, octets in arrays.items()}
    header, _ = build_header(_tail_layout(plan), plan=plan.digest, number=_TAIL, sums=(), checksums=checksums)
    replace_bytes(folder / TAIL, [header, *arrays.values()])


def check_tail(folder: Path, plan: Plan) -> str:
    """Compare every byte of ``tail.safetensors`` with its checksums, and give its seal."""
    return check_shard(folder / TAIL, _tail_layout(plan), plan=plan.digest, number=_TAIL).seal


def read_tail(folder: Path, plan: Plan, *, seal: str | None = None) -> TailProfile:
    """Read and check a profile.

    Args:
        folder: The store.
        plan: What it holds.
        seal: The seal that the manifest lists, where there is one.

    Returns:
        The profile.

    Raises:
        FormatError: If it is missing or damaged, or belongs to another store.
    """
    path, layout = folder / TAIL, _tail_layout(plan)
    found = check_tail(folder, plan)
    if seal is not None and found != seal:
        raise FormatError(path, "is not the one that the manifest names: write the store again")
    arrays = {
        field.name: np.fromfile(path, field.dtype, field.width, offset=layout.offset(field.name)).reshape(
            -1, len(plan.classes)
        )
        for field in layout.fields
    }
    return TailProfile(arrays["means"], arrays.get("directions", np.zeros((0, len(plan.classes)), np.float32)))
