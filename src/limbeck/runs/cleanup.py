"""The files that runs write, and their removal after killed writes and failed starts."""

__all__ = ["FIRST_WEIGHTS", "WARNINGS", "give_up", "sweep"]

import contextlib
import fnmatch
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from limbeck.options.kinds import kept_files
from limbeck.system.checksums import SUMS
from limbeck.system.locks import LOCK

WARNINGS = "warnings.json"
"""The warnings of a run that is not finished."""
FIRST_WEIGHTS = "first.safetensors"
"""File of the initial weights, until the run is finished."""

_STAGES = ("svd/", "svd-fine-tune/", "pruned/", "pruned-fine-tune/")
_PARTS = ("", "baseline/", *_STAGES, "members/*/", "seeds/*/", "seeds/*/baseline/", "peers/*/")
"""Subfolders of a run."""

_FOLDERS = ("checkpoints/", "model/", "epochs/", "tensorboard/", "figures/")
"""The files in each."""

_WRITTEN = (
    *("config.toml", "identity.json", "history.jsonl", "timings.jsonl", "plan.json", "ensemble.json", "metrics.json"),
    *("best.toml", WARNINGS, SUMS, "config.json", "*.safetensors", *kept_files()),
    *(
        "final.h5",
        "final.nnet.txt",
        "epoch-*.h5",
        "report.html",
        "*.svg",
        "*.png",
        "events.out.tfevents.*",
        "study.db*",
    ),
)
"""Names of the files that runs write."""


def _places(run: Path) -> Iterator[Path]:
    """The existing folders of a run and its parts."""
    for part in _PARTS:
        yield from run.glob(part) if part else (run,)


def _made(run: Path, *names: str, folders: Iterable[str] = ("", *_FOLDERS)) -> Iterator[Path]:
    """The files that a run wrote in its folders: only known names, and no links."""
    # List each folder once: looking up each name in each folder takes longer than a small epoch.
    wanted = re.compile("|".join(map(fnmatch.translate, names))).match
    for place in list(_places(run)):
        for folder in folders:
            try:
                listed = list((place / folder).iterdir())
            except OSError:  # most do not exist
                continue
            yield from (path for path in listed if wanted(path.name) and not path.is_symlink())


def sweep(run: Path) -> None:
    """Remove the temporary files of killed writes; the folder is locked."""
    for left in _made(run, *(f".{name}.*.partial" for name in _WRITTEN)):
        left.unlink(missing_ok=True)


def give_up(run: Path) -> None:
    """Remove a new run that failed before its first checkpoint: there is nothing to resume.

    Only files that runs write are removed, by name: the user's own files stay.
    """
    worth = _made(run, "*.safetensors", "study.db", folders=("", "checkpoints/", "model/"))
    if any(path.name != FIRST_WEIGHTS for path in worth):
        return
    sweep(run)
    for path in _made(run, *_WRITTEN):
        if path.is_file():
            path.unlink(missing_ok=True)
    (run / LOCK).unlink(missing_ok=True)
    made = [place / folder for place in _places(run) for folder in _FOLDERS]
    for path in made[::-1] + [run / part for part in ("members", "seeds", "peers")]:
        with contextlib.suppress(OSError):  # not empty, or does not exist
            path.rmdir()
    for part in reversed(_PARTS[1:]):
        for path in run.glob(part):
            with contextlib.suppress(OSError):
                path.rmdir()
    for part in ("members", "seeds", "peers"):
        with contextlib.suppress(OSError):
            (run / part).rmdir()
