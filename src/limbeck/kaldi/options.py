"""Settings of Kaldi data directories. Nothing here imports torch, so that ``limbeck --help`` is quick."""

__all__ = ["OnlineCmvnOptions", "SlidingOptions", "SpeechOptions", "is_kaldi"]

import math
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

from limbeck.errors import ConfigError
from limbeck.options import DataOptions
from limbeck.options.checks import require


def is_kaldi(path: str | Path) -> bool:
    """Whether a path is a Kaldi data directory, or a script file of features.

    Args:
        path: Any path.

    Returns:
        Whether it is.
    """
    place = Path(path)
    return os.path.exists(place / "feats.scp") or (place.suffix == ".scp" and os.path.isfile(place))


@dataclass(frozen=True, kw_only=True)
class SpeechOptions(DataOptions):
    """A Kaldi data directory, and how frames of speech become examples.

    Attributes:
        title: What the group of these settings is called in the help.
        kept_files: What runs keep of such data beside a model.
        ali: Alignment directory of the training data: ali.*.gz and final.mdl. Kaldi directories only, as all these.
        validation_ali: Alignments of --validation-data; where it has no final.mdl, that of the training data holds.
        test_ali: Alignments of --test-data.
        mdl: The final.mdl of the training alignments, where it is elsewhere.
        exp: The folder of Kaldi's experiment: its cmvn_opts or norm_vars, delta_opts or delta_order, splice_opts,
            final.feature_transform or final.mat say what the other flags leave open.
        left: Frames of context before each frame; default 5.
        right: Frames of context after it; default 5.
        cmvn: Take the mean off by "speaker" or "utterance", or "none"; "auto": by speaker where there is a cmvn.scp.
        norm_vars: Make the variance 1 too; default: as exp says, else not.
        deltas: Order of time derivatives beside the features; default: as exp says, else 0.
        delta_window: Frames to each side that one time derivative looks at; default: as exp says, else 2.
        ivectors: I-vectors of the training data, of utterances or of speakers, or online ones; or the folder of
            ivector_online.scp. The model sees that of each frame beside the frame with its context.
        validation_ivectors: I-vectors of --validation-data.
        test_ivectors: I-vectors of --test-data.
        ivector_period: Frames from one online i-vector to the next; default: as ivector_period in their folder, else
            10.
        every: Learn from every n-th frame only; context comes from all.
        feature_transform: A final.feature_transform in nnet1 form, run after CMVN and deltas, whose splice is the
            context; or a matrix for frames with their context, such as final.mat.
        allow_pipes: Run script lines that end in a pipe in a shell: only for files you trust.
        most_left_out: Largest share of utterances whose labels may be missing or of another number.
        in_memory_gb: Features up to this size, unspliced, stay in memory; larger ones are read again each epoch.
    """

    title: ClassVar[str] = "Kaldi directories"
    kept_files: ClassVar[tuple[str, ...]] = ("final.feature_transform", "ali_train_pdf.counts")

    ali: str | None = None
    validation_ali: str | None = None
    test_ali: str | None = None
    mdl: str | None = None
    exp: str | None = None
    left: int | None = None
    right: int | None = None
    cmvn: Literal["auto", "none", "speaker", "utterance"] = "auto"
    norm_vars: bool | None = None
    deltas: int | None = None
    delta_window: int | None = None
    ivectors: str | None = None
    validation_ivectors: str | None = None
    test_ivectors: str | None = None
    ivector_period: int | None = None
    every: int = 1
    feature_transform: str | None = None
    allow_pipes: bool = False
    most_left_out: float = 0.05
    in_memory_gb: float = field(default=4.0, metadata={"free": True})

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("left", "right"):
            side = getattr(self, name)
            require(side is None or 0 <= side <= 1000, name, side, "from 0 to 1000 frames")
        require(0 <= (self.deltas or 0) <= 4, "deltas", self.deltas, "from 0 to 4")
        for name, most in (("delta_window", 100), ("ivector_period", 10_000)):
            value = getattr(self, name)
            require(value is None or 1 <= value <= most, name, value, f"from 1 to {most} frames")
        require(
            self.ivector_period is None or self.ivectors is not None, "ivector_period", self.ivector_period,
            "left out where there are no ivectors",
        )  # fmt: skip
        require(self.every >= 1, "every", self.every, "at least 1")
        require(0 <= self.most_left_out < 1, "most_left_out", self.most_left_out, "in [0, 1)")
        require(0 <= self.in_memory_gb < math.inf, "in_memory_gb", self.in_memory_gb, "at least 0 and finite")


@dataclass(frozen=True, kw_only=True)
class SlidingOptions:
    """The window, as apply-cmvn-sliding calls it.

    Attributes:
        cmn_window: Frames of the window.
        min_cmn_window: Frames that are looked at before the window is full, at the beginning of an utterance; where the
            window is not centred.
        center: Put the window around each frame; else it ends with the frame.
        norm_vars: Divide by the standard deviation too.
    """

    cmn_window: int = 600
    min_cmn_window: int = 100
    center: bool = False
    norm_vars: bool = False

    def __post_init__(self) -> None:
        _require_frames(self, ("cmn_window", "min_cmn_window"), least=1)


@dataclass(frozen=True, kw_only=True)
class OnlineCmvnOptions:
    """The window, as apply-cmvn-online calls it.

    Attributes:
        cmn_window: Frames of the window, which ends with the frame that is normalised.
        speaker_frames: At most so many frames of the speaker's earlier utterances fill a window that is not full.
        global_frames: At most so many frames of the global statistics fill what is then missing.
        norm_means: Take the mean off; without it features stay as they are.
        norm_vars: Divide by the standard deviation too.
        skip_dims: Features that stay as they are, counted from 0, such as 13:14:15.
    """

    cmn_window: int = 600
    speaker_frames: int = 600
    global_frames: int = 200
    norm_means: bool = True
    norm_vars: bool = False
    skip_dims: str = ""

    def __post_init__(self) -> None:
        _require_frames(self, ("cmn_window",), least=1)
        _require_frames(self, ("speaker_frames", "global_frames"), least=0)
        if self.norm_vars and not self.norm_means:
            raise ConfigError("norm_vars needs norm_means: the variance is not made 1 where the mean is left")


def _require_frames(options: object, names: tuple[str, ...], *, least: int) -> None:
    for name in names:
        value = getattr(options, name)
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= 1_000_000:
            raise ConfigError(f"{name} must be from {least} to 1000000 frames, and is {value!r}")
