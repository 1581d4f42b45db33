"""``limbeck kaldi``: networks in Kaldi files fine-tuned by distillation and written back."""

__all__ = ["finetuned_nnet1", "nnet1_finetune", "nnet3_finetune"]

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

from cyclopts import Parameter

from limbeck.cli.common import GROUPS, Config, Data, Quiet, Train, open_examples
from limbeck.cli.console import Told, print_metrics, say
from limbeck.cli.kaldi import Overwrite, refuse_taken
from limbeck.errors import ConfigError, DataError, MismatchError
from limbeck.options import DataOptions, Distillation, Training

if TYPE_CHECKING:
    from torch import nn

    from limbeck.data import DataSet
    from limbeck.kaldi.formats.nnet1 import Nnet

_Teacher = Annotated[list[Path], Parameter(group=GROUPS["Teacher"])]
_Mean = Annotated[Literal["arithmetic", "geometric"], Parameter(group=GROUPS["Teacher"])]
_Weights = Annotated[list[float] | None, Parameter(group=GROUPS["Teacher"])]
_Distillation = Annotated[Distillation, Parameter(name="*", group=GROUPS["Distillation"])]
_Folder = Annotated[Path | None, Parameter(group=GROUPS["Run"])]


def nnet1_finetune(
    source: Annotated[Path, Parameter(help="An nnet1 network, text or binary.")],
    target: Annotated[Path, Parameter(help="The file to write.")],
    /,
    *,
    teacher: _Teacher,
    mean: _Mean = "arithmetic",
    weights: _Weights = None,
    data: Data = DataOptions(),  # noqa: B008
    distillation: _Distillation = Distillation(),  # noqa: B008
    training: Train = Training(),  # noqa: B008
    out: _Folder = None,
    overwrite: Overwrite = False,
    config: Config = None,
    quiet: Quiet = False,
) -> None:
    r"""Fine-tune an nnet1 network by distillation and write it back, to recover what low-rank factorisation lost.

    The components and their learning-rate factors stay as they are; parameters with a factor of 0 are not trained.

    ```
    limbeck compress final.nnet small.nnet --parameters 0.5
    limbeck kaldi nnet1-finetune small.nnet tuned.nnet --teacher final.nnet --data data/train --ali exp/ali \
        --exp exp/dnn --epochs 2 --learning-rate 0.0003 --temperature 1 --hard-weight 0
    ```

    Args:
        source: An nnet1 network, text or binary.
        target: The file to write, in the format of the source.
        teacher: nnet1 networks, which get the features as the data are read, or run folders; several are averaged.
        mean: How several teachers' distributions are averaged.
        weights: How much each teacher counts in the mean; default: equal weights.
        out: Also keep the run in this folder: its settings, metrics and history.
        overwrite: Replace the file if it exists.
        config: A TOML file with any of these settings; flags override it.
        quiet: No progress bar.
    """
    from limbeck.kaldi.formats.nnet1 import dialect_of, read_nnet, write_nnet

    refuse_taken(target, overwrite=overwrite)
    nnet, dialect = read_nnet(source), dialect_of(source)
    trained = finetuned_nnet1(
        nnet, data, teacher, distillation, training, name=str(source), mean=mean, weights=weights, out=out, quiet=quiet
    )
    write_nnet(target, trained, dialect=dialect)
    say(f"The network is in {target}")


def finetuned_nnet1(
    nnet: "Nnet",
    data: DataOptions,
    teacher: list[Path],
    distillation: Distillation,
    training: Training,
    *,
    name: str,
    mean: Literal["arithmetic", "geometric"] = "arithmetic",
    weights: list[float] | None = None,
    out: Path | None = None,
    quiet: bool = False,
) -> "Nnet":
    """Fine-tune an nnet1 network by distillation, and print the metrics of teacher and student.

    Args:
        nnet: The network.
        data: The Kaldi directories that it learns from.
        teacher: Its teachers, files or folders.
        distillation: Temperature and weights of the losses.
        training: How it is trained.
        name: What to call the network in messages.
        mean: How several teachers are averaged.
        weights: How much each teacher counts.
        out: A folder to keep the run in, or None.
        quiet: No progress bar.

    Returns:
        The same components with the trained weights.

    Raises:
        MismatchError: If frames are not seen as the network was trained to.
    """
    from limbeck.kaldi.nnet1_module import trainable, with_weights

    try:
        student = trainable(nnet)
    except DataError as error:
        raise type(error)(f"{name}: {error}") from error
    _require_speech(data, "nnet1")
    examples = open_examples(data, quiet=quiet)
    width = examples.train.as_seen(slice(0, 1)).flatten(1).shape[1]  # type: ignore[union-attr]
    if width != nnet.input_dim:
        raise MismatchError(
            f"{name} has {nnet.input_dim} inputs, and a frame is seen as {width} values: give --left and --right, "
            "--feature-transform or --exp as for its training"
        )
    trained = _finetune(student, examples, teacher, mean, weights, distillation, training, out, quiet)
    return with_weights(nnet, trained)


def nnet3_finetune(
    source: Annotated[Path, Parameter(help="An nnet3 network, raw or in a final.mdl, text or binary.")],
    target: Annotated[Path, Parameter(help="The file to write.")],
    /,
    *,
    teacher: _Teacher,
    mean: _Mean = "arithmetic",
    weights: _Weights = None,
    data: Data = DataOptions(),  # noqa: B008
    distillation: _Distillation = Distillation(),  # noqa: B008
    training: Train = Training(),  # noqa: B008
    out: _Folder = None,
    overwrite: Overwrite = False,
    config: Config = None,
    quiet: Quiet = False,
) -> None:
    r"""Fine-tune an nnet3 network by distillation and write it back, to recover what low-rank factorisation lost.

    Batch norm keeps its statistics, and parameters that Kaldi does not train stay as they are. Each frame is an
    example, with the context of the network.

    ```
    limbeck kaldi nnet3-finetune small.mdl tuned.mdl --teacher final.mdl --data data/train --ali exp/ali --cmvn none \
        --epochs 2 --learning-rate 0.0003 --temperature 1 --hard-weight 0
    ```

    Args:
        source: An nnet3 network, raw or in a final.mdl, text or binary.
        target: The file to write, in the format of the source.
        teacher: nnet3 networks or run folders; several are averaged.
        mean: How several teachers' distributions are averaged.
        weights: How much each teacher counts in the mean; default: equal weights.
        out: Also keep the run in this folder: its settings, metrics and history.
        overwrite: Replace the file if it exists.
        config: A TOML file with any of these settings; flags override it.
        quiet: No progress bar.
    """
    from limbeck.kaldi.nnet3.heads import as_trained
    from limbeck.kaldi.nnet3.model import read_nnet3, write_nnet3
    from limbeck.kaldi.nnet3.module import Nnet3Module
    from limbeck.kaldi.nnet3.teacher import load_for_frames

    refuse_taken(target, overwrite=overwrite)
    model = read_nnet3(source)
    student = load_for_frames(source, model)
    _require_speech(data, "nnet3")
    if (getattr(data, "left", None), getattr(data, "right", None)) != (None, None):
        raise ConfigError("--left and --right are for other networks: an nnet3 network has its own context")
    context: dict[str, Any] = dict(zip(("left", "right"), student.context, strict=True))
    examples = open_examples(dataclasses.replace(data, **context), quiet=quiet)
    given = getattr(examples.reading, "ivector_dim", 0)
    if given != student.ivector_dim:
        cure = "leave --ivectors out" if not student.ivector_dim else "give --ivectors"
        raise MismatchError(
            f"{source} reads i-vectors of {student.ivector_dim} values, and those of the data have {given}: {cure}"
        )
    student.presentation = None  # the examples are as it sees them
    trained = _finetune(student, examples, teacher, mean, weights, distillation, training, out, quiet)
    write_nnet3(target, as_trained(model, cast(Nnet3Module, trained).current()))
    say(f"The network is in {target}")


def _require_speech(data: DataOptions, kind: str) -> None:
    from limbeck.kaldi.options import is_kaldi

    if not is_kaldi(data.data):
        raise ConfigError(
            f"{data.data} is not a Kaldi data directory, as the training data of an {kind} network must be: give --data"
        )


def _finetune(
    student: "nn.Module",
    examples: "DataSet",
    teacher: list[Path],
    mean: Literal["arithmetic", "geometric"],
    weights: list[float] | None,
    distillation: Distillation,
    training: Training,
    out: Path | None,
    quiet: bool,
) -> "nn.Module":
    """Train the student on its teachers, print the metrics of both, and return it."""
    from limbeck.runs.distilling import distill
    from limbeck.runs.models_for_data import load_teacher

    guide = load_teacher(teacher, mean=mean, weights=weights, data=examples)
    run = distill(
        guide,
        student,
        examples,
        **dataclasses.asdict(distillation),
        baseline=False,
        out=out,
        callbacks=Told(),
        progress=not quiet,
        **dataclasses.asdict(training),
    )
    judged: dict[str, Any] = {role: run.metrics[role] for role in ("teacher", "student") if role in run.metrics}
    print_metrics(judged, part=run.metrics["judged_on"] or "no")
    return run.student
