"""What the commands on Kaldi files share: types of their flags, and how an output file is taken."""

__all__ = ["Features", "Outputs", "Overwrite", "PriorCutoff", "Search", "refuse_taken", "with_cutoff"]

import dataclasses
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from limbeck.errors import ConfigError, RunError
from limbeck.kaldi.decoding.options import FeatureOptions, OutputOptions, SearchOptions

Features = Annotated[FeatureOptions, Parameter(name="*", group="Features")]
Outputs = Annotated[OutputOptions, Parameter(name="*", group="Outputs")]
Search = Annotated[SearchOptions, Parameter(name="*", group="Search")]
PriorCutoff = Annotated[float | None, Parameter(group="Outputs")]
Overwrite = Annotated[bool, Parameter(group="Run", negative=())]


def refuse_taken(*paths: Path | None, overwrite: bool) -> None:
    """Refuse files that exist, before any work is done.

    Args:
        paths: Where something is to be written; None is passed over.
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


def with_cutoff(outputs: OutputOptions, prior_cutoff: float | None) -> OutputOptions:
    """Take the floor of the priors by its older name.

    Args:
        outputs: The other flags.
        prior_cutoff: As nnet-forward of older Kaldi calls it, or None.

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
