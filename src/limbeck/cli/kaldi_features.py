"""``limbeck kaldi``: feature transforms from one archive to another, like Kaldi's tools."""

__all__ = ["add_deltas", "apply_cmvn_online", "apply_cmvn_sliding"]

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from limbeck.cli.common import GROUPS
from limbeck.cli.console import say
from limbeck.cli.kaldi import ArchiveToWrite, Overwrite, archive_to_write
from limbeck.errors import ConfigError, DataError, MismatchError
from limbeck.kaldi.options import OnlineCmvnOptions, SlidingOptions

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from limbeck.kaldi.formats.opened import Table

_Feats = Annotated[str, Parameter(help="Features: a path or a specifier, such as ark:-.", allow_leading_hyphen=True)]
_Out = Annotated[str, Parameter(help="The archive to write: a path or a specifier.", allow_leading_hyphen=True)]
_Pipes = Annotated[bool, Parameter(group=GROUPS["Run"], negative=())]


def apply_cmvn_sliding(
    feats: _Feats,
    out: _Out,
    /,
    *,
    window: Annotated[SlidingOptions, Parameter(name="*", group="Window")] = SlidingOptions(),  # noqa: B008
    allow_pipes: _Pipes = False,
    overwrite: Overwrite = False,
) -> None:
    r"""Subtract the mean of a sliding window of frames, like apply-cmvn-sliding.

    ```
    limbeck kaldi apply-cmvn-sliding --center --cmn-window 300 scp:data/test/feats.scp ark:- | \
        limbeck forward final.mdl --feats ark:- --out output.ark
    ```

    Args:
        feats: Features: a path or a specifier, such as ark:-.
        out: The archive to write: a path or a specifier.
        allow_pipes: Run the shell commands in specifiers and script files.
        overwrite: Replace existing files.
    """
    from limbeck.kaldi.formats.sliding import apply_sliding_cmvn

    _each(feats, out, lambda frames: apply_sliding_cmvn(frames, window), allow_pipes, overwrite)


def apply_cmvn_online(
    global_cmvn_stats: Annotated[Path, Parameter(help="CMVN statistics of many speakers, one matrix.")],
    feats: _Feats,
    out: _Out,
    /,
    *,
    spk2utt: Path | None = None,
    window: Annotated[OnlineCmvnOptions, Parameter(name="*", group="Window")] = OnlineCmvnOptions(),  # noqa: B008
    allow_pipes: _Pipes = False,
    overwrite: Overwrite = False,
) -> None:
    r"""Subtract the mean of the frames so far, like apply-cmvn-online.

    While the window is not full, it is filled from earlier utterances of the speaker and then from the global
    statistics.

    ```
    limbeck kaldi apply-cmvn-online --spk2utt data/test/spk2utt exp/dnn/global_cmvn_stats.mat \
        scp:data/test/feats.scp ark:- | limbeck forward final.nnet --feats ark:- --out post.ark
    ```

    Args:
        global_cmvn_stats: CMVN statistics of many speakers, one matrix.
        feats: Features: a path or a specifier, such as ark:-.
        out: The archive to write: a path or a specifier.
        spk2utt: The utterances of each speaker in their order, which is also that of the output; default: utterances
            are independent.
        allow_pipes: Run the shell commands in specifiers and script files.
        overwrite: Replace existing files.
    """
    from limbeck.kaldi.formats.cmvn import accumulate_cmvn
    from limbeck.kaldi.formats.lines import read_table
    from limbeck.kaldi.formats.online_cmvn import apply_online_cmvn
    from limbeck.kaldi.formats.opened import Table
    from limbeck.kaldi.formats.specifiers import file_of
    from limbeck.kaldi.formats.table import read_matrix_file

    target = archive_to_write(out, overwrite=overwrite, allow_pipes=allow_pipes)
    overall = read_matrix_file(global_cmvn_stats)
    speakers = None if spk2utt is None else read_table(file_of(spk2utt))
    heard: tuple[str, Any] = ("", None)

    def normed(key: str, frames: "NDArray[np.float32]") -> "NDArray[np.float32]":
        nonlocal heard
        speaker = owners.get(key, key)
        before = heard[1] if heard[0] == speaker else None
        found = apply_online_cmvn(frames, overall, before, window)
        if speakers is not None:
            mine = accumulate_cmvn(frames)
            heard = speaker, mine if before is None else before + mine
        return found

    table = Table(feats, allow_pipes=allow_pipes)
    owners = {} if speakers is None else {key: speaker for speaker, keys in speakers.items() for key in keys}
    _write(table, table.read() if speakers is None else _in_order(table, list(owners)), out, target, normed)


def add_deltas(
    feats: _Feats,
    out: _Out,
    /,
    *,
    delta_order: int = 2,
    delta_window: int = 2,
    allow_pipes: _Pipes = False,
    overwrite: Overwrite = False,
) -> None:
    """Append delta features, like add-deltas.

    ```
    limbeck kaldi add-deltas scp:data/test/feats.scp ark:deltas.ark
    ```

    Args:
        feats: Features: a path or a specifier, such as ark:-.
        out: The archive to write: a path or a specifier.
        delta_order: Order of the deltas.
        delta_window: Frames to each side of one delta's window.
        allow_pipes: Run the shell commands in specifiers and script files.
        overwrite: Replace existing files.
    """
    from limbeck.kaldi.formats.cmvn import add_deltas as with_deltas

    if not (0 <= delta_order <= 10 and 1 <= delta_window <= 100):
        raise ConfigError(
            f"--delta-order must be from 0 to 10 and --delta-window from 1 to 100, and are {delta_order} and "
            f"{delta_window}"
        )
    _each(
        feats, out, lambda frames: with_deltas(frames, order=delta_order, window=delta_window), allow_pipes, overwrite
    )


def _each(
    feats: str,
    out: str,
    change: "Callable[[NDArray[np.float32]], NDArray[np.float32]]",
    allow_pipes: bool,
    overwrite: bool,
) -> None:
    """Transform and write the utterances, one in memory at a time."""
    from limbeck.kaldi.formats.opened import Table

    target = archive_to_write(out, overwrite=overwrite, allow_pipes=allow_pipes)
    table = Table(feats, allow_pipes=allow_pipes)
    _write(table, table.read(), out, target, lambda key, frames: change(frames))


def _write(
    table: "Table",
    utterances: "Iterator[tuple[str, NDArray[np.float32]]]",
    out: str,
    target: ArchiveToWrite,
    change: "Callable[[str, NDArray[np.float32]], NDArray[np.float32]]",
) -> None:
    count = 0
    with target.open() as writer:
        for key, frames in utterances:
            if not len(frames):
                raise DataError(f"{table.name}: the utterance {key} has no frames")
            try:
                writer.write(key, change(key, frames))
            except DataError as error:
                raise type(error)(f"{table.name}: {key}: {error}") from error
            count += 1
    say(f"{out}: {count:,} utterance{'' if count == 1 else 's'}")


def _in_order(table: "Table", keys: list[str]) -> "Iterator[tuple[str, NDArray[np.float32]]]":
    """The utterances that are named, in this order; an archive is held in memory for it."""
    from limbeck.kaldi.formats.scp import read_entry

    entries = {} if table.entries is None else {entry.key: entry for entry in table.entries}
    held = dict(table.read()) if table.entries is None else {}
    missing = [key for key in keys if key not in entries and key not in held]
    if len(missing) == len(keys):
        raise MismatchError(f"{table.name} has no utterance that the speakers have")
    if missing:
        say(f"note: {len(missing)} utterances of the speakers have no features, the first is {missing[0]}")
    for key in keys:
        if key in entries:
            yield key, read_entry(entries[key], allow_pipes=table.allow_pipes)
        elif key in held:
            yield key, held[key]
