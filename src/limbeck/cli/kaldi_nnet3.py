"""``limbeck kaldi``: what serves users of Kaldi alone, with Kaldi's names of commands and flags."""

__all__ = ["app"]

import dataclasses
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import cyclopts
from cyclopts import Parameter

from limbeck.cli.common import GROUPS, Config, Data, Quiet, Train, open_examples
from limbeck.cli.console import ProgressCallback, print_metrics, say
from limbeck.cli.kaldi import Overwrite, refuse_taken
from limbeck.cli.kaldi_features import add_deltas, apply_cmvn_online, apply_cmvn_sliding
from limbeck.errors import ConfigError
from limbeck.options import DataOptions, Distillation, Training

app = cyclopts.App(name="kaldi", help="What serves users of Kaldi alone, with Kaldi's names.")

app.command(apply_cmvn_sliding)
app.command(apply_cmvn_online)
app.command(add_deltas)

_Source = Annotated[Path, Parameter(help="A network of nnet3, raw or in a final.mdl, text or binary.")]
_Target = Annotated[Path, Parameter(help="What to write.")]


@app.command
def nnet3_copy(
    source: _Source,
    target: _Target,
    /,
    *,
    edits: str | None = None,
    edits_config: Path | None = None,
    binary: bool | None = None,
    raw: Annotated[bool, Parameter(negative=())] = False,
    overwrite: Overwrite = False,
) -> None:
    r"""Write a network of nnet3 anew, edited: what nnet3-copy and nnet3-am-copy do.

    Low rank is the edit apply-svd, as Kaldi has it: each affine component becomes a linear and an affine one, with the
    roots of the singular values in both.

    ```
    limbeck kaldi nnet3-copy final.mdl small.mdl \
        --edits "apply-svd name=* energy-threshold=0.81 shrinkage-threshold=0.64"
    limbeck kaldi nnet3-copy final.mdl final.txt --no-binary
    limbeck kaldi nnet3-copy final.mdl xent.raw --raw --edits "remove-output-nodes name=output; \
        rename-node old-name=output-xent new-name=output; remove-orphans"
    ```

    Args:
        source: A network of nnet3, raw or in a final.mdl, text or binary.
        target: What to write.
        edits: Edits, apart by semicolons: apply-svd, reduce-rank, convert-to-fixed-affine, set-learning-rate-factor,
            rename-node, remove-output-nodes, remove-orphans.
        edits_config: A file of edits, a line each.
        binary: Write binary, or with --no-binary text; default: as the source.
        raw: Write the network of a final.mdl alone.
        overwrite: Replace the file if it exists.
    """
    from limbeck.kaldi.nnet3.edits import apply_edits
    from limbeck.kaldi.nnet3.model import Nnet3Model, read_nnet3, write_nnet3

    if edits is not None and edits_config is not None:
        raise ConfigError("--edits and --edits-config exclude each other: give one of them")
    refuse_taken(target, overwrite=overwrite)
    model = read_nnet3(source)
    wanted = edits
    if edits_config is not None:
        try:
            wanted = edits_config.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"--edits-config {edits_config} cannot be read: {error}") from error
    before = model.nnet.parameter_count
    if wanted is not None:
        nnet, notes = apply_edits(model.nnet, wanted)
        for note in notes:
            say(f"note: {note}")
        model = dataclasses.replace(model, nnet=nnet)
    if raw:
        model = Nnet3Model(model.nnet, binary=model.binary)
    write_nnet3(target, model, binary=binary)
    after = model.nnet.parameter_count
    say(f"{target}: {after:,} parameters" + (f", before {before:,}" if after != before else ""))


@app.command
def nnet3_finetune(
    source: _Source,
    target: _Target,
    /,
    *,
    teacher: Annotated[list[Path], Parameter(group=GROUPS["Teacher"])],
    mean: Annotated[Literal["arithmetic", "geometric"], Parameter(group=GROUPS["Teacher"])] = "arithmetic",
    weights: Annotated[list[float] | None, Parameter(group=GROUPS["Teacher"])] = None,
    data: Data = DataOptions(),  # noqa: B008
    distillation: Annotated[Distillation, Parameter(name="*", group=GROUPS["Distillation"])] = Distillation(),  # noqa: B008
    training: Train = Training(),  # noqa: B008
    out: Annotated[Path | None, Parameter(group=GROUPS["Run"])] = None,
    overwrite: Overwrite = False,
    config: Config = None,
    quiet: Quiet = False,
) -> None:
    r"""Train a network of nnet3 on a teacher's soft targets, and write it back: to win back what low rank lost.

    Batch norm keeps its statistics, and what Kaldi does not train stays as it is. Each frame is an example, seen with
    the context that the network has.

    ```
    limbeck kaldi nnet3-finetune small.mdl tuned.mdl --teacher final.mdl --data data/train --ali exp/ali --cmvn none \
        --epochs 2 --learning-rate 0.0003 --temperature 1 --hard-weight 0
    ```

    Args:
        source: A network of nnet3, raw or in a final.mdl, text or binary.
        target: What to write, in the form of the source.
        teacher: Networks of nnet3 or folders of runs; several are averaged.
        mean: How several teachers' distributions are averaged.
        weights: How much each teacher counts in the mean; default: all alike.
        out: Also keep the run in this folder: its settings, metrics and history.
        overwrite: Replace the file if it exists.
        config: A TOML file with any of these settings; flags win.
        quiet: No progress bar.
    """
    from limbeck.kaldi.nnet3.heads import as_trained
    from limbeck.kaldi.nnet3.model import read_nnet3, write_nnet3
    from limbeck.kaldi.nnet3.module import Nnet3Module
    from limbeck.kaldi.nnet3.teacher import load_for_frames
    from limbeck.kaldi.options import is_kaldi
    from limbeck.runs.distilling import distill
    from limbeck.runs.models_for_data import load_teacher

    refuse_taken(target, overwrite=overwrite)
    model = read_nnet3(source)
    student = load_for_frames(source, model)
    if not is_kaldi(data.data):
        raise ConfigError(
            f"{data.data} is not a Kaldi data directory, which a network of nnet3 learns from: give --data"
        )
    if (getattr(data, "left", None), getattr(data, "right", None)) != (None, None):
        raise ConfigError("--left and --right are for other networks: one of nnet3 sees its own context")
    context: dict[str, Any] = dict(zip(("left", "right"), student.context, strict=True))
    examples = open_examples(dataclasses.replace(data, **context), quiet=quiet)
    guide = load_teacher(teacher, mean=mean, weights=weights, data=examples)
    student.presentation = None  # the examples are as it sees them
    run = distill(
        guide,
        student,
        examples,
        **dataclasses.asdict(distillation),
        baseline=False,
        out=out,
        callback=ProgressCallback("fine-tuning", quiet=quiet),
        **dataclasses.asdict(training),
    )
    write_nnet3(target, as_trained(model, cast(Nnet3Module, run.student).current()))
    judged: dict[str, Any] = {role: run.metrics[role] for role in ("teacher", "student") if role in run.metrics}
    print_metrics(judged, part=run.metrics["judged_on"] or "no")
    say(f"The network is in {target}")
