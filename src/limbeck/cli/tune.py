"""``limbeck tune``."""

__all__ = ["tune"]

import dataclasses
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from limbeck.cli.common import (
    GROUPS,
    Config,
    Data,
    Jobs,
    Json,
    NetworkSizes,
    Out,
    Quiet,
    Ray,
    Resume,
    Train,
    Views,
    kept_settings,
)
from limbeck.cli.console import Told, print_json, print_rows, say
from limbeck.cli.distillation_inputs import open_distillation_inputs
from limbeck.errors import ConfigError
from limbeck.options import Augmentation, DataOptions, ModelOptions, Network, TeacherView, Training
from limbeck.options.search_space import Search, options_of
from limbeck.system.progress import counting

_SHOWN = 12
"""Trials in the table on the terminal; ``report.html`` and ``metrics.json`` have more."""


def tune(
    *,
    out: Out,
    teacher: Annotated[list[Path] | None, Parameter(group=GROUPS["Teacher"])] = None,
    teacher_targets: Annotated[Path | None, Parameter(group=GROUPS["Teacher"])] = None,
    mean: Annotated[Literal["arithmetic", "geometric"], Parameter(group=GROUPS["Teacher"])] = "arithmetic",
    teacher_model: Annotated[str | None, Parameter(group=GROUPS["Teacher"])] = None,
    teacher_view: Annotated[TeacherView, Parameter(group=GROUPS["Teacher"])] = "consistent",
    data: Data = DataOptions(),  # noqa: B008
    student: Annotated[str, Parameter(group=GROUPS["Network"])] = "mlp",
    network: NetworkSizes = Network(),  # noqa: B008
    method: Annotated[str | None, Parameter(group=GROUPS["Search"])] = None,
    search: Annotated[Search, Parameter(name="*", group=GROUPS["Search"])] = Search(),  # noqa: B008
    storage: Annotated[str | None, Parameter(group=GROUPS["Search"])] = None,
    study: Annotated[str | None, Parameter(group=GROUPS["Search"])] = None,
    training: Train = Training(),  # noqa: B008
    augmentation: Views = Augmentation(),  # noqa: B008
    resume: Resume = False,
    jobs: Jobs = 1,
    ray: Ray = None,
    config: Config = None,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Search temperature, hard weight, learning rate, epochs, method and its options on validation.

    The best settings go to best.toml, for limbeck distill --config. The test set is not read. Finished trials are kept
    in study.db; the same command with --resume continues after a stop.

    ```
    limbeck tune --teacher-targets runs/targets --hidden 300 300 --epochs 10 --trials 40 --out runs/search
    limbeck tune --teacher-targets runs/targets --grid --temperatures 1 2 4 8 --hard-weights 0 0.1 0.5 --out runs/grid
    limbeck tune --teacher-targets runs/targets --methods kd logits --hidden 300 300 --trials 40 --out runs/search
    limbeck tune --teacher runs/teacher --method dkd --method-options alpha=1 beta=1:16 --out runs/search
    limbeck tune --teacher runs/teacher --temperatures 1 10 --learning-rates 0.0005 0.01 --jobs 2 --out runs/search
    limbeck distill --config runs/search/best.toml --out runs/student
    ```

    Args:
        out: Folder of the search to write.
        teacher: A run folder, hf:PATH, timm:PATH, or a .onnx or .skops file; several form an ensemble. Its outputs are
            computed once, into memory.
        teacher_targets: Instead of a teacher: soft targets written by limbeck soften with the same data, validation and
            augmentation. The augmentation's flags may be left out.
        mean: How several teachers' distributions are averaged.
        teacher_model: The teachers' architecture if it is your own, as package.module:function.
        teacher_view: Which view the teacher sees, where there is augmentation: the student's ("consistent"), the
            unaugmented example ("fixed"), or another view ("independent").
        method: The method whose settings are searched; short for --methods with one.
        student: "mlp", "cnn", timm:NAME, hf:PATH, or a function of your own that returns a torch module, as
            package.module:function.
        storage: URL of a database for the study, such as postgresql://me@host/name, shared by several machines: run the
            same command on each, with its own --out. Default: study.db in --out.
        study: Name of the study in the storage.
        resume: Resume the run in the folder.
        jobs: How many trials run in parallel, one process each.
        ray: Instead: the address of a Ray cluster to run them on, which needs --storage; or "local".
        config: A TOML file with any of these settings; flags override it.
        quiet: No progress bar.
        json: Print the metrics as JSON.
    """
    options = ModelOptions(model=student, **dataclasses.asdict(network))
    if method is not None:
        if search.methods not in {Search().methods, (method,)}:
            raise ConfigError("--method and --methods contradict each other: give one of them")
        search = dataclasses.replace(search, methods=(method,))
    from limbeck.runs.early_refusals import refuse_early
    from limbeck.runs.inputs import verify_stores
    from limbeck.runs.models_for_data import model_maker
    from limbeck.tuning import tune as run_search

    refuse_early(out, resume=resume, command="tune")
    inputs = open_distillation_inputs(
        data, augmentation, teacher, teacher_targets, student=student, mean=mean, own=teacher_model, quiet=quiet
    )
    kept = {"student" if name == "model" else name: value for name, value in dataclasses.asdict(options).items()}
    only = getattr(inputs.teacher, "temperature", None)
    if only is not None:
        say(f"The soft targets are valid only for temperature {only:g}, so it is not searched")
    verify_stores(inputs.teacher, Told())
    with counting("tuning", not quiet) as show:
        found = run_search(
            inputs.teacher,
            model_maker(options, inputs.examples, inputs.options),
            inputs.examples,
            search=search,
            augmentation=inputs.augmentation,
            teacher_view=teacher_view,
            jobs=jobs,
            ray=ray,
            storage=storage,
            study=study,
            out=out,
            resume=resume,
            settings={
                **kept_settings(inputs.options),
                **kept,
                "teacher": None if teacher is None else [str(path) for path in teacher],
                "teacher_targets": teacher_targets,
                "mean": mean,
                "teacher_model": teacher_model,
            },
            progress=show,
            **dataclasses.asdict(training),
        )
    if json:
        print_json(found.metrics)
        return
    _print_trials(found.trials)
    counts = found.metrics["counts"]
    said = ", ".join(f"{number} {name}" for name, number in counts.items() if number or name == "complete")
    say(f"{said}; evaluated on {found.metrics['validation_examples']:,} validation examples; the test set was not read")
    say(
        f"Train with the best settings, and evaluate on the test set:  limbeck distill --config {out / 'best.toml'} "
        "--out ..."
    )
    say(f"The report is {out / 'report.html'}")


def _print_trials(trials: list[dict[str, Any]]) -> None:
    """The best trials, best first."""
    complete = [row for row in trials if row["state"] == "complete"]
    own = any("." in name for row in complete for name in row)
    ranked = sorted(complete, key=lambda row: (row["validation_errors"], row["validation_nll"], row["trial"]))
    rows = [
        (
            row["trial"],
            row["method"] if row["temperature"] is None else f"{row['temperature']:.3g}",
            f"{row['hard_weight']:.3g}",
            f"{row['learning_rate']:.3g}",
            row["epochs"],
            f"{row['validation_errors']:,}",
            f"{row['validation_accuracy']:.2%}",
            *([options_of(row)] if own else []),
        )
        for row in ranked[:_SHOWN]
    ]
    heading = ("trial", "T", "weight", "learning rate", "epochs", "validation errors", "accuracy")
    print_rows((*heading, "options") if own else heading, rows)
