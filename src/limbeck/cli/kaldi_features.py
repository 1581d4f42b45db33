"""``limbeck kaldi``: what Kaldi's tools do to features between an archive and another."""

__all__ = ["add_deltas", "apply_cmvn_sliding"]

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from limbeck.cli.common import GROUPS
from limbeck.cli.console import say
from limbeck.cli.kaldi import Overwrite, archive_to_write
from limbeck.errors import ConfigError, DataError
from limbeck.kaldi.options import SlidingOptions

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

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
    r"""Take off the mean of a window of frames that goes along: what apply-cmvn-sliding does.

    ```
    limbeck kaldi apply-cmvn-sliding --center --cmn-window 300 scp:data/test/feats.scp ark:- | \
        limbeck forward final.mdl --feats ark:- --out output.ark
    ```

    Args:
        feats: Features: a path or a specifier, such as ark:-.
        out: The archive to write: a path or a specifier.
        allow_pipes: Run commands of specifiers and script files, in a shell.
        overwrite: Replace files that exist.
    """
    from limbeck.kaldi.formats.sliding import apply_sliding_cmvn

    _each(feats, out, lambda frames: apply_sliding_cmvn(frames, window), allow_pipes, overwrite)


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
    """Append differences over time: what add-deltas does.

    ```
    limbeck kaldi add-deltas scp:data/test/feats.scp ark:deltas.ark
    ```

    Args:
        feats: Features: a path or a specifier, such as ark:-.
        out: The archive to write: a path or a specifier.
        delta_order: How many differences.
        delta_window: Frames to each side that one difference looks at.
        allow_pipes: Run commands of specifiers and script files, in a shell.
        overwrite: Replace files that exist.
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
    """Write every utterance changed, one in memory at a time."""
    from limbeck.kaldi.formats.opened import Table

    target = archive_to_write(out, overwrite=overwrite, allow_pipes=allow_pipes)
    table: Any = Table(feats, allow_pipes=allow_pipes)
    count = 0
    with target.open() as writer:
        for key, frames in table.read():
            if not len(frames):
                raise DataError(f"{table.name}: the utterance {key} has no frame")
            try:
                writer.write(key, change(frames))
            except DataError as error:
                raise type(error)(f"{table.name}: {key}: {error}") from error
            count += 1
    say(f"{out}: {count:,} utterances")
