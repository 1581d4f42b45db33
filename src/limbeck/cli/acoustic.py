"""The network that ``limbeck forward`` and ``limbeck decode`` run: of nnet1 and runs, or of nnet3."""

__all__ = ["open_acoustic"]

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from limbeck.errors import ConfigError
from limbeck.kaldi.decoding.options import FeatureOptions, OutputOptions
from limbeck.kaldi.nnet3.options import Nnet3Inputs, Nnet3Options

if TYPE_CHECKING:
    from limbeck.kaldi.decoding.outputs import Acoustic


def open_acoustic(
    models: Sequence[Path],
    outputs: OutputOptions,
    nnet3: Nnet3Inputs,
    features: FeatureOptions,
    *,
    activation: str | None,
    mean: Literal["arithmetic", "geometric"] | None,
    weights: list[float] | None,
    decodes: bool = False,
) -> "Acoustic":
    """The network, of whichever kind; flags of the other kind are refused.

    Args:
        models: Paths of one network, or of several.
        outputs: What is done to the outputs of a network of nnet1.
        nnet3: How a network of nnet3 is run.
        features: What is done to features.
        activation: For an HDF5 file that does not name its activations.
        mean: How several are averaged, or None.
        weights: How much each counts, or None.
        decodes: Whether words are looked for, for which the logits are wanted.

    Returns:
        The network.
    """
    from limbeck.formats.sniff import identify

    if not any(path.is_file() and identify(path) in ("nnet3", "nnet3 model") for path in models):
        from limbeck.kaldi.decoding.outputs import AcousticModel

        strange = [flag for flag in nnet3.given if "ivector" not in flag]
        if strange:
            raise ConfigError(f"{strange[0]} is for networks of nnet3, and {models[0]} is not one: leave it out")
        return AcousticModel(
            models,
            outputs,
            features=features,
            ivectors=nnet3.read_ivectors(features),
            activation=activation,
            mean=mean,
            weights=weights,
        )
    from limbeck.kaldi.nnet3.acoustic import Nnet3Acoustic

    if len(models) > 1:
        raise ConfigError("networks of nnet3 are not averaged here: limbeck soften takes several as --teacher")
    # Decoding asks for logits whatever the network is, and takes priors off by itself.
    odd = [] if decodes else [each.name for each in fields(outputs) if getattr(outputs, each.name) != each.default]
    odd += [name for name, value in (("activation", activation), ("mean", mean), ("weights", weights)) if value]
    if odd:
        cure = "take off the priors of a final.mdl with --use-priors" if "count" in odd[0] else "leave it out"
        raise ConfigError(f"--{odd[0].replace('_', '-')} is not for networks of nnet3, and {models[0]} is one: {cure}")
    settings = {each.name: getattr(nnet3, each.name) for each in fields(nnet3)}
    return Nnet3Acoustic(models[0], Nnet3Options(**settings), features)
