"""``limbeck decode``."""

__all__ = ["decode"]

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from limbeck.cli.acoustic import open_acoustic
from limbeck.cli.common import GROUPS, Json, Quiet
from limbeck.cli.console import print_json, print_pairs, say
from limbeck.cli.kaldi import (
    ArchiveToWrite,
    Features,
    Overwrite,
    Search,
    archive_to_write,
    refuse_taken,
    with_cutoff,
)
from limbeck.errors import ConfigError
from limbeck.kaldi.decoding.options import FeatureOptions, OutputOptions, SearchOptions
from limbeck.kaldi.nnet3.options import Nnet3Inputs
from limbeck.system.progress import counting

if TYPE_CHECKING:
    from limbeck.kaldi.decoding.graph import Graph
    from limbeck.kaldi.decoding.judging import Judged, Sources
    from limbeck.kaldi.decoding.outputs import Acoustic
    from limbeck.kaldi.decoding.speakers import GroupedErrors

_SCALES = (0.05, 0.07, 0.1, 0.14, 0.2)
_MODEL = Parameter(group=GROUPS["Model"])
_PARTS = Parameter(group=GROUPS["Data"])
_SCALE = Parameter(group="Acoustic scale")


def decode(
    *,
    graph: Annotated[Path, _MODEL],
    mdl: Annotated[Path, _MODEL],
    out: Annotated[Path, Parameter(group=GROUPS["Run"])],
    model: Annotated[list[Path] | None, _MODEL] = None,
    mean: Annotated[Literal["arithmetic", "geometric"] | None, _MODEL] = None,
    weights: Annotated[list[float] | None, _MODEL] = None,
    class_frame_counts: Annotated[Path | None, _MODEL] = None,
    prior_scale: Annotated[float, _MODEL] = 1.0,
    prior_floor: Annotated[float, _MODEL] = 1e-10,
    prior_cutoff: Annotated[float | None, _MODEL] = None,
    activation: Annotated[str | None, _MODEL] = None,
    feats: Annotated[str | None, _PARTS] = None,
    loglikes: Annotated[str | None, _PARTS] = None,
    text: Annotated[Path | None, _PARTS] = None,
    ali: Annotated[Path | None, _PARTS] = None,
    against: Annotated[Path | None, _PARTS] = None,
    frame_shift: Annotated[float, _PARTS] = 0.01,
    features: Features = FeatureOptions(),  # noqa: B008
    acoustic_scale: Annotated[float | None, _SCALE] = None,
    dev: Annotated[Path | None, _SCALE] = None,
    dev_utterances: Annotated[int | None, _SCALE] = None,
    acoustic_scales: Annotated[tuple[float, ...], _SCALE] = _SCALES,
    search: Search = SearchOptions(),  # noqa: B008
    lattices: Annotated[str | None, Parameter(group=GROUPS["Search"], allow_leading_hyphen=True)] = None,
    nnet3: Annotated[Nnet3Inputs, Parameter(name="*", group="nnet3")] = Nnet3Inputs(),  # noqa: B008
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    r"""Decode utterances to words, and count word and frame errors.

    Needs the extra: pip install '.[kaldi]'. The acoustic scale is chosen on the --dev directory, or given as
    --acoustic-scale; never on the test directory. The word error rate has its interval over the speakers of utt2spk.

    ```
    limbeck decode --model runs/student --feats data/test --graph graph --mdl ali_train/final.mdl --ali ali_test \
        --dev data/dev --out decode_test
    limbeck decode --model final.nnet --class-frame-counts ali_train_pdf.counts --feats data/test --cmvn speaker \
        --graph graph --mdl ali_train/final.mdl --ali ali_test --dev data/dev --out decode_test
    limbeck decode --model runs/student --feats data/test --graph graph --mdl ali_train/final.mdl --acoustic-scale 0.1 \
        --lattices ark:lat.ark --lattice-beam 8 --out decode_test
    limbeck decode --loglikes loglikes.scp --text data/test/text --graph graph --mdl final.mdl \
        --acoustic-scale 0.1 --out decode_test
    limbeck decode --model runs/student --feats data/test --graph graph --mdl ali_train/final.mdl --dev data/dev \
        --against decode_teacher --out decode_student
    ```

    Args:
        graph: Folder with HCLG.fst and words.txt.
        mdl: The final.mdl that the graph was made with.
        out: File for the hypotheses, one utterance per line; the metrics go to the same name with .json.
        model: A network of any format, or several, whose posteriors are averaged. A run's folder knows how its
            features are made, and the counts of pdfs in its training; the final.mdl of nnet3 has priors.
        mean: How several models are averaged; default: as in the ensemble's run, else arithmetic.
        weights: Weight of each model in the mean; default: equal weights.
        class_frame_counts: Counts of pdfs, whose log-priors are subtracted from the outputs; default: those of the run.
        prior_scale: Scale of the log-priors.
        prior_floor: A pdf with a lower relative frequency is never chosen.
        prior_cutoff: The name of --prior-floor in older Kaldi.
        activation: For an HDF5 file that does not name its activations.
        feats: A data directory, a script file or an archive, or a specifier such as ark:-.
        loglikes: Log-likelihoods written by limbeck forward or nnet-forward, instead of model and feats.
        text: The reference transcripts; default: text in the data directory.
        ali: Alignments of the same utterances, a folder with ali.1.gz and so on, for the frame accuracy.
        against: The --out of an earlier decoding of the same utterances, such as the teacher's: the difference of word
            error rates is shown, with its interval over speakers.
        frame_shift: Seconds from one frame to the next.
        acoustic_scale: Factor of the log-likelihoods; default 0.1 where it is not chosen.
        dev: A data directory on which the acoustic scale is chosen.
        dev_utterances: How many utterances of it to use, evenly spaced; default: all.
        acoustic_scales: Candidates, tried from the middle one downhill.
        lattices: Also write compact lattices, for Kaldi's lattice-* tools: a path, or a specifier such as
            ark,t:lat.txt or, with --allow-pipes, "ark:| gzip -c > lat.1.gz". The search that gives them is slower, and
            has no --max-active.
        overwrite: Replace existing files.
        quiet: No progress bar.
        json: Print the metrics as JSON.
    """
    from limbeck.kaldi.decoding.graph import Graph, check_packages
    from limbeck.kaldi.decoding.judging import choose_scale, open_sources
    from limbeck.kaldi.decoding.speakers import GroupedErrors

    scale = _SCALES[2] if acoustic_scale is None else acoustic_scale
    _check(bool(model), feats, loglikes, ali, acoustic_scale, dev, (*acoustic_scales, frame_shift, scale), features)
    refuse_taken(out, out.with_suffix(".json"), overwrite=overwrite)
    earlier = None if against is None else GroupedErrors.read(against)
    lattice_archive = _lattice_archive(lattices, search, overwrite=overwrite, allow_pipes=features.allow_pipes)
    check_packages()
    opened = Graph.open(graph, mdl)
    priors = OutputOptions(
        no_softmax=True, class_frame_counts=class_frame_counts, prior_scale=prior_scale, prior_floor=prior_floor
    )
    priors = with_cutoff(priors, prior_cutoff)
    network = None
    if model is not None:
        # Without counts: frame accuracy uses the raw outputs.
        raw = OutputOptions(no_softmax=True)
        network = open_acoustic(
            model, raw, nnet3, features, activation=activation, mean=mean, weights=weights, decodes=True
        )
        _fit(network, opened)

    def sources(place: str | Path, said: Path | None, aligned: Path | None) -> "Sources":
        return open_sources(place, said, aligned, network, priors, features, opened)

    test = sources(feats or loglikes or "", text, ali)
    if earlier is not None and test.text is None:
        raise ConfigError("--against compares word errors, and there is no reference: give --text")
    tried: list[Judged] = []
    if dev is not None:
        part = sources(dev, None, None)
        if dev_utterances is not None:
            part.utterances.keep(dev_utterances)
        best, tried = choose_scale(acoustic_scales, lambda each: _tried(part, opened, each, search, quiet=quiet))
        scale = best.scale
    judged = _decoded(test, opened, scale, search, lattice_archive, quiet=quiet)
    figures = judged.to_dict(frame_shift=frame_shift * nnet3.frame_subsampling_factor)
    if model is not None:
        figures["model"] = [str(path) for path in model]
    if tried:
        figures["dev"] = [{"acoustic_scale": one.scale, "wer": one.words.rate} for one in tried]
    _write(out, judged, figures)
    if earlier is not None:  # what was decoded is kept, whether or not the other fits
        _add_difference(out, judged, figures, against, earlier)
    if judged.unnamed is not None:
        say(f"note: utt2spk does not name the speaker of {judged.unnamed}: word errors are grouped by utterance")
    if json:
        print_json(figures)
        return
    _show(figures)
    say(f"The hypotheses are in {out}, the metrics in {out.with_suffix('.json')}")


def _fit(network: "Acoustic", graph: "Graph") -> None:
    """Check that a network has the graph's pdfs, and say what was assumed of it."""
    graph.check_pdfs(network.outputs, network.path)
    for note in network.notes:
        say(f"note: {note}")


def _tried(part: "Sources", graph: "Graph", scale: float, search: SearchOptions, *, quiet: bool) -> "Judged":
    """Decode development utterances with one acoustic scale."""
    from limbeck.kaldi.decoding.judging import decode_part

    with counting(f"dev, acoustic scale {scale:g}", not quiet) as show:
        return decode_part(part, graph, scale=scale, options=search, progress=show)


def _decoded(
    part: "Sources", graph: "Graph", scale: float, search: SearchOptions, archive: ArchiveToWrite | None, *, quiet: bool
) -> "Judged":
    """Decode a part, and write its lattices where they are wanted."""
    from limbeck.kaldi.decoding.judging import decode_part

    with ExitStack() as stack:
        show = stack.enter_context(counting("decoding", not quiet))
        writer = None if archive is None else stack.enter_context(archive.open())
        keep = None if writer is None else writer.write_lattice
        return decode_part(part, graph, scale=scale, options=search, lattices=keep, progress=show)


def _lattice_archive(
    given: str | None, search: SearchOptions, *, overwrite: bool, allow_pipes: bool
) -> ArchiveToWrite | None:
    usual = SearchOptions()
    if given is None:
        if search.lattice_beam != usual.lattice_beam:
            raise ConfigError("--lattice-beam belongs to --lattices: give both, or neither")
        return None
    if search.max_active != usual.max_active:
        raise ConfigError("--max-active is not for the search that gives --lattices: leave it out, or lower --beam")
    return archive_to_write(given, overwrite=overwrite, allow_pipes=allow_pipes)


def _check(
    model: bool,
    feats: str | None,
    loglikes: str | None,
    ali: Path | None,
    scale: float | None,
    dev: Path | None,
    positive: tuple[float, ...],
    features: FeatureOptions,
) -> None:
    if (loglikes is None) == (feats is None):
        raise ConfigError("give --feats and --model, or --loglikes")
    if model != (feats is not None):
        raise ConfigError("--feats and --model belong together; --loglikes needs neither")
    if loglikes is not None and ali is not None:
        raise ConfigError("--ali needs --model: frame accuracy is counted on a network's own outputs")
    if loglikes is not None and dev is not None:
        raise ConfigError("--dev needs --model; with --loglikes give --acoustic-scale")
    if loglikes is not None and features.exp is not None:
        raise ConfigError("--exp describes the features of --model, and --loglikes needs none: leave it out")
    if scale is not None and dev is not None:
        raise ConfigError("--acoustic-scale fixes what --dev would choose: leave one out")
    if not all(0 < value < float("inf") for value in positive):
        raise ConfigError("acoustic scales and --frame-shift must be positive and finite")


def _write(out: Path, judged: "Judged", figures: dict[str, Any]) -> None:
    from limbeck.kaldi.formats.lines import write_table
    from limbeck.system.files import replace_json

    write_table(out, judged.hypotheses)
    replace_json(out.with_suffix(".json"), figures)


def _add_difference(
    out: Path, judged: "Judged", figures: dict[str, Any], other: Path | None, errors: "GroupedErrors"
) -> None:
    """Put the difference from another decoding into the metrics."""
    from limbeck.system.files import replace_json

    figures["against"] = {"file": str(other), **judged.grouped().against(errors, name=str(other)).to_dict()}
    replace_json(out.with_suffix(".json"), figures)


def _show(figures: dict[str, Any]) -> None:
    rows = [
        ("utterances", f"{figures['utterances']:,}"),
        ("audio", f"{figures['audio_seconds']:,.0f} s"),
        ("acoustic scale", f"{figures['acoustic_scale']:g}"),
    ]
    if "wer" in figures:
        total = figures["insertions"] + figures["deletions"] + figures["substitutions"]
        rows += [
            ("word error rate", f"{figures['wer']:.2%} ({total:,} of {figures['words']:,} words)"),
            (f"over {len(figures['by_unit'])} {figures['unit']}", _limits(figures["wer_interval"], ".2f")),
            ("insertions", f"{figures['insertions']:,}"),
            ("deletions", f"{figures['deletions']:,}"),
            ("substitutions", f"{figures['substitutions']:,}"),
        ]
    if "against" in figures:
        found = figures["against"]
        beside = f"{100 * found['estimate']:+.2f} points from {found['file']}"
        rows.append(("difference", f"{beside}, {_limits(found, '+.2f')}"))
    if "frame_accuracy" in figures:
        rows += [
            ("frame accuracy", f"{figures['frame_accuracy']:.2%} of {figures['frames']:,}"),
            ("frame cross-entropy", f"{figures['frame_cross_entropy']:.4f} nats"),
        ]
    rows += [("real-time factor", f"{figures['real_time_factor']:.3f} (processor time)")]
    for name in ("unreferenced", "unaligned"):
        if figures.get(name):
            shown = ", ".join(figures[name][:3])
            rows.append((f"{name}, left out", f"{len(figures[name])} ({shown})"))
    if figures["incomplete"]:
        rows.append(("incomplete paths", f"{figures['incomplete']:,}"))
    print_pairs(rows)


def _limits(interval: dict[str, float | None], form: str) -> str:
    low, high = interval["low"], interval["high"]
    if low is None or high is None:
        return "no interval: one says nothing of others"
    return f"95 % interval {format(100 * low, form)} to {format(100 * high, form)}"
