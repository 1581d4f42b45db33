"""``limbeck compress`` for Kaldi nnet1 files."""

__all__ = ["compress_file", "speech_for"]

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from limbeck.cli.console import print_json, print_text, say
from limbeck.cli.kaldi import refuse_taken
from limbeck.errors import ConfigError, DataError
from limbeck.options import DataOptions, FineTuning, RankRule
from limbeck.system.files import read_json, replace_text

if TYPE_CHECKING:
    from limbeck.lowrank import RankPlan, Spectrum


def speech_for(
    finetuning: FineTuning,
    data: str | None,
    ali: Path | None,
    exp: Path | None,
    feature_transform: Path | None,
    validation: float | None,
    train_examples: float | None,
    allow_pipes: bool,
) -> DataOptions | None:
    """The data that an nnet1 file is fine-tuned on.

    Args:
        finetuning: For how many epochs.
        data: A Kaldi directory.
        ali: Its alignments.
        exp: The folder of Kaldi's experiment.
        feature_transform: A transform of the features.
        validation: What is set aside.
        train_examples: How many examples are used.
        allow_pipes: Whether script files may have commands.

    Returns:
        The settings; None where nothing is fine-tuned.

    Raises:
        ConfigError: If data are missing, or of no use.
    """
    from limbeck.kaldi.options import SpeechOptions

    given = {"data": data, "ali": ali, "exp": exp, "validation": validation, "train_examples": train_examples}
    named = {name: value for name, value in given.items() if value is not None}
    if not finetuning.finetune_epochs:
        if named:
            flag = next(iter(named)).replace("_", "-")
            raise ConfigError(f"--{flag} is for fine-tuning an nnet1 file: give --finetune-epochs too")
        return None
    if data is None or ali is None:
        raise ConfigError("--finetune-epochs of an nnet1 file needs frames and their alignments: give --data and --ali")
    return SpeechOptions(
        data=data,
        ali=str(ali),
        exp=None if exp is None else str(exp),
        feature_transform=None if feature_transform is None else str(feature_transform),
        validation=DataOptions().validation if validation is None else validation,
        train_examples=train_examples,
        allow_pipes=allow_pipes,
    )


def compress_file(
    source: Path,
    target: Path | None,
    *,
    rule: RankRule,
    plan: Path | None,
    metric: Literal["weights", "outputs", "divergence"] | None,
    calibration: int,
    placement: Literal["input", "split"],
    features: str | None,
    feature_transform: Path | None,
    dialect: Literal["binary", "text", "legacy"] | None,
    overwrite: bool,
    allow_pipes: bool,
    json: bool,
    quiet: bool,
    finetuning: FineTuning,
    data: DataOptions | None,
) -> None:
    """Compress an nnet1 network, and write it, its plan and a plot of its spectra."""
    from limbeck.kaldi.formats.nnet1 import dialect_of, read_nnet, write_nnet
    from limbeck.kaldi.formats.nnet1_components import AffineTransform, LinearTransform
    from limbeck.kaldi.lowrank import as_module, calibration_frames, choose_ranks, compress_nnet
    from limbeck.lowrank import RankPlan, Spectrum
    from limbeck.runs.unused import tell_unused, unused_in_compression

    if rule.name is None and plan is None:
        raise ConfigError("there is nothing to do: give one rank rule, such as --energy 0.9, or --plan")
    if feature_transform is not None and features is None and data is None:
        raise ConfigError("--feature-transform is for the features to calibrate with: give --features too")
    found = unused_in_compression(
        rule, planned=plan is not None, metric=metric, calibration=calibration, placement=placement
    )
    if plan is None and features is None and calibration != 2000:
        found = [("calibration", calibration, "there are no features to calibrate with")]
    if plan is not None and features is not None:
        found.append(("features", features, "the plan fixes the ranks"))
    tell_unused(found, None)
    if target is None:
        raise ConfigError(f"give the file to write: limbeck compress {source} smaller.nnet ...")
    if target.exists() and source.exists() and target.samefile(source):
        raise ConfigError(f"{target} is the network to read: give another file to write")
    beside = {name: target.with_name(f"{target.name}.{name}") for name in ("plan.json", "spectrum.safetensors", "svg")}
    refuse_taken(target, *beside.values(), overwrite=overwrite)
    nnet = read_nnet(source)
    if not any(isinstance(part, AffineTransform | LinearTransform) for part in nnet.components):
        raise DataError(f"{source} has no <AffineTransform> and no <LinearTransform>: there is nothing to make smaller")
    frames = None
    if features is not None:
        transform = None if feature_transform is None else read_nnet(feature_transform)
        frames = calibration_frames(features, nnet, transform=transform, count=calibration, allow_pipes=allow_pipes)
    spectrum: Spectrum | None
    if plan is not None:
        chosen = RankPlan.load(plan)
        kept = plan.with_name(plan.name.removesuffix("plan.json") + "spectrum.safetensors")
        spectrum = None if chosen.spectrum_digest is None else Spectrum.load(kept)
    else:
        chosen, spectrum = choose_ranks(as_module(nnet), rule, frames, metric=metric, placement=placement)
    small = compress_nnet(nnet, chosen, spectrum)
    if data is not None:
        from limbeck.cli.kaldi_finetune import finetuned_nnet1

        training = finetuning.training(finetuning.finetune_epochs)
        small = finetuned_nnet1(
            small, data, [source], finetuning.aims, training, name=f"{source}, compressed,", quiet=quiet
        )
    how = dialect or dialect_of(source)
    write_nnet(target, small if how == "legacy" else small.for_kaldi(), dialect=how)
    if chosen.spectrum_digest is not None and spectrum is not None:
        spectrum.save(beside["spectrum.safetensors"])
    chosen.save(beside["plan.json"])
    if spectrum is not None:
        _draw(beside["svg"], chosen, spectrum)
    if json:
        print_json(read_json(beside["plan.json"]))
        return
    print_text(str(chosen))
    say(f"The network is in {target} ({how}), the plan is {beside['plan.json']}")


def _draw(path: Path, plan: "RankPlan", spectrum: "Spectrum") -> None:
    from limbeck.report.contents import Singular
    from limbeck.report.figures_compression import draw_spectra
    from limbeck.report.figures_style import svg

    named = [(layer.name, layer.decomposition) for layer in spectrum.layers if layer.decomposition is not None]
    shown = [Singular(f"component {name}", parts.values, plan.ranks.get(name)) for name, parts in named]
    replace_text(path, svg(draw_spectra(shown)))
