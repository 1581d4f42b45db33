"""Shared by the commands on Kaldi files: types of their flags, and checks of output files."""

__all__ = [
    "ArchiveToWrite",
    "Features",
    "Outputs",
    "Overwrite",
    "PriorCutoff",
    "Search",
    "archive_to_write",
    "refuse_taken",
    "with_cutoff",
]

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from limbeck.cli.common import GROUPS
from limbeck.errors import ConfigError, RunError
from limbeck.kaldi.decoding.options import FeatureOptions, OutputOptions, SearchOptions

if TYPE_CHECKING:
    from limbeck.kaldi.formats.specifiers import Writing
    from limbeck.kaldi.formats.write import ArkWriter

Features = Annotated[FeatureOptions, Parameter(name="*", group="Features")]
Outputs = Annotated[OutputOptions, Parameter(name="*", group="Outputs")]
Search = Annotated[SearchOptions, Parameter(name="*", group=GROUPS["Search"])]
PriorCutoff = Annotated[float | None, Parameter(group="Outputs")]
Overwrite = Annotated[bool, Parameter(group=GROUPS["Run"], negative=())]


def refuse_taken(*paths: Path | None, overwrite: bool) -> None:
    """Refuse to overwrite files, before any work is done.

    Args:
        paths: The files to write; None is skipped.
        overwrite: Whether files may be replaced.

    Raises:
        RunError: If one exists, or its folder does not.
    """
    for path in paths:
        if path is None:
            continue
        if path.is_dir() or (path.exists() and not overwrite):
            cure = "choose another name" if path.is_dir() else "choose another name, or give --overwrite"
            raise RunError(f"{path} exists already: {cure}")
        if not path.parent.is_dir():
            raise RunError(f"cannot write {path}: the folder {path.parent} does not exist: make it first")


@dataclasses.dataclass(frozen=True)
class ArchiveToWrite:
    """The destination of an archive, checked before any work is done.

    Attributes:
        writing: The parsed specifier.
        script: A script file beside it, or None.
    """

    writing: "Writing"
    script: Path | None

    def open(self) -> "ArkWriter":
        """Open the archive for writing."""
        from limbeck.kaldi.formats.write import ArkWriter

        writing = self.writing
        return ArkWriter(writing.archive, scp=self.script, text=writing.text, is_pipe=writing.is_pipe)


def archive_to_write(
    given: str, scp: Path | None = None, *, text: bool = False, overwrite: bool, allow_pipes: bool = False
) -> ArchiveToWrite:
    """Check the destination of an archive.

    Args:
        given: A path or a Kaldi specifier.
        scp: A script file for it, where the specifier names none.
        text: Whether to write text, where the specifier does not say.
        overwrite: Whether files may be replaced.
        allow_pipes: Whether the specifier may be a command.

    Returns:
        The destination.

    Raises:
        ConfigError: If the specifier contradicts the flags.
        RunError: If a file is taken, or a command is not allowed.
    """
    from limbeck.kaldi.formats.piped import is_once
    from limbeck.kaldi.formats.specifiers import parse_writing

    writing = parse_writing(given)
    if writing.is_pipe and not allow_pipes:
        raise RunError(f"{given!r} is a command, which would run in a shell: if you mean that, give --allow-pipes")
    if writing.script is not None and scp is not None:
        raise ConfigError(f"{given!r} names a script file, and --scp another: leave one of them out")
    script = scp if writing.script is None else Path(writing.script)
    if script is not None and script.absolute() == Path(writing.archive).absolute():
        raise ConfigError(f"{script} is named as the archive and as its script file: they are two files")
    once = writing.is_pipe or is_once(writing.archive)
    if once and script is not None:
        raise ConfigError(f"{given!r} can be read once, so no script file can point into it: leave --scp out")
    refuse_taken(None if once else Path(writing.archive), script, overwrite=overwrite)
    return ArchiveToWrite(dataclasses.replace(writing, text=writing.text or text), script)


def with_cutoff(outputs: OutputOptions, prior_cutoff: float | None) -> OutputOptions:
    """Accept the priors' floor under its older name.

    Args:
        outputs: The other flags.
        prior_cutoff: The floor under its name in older Kaldi, or None.

    Returns:
        The flags with the floor.

    Raises:
        ConfigError: If the floor is given by both names.
    """
    if prior_cutoff is None:
        return outputs
    if outputs.prior_floor != OutputOptions().prior_floor:
        raise ConfigError("--prior-cutoff is the older name of --prior-floor: give one of them")
    return dataclasses.replace(outputs, prior_floor=prior_cutoff)
