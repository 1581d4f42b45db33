"""``limbeck distill``."""

__all__ = ["distill"]

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from limbeck.cli.common import (
    GROUPS,
    Config,
    Data,
    Jobs,
    Json,
    Log,
    NetworkSizes,
    Out,
    Quiet,
    Ray,
    Resume,
    SaveHdf5,
    Train,
    Views,
    callbacks_for,
    kept_settings,
)
from limbeck.cli.console import print_json, print_metrics, print_verdicts, say
from limbeck.cli.distillation_inputs import open_distillation_inputs
from limbeck.errors import ConfigError
from limbeck.options import Augmentation, DataOptions, Distillation, ModelOptions, Network, Training


def distill(
    *,
    out: Out,
    teacher: Annotated[list[Path] | None, Parameter(group=GROUPS["Teacher"])] = None,
    teacher_targets: Annotated[Path | None, Parameter(group=GROUPS["Teacher"])] = None,
    mean: Annotated[Literal["arithmetic", "geometric"], Parameter(group=GROUPS["Teacher"])] = "arithmetic",
    weights: Annotated[list[float] | None, Parameter(group=GROUPS["Teacher"])] = None,
    teacher_model: Annotated[str | None, Parameter(group=GROUPS["Teacher"])] = None,
    data: Data = DataOptions(),  # noqa: B008
    transfer: Annotated[str | None, Parameter(group=GROUPS["Data"])] = None,
    student: Annotated[str, Parameter(group=GROUPS["Network"])] = "mlp",
    network: NetworkSizes = Network(),  # noqa: B008
    distillation: Annotated[Distillation, Parameter(name="*", group=GROUPS["Distillation"])] = Distillation(),  # noqa: B008
    baseline: Annotated[bool, Parameter(group=GROUPS["Distillation"])] = True,
    seeds: Annotated[int, Parameter(group=GROUPS["Distillation"])] = 1,
    margin: Annotated[float | None, Parameter(group=GROUPS["Distillation"])] = None,
    training: Train = Training(),  # noqa: B008
    augmentation: Views = Augmentation(),  # noqa: B008
    resume: Resume = False,
    save_hdf5: SaveHdf5 = False,
    jobs: Jobs = 1,
    ray: Ray = None,
    config: Config = None,
    log: Log = None,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Train a student on a teacher's soft targets, and compare it with its own baseline.

    The baseline is the same network, trained on labels alone, with the same initial weights and number of steps.

    ```
    limbeck distill --teacher runs/teacher --student mlp --hidden 300 300 --temperature 4 --out runs/student
    limbeck distill --data letters.mat --teacher runs/a runs/b --mean geometric --seeds 3 --out runs/student
    limbeck distill --teacher-targets runs/targets --student mlp --hidden 300 300 --out runs/student
    limbeck distill --teacher runs/teacher --transfer unlabelled.npz --hard-weight 0 --out runs/student
    limbeck distill --data data/train --ali exp/tri_ali --teacher runs/dnn --left 3 --right 3 --out runs/small
    ```

    Args:
        out: Folder of the run to write.
        teacher: A run folder, hf:PATH, timm:PATH, or a .onnx or .skops file; several form an ensemble.
        teacher_targets: Instead of a teacher: soft targets written by limbeck soften with the same data, validation and
            augmentation. The augmentation's flags may be left out.
        mean: How several teachers' distributions are averaged.
        weights: Weight of each teacher in the mean; default: equal weights.
        teacher_model: The teachers' architecture if it is your own, as package.module:function.
        transfer: A transfer set: other examples for the soft targets; labels are not needed.
        student: "mlp", "cnn", timm:NAME, hf:PATH, or a function of your own that returns a torch module, as
            package.module:function.
        baseline: Train the baseline; the verdict needs it.
        seeds: How many pairs of student and baseline to train. With several, the verdict generalises over seeds.
        margin: Non-inferiority margin in percentage points of the error rate, such as 0.5: also test whether the
            student is as good as the teacher within it.
        resume: Resume the run in the folder.
        save_hdf5: Also write the student's weights after each epoch as HDF5, and at the end as nnet1 text.
        jobs: How many baselines and students are trained in parallel, one process each.
        ray: Instead of jobs: the address of a Ray cluster, or "local"; the cluster must see the folder.
        config: A TOML file with any of these settings, such as another run's config.toml; flags override it.
        log: Also write to trackers: tensorboard[:FOLDER] (default: the run's), wandb[:PROJECT], mlflow[:EXPERIMENT],
            trackio[:PROJECT].
        quiet: No progress bar.
        json: Print the metrics as JSON.
    """
    options = ModelOptions(model=student, **dataclasses.asdict(network))
    if teacher_targets is not None and transfer is not None:
        raise ConfigError("--teacher-targets are valid only for the data they were written for: leave --transfer out")
    from limbeck.data.opening import open_inputs
    from limbeck.runs import distill as run_distillation
    from limbeck.runs.early_refusals import refuse_early
    from limbeck.runs.models_for_data import model_maker
    from limbeck.runs.pages import report_run
    from limbeck.system.processes import is_first

    refuse_early(
        out, resume=resume, command="distill", student=student, method=distillation.method,
        method_options=distillation.method_options, temperature=distillation.temperature,
    )  # fmt: skip
    inputs = open_distillation_inputs(
        data,
        augmentation,
        teacher,
        teacher_targets,
        student=student,
        mean=mean,
        weights=weights,
        own=teacher_model,
        quiet=quiet,
    )
    data, examples = inputs.options, inputs.examples
    kept = {"student" if name == "model" else name: value for name, value in dataclasses.asdict(options).items()}
    run = run_distillation(
        inputs.teacher,
        model_maker(options, examples, data),
        examples,
        transfer=None if transfer is None else open_inputs(transfer, like=examples, options=data),
        **dataclasses.asdict(distillation),
        augmentation=inputs.augmentation,
        baseline=baseline,
        seeds=seeds,
        margin=margin,
        out=out,
        resume=resume,
        save_hdf5=save_hdf5,
        jobs=jobs,
        ray=ray,
        settings={
            **kept_settings(data),
            **kept,
            "transfer": transfer,
            "teacher": None if teacher is None else [str(path) for path in teacher],
            "teacher_targets": teacher_targets,
            "mean": mean,
            "weights": weights,
            "teacher_model": teacher_model,
        },
        callbacks=callbacks_for(out, log),
        progress=not quiet,
        **dataclasses.asdict(training),
    )
    if is_first():
        _conclude(run.metrics, out, report_run(out, data=examples), json=json)


def _conclude(metrics: Mapping[str, Any], out: Path, page: Path, *, json: bool) -> None:
    """Print the metrics and the verdicts, and say where the student and its report are."""
    if json:
        print_json(metrics)
        return
    roles = [role for role in ("teacher", "baseline", "student") if role in metrics]
    print_metrics({role: metrics[role] for role in roles}, part=metrics["judged_on"] or "no")
    if len(metrics["seeds"]) > 1:
        say(f"The table is of the first of {len(metrics['seeds'])} seeds; what follows is of all.")
    print_verdicts(metrics)
    say(f"The student is in {out / 'model'}, the report is {page}")
