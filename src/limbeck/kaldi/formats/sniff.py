"""Format detection of files and folders, from their magic bytes and never by name."""

__all__ = ["FileKind", "identify", "identify_entry", "identify_stream"]

import os
import re
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Literal

from limbeck.errors import FormatError
from limbeck.formats._bounded import open_regular
from limbeck.kaldi.formats.nnet1_components import NOT_RUN
from limbeck.kaldi.formats.nnet1_more import ALL_TAGS
from limbeck.kaldi.formats.scp import ScpEntry, lookup_folders
from limbeck.kaldi.formats.stream import KaldiStream
from limbeck.kaldi.formats.table import open_stream

FileKind = Literal[
    "nnet1 binary",
    "nnet1 text",
    "nnet1 legacy",
    "nnet3",
    "nnet3 model",
    "hdf5",
    "safetensors",
    "run",
    "ensemble",
    "store",
    "data directory",
    "matrices",
    "vectors",
    "integers",
    "posteriors",
    "scp",
    "transition model",
    "counts",
    "fst",
    "graphs",
    "lattices",
    "matrix",
    "topology",
    "tree",
    "words",
]

_HDF5 = b"\x89HDF\r\n\x1a\n"
_FST = b"\xd6\xfd\xb2\x7e"
_OBJECTS: dict[bytes, FileKind] = {b"FM": "matrices", b"DM": "matrices", b"CM": "matrices",
                                   b"FV": "vectors", b"DV": "vectors"}  # fmt: skip
_SCP = re.compile(rb"[^\s\[]*(?:/|\.|:\d)[^\[]*|.*\|\s*")
_LATTICE = re.compile(rb"\n\d+[\t ]+(?:\d+[\t ]+\d+[\t ]+)?[-+.\de]+,[-+.\de]+,[\d_]*\n")
_RANGE = re.compile(rb"\S.*\[[0-9:,]*\]|\S.*:[0-9]+\[.*", re.DOTALL)  # after an offset a malformed one too
_LONGEST_LINE = 1 << 12


def identify(path: str | PathLike[str]) -> FileKind:
    r"""Detect the format of a file or folder.

    Args:
        path: The file or folder.

    Returns:
        Its kind; ``"nnet1 legacy"`` is the older text dialect, without ``<Nnet>``.

    Raises:
        FormatError: If it cannot be read, or is of no known kind.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp(), "final.nnet")
        >>> _ = file.write_text("<Nnet> \n<Sigmoid> 2 2 \n</Nnet> \n")
        >>> identify(file)
        'nnet1 text'
    """
    where = Path(path)
    if where.is_dir():
        return _identify_folder(where)
    with open_stream(path) as stream:
        return identify_stream(stream, lookup_folders(path))


def identify_stream(stream: KaldiStream, folders: Sequence[Path] = (Path(),)) -> FileKind:
    """Detect the format of an open file by peeking; only white space is consumed.

    Args:
        stream: At its first byte; of a final.mdl more is passed.
        folders: Where the relative paths of a script file are looked for.

    Returns:
        Its kind.

    Raises:
        FormatError: If it is of no known kind.
    """
    if (kind := _identify_stream(stream, folders)) is not None:
        return kind
    raise FormatError(
        stream.name,
        "is of no known kind: no network of nnet1 or nnet3, HDF5, safetensors, Kaldi archive, script file, alignment, "
        "final.mdl, tree, topology, vector of counts, OpenFst graph or table of words; data sets are described by "
        "limbeck data",
    )


def _identify_folder(folder: Path) -> FileKind:
    marks: tuple[tuple[str, FileKind], ...] = (
        ("ensemble.json", "ensemble"),
        ("model/config.json", "run"),
        ("config.json", "run"),
        ("manifest.json", "store"),
        ("feats.scp", "data directory"),
        ("config.toml", "run"),
    )
    for name, kind in marks:
        if (folder / name).exists():
            return kind
    raise FormatError(
        folder,
        "is a folder, and neither a run, a store of soft targets nor a Kaldi data directory; data sets are described "
        "by limbeck data",
    )


def _identify_stream(stream: KaldiStream, folders: Sequence[Path]) -> FileKind | None:
    head = stream.peek(16)
    if not head:
        raise stream.error("an empty file")
    if head.startswith(_HDF5):
        return "hdf5"
    if head.startswith(_FST):
        return "fst"
    if head.startswith(b"\0BContextDe"):
        return "tree"
    if head.startswith((b"\0BFM ", b"\0BDM ", b"\0BCM")):
        return "matrix"
    if head.startswith(b"\0B<"):
        if head[2:].startswith(b"<Transition"):
            return _after_transitions(stream)
        return "nnet3" if head[2:].startswith(b"<Nnet3> ") else "nnet1 binary"
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 1 << 30:
        return "safetensors"
    token = stream.peek_token()
    if token.startswith("<"):
        if token == "<TransitionModel>":
            return _after_transitions(stream)
        if token == "<Nnet3>":
            return "nnet3"
        if token == "<Topology>":
            return "topology"
        if token.lower() == "<nnet>":
            return "nnet1 text"
        if token == "<NnetProto>" or token[1:-1].lower() in ALL_TAGS.keys() | NOT_RUN.keys():
            return "nnet1 legacy"
    if token == "[":
        return "counts"
    return _identify_table(stream, folders)


def _after_transitions(stream: KaldiStream) -> FileKind:
    """Tell a final.mdl with an nnet3 network from others, by what follows its transition model."""
    end, held = b"</TransitionModel>", b""
    while piece := stream.take_some(1 << 16):
        held = held[-len(end) - 16 :] + piece
        place = held.find(end)
        if place >= 0:
            rest = held[place + len(end) :] + stream.peek(16)
            return "nnet3 model" if rest.lstrip().startswith(b"<Nnet3>") else "transition model"
    return "transition model"


def identify_entry(entry: ScpEntry) -> FileKind | None:
    """Detect whether an entry of a script file is a lattice or a graph.

    Args:
        entry: The entry.

    Returns:
        "lattices" or "graphs"; None for anything else, a command and a file that cannot be read.
    """
    if entry.is_pipe:
        return None
    try:
        with open_regular(entry.source) as (file, _):
            file.seek(entry.offset or 0)
            return _identify_fst(file.read(_LONGEST_LINE))
    except FormatError:
        return None


def _identify_fst(head: bytes) -> FileKind | None:
    if head.startswith(_FST):
        return "lattices" if b"compactlattice" in head[:64] else "graphs"
    return "lattices" if _LATTICE.match(head) else None


def _identify_table(stream: KaldiStream, folders: Sequence[Path]) -> FileKind | None:
    """Tell a script file or an archive by what follows its first key."""
    stream.skip_space()
    line = stream.peek(_LONGEST_LINE)
    parts = re.fullmatch(rb"([^\s\0]+)[ \t](.*)", line, re.DOTALL)
    if parts is None:
        return None
    rest = parts[2]
    if (kind := _identify_fst(rest)) is not None:
        return kind
    if rest.startswith(b"\0B\4"):
        return "posteriors" if _are_pairs(rest[2:]) else "integers"
    if rest.startswith(b"\0B"):
        return next((kind for mark, kind in _OBJECTS.items() if rest[2:].startswith(mark)), None)
    first = rest.split(b"\n", 1)[0]
    if first.lstrip().startswith(b"["):
        one_line = b"]" in first
        if b"] [" in first:
            return "posteriors"
        return "vectors" if one_line else "matrices"
    if all(re.fullmatch(rb"-?\d+", word) for word in first.split()):
        return "integers"
    if _is_place(first.strip(), folders):
        return "scp"
    return "words" if first.isascii() and first.decode().strip().isprintable() else None


def _is_place(line: bytes, folders: Sequence[Path]) -> bool:
    """Whether this is where an object is: with a range, by the look of it, or as the name of a file that is there."""
    if _RANGE.fullmatch(line) or _SCP.fullmatch(line):
        return True
    name = os.fsdecode(line)
    return len(line.split()) == 1 and any(os.path.isfile(folder / name) for folder in folders)


def _are_pairs(rest: bytes) -> bool:
    # The third number of a Posterior is a float: above 1e-9 its bits are larger than any transition id.
    third = rest[16:20]
    return rest[15:16] == b"\4" and len(third) == 4 and int.from_bytes(third, "little") > 0x30000000
