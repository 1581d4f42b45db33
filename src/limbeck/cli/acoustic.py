"""The network that ``limbeck forward`` and ``limbeck decode`` run: nnet1, a run, or nnet3."""

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
    """Open the network, and refuse the flags of the other kind.

    Args:
        models: Paths of one network, or of several.
        outputs: Settings of an nnet1 network's outputs.
        nnet3: Settings of an nnet3 network.
        features: Settings of the features.
        activation: For an HDF5 file that does not name its activations.
        mean: How several are averaged, or None.
        weights: How much each counts, or None.
        decodes: Whether the outputs are decoded, which needs logits.

    Returns:
        The network.
    """
    from limbeck.kaldi.formats.sniff import identify

    if not any(path.is_file() and identify(path) in ("nnet3", "nnet3 model") for path in models):
        from limbeck.kaldi.decoding.outputs import AcousticModel

        strange = [flag for flag in nnet3.given if "ivector" not in flag]
        if strange:
            raise ConfigError(f"{strange[0]} is for nnet3 networks, and {models[0]} is not one: leave it out")
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
        raise ConfigError("nnet3 networks are not averaged here: limbeck soften takes several as --teacher")
    # Decoding always needs logits, and subtracts priors itself.
    odd = [] if decodes else [each.name for each in fields(outputs) if getattr(outputs, each.name) != each.default]
    odd += [name for name, value in (("activation", activation), ("mean", mean), ("weights", weights)) if value]
    if odd:
        cure = "subtract the priors of a final.mdl with --use-priors" if "count" in odd[0] else "leave it out"
        raise ConfigError(f"--{odd[0].replace('_', '-')} is not for nnet3 networks, and {models[0]} is one: {cure}")
    settings = {each.name: getattr(nnet3, each.name) for each in fields(nnet3)}
    return Nnet3Acoustic(models[0], Nnet3Options(**settings), features)
