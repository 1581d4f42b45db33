"""Settings of an nnet3 network, as nnet3-compute calls them; nothing here imports torch."""

__all__ = ["ComputeOptions", "Nnet3Inputs", "Nnet3Options"]

import math
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from limbeck.errors import ConfigError
from limbeck.kaldi.decoding.options import FeatureOptions

if TYPE_CHECKING:
    from limbeck.kaldi.ivectors import IVectors


@dataclass(frozen=True, kw_only=True)
class ComputeOptions:
    """How utterances are cut and what is done to the outputs, as nnet3-compute calls it.

    Attributes:
        frame_subsampling_factor: Put out every so many frames.
        frames_per_chunk: Frames of output that are computed together, counted before subsampling; rounded up to a
            multiple of the subsampling. Matters only where the network depends on it, as with online i-vectors.
        extra_left_context: Input frames to the left beyond the network's own context.
        extra_right_context: Input frames to the right beyond it.
        extra_left_context_initial: As extra_left_context, for the first chunk; -1 for the same.
        extra_right_context_final: As extra_right_context, for the last chunk; -1 for the same.
        online_ivector_period: Frames from one row of online i-vectors to the next.
    """

    frame_subsampling_factor: int = 1
    frames_per_chunk: int = 50
    extra_left_context: int = 0
    extra_right_context: int = 0
    extra_left_context_initial: int = -1
    extra_right_context_final: int = -1
    online_ivector_period: int = 10

    def __post_init__(self) -> None:
        limits = {
            "frame_subsampling_factor": (1, 100),
            "frames_per_chunk": (1, 100_000),
            "extra_left_context": (0, 10_000),
            "extra_right_context": (0, 10_000),
            "extra_left_context_initial": (-1, 10_000),
            "extra_right_context_final": (-1, 10_000),
            "online_ivector_period": (1, 10_000),
        }
        for name, (low, high) in limits.items():
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
                raise ConfigError(f"{name} must be from {low} to {high}, and is {value!r}")


@dataclass(frozen=True, kw_only=True)
class Nnet3Inputs(ComputeOptions):
    """What an nnet3 network is given, and how it is run.

    Attributes:
        ivectors: An archive, script file or specifier of i-vectors, one per utterance, or with utt2spk one per speaker.
            Of other networks they are appended to the features.
        online_ivectors: The same of matrices, with a row for every online_ivector_period frames.
        output_node: Which output is put out.
    """

    ivectors: str | None = None
    online_ivectors: str | None = None
    output_node: str = "output"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.ivectors is not None and self.online_ivectors is not None:
            raise ConfigError("ivectors and online_ivectors exclude each other: give one of them")

    def read_ivectors(self, features: FeatureOptions) -> "IVectors | None":
        """The i-vectors that are given, read into memory.

        Args:
            features: Where things are.

        Returns:
            The i-vectors, or None.
        """
        from limbeck.kaldi.formats.lines import read_map
        from limbeck.kaldi.ivectors import read_ivectors

        given = self.ivectors or self.online_ivectors
        if not given:
            return None
        online = self.online_ivectors is not None
        speakers = None if features.utt2spk is None or online else read_map(features.utt2spk)
        return read_ivectors(
            given,
            online=online,
            period=self.online_ivector_period if online else None,
            speakers=speakers,
            hint="" if online or speakers is not None else ": are they of speakers? Give --utt2spk",
            root=features.feats_root,
            allow_pipes=features.allow_pipes,
        )

    @property
    def given(self) -> list[str]:
        """The settings that are not as they are unless set, as flags."""
        return [f"--{each.name.replace('_', '-')}" for each in fields(self) if getattr(self, each.name) != each.default]


@dataclass(frozen=True, kw_only=True)
class Nnet3Options(Nnet3Inputs):
    """How an nnet3 network is run on utterances, as nnet3-compute calls it.

    Attributes:
        use_priors: Take the logarithms of the priors in a final.mdl off the outputs.
        acoustic_scale: What the outputs are multiplied by.
        apply_exp: Take the exponential of the outputs.
    """

    use_priors: bool = False
    acoustic_scale: float = 1.0
    apply_exp: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if not math.isfinite(self.acoustic_scale):
            raise ConfigError(f"acoustic_scale must be finite, and is {self.acoustic_scale}")
