"""``limbeck compress`` for Kaldi nnet1 files."""

__all__ = ["compress_file"]

from pathlib import Path
from typing import Literal

from limbeck.cli.console import print_json, print_text, say
from limbeck.cli.kaldi import refuse_taken
from limbeck.errors import ConfigError
from limbeck.options import RankRule
from limbeck.system.files import read_json, replace_text


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
) -> None:
    """Compress an nnet1 network, and write it, its plan and a plot of its spectra."""
    from limbeck.kaldi.formats.nnet1 import dialect_of, read_nnet, write_nnet
    from limbeck.kaldi.lowrank import as_module, calibration_frames, choose_ranks, compress_nnet
    from limbeck.lowrank import RankPlan, Spectrum
    from limbeck.report.contents import Singular
    from limbeck.report.figures_compression import draw_spectra
    from limbeck.report.figures_style import svg
    from limbeck.runs.unused import tell_unused, unused_in_compression

    if rule.name is None and plan is None:
        raise ConfigError("there is nothing to do: give one rank rule, such as --energy 0.9, or --plan")
    if feature_transform is not None and features is None:
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
    how = dialect or dialect_of(source)
    write_nnet(target, small if how == "legacy" else small.for_kaldi(), dialect=how)
    if chosen.spectrum_digest is not None and spectrum is not None:
        spectrum.save(beside["spectrum.safetensors"])
    chosen.save(beside["plan.json"])
    if spectrum is not None:
        ranks = chosen.ranks
        named = [(layer.name, layer.decomposition) for layer in spectrum.layers if layer.decomposition is not None]
        shown = [Singular(f"component {name}", parts.values, ranks.get(name)) for name, parts in named]
        replace_text(beside["svg"], svg(draw_spectra(shown)))
    if json:
        print_json(read_json(beside["plan.json"]))
        return
    print_text(str(chosen))
    say(f"The network is in {target} ({how}), the plan is {beside['plan.json']}")
