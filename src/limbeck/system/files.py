"""Atomic file writes: to a temporary file, flushed to the disk, then renamed."""

__all__ = [
    "digest_bytes",
    "make_beside",
    "make_folder",
    "metadata_in_order",
    "open_beside",
    "put_in_place",
    "read_json",
    "read_toml",
    "render_json",
    "replace_bytes",
    "replace_json",
    "replace_text",
    "seal_files",
    "sync_folder",
    "unseal_files",
    "why",
]

import contextlib
import errno
import hashlib
import json
import os
import secrets
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from limbeck.errors import FormatError, NonFiniteError, RunError
from limbeck.system.checksums import SUMS, digest_file, read_checked, read_sums, render_sums
from limbeck.system.utf8 import not_utf8

_DEEPEST = 500
"""Parts of a path: beyond about a thousand Python's own functions on folders give up."""


def replace_bytes(path: Path, content: bytes | Iterable[bytes | memoryview]) -> None:
    """Write a file so that at any moment either the old or the new content is there, whole.

    Args:
        path: The file; its folder must exist.
        content: The bytes, or pieces of them in order.

    Raises:
        RunError: If the disk is full, or the folder is missing or read-only; the old file is then as it was.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> replace_bytes(folder / "a.txt", b"one")
        >>> (folder / "a.txt").read_bytes()
        b'one'
    """
    temporary: Path | None = None
    try:
        handle, temporary = open_beside(path)
        with os.fdopen(handle, "wb") as file:
            for piece in (content,) if isinstance(content, bytes) else content:
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
        put_in_place(temporary, path)
        temporary = None
    except OSError as error:
        raise RunError(f"cannot write {path}: {why(error)}") from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def open_beside(path: Path) -> tuple[int, Path]:
    """A new file beside another, for what will replace it: with the permissions that the user's umask leaves.

    Args:
        path: The file to be replaced.

    Returns:
        A descriptor open for reading and writing, and the new file's path.

    Raises:
        OSError: If it cannot be made.
    """  # noqa: DOC502
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    return os.open(temporary, flags, 0o666), temporary


def put_in_place(temporary: Path, path: Path) -> None:
    """Replace a file by one that was written beside it; permissions that it had are kept.

    Args:
        temporary: What was written, and flushed to the disk.
        path: The file to be replaced.

    Raises:
        OSError: If it cannot be done.
    """  # noqa: DOC502
    with contextlib.suppress(OSError):  # no file there yet, or a file system without permissions
        os.chmod(temporary, path.stat().st_mode & 0o777)
    os.replace(temporary, path)
    sync_folder(path.parent)


def make_beside(path: Path) -> Path:
    """A new folder beside one that it will become, with the permissions that the user's umask leaves.

    Args:
        path: What it will become.

    Returns:
        The new folder.

    Raises:
        OSError: If it cannot be made.
    """  # noqa: DOC502
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
    fresh.mkdir()
    return fresh


def why(error: OSError) -> str:
    """The system's reason, with the cure where it is a full disk.

    Args:
        error: What the system raised.

    Returns:
        A few words.

    Example:
        >>> why(OSError(errno.ENOSPC, "No space left on device"))
        'No space left on device: make room on the disk, and try again'
    """
    reason = error.strerror or str(error)
    full = error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
    return f"{reason}: make room on the disk, and try again" if full else reason


def make_folder(path: Path) -> Path:
    """Make a folder, and those above it, where they are missing.

    Args:
        path: The folder.

    Returns:
        The folder.

    Raises:
        RunError: If it cannot be made.
    """
    if len(path.parts) > _DEEPEST:
        raise RunError(f"cannot make the folder {path}: it has {len(path.parts)} parts: choose a shorter path")
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"cannot make the folder {path}: {why(error)}") from error
    return path


def sync_folder(folder: Path) -> None:
    """Have the disk hold what a folder's files are called, where the system can.

    Args:
        folder: The folder.

    Raises:
        OSError: If the disk is full or fails.
    """
    handle = -1
    try:
        handle = os.open(folder, os.O_RDONLY)
        os.fsync(handle)
    except OSError as error:
        # Windows opens no folders, and some network file systems do not flush them: the names are kept all the same.
        if error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EIO}:
            raise
    finally:
        if handle >= 0:
            os.close(handle)


def replace_text(path: Path, text: str) -> None:
    """Write text as UTF-8, as :func:`replace_bytes` does.

    Args:
        path: The file; its folder must exist.
        text: What it will hold.

    Raises:
        RunError: If the text holds a name of a file that is no UTF-8.
    """
    try:
        content = text.encode()
    except UnicodeEncodeError as error:
        odd = ascii(text[max(0, error.start - 20) : error.end])
        raise RunError(f"cannot write {path}: a name in it is not valid text ({odd}): rename it") from error
    replace_bytes(path, content)


def replace_json(path: Path, value: object) -> None:
    """Write a value as indented JSON, as :func:`replace_bytes` does.

    Args:
        path: The file; its folder must exist.
        value: Plain values.

    Raises:
        NonFiniteError: If a number is NaN or infinite: JSON has none.
    """  # noqa: DOC502
    replace_text(path, render_json(path, value))


def render_json(path: Path, value: object) -> str:
    """A value as the indented JSON that :func:`replace_json` writes.

    Args:
        path: Where it will be, for messages.
        value: Plain values.

    Returns:
        The text.

    Raises:
        NonFiniteError: If a number is NaN or infinite: JSON has none.
    """
    try:
        return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    except ValueError as error:
        raise NonFiniteError(
            f"{path} would hold a NaN or infinite number: a smaller learning rate may cure that"
        ) from error


def read_json(path: Path) -> Any:
    """Read a JSON file, and compare it with the digest that its folder lists, if it does.

    Args:
        path: The file.

    Returns:
        Its content as plain Python values.

    Raises:
        FormatError: If it is missing, unreadable, not JSON, or does not match its digest.
    """
    try:
        return json.loads(read_checked(path))
    except OSError as error:
        raise FormatError(path, f"cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:  # ValueError: no UTF-8, no JSON, or a number of a million digits
        raise FormatError(path, f"is not valid JSON: {error}") from error


def seal_files(folder: Path, names: Iterable[str]) -> None:
    """List the digests of files in ``SHA256SUMS``: they are whole, and change no more.

    Args:
        folder: The folder, whose list keeps what else it holds.
        names: Paths from the folder; those that are not there are left out, and taken off the list.

    Raises:
        RunError: If the list cannot be written.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> replace_text(folder / "a.txt", "one")
        >>> seal_files(folder, ["a.txt", "b.txt"])
        >>> print((folder / "SHA256SUMS").read_text())
        7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed  a.txt
        <BLANKLINE>
    """
    wanted = frozenset(names)
    kept = {name: digest for name, digest in (read_sums(folder) or {}).items() if name not in wanted}
    there = {name: digest_file(folder / name) for name in wanted if (folder / name).exists()}
    _write_sums(folder, {**kept, **there})


def unseal_files(folder: Path, names: Iterable[str]) -> None:
    """Take files off the list in ``SHA256SUMS`` before they are written anew; the list is made where there is none.

    Args:
        folder: The folder.
        names: Paths from the folder.

    Raises:
        RunError: If the list cannot be written.
    """
    dropped = frozenset(names)
    _write_sums(folder, {name: digest for name, digest in (read_sums(folder) or {}).items() if name not in dropped})


def _write_sums(folder: Path, sums: Mapping[str, str]) -> None:
    if read_sums(folder) != sums:
        replace_text(folder / SUMS, render_sums(sums))


_LARGEST_TOML = 1 << 16
"""Bytes: a table with a name of many parts takes the parser time that grows with the square of its length."""


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file of settings, and compare it with the digest that its folder lists, if it does.

    Args:
        path: The file.

    Returns:
        Its content as plain Python values.

    Raises:
        FormatError: If it is missing, unreadable, not TOML, far larger than settings are, or does not match its digest.
    """  # noqa: DOC501
    try:
        if path.stat().st_size > _LARGEST_TOML:
            raise FormatError(path, f"has more than {_LARGEST_TOML:,} bytes: these are no settings")
        content = read_checked(path)
    except OSError as error:
        raise FormatError(path, f"cannot be read: {error.strerror or error}") from error
    try:
        return tomllib.loads(content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise not_utf8(path) from error
    except (ValueError, RecursionError) as error:  # ValueError: no TOML, or a number of a million digits
        raise FormatError(path, f"is not valid TOML: {error}") from error


def metadata_in_order(content: bytes) -> list[bytes | memoryview]:
    """A safetensors file with its metadata sorted: the library writes several entries in another order each time.

    Args:
        content: The file.

    Returns:
        Pieces of the file that holds the same, in order.
    """
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    octets = json.dumps(header, separators=(",", ":")).encode()
    octets += b" " * (-len(octets) % 8)
    return [len(octets).to_bytes(8, "little"), octets, memoryview(content)[8 + length :]]


def digest_bytes(pieces: Iterable[bytes | memoryview]) -> str:
    """SHA-256 of pieces of bytes in order, in hexadecimal.

    Args:
        pieces: Bytes, in order.

    Returns:
        64 digits.

    Example:
        >>> digest_bytes([b"lim", b"beck"])[:16]
        '2dec6fe0333daa6b'
    """
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece)
    return digest.hexdigest()
