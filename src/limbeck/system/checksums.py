"""Checksums of the files in a folder, in ``SHA256SUMS``, and verified reading.

The list is that of ``sha256sum``, so anyone can check a folder with ``sha256sum -c SHA256SUMS``. A file that is listed
is whole and has not changed since it was listed; a file that is not listed is still being written, or not ours. Hence a
list is written after the files, and a file is removed from the list before it is rewritten: a kill between any two
steps leaves a folder that can be read.
"""

__all__ = ["SUMS", "check_file", "digest_file", "read_checked", "read_sums", "render_sums", "tell_unlisted"]

import hashlib
import re
import warnings
from collections.abc import Mapping
from pathlib import Path

from limbeck.errors import FormatError, LimbeckWarning

SUMS = "SHA256SUMS"

_LINE = re.compile(r"([0-9a-f]{64})  ([^\s\\][^\n\r\\]*)")
_LARGEST = 1 << 20
"""Bytes: far more than the list of a run's files has."""


def read_sums(folder: Path) -> dict[str, str] | None:
    """The digests that a folder lists.

    Args:
        folder: The folder.

    Returns:
        SHA-256 in hexadecimal by name; None where there is no list.

    Raises:
        FormatError: If the list cannot be read, or is not one of ``sha256sum``.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> _ = (folder / "SHA256SUMS").write_text(render_sums({"a.txt": "0" * 64}))
        >>> list(read_sums(folder)), read_sums(folder / "none")
        (['a.txt'], None)
    """
    path = folder / SUMS
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST + 1)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise FormatError(path, f"cannot be read: {error.strerror or error}") from error
    damaged = f"is damaged: restore {folder} from a copy; without {SUMS} its files are read unchecked"
    if len(content) > _LARGEST or (content and not content.endswith(b"\n")):
        raise FormatError(path, damaged)
    found: dict[str, str] = {}
    for number, line in enumerate(content.decode("utf-8", errors="replace").split("\n")[:-1], 1):
        match = _LINE.fullmatch(line)
        if match is None or match[2] in found:
            raise FormatError(path, f"line {number} is not one of sha256sum: it {damaged}")
        found[match[2]] = match[1]
    return found


def render_sums(sums: Mapping[str, str]) -> str:
    """The list as text, sorted by name.

    Args:
        sums: Digests by name.

    Returns:
        A line for each file.
    """
    return "".join(f"{digest}  {name}\n" for name, digest in sorted(sums.items()))


def digest_file(path: Path) -> str:
    """SHA-256 of a file, read once in pieces.

    Args:
        path: The file.

    Returns:
        64 hexadecimal digits.

    Raises:
        FormatError: If it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError as error:
        raise FormatError(path, "is missing") from error
    except OSError as error:
        raise FormatError(path, f"cannot be read: {error.strerror or error}") from error


def read_checked(path: Path) -> bytes:
    """The bytes of a file, compared with the digest that its folder lists.

    Args:
        path: The file. Where its folder has no list, or does not list it, there is nothing to compare with.

    Returns:
        The very bytes that were compared.

    Raises:
        FormatError: If the file or the list is damaged, or a file that is listed is missing.
        OSError: If the file cannot be read.
    """
    listed = _listed(path.parent, path.name)
    content = path.read_bytes()
    if listed is not None and hashlib.sha256(content).hexdigest() != listed:
        raise FormatError(path, _changed(path.parent))
    return content


def check_file(path: Path, *, folder: Path | None = None) -> None:
    """Compare a file with the digest that its folder lists, without holding it in memory.

    Args:
        path: The file. Where there is no list, or it does not list the file, there is nothing to compare with.
        folder: The folder whose list counts; None for the file's own.

    Raises:
        FormatError: If the file or the list is damaged, or a file that is listed is missing.
    """
    root = path.parent if folder is None else folder
    listed = _listed(root, path.relative_to(root).as_posix())
    if listed is not None and digest_file(path) != listed:
        raise FormatError(path, _changed(root))


def tell_unlisted(folder: Path) -> None:
    """Warn of a folder without a list, once: nothing in it can be compared.

    Args:
        folder: The folder of a run or of a model.
    """
    if not (folder / SUMS).exists():
        warnings.warn(
            f"{folder} has no {SUMS}, as runs of older versions: damage to its files would not be noticed",
            LimbeckWarning,
            stacklevel=3,
        )


def _listed(folder: Path, name: str) -> str | None:
    """The digest of a file; an error where the list names what is not there, as after damage to a name in it."""
    sums = read_sums(folder)
    if sums is None:
        return None
    missing = next((other for other in sums if not (folder / other).exists()), None)
    if missing is not None:
        raise FormatError(
            folder / missing,
            f"is missing, and {SUMS} beside it lists it: restore it from a copy, or delete its line there",
        )
    return sums.get(name)


def _changed(folder: Path) -> str:
    return (
        f"does not match its digest in {folder / SUMS}: it was damaged or edited after it was written; restore it from "
        "a copy (settings are changed in a copy elsewhere), or start the run again in another folder"
    )
