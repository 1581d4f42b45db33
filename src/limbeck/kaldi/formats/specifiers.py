"""Kaldi's specifiers: ``ark:feats.ark``, ``scp,p:feats.scp``, ``ark,t:-``, ``ark,scp:a.ark,a.scp``, ``ark:command |``.

A plain path is a specifier too; what it holds is told by its content.
"""

__all__ = ["Reading", "Writing", "file_of", "parse_reading", "parse_writing"]

import os
import re
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

from limbeck.errors import ConfigError

_PREFIX = re.compile(r"([a-z]*(?:,[a-z]*)*):(.*)", re.DOTALL)
_READS = frozenset("ark scp o no s ns cs ncs p np bg b t".split())
_WRITES = frozenset("ark scp b t f nf p".split())


@dataclass(frozen=True)
class Reading:
    """Where a table is read from.

    Attributes:
        kind: "ark" or "scp", or "" for a plain path.
        source: A path, "-" for the input stream, or a command.
        is_pipe: Whether ``source`` is a command, whose output is read.
        permissive: Whether entries of a script file whose file is missing are left out.
    """

    kind: str
    source: str
    is_pipe: bool = False
    permissive: bool = False


@dataclass(frozen=True)
class Writing:
    """Where a table is written to.

    Attributes:
        archive: A path, "-" for the output stream, or a command.
        script: A script file beside it, or None.
        text: Whether it is written as text.
        is_pipe: Whether ``archive`` is a command, which gets what is written.
    """

    archive: str
    script: str | None = None
    text: bool = False
    is_pipe: bool = False


def _split(given: str, known: frozenset[str]) -> tuple[tuple[str, ...], str]:
    """The options before the colon, none where this is a plain path, and what follows it."""
    match = _PREFIX.fullmatch(given)
    options = tuple(match[1].split(",")) if match is not None else ()
    if os.path.exists(given):
        return (), given
    if given.startswith("--"):
        raise ConfigError(f"{given!r} is not a flag of this command, nor a file that is there")
    if match is None or not {"ark", "scp"} & set(options):
        if options and set(options) <= known | {""}:
            raise ConfigError(
                f"the specifier {given!r} says neither ark nor scp: give ark,{given}, or ./{given} for a file of that "
                "name"
            )
        return (), given
    odd = [option for option in options if option not in known]
    if odd:
        raise ConfigError(f"the specifier {given!r} has the option {odd[0]!r}: known are {', '.join(sorted(known))}")
    return options, match[2].strip()


def parse_reading(given: str | PathLike[str]) -> Reading:
    """Read a specifier of something to read.

    Args:
        given: The specifier, or a path. Options about order are accepted, and order is not relied on here.

    Returns:
        What it says.

    Raises:
        ConfigError: If it contradicts itself, or has an unknown option.

    Example:
        >>> parse_reading("ark,s,cs:gunzip -c feats.gz |")
        Reading(kind='ark', source='gunzip -c feats.gz', is_pipe=True, permissive=False)
        >>> parse_reading("scp:data/feats.scp").source, parse_reading("feats.ark").kind
        ('data/feats.scp', '')
    """
    text = os.fspath(given)
    options, rest = _split(text, _READS)
    if {"ark", "scp"} <= set(options):
        raise ConfigError(f"the specifier {text!r} is to read, and says both ark and scp: give one of them")
    kind = next((option for option in options if option in ("ark", "scp")), "")
    if rest.startswith("|"):
        raise ConfigError(f"the specifier {text!r} writes to a command: to read from one, end it in '|'")
    permissive = next((option == "p" for option in reversed(options) if option in ("p", "np")), False)
    if rest.endswith("|"):
        return Reading(kind, rest[:-1].strip(), True, permissive)
    return Reading(kind, "-" if rest == "/dev/stdin" or (options and not rest) else rest, False, permissive)


def file_of(given: str | PathLike[str]) -> Path:
    """The file that a specifier names, for tables that are read whole and from a file alone.

    Args:
        given: The specifier, or a path, which may also be a folder's.

    Returns:
        The path.

    Raises:
        ConfigError: If it is a command or the input stream.

    Example:
        >>> file_of("ark:data/test/utt2spk") == file_of("data/test/utt2spk") == Path("data/test/utt2spk")
        True
    """
    reading = parse_reading(given)
    if reading.is_pipe or reading.source == "-":
        raise ConfigError(f"{os.fspath(given)!r} is not a file, and this is read from a file alone: write it to one")
    return Path(reading.source)


def parse_writing(given: str | PathLike[str]) -> Writing:
    """Read a specifier of something to write.

    Args:
        given: The specifier, or a path.

    Returns:
        What it says.

    Raises:
        ConfigError: If it contradicts itself, has an unknown option, or names a script file alone.

    Example:
        >>> parse_writing("ark,scp,t:post.ark,post.scp")
        Writing(archive='post.ark', script='post.scp', text=True, is_pipe=False)
        >>> parse_writing("ark,t:-").archive
        '-'
    """
    text = os.fspath(given)
    options, rest = _split(text, _WRITES)
    kinds = [option for option in options if option in ("ark", "scp")]
    if kinds == ["scp"]:
        raise ConfigError(
            f"the specifier {text!r} names a script file that says where each entry goes, which is not done here: give "
            "ark,scp:ARCHIVE,SCRIPT"
        )
    if len(kinds) > 1 and kinds != ["ark", "scp"]:
        raise ConfigError(f"the specifier {text!r} should say ark,scp: in this order")
    script = None
    if len(kinds) == 2:
        rest, comma, script = rest.partition(",")
        if not comma or not rest.strip() or not script.strip():
            raise ConfigError(f"the specifier {text!r} should name an archive and a script file: ark,scp:a.ark,a.scp")
        rest, script = rest.strip(), script.strip()
        if os.path.abspath(rest) == os.path.abspath(script):
            raise ConfigError(
                f"the specifier {text!r} names one file for both: the archive and its script file are two"
            )
    as_text = "t" in options
    if rest.endswith("|"):
        raise ConfigError(f"the specifier {text!r} reads from a command: to write to one, begin it with '|'")
    if rest.startswith("|"):
        if script is not None:
            raise ConfigError(f"the specifier {text!r} writes to a command, whose output no script file can point into")
        return Writing(rest[1:].strip(), None, as_text, is_pipe=True)
    archive = "-" if rest == "/dev/stdout" or (options and not rest) else rest
    if archive == "-" and script is not None:
        raise ConfigError(f"the specifier {text!r} writes to the output stream, which no script file can point into")
    return Writing(archive, script, as_text)
