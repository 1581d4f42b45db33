"""``limbeck compress``."""

__all__ = ["compress"]

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Group, Parameter

from limbeck.cli.common import GROUPS, Config, Json, Log, Quiet, Resume, Views, callbacks_for, open_examples
from limbeck.cli.console import print_json, print_metrics, print_text, print_verdicts, say
from limbeck.errors import ConfigError
from limbeck.options import Augmentation, FineTuning, RankRule
from limbeck.options.kinds import every_option

if TYPE_CHECKING:
    from torch import nn

    from limbeck.data import DataSet
    from limbeck.protocols import Teacher

_RANKS = Parameter(group=GROUPS["Ranks"])
_KALDI_FILES = Group("Kaldi nnet1 files", sort_key=99)
_KALDI = Parameter(group=_KALDI_FILES)


def compress(
    source: Annotated[Path, Parameter(help="A run folder, or a Kaldi nnet1 file.")],
    target: Annotated[Path | None, Parameter(help="For an nnet1 file: the file to write.")] = None,
    *,
    out: Annotated[Path | None, Parameter(group=GROUPS["Run"])] = None,
    rule: Annotated[RankRule, Parameter(name="*", group=GROUPS["Ranks"])] = RankRule(),  # noqa: B008
    by: Annotated[Literal["rank", "units"], _RANKS] = "rank",
    plan: Annotated[Path | None, _RANKS] = None,
    metric: Annotated[Literal["weights", "outputs", "divergence"] | None, _RANKS] = None,
    calibration: Annotated[int, _RANKS] = 2000,
    placement: Annotated[Literal["input", "split"], _RANKS] = "input",
    convolutions: Annotated[Literal["channels", "best"], _RANKS] = "best",
    finetuning: Annotated[FineTuning, Parameter(name="*", group=GROUPS["Fine-tuning"])] = FineTuning(),  # noqa: B008
    teacher_targets: Annotated[Path | None, Parameter(group=GROUPS["Fine-tuning"])] = None,
    augmentation: Views = Augmentation(),  # noqa: B008
    int8: Annotated[bool, Parameter(group=GROUPS["8 bits"], negative=())] = False,
    margin: Annotated[float | None, Parameter(group=GROUPS["Run"])] = None,
    data: Annotated[str | None, Parameter(group=GROUPS["Data"])] = None,
    validation: Annotated[float | None, Parameter(group=GROUPS["Data"])] = None,
    image_size: Annotated[int | None, Parameter(group=GROUPS["Data"])] = None,
    train_examples: Annotated[float | None, Parameter(group=GROUPS["Data"])] = None,
    model: Annotated[str | None, Parameter(group=GROUPS["Network"])] = None,
    features: Annotated[str | None, _KALDI] = None,
    feature_transform: Annotated[Path | None, _KALDI] = None,
    ali: Annotated[Path | None, _KALDI] = None,
    exp: Annotated[Path | None, _KALDI] = None,
    dialect: Annotated[Literal["binary", "text", "legacy"] | None, _KALDI] = None,
    overwrite: Annotated[bool, Parameter(group=_KALDI_FILES, negative=())] = False,
    allow_pipes: Annotated[bool, Parameter(group=GROUPS["Data"], negative=())] = False,
    resume: Resume = False,
    config: Config = None,
    log: Log = None,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Make a trained network smaller by low rank or fewer units, win back what is lost by distilling, round to 8 bits.

    Each large layer becomes two thin ones, or with --by units loses hidden units and channels. Give one rule, a plan
    that was made before, or --int8 alone.

    ```
    limbeck compress runs/student --energy 0.95 --out runs/smaller
    limbeck compress runs/cnn --size 200KB --finetune-epochs 5 --int8 --out runs/tiny
    limbeck compress runs/cnn --latency 2ms --out runs/quick
    limbeck compress runs/cnn --by units --latency 2ms --finetune-epochs 5 --out runs/narrow
    limbeck compress runs/cnn --parameters 0.5 --metric weights --out runs/half
    limbeck compress runs/cnn --plan runs/half/plan.json --out runs/again
    limbeck compress final.nnet smaller.nnet --parameters 0.5 --features feats.ark
    limbeck compress final.nnet smaller.nnet --rank 112 117 124 232 --dialect legacy
    limbeck compress final.nnet smaller.nnet --parameters 0.5 --finetune-epochs 2 --data data/train --ali exp/ali \
        --exp exp/dnn
    ```

    Args:
        source: A run folder, or a Kaldi nnet1 file.
        target: For an nnet1 file: the file to write; its plan and a plot of the spectra are written beside it.
        out: For a run: the folder to write.
        by: "rank": each layer is factorised into two. "units": hidden units and channels are pruned, chosen by the
            measured change of the predictions on training examples; the layers that read them are refitted by least
            squares. For parameters, flops, size and latency.
        plan: A plan.json made for this network, instead of a rank rule.
        metric: How the error of a truncation is measured: on the "weights", on the layers' "outputs" for training data,
            or on these weighted by the KL "divergence" of the predictions. Default: divergence for parameters, flops,
            size and latency, weights for the other rules.
        calibration: How many training examples the last two metrics use.
        placement: Which factor gets the singular values: the first ("input"), or both, as square roots.
        convolutions: "channels": a convolution becomes one to fewer channels and a 1x1 convolution; "best": with a
            budget (parameters, flops, size, latency) it may also become one over columns and one over rows, or three
            (Tucker-2: 1x1, the old kernel, 1x1), whichever loses least for what it costs.
        teacher_targets: Fine-tune from a store of answers, written by limbeck soften with the same data, validation and
            augmentation, instead of from the uncompressed network.
        int8: Dynamic quantisation: the weights of linear layers have 8 bits; activations are quantised at run time.
        margin: Non-inferiority margin in percentage points of the error rate, such as 0.5: test whether the result is
            as good as the network was, within the margin.
        data: The data set; default: the one that the run was trained on.
        validation: Share or count of the training set to set aside for validation; default: as the run.
        image_size: Resize the images of a folder to this many pixels; default: as the run.
        train_examples: Use only this many training examples; default: as the run.
        model: The architecture if it is your own, as package.module:function.
        features: For an nnet1 file: an archive, script file or specifier (ark:-) of features to calibrate with.
        feature_transform: For an nnet1 file: an nnet1 network to pass these features through, and those of the data.
        ali: For an nnet1 file that is fine-tuned: the alignments of --data, a Kaldi directory.
        exp: For an nnet1 file that is fine-tuned: the folder of Kaldi's experiment, which says how its features are
            made. limbeck kaldi nnet1-finetune has flags for all of that.
        dialect: For an nnet1 file: the format to write; default: that of the source.
        overwrite: For an nnet1 file: replace the file, its plan and its plot if they exist.
        allow_pipes: Run the shell commands in script files of the data: only for data you trust. The run's own setting
            does not count.
        resume: Resume the run in the folder.
        config: A TOML file with any of these settings, such as another run's config.toml; flags override it.
        log: Also write to trackers: tensorboard[:FOLDER] (default: the run's), wandb[:PROJECT], mlflow[:EXPERIMENT],
            trackio[:PROJECT].
        quiet: No progress bar.
        json: Print the metrics as JSON, or for an nnet1 file the plan.
    """
    if rule.name is not None and plan is not None:
        raise ConfigError(f"--plan says what goes: leave --{rule.name.replace('_', '-')} out")
    if not source.is_dir():
        if out is not None and target is None:
            what = "a file" if source.exists() else "not there"
            raise ConfigError(
                f"{source} is {what}: give a run's folder with --out FOLDER, or an nnet1 file with the file to write "
                "after it, as in limbeck compress final.nnet smaller.nnet"
            )
        given = {
            "--out": out, "--teacher-targets": teacher_targets, "--model": model,
            "--int8": int8 or None, "--margin": margin, "--by": None if by == "rank" else by,
            "--resume": resume or None,
        }  # fmt: skip
        _refuse(given, f"{source} is not a run folder, and is for runs only")
        from limbeck.cli.compress_nnet1 import compress_file, speech_for

        compress_file(
            source, target, rule=rule, plan=plan, metric=metric, calibration=calibration, placement=placement,
            features=features, feature_transform=feature_transform, dialect=dialect, overwrite=overwrite,
            allow_pipes=allow_pipes, json=json, quiet=quiet, finetuning=finetuning,
            data=speech_for(finetuning, data, ali, exp, feature_transform, validation, train_examples, allow_pipes),
        )  # fmt: skip
        return
    _refuse(
        {
            "--features": features,
            "--feature-transform": feature_transform,
            "--ali": ali,
            "--exp": exp,
            "--dialect": dialect,
            "--overwrite": overwrite or None,
        },  # fmt: skip
        f"{source} is a folder, and is for nnet1 files only",
    )
    if target is not None or out is None:
        raise ConfigError("a run is compressed into a folder: give it as --out FOLDER")
    _compress_run(
        source, out, rule, plan, finetuning, teacher_targets, augmentation,
        {**_data_of(source, data, validation, image_size, train_examples), "allow_pipes": allow_pipes or None},
        model=model, resume=resume, log=log, quiet=quiet, json=json,
        options={
            "int8": int8, "margin": margin, "metric": metric, "calibration": calibration, "placement": placement,
            "convolutions": convolutions, "by": by,
        },
    )  # fmt: skip


def _refuse(flags: Mapping[str, object], reason: str) -> None:
    for name, value in flags.items():
        if value is not None:
            raise ConfigError(f"{name}: {reason}: leave it out")


def _data_of(
    source: Path, data: str | None, validation: float | None, image_size: int | None, train_examples: float | None
) -> dict[str, Any]:
    """The settings of the data: those given, and for the rest those of the run."""
    from limbeck.runs.folder import RunFolder
    from limbeck.runs.settings import options_of

    given = {"data": data, "validation": validation, "image_size": image_size, "train_examples": train_examples}
    if not (source / "config.toml").exists() and not (source / "model").is_dir() and data is None:
        raise ConfigError(f"{source} is not a run: it has no config.toml and no model")
    known = RunFolder(source).config() if (source / "config.toml").exists() else {}
    if data is None and "data" not in known:
        raise ConfigError(f"{source} does not name its data: give --data")
    # Another data set is split as the flags say, not as the run's was.
    names = [field.name for field in dataclasses.fields(every_option()) if field.name != "allow_pipes"]
    before = {name: known[name] for name in names if name in known and (data is None or data == known.get("data"))}
    chosen = options_of(source, {**before, **{name: value for name, value in given.items() if value is not None}})
    # The settings of speech have no flags here: keep those that the run was given.
    return {
        name: value
        for name, value in dataclasses.asdict(chosen).items()
        if name in given or value != getattr(every_option()(), name)
    }


def _compress_run(
    source: Path,
    out: Path,
    rule: RankRule,
    plan: Path | None,
    finetuning: FineTuning,
    teacher_targets: Path | None,
    augmentation: Augmentation,
    data: dict[str, Any],
    *,
    model: str | None,
    resume: bool,
    log: Sequence[str] | None,
    quiet: bool,
    json: bool,
    options: dict[str, Any],
) -> None:
    from limbeck.evaluation.non_inferiority import checked_margin
    from limbeck.runs.compressing import compress as run_compression
    from limbeck.runs.folder import RunFolder
    from limbeck.runs.models_for_data import load_module
    from limbeck.runs.pages import report_run
    from limbeck.runs.ranks import read_plan
    from limbeck.runs.unused import tell_own_unused
    from limbeck.softtargets import SoftTargets

    RunFolder(out).require_free(resume=resume, command="compress")  # before reading the data, which may take long
    if options["margin"] is not None:
        checked_margin(options["margin"])
    known = {name: value for name, value in data.items() if value is not None}
    examples = open_examples(every_option()(**known), quiet=quiet)
    tell_own_unused("--model", model, [source])
    network = load_module(source, data=examples, own=model)
    guide = None
    if teacher_targets is not None:
        if not finetuning.finetune_epochs:
            raise ConfigError("--teacher-targets are for fine-tuning: give --finetune-epochs too")
        guide = SoftTargets.open(teacher_targets, examples=examples.train)
        if augmentation == Augmentation():
            augmentation = guide.augmentation
    role, before = _origin(source, examples, network)
    run = run_compression(
        network,
        examples,
        rule=rule,
        plan=None if plan is None else read_plan(plan),
        finetuning=finetuning,
        teacher=guide,
        augmentation=augmentation,
        role=role,
        before=before,
        out=out,
        resume=resume,
        settings={"source": source, "model": model, "plan": plan, "teacher_targets": teacher_targets, **data},
        callbacks=callbacks_for(out, log),
        progress=not quiet,
        **options,
    )
    page = report_run(out, data=examples)
    if json:
        print_json(run.metrics)
        return
    if run.plan is not None:
        print_text(str(run.plan))
    print_metrics(run.metrics["stages"], part=run.metrics["judged_on"] or "no")
    print_verdicts(run.metrics)
    if run.parity is not None:
        for found in run.parity["formats"].values():
            say(found["sentence"])
    say(f"The network is in {out / 'model'}, the report is {page}, the parity report is {out / 'parity.html'}")


def _origin(source: Path, examples: "DataSet", network: "nn.Module") -> "tuple[str, dict[str, nn.Module | Teacher]]":
    """The network's display name, and the teacher it was distilled from, where that can be loaded."""
    from limbeck.errors import FormatError, MismatchError
    from limbeck.runs.folder import RunFolder
    from limbeck.runs.models_for_data import load_teacher

    known = RunFolder(source).config() if (source / "config.toml").exists() else {}
    if "temperature" not in known or "source" in known:
        return "original", {}
    named = known.get("teacher", [])
    if not isinstance(named, list) or not all(isinstance(path, str) for path in named):
        raise FormatError(source / "config.toml", "teacher must be a list of folders")
    folders = [Path(path) for path in named]
    if not folders or not all(path.is_dir() for path in folders):
        return "student", {}
    try:  # without a user's architecture: nothing is imported because a file says so
        found = load_teacher(folders, mean=known.get("mean", "arithmetic"), data=examples)
    except (ConfigError, MismatchError):
        return "student", {}
    return "student", {"teacher": found}
