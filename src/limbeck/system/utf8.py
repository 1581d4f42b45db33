"""Text files that are not UTF-8: where, and the command that converts them."""

__all__ = ["not_utf8"]

import gzip
import shlex
from os import PathLike
from pathlib import Path

from limbeck.errors import FormatError


def not_utf8(path: str | PathLike[str]) -> FormatError:
    r"""An error that names the first line of a text file that is not UTF-8; what was read in pieces does not know.

    Args:
        path: The file, gzipped where its name ends in ``.gz``.

    Returns:
        The error, with the offset in the (unpacked) file.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "menu.csv"
        >>> _ = file.write_bytes(b"text,label\ncaf\xe9,a\n")
        >>> str(not_utf8(file)).replace(f"{file.parent}/", "")
        'menu.csv at byte 14: is not UTF-8 in line 2 (byte 0xe9): convert it, as with  iconv -f LATIN1 -t UTF-8 menu.csv
        > menu.utf8.csv  where it is Latin-1'
    """
    file = Path(path)
    packed = file.suffix.lower() == ".gz"
    offset, line, odd, start = 0, 0, "", b""
    with gzip.open(file) if packed else open(file, "rb") as stream:
        for line, held in enumerate(stream, 1):  # noqa: B007
            start = start or held[:2]
            try:
                held.decode()
            except UnicodeDecodeError as error:
                offset, odd = offset + error.start, f" (byte 0x{held[error.start]:02x})"
                break
            offset += len(held)
    name, encoding = ("LATIN1", "Latin-1") if start not in {b"\xff\xfe", b"\xfe\xff"} else ("UTF-16", "UTF-16")
    plain = file.with_suffix("") if packed else file
    new = plain.with_name(f"{plain.stem}.utf8{plain.suffix}")
    given, made = shlex.quote(str(plain)), shlex.quote(str(new))
    return FormatError(
        file,
        f"is not UTF-8 in line {line}{odd}: {'unpack and ' if packed else ''}convert it, as with  "
        f"iconv -f {name} -t UTF-8 {given} > {made}  where it is {encoding}",
        offset=offset,
    )
