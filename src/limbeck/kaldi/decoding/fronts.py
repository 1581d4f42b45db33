"""The front end of a network, as saved in a run folder; read without torch."""

__all__ = ["Front", "Members", "agreed", "completed", "members_of", "read_front", "settled", "stored_counts"]

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from limbeck.errors import ConfigError, FormatError, MismatchError
from limbeck.kaldi.convert import read_network
from limbeck.kaldi.decoding.options import FeatureOptions
from limbeck.kaldi.experiment import read_experiment
from limbeck.kaldi.formats import nnet1_components as nc
from limbeck.kaldi.formats.nnet1 import Nnet, read_nnet
from limbeck.kaldi.forward import propagate
from limbeck.kaldi.ivectors import IVectors
from limbeck.kaldi.transforms import linear_transform, read_transform
from limbeck.system.checksums import check_file
from limbeck.system.files import read_json

_TRANSFORM = "final.feature_transform"
_COUNTS = "ali_train_pdf.counts"


@dataclass(frozen=True, eq=False)
class Front:
    """What is done to features before a network sees them.

    Attributes:
        cmvn: Whose mean is taken off: "none", "speaker" or "utterance".
        norm_vars: Whether the variance is made 1 too.
        deltas: Orders of differences over time beside the features.
        delta_window: Frames to each side that one difference looks at.
        ivector_dim: Values of the i-vectors that are appended to the features, or 0.
        offsets: Places of the neighbours that are spliced to each frame, before the transform.
        transform: A feature transform, a matrix for what is spliced, or None.
        ivectors: The i-vectors themselves, where they are appended.
    """

    cmvn: Literal["none", "speaker", "utterance"] = "none"
    norm_vars: bool = False
    deltas: int = 0
    delta_window: int = 2
    ivector_dim: int = 0
    offsets: tuple[int, ...] = (0,)
    transform: Nnet | NDArray[np.float32] | None = None
    ivectors: IVectors | None = None

    def neighbours(self, frames: NDArray[np.float32]) -> NDArray[np.float32]:
        """Splice the frames of one utterance and run the transform.

        Args:
            frames: After CMVN and deltas, with i-vectors, float32 ``(N, D)``.

        Returns:
            float32 ``(N, inputs)``.

        Raises:
            MismatchError: If the transform is for other features.
        """
        if self.offsets != (0,):
            frames = propagate(Nnet((nc.Splice(frames.shape[1], self.offsets),)), frames)
        if self.transform is None:
            return frames
        if isinstance(self.transform, Nnet):
            return propagate(self.transform, frames)
        return propagate(Nnet((linear_transform(self.transform, frames.shape[1]),)), frames)

    def appended(self, key: str, frames: NDArray[np.float32]) -> NDArray[np.float32]:
        """Frames with the i-vector beside each, where there are any.

        Args:
            key: The utterance.
            frames: After CMVN and deltas, float32 ``(N, D)``.

        Returns:
            float32 ``(N, D + E)``.
        """
        if self.ivectors is None:
            return frames
        return np.concatenate([frames, self.ivectors.frames(key, len(frames))], axis=1)


@dataclass(frozen=True)
class Members:
    """The networks that a folder stands for.

    Attributes:
        paths: Where they are.
        mean: How they are averaged, where the folder says so.
    """

    paths: tuple[Path, ...]
    mean: Literal["arithmetic", "geometric"] | None = None


def members_of(path: Path) -> Members:
    """The networks of a run: itself, or those of an ensemble.

    Args:
        path: A file, or the folder of a run.

    Returns:
        The members.

    Raises:
        FormatError: If the folder's list of members is damaged.
    """
    note = path / "ensemble.json"
    if not note.is_file():
        return Members((path,))
    listed = read_json(note)
    try:
        count, mean = int(listed["members"]), listed["mean"]
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise FormatError(note, "must hold the number of members and the mean") from error
    if not 1 <= count <= 10_000 or mean not in ("arithmetic", "geometric"):
        raise FormatError(note, f"names {count} members and the mean {mean!r}")
    return Members(tuple(path / "members" / str(number + 1) for number in range(count)), mean)


def read_front(path: Path) -> Front | None:
    """How the inputs of a run's network are made.

    Args:
        path: The folder of a run with one network, or any file.

    Returns:
        The front end; None where nothing is stored, as for an nnet1 file.

    Raises:
        FormatError: If the description is damaged.
    """
    folder = _model_folder(path)
    if folder is None:
        return None
    config = read_json(folder / "config.json")
    described = config.get("front_end") if isinstance(config, dict) else None
    if described is None:
        return None
    try:
        check_file(folder / _TRANSFORM)
        transform = read_nnet(folder / _TRANSFORM) if described["feature_transform"] else None
        # The splice of a transform is among its own components.
        offsets = (0,) if transform is not None else tuple(int(offset) for offset in described["offsets"])
        found = Front(
            described["cmvn"],
            bool(described["norm_vars"]),
            int(described["deltas"]),
            int(described.get("delta_window", 2)),
            int(described.get("ivector_dim", 0)),
            offsets,
            transform,
        )
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise FormatError(folder / "config.json", f"describes a front end that cannot be used: {error!r}") from error
    if found.cmvn not in ("none", "speaker", "utterance") or not found.offsets or found.delta_window < 1:
        raise FormatError(folder / "config.json", f"describes a front end that cannot be used: {described}")
    return found


def stored_counts(path: Path) -> Path | None:
    """The counts of pdfs that training left beside a run's network.

    Args:
        path: The folder of a run with one network, or any file.

    Returns:
        The file, or None.
    """
    folder = _model_folder(path)
    counts = None if folder is None else folder / _COUNTS
    if counts is None or not counts.is_file():
        return None
    check_file(counts)
    return counts


def settled(options: FeatureOptions, front: Front | None) -> Front:
    """What was asked for, and what a run's folder, or that of Kaldi's experiment, says where nothing was.

    Args:
        options: The flags, which win.
        front: Stored with the network; None where nothing is.

    Returns:
        The front end.

    Raises:
        ConfigError: If flags that belong to CMVN are given, and there is none; or an experiment's folder for a run.
    """
    if options.exp is not None and front is not None:
        raise ConfigError("exp is for files of Kaldi, and a run's folder knows how its features are made: leave it out")
    ivector_dim = 0 if options.exp is None else read_experiment(options.exp).ivector_dim
    options = completed(options)
    stored = front or Front(ivector_dim=ivector_dim)
    cmvn = options.cmvn or stored.cmvn
    for name in ("norm_vars", "cmvn_scp"):
        if getattr(options, name) and cmvn == "none":
            raise ConfigError(f"{name} belongs to cmvn speaker or utterance, and cmvn is none: give --cmvn")
    left, right = options.left_context, options.right_context
    # A transform and its context belong together: who gives one gives both.
    given = (left, right) != (None, None) or options.feature_transform is not None
    return Front(
        cmvn,
        cmvn != "none" and (stored.norm_vars if options.norm_vars is None else options.norm_vars),
        stored.deltas if options.deltas is None else options.deltas,
        stored.delta_window if options.delta_window is None else options.delta_window,
        stored.ivector_dim,
        tuple(range(-(left or 0), (right or 0) + 1)) if given else stored.offsets,
        _transform(options.feature_transform) if given else stored.transform,
    )


def _transform(path: Path | None) -> Nnet | NDArray[np.float32] | None:
    return None if path is None else read_transform(path, lambda found: read_network(found).nnet)


def completed(options: FeatureOptions, *, nnet3: bool = False) -> FeatureOptions:
    """Fill in what an experiment's folder says, where no flag is given.

    Args:
        options: The flags, which win.
        nnet3: Whether the network is of nnet3.

    Returns:
        The options, with nothing left to the folder.

    """
    if options.exp is None:
        return options
    found = read_experiment(options.exp, nnet3=nnet3)
    # "none" stays open, so that flags of CMVN beside it are refused where they are of no use, and no sooner.
    cmvn = options.cmvn or (None if found.cmvn == "none" else found.cmvn)
    filled = dataclasses.replace(
        options,
        exp=None,
        cmvn=cmvn,
        norm_vars=(cmvn not in (None, "none") and found.norm_vars) if options.norm_vars is None else options.norm_vars,
        deltas=found.deltas if options.deltas is None else options.deltas,
        delta_window=found.delta_window if options.delta_window is None else options.delta_window,
    )
    # A transform and its context belong together: who gives one gives both.
    if (options.left_context, options.right_context, options.feature_transform) != (None, None, None):
        return filled
    left, right = found.context or (None, None)
    return dataclasses.replace(
        filled, left_context=left, right_context=right, feature_transform=found.feature_transform
    )


def agreed(fronts: Sequence[tuple[Path, Front]]) -> Front:
    """What is done to single frames, which must be the same for all members of an ensemble.

    Args:
        fronts: Each network with its front end.

    Returns:
        The first network's front end.

    Raises:
        MismatchError: If another's frames are made otherwise.
    """
    first_path, first = fronts[0]
    for path, other in fronts[1:]:
        for name in ("cmvn", "norm_vars", "deltas", "delta_window", "ivector_dim"):
            if getattr(other, name) != getattr(first, name):
                raise MismatchError(
                    f"{path} sees features with {name} = {getattr(other, name)}, and {first_path} with "
                    f"{getattr(first, name)}: networks are averaged over the same frames"
                )
    return first


def _model_folder(path: Path) -> Path | None:
    """The folder with ``config.json``, where there is one."""
    for folder in (path / "model", path):
        if (folder / "config.json").is_file():
            return folder
    return None
