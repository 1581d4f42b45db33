"""Settings of ``limbeck forward`` and ``limbeck decode``; flags and Python arguments are two spellings of these."""

__all__ = ["FeatureOptions", "OutputOptions", "SearchOptions"]

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from limbeck.errors import ConfigError
from limbeck.kaldi.formats.specifiers import file_of
from limbeck.options.checks import check_types


@dataclass(frozen=True, kw_only=True)
class FeatureOptions:
    """What is done to features before the network sees them; a run's folder says most of it.

    Attributes:
        exp: The folder of Kaldi's experiment: its cmvn_opts or norm_vars, delta_opts or delta_order, splice_opts,
            final.feature_transform or final.mat, and counts of pdfs say what the other flags leave open.
        cmvn: Take off the mean: "none", of each "speaker" (cmvn.scp and utt2spk beside feats.scp), of each
            "utterance" as computed from itself; default: as the run was trained, else none.
        norm_vars: Divide by the standard deviation too; default: as the run was trained.
        cmvn_scp: Statistics by speaker, where they are elsewhere: a script file, an archive, or a specifier.
        utt2spk: The speaker of each utterance, where it is elsewhere: for CMVN, for --ivectors of speakers, and for
            word errors by speaker.
        deltas: Orders of differences over time to append; 2 for the usual deltas and double deltas. Default: as the
            run was trained.
        delta_window: Frames to each side that one difference looks at; default: as the run was trained, else 2.
        left_context: Frames before each frame to splice to it; at the edges the edge frame is repeated. Default: as
            the run was trained.
        right_context: Frames after each frame to splice to it.
        feature_transform: A network that is run first, such as final.feature_transform, or a matrix for spliced
            frames, such as final.mat; default: the run's own.
        feats_root: The folder to which paths in script files are relative, where it is not the working folder, the
            script file's, or the one above it.
        allow_pipes: Run lines of script files that are commands, in a shell.
    """

    exp: Path | None = None
    cmvn: Literal["none", "speaker", "utterance"] | None = None
    norm_vars: bool | None = None
    cmvn_scp: Path | None = None
    utt2spk: Path | None = None
    deltas: int | None = None
    delta_window: int | None = None
    left_context: int | None = None
    right_context: int | None = None
    feature_transform: Path | None = None
    feats_root: Path | None = None
    allow_pipes: bool = False

    def __post_init__(self) -> None:
        check_types(self)
        if self.utt2spk is not None:  # Kaldi's tools take a specifier
            object.__setattr__(self, "utt2spk", file_of(self.utt2spk))
        for name, limit in (("deltas", 4), ("left_context", 1000), ("right_context", 1000)):
            if not 0 <= (getattr(self, name) or 0) <= limit:
                raise ConfigError(f"{name} must be from 0 to {limit}, and is {getattr(self, name)}")
        if self.delta_window is not None and not 1 <= self.delta_window <= 100:
            raise ConfigError(f"delta_window must be from 1 to 100, and is {self.delta_window}")
        if self.cmvn == "none":
            for name in ("norm_vars", "cmvn_scp"):
                if getattr(self, name):
                    raise ConfigError(f"{name} belongs to cmvn speaker or utterance, and cmvn is none")


@dataclass(frozen=True, kw_only=True)
class OutputOptions:
    """What is done to a network's outputs.

    Attributes:
        no_softmax: Drop the softmax at the network's end.
        apply_log: Take the logarithm of the outputs.
        class_frame_counts: Counts of pdfs, whose log-priors are taken off the outputs: a text vector, as
            ali_train_pdf.counts.
        prior_scale: Scale of the log-priors.
        prior_floor: A pdf of a lower relative frequency is never chosen. (Older Kaldi calls this prior_cutoff.)
    """

    no_softmax: bool = False
    apply_log: bool = False
    class_frame_counts: Path | None = None
    prior_scale: float = 1.0
    prior_floor: float = 1e-10

    def __post_init__(self) -> None:
        check_types(self)
        if self.no_softmax and self.apply_log:
            raise ConfigError("no_softmax and apply_log exclude each other: there is no logarithm of logits")
        if self.class_frame_counts is not None and not (self.no_softmax or self.apply_log):
            raise ConfigError("class_frame_counts needs no_softmax or apply_log: priors come off logarithms only")
        if not (0 <= self.prior_scale < math.inf and 0 <= self.prior_floor < 1):
            raise ConfigError(
                f"prior_scale must be at least 0 and prior_floor in [0, 1), and are {self.prior_scale} and "
                f"{self.prior_floor}"
            )


@dataclass(frozen=True, kw_only=True)
class SearchOptions:
    """How the graph is searched.

    Attributes:
        beam: Paths worse than the best by more than this, in scaled log-likelihood, are pruned.
        max_active: At most so many states are kept per frame, above 20.
        jobs: Processes.
        lattice_beam: With lattices, sequences of words worse than the best by more than this are left out of them.
    """

    beam: float = 13.0
    max_active: int = 7000
    jobs: int = 1
    lattice_beam: float = 8.0

    def __post_init__(self) -> None:
        check_types(self)
        if not (0 < self.beam < math.inf and 20 < self.max_active < 1 << 31 and 1 <= self.jobs <= 1024):
            raise ConfigError(
                f"beam must be positive, max_active above 20 and jobs from 1 to 1024, and they are {self.beam}, "
                f"{self.max_active} and {self.jobs}"
            )
        if not 0 < self.lattice_beam < math.inf:
            raise ConfigError(f"lattice_beam must be positive and finite, and is {self.lattice_beam}")
