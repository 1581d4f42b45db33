"""``limbeck compare-methods``."""

__all__ = ["compare_methods"]

import dataclasses
import shlex
import sys
from pathlib import Path
from typing import Annotated, Literal

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
    Resume,
    Train,
    Views,
)
from limbeck.cli.console import Told, print_json, print_rows, say
from limbeck.cli.distillation_inputs import open_distillation_inputs
from limbeck.options import Augmentation, DataOptions, ModelOptions, Network, Training
from limbeck.options.comparison import Comparison
from limbeck.system.progress import counting


def compare_methods(
    *,
    out: Out,
    teacher: Annotated[list[Path], Parameter(group=GROUPS["Teacher"])],
    mean: Annotated[Literal["arithmetic", "geometric"], Parameter(group=GROUPS["Teacher"])] = "arithmetic",
    teacher_model: Annotated[str | None, Parameter(group=GROUPS["Teacher"])] = None,
    data: Data = DataOptions(),  # noqa: B008
    student: Annotated[str, Parameter(group=GROUPS["Network"])] = "mlp",
    network: NetworkSizes = Network(),  # noqa: B008
    comparison: Annotated[Comparison, Parameter(name="*", group=GROUPS["Comparison"])] = Comparison(),  # noqa: B008
    training: Train = Training(),  # noqa: B008
    augmentation: Views = Augmentation(),  # noqa: B008
    resume: Resume = False,
    jobs: Jobs = 1,
    config: Config = None,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Compare distillation methods on your own data: equal search budgets, fresh seeds, corrected p-values.

    Three arms train on labels alone: plainly, with label smoothing, and for twice as many epochs. Validation chooses
    each arm's settings; the test set is read once. The result is a table in Markdown, figures and a report; the same
    command with --resume continues after a stop.

    ```
    limbeck compare-methods --teacher runs/teacher --hidden 300 --epochs 5 --out runs/methods
    limbeck compare-methods --data letters.npz --teacher runs/cnn --student cnn --methods kd dkd dist --out runs/methods
    limbeck compare-methods --teacher runs/cnn --student cnn --methods kd kd+attention --seeds 8 --out runs/m
    ```

    Args:
        out: Folder for the comparison.
        teacher: A run folder, hf:PATH, timm:PATH, or a .onnx or .skops file; several form an ensemble.
        mean: How several teachers' distributions are averaged.
        teacher_model: The teachers' architecture if it is your own, as package.module:function.
        student: "mlp", "cnn", timm:NAME, hf:PATH, or a function of your own that returns a torch module, as
            package.module:function.
        resume: Resume the run in the folder.
        jobs: How many trainings run at a time, one process each.
        config: A TOML file with any of these settings; flags override it.
        quiet: No progress bar.
        json: Print the metrics as JSON.
    """
    options = ModelOptions(model=student, **dataclasses.asdict(network))
    from limbeck.comparing import compare_methods as run_comparison
    from limbeck.comparing.page import comparison_table
    from limbeck.runs.early_refusals import refuse_early
    from limbeck.runs.models_for_data import model_maker

    refuse_early(out, resume=resume, command="compare-methods", kept="comparison.json")
    inputs = open_distillation_inputs(
        data, augmentation, teacher, None, student=student, mean=mean, own=teacher_model, quiet=quiet
    )
    with counting("comparing", not quiet) as show:
        found = run_comparison(
            inputs.teacher,
            model_maker(options, inputs.examples, inputs.options),
            inputs.examples,
            out=out,
            comparison=comparison,
            augmentation=inputs.augmentation,
            resume=resume,
            jobs=jobs,
            command=shlex.join(["limbeck", *sys.argv[1:]]),
            progress=show,
            callbacks=Told(),
            **dataclasses.asdict(training),
        )
    if json:
        print_json(found.metrics)
        return
    table = comparison_table(found.rows, found.examples)
    print_rows(("arm", "test errors", "against labels", "verdict"), [(*row[:3], row[4]) for row in table.rows])
    say(f"The table is {out / 'results' / 'methods.md'}, the report is {out / 'report.html'}")
