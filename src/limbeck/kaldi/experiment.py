"""The feature settings of a Kaldi experiment, from the small files in its folder.

They are read as ``steps/nnet/decode.sh``, ``steps/decode.sh`` and ``steps/nnet3/decode.sh`` read them, from
``cmvn_opts``, or the older ``norm_vars``, to the counts of pdfs.
"""

__all__ = ["Experiment", "is_nnet3_folder", "read_experiment"]

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from limbeck.errors import ConfigError, FormatError
from limbeck.kaldi.formats.sniff import identify

_MOST_BYTES = 4096
_TRUTH = {"true": True, "t": True, "1": True, "": True, "false": False, "f": False, "0": False}
_SPLICE = 4
"""Frames on each side that splice-feats takes where nothing says so."""


@dataclass(frozen=True)
class Experiment:
    """What an experiment's folder says of its features.

    Attributes:
        cmvn: Whose mean is taken off.
        norm_vars: Whether the variance is made 1 too.
        deltas: Orders of differences over time.
        delta_window: Frames to each side that one difference looks at.
        context: Frames before and after each frame that are spliced to it, or None where nothing says so.
        feature_transform: The ``final.feature_transform``; or without one the ``final.mat``, the matrix of LDA and
            MLLT, which is for spliced frames; or None.
        ivector_dim: Values of the i-vectors that are appended to features, or 0.
        class_frame_counts: Counts of pdfs, or None.
        frame_subsampling_factor: Every how many frames an nnet3 network has an output.
    """

    cmvn: Literal["none", "speaker"] = "none"
    norm_vars: bool = False
    deltas: int = 0
    delta_window: int = 2
    context: tuple[int, int] | None = None
    feature_transform: Path | None = None
    ivector_dim: int = 0
    class_frame_counts: Path | None = None
    frame_subsampling_factor: int = 1


def read_experiment(folder: Path, *, nnet3: bool = False) -> Experiment:
    """Read out of an experiment's folder how its features are made.

    Args:
        folder: Such as ``exp/dnn``, where the ``final.nnet`` or ``final.mdl`` is.
        nnet3: Whether the network is of nnet3. Its scripts look at ``cmvn_opts``, ``online_cmvn`` and
            ``frame_subsampling_factor`` alone, and take the means off where ``cmvn_opts`` is empty.

    Returns:
        What it says. A folder with none of the files has features as they are.

    Raises:
        ConfigError: If there is no such folder, or its features need a tool that has to be run before.
        FormatError: If a file holds what Kaldi's tool would refuse, or two of them contradict each other.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = Path(folder, "cmvn_opts").write_text("--norm-means=true --norm-vars=true")
        ...     found = read_experiment(Path(folder))
        >>> found.cmvn, found.norm_vars
        ('speaker', True)
    """  # noqa: DOC501
    if not folder.is_dir():
        raise ConfigError(f"exp is {folder}, and there is no such folder")
    if nnet3:
        if (folder / "online_cmvn").exists():
            raise _needs_online_cmvn(folder / "online_cmvn")
        factor = folder / "frame_subsampling_factor"
        every = _number(factor, factor.name, _text(factor), 1000) if factor.exists() else 1
        return Experiment(*_cmvn(folder, empty="speaker"), frame_subsampling_factor=every)
    if (folder / "online_cmvn_opts").exists() and _text(folder / "online_cmvn_opts"):
        raise _needs_online_cmvn(folder / "online_cmvn_opts")
    names = ("prior_counts", "ali_train_pdf.counts")  # the first wins, as for Kaldi
    counts = next((folder / name for name in names if (folder / name).exists()), None)
    path = folder / "ivector_dim"
    ivectors = _number(path, path.name, _text(path), 100_000) if path.exists() else 0
    transform, matrix, context = folder / "final.feature_transform", folder / "final.mat", None
    (order, window), found = _deltas(folder), None
    # Kaldi's scripts do not look at splice_opts beside a feature transform, which has a splice of its own; nor at
    # the deltas beside the matrix of LDA, which has spliced frames in their place.
    if transform.exists():
        found = transform
    elif matrix.exists():
        (order, window), found, context = (0, 2), matrix, _context(folder) or (_SPLICE, _SPLICE)
    else:
        context = _context(folder)
    return Experiment(*_cmvn(folder, empty="none"), order, window, context, found, ivectors, counts)


def is_nnet3_folder(folder: Path) -> bool:
    """Whether the network of an experiment's folder is of nnet3, whose scripts read less of it.

    Args:
        folder: Such as ``exp/tdnn``.

    Returns:
        Whether it is.
    """
    if (folder / "final.nnet").exists() or (folder / "final.feature_transform").exists():
        return False
    model = folder / "final.mdl"
    return (folder / "final.raw").exists() or (model.is_file() and identify(model) == "nnet3 model")


def _needs_online_cmvn(path: Path) -> ConfigError:
    return ConfigError(
        f"{path} says that features go through apply-cmvn-online: write them with limbeck kaldi apply-cmvn-online, and "
        "leave exp out"
    )


def _cmvn(folder: Path, *, empty: Literal["none", "speaker"]) -> tuple[Literal["none", "speaker"], bool]:
    """Whose mean is taken off, and whether the variance is made 1."""
    older, path = folder / "norm_vars", folder / "cmvn_opts"
    before = _truth(older, "norm_vars", _text(older)) if older.exists() else None
    if not path.exists():
        return ("none", False) if before is None else ("speaker", before)
    given = _options(path, ("norm-means", "norm-vars", "reverse", "skip-dims"))
    if given.get("skip-dims") or _truth(path, "reverse", given.get("reverse", "false")):
        raise FormatError(path, "has --skip-dims or --reverse, which Limbeck does not do: give --cmvn and --norm-vars")
    variance = _truth(path, "norm-vars", given.get("norm-vars", "false"))
    if before is not None and before != variance:
        raise FormatError(path, f"has norm-vars = {variance}, and {older} says {before}: remove the one that is wrong")
    if not given:
        return empty, False
    if not _truth(path, "norm-means", given.get("norm-means", "true")):
        if variance:
            raise FormatError(path, "has norm-vars without norm-means, which apply-cmvn refuses too")
        return "none", False
    return "speaker", variance


def _deltas(folder: Path) -> tuple[int, int]:
    """Order and window."""
    older, path = folder / "delta_order", folder / "delta_opts"
    before = _number(older, older.name, _text(older), 4) if older.exists() else None
    given = _options(path, ("delta-order", "delta-window", "truncate")) if path.exists() else {}
    if not given:
        return before or 0, 2
    window = _number(path, "delta-window", given.get("delta-window", "2"), 100)
    if not window or _number(path, "truncate", given.get("truncate", "0"), 10**6):
        raise FormatError(path, "cuts features before their deltas, or has no window: give --deltas and --delta-window")
    order = _number(path, "delta-order", given.get("delta-order", "2"), 4)
    if before is not None and before != order:
        raise FormatError(path, f"has delta-order = {order}, and {older} says {before}: remove the one that is wrong")
    return order, window


def _context(folder: Path) -> tuple[int, int] | None:
    path = folder / "splice_opts"
    if not path.exists():
        return None
    given = _options(path, ("left-context", "right-context"))
    left, right = (_number(path, name, given.get(name, "4"), 1000) for name in ("left-context", "right-context"))
    return left, right


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            raw = file.read(_MOST_BYTES + 1)
        text = raw.decode("ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise FormatError(path, f"cannot be read as options of Kaldi's tools: {error}") from error
    if len(raw) > _MOST_BYTES:
        raise FormatError(path, f"has more than {_MOST_BYTES} bytes, and is to hold a few options")
    return text


def _options(path: Path, known: tuple[str, ...]) -> dict[str, str]:
    """Options as on a command line, ``--name=value``; of one that comes twice the last holds, as for Kaldi."""
    try:
        words = shlex.split(_text(path))
    except ValueError as error:
        raise FormatError(path, f"cannot be read as options of Kaldi's tools: {error}") from error
    found: dict[str, str] = {}
    for word in words:
        name, _, value = word.removeprefix("--").partition("=")
        name = name.replace("_", "-")
        if not word.startswith("--") or name not in known:
            raise FormatError(path, f"has {word!r}, and may have {', '.join(f'--{each}=...' for each in known)}")
        found[name] = value
    return found


def _truth(path: Path, name: str, value: str) -> bool:
    if value not in _TRUTH:
        raise FormatError(path, f"has {name} = {value!r}, which is neither true nor false")
    return _TRUTH[value]


def _number(path: Path, name: str, value: str, most: int) -> int:
    if not (value.isascii() and value.isdigit() and len(value) < 10 and int(value) <= most):
        raise FormatError(path, f"has {name} = {value!r}, which must be a whole number from 0 to {most}")
    return int(value)
