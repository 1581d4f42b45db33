"""``limbeck mutual``."""

__all__ = ["mutual"]

import dataclasses
from typing import Annotated

from cyclopts import Parameter

from limbeck.cli.common import (
    GROUPS,
    Config,
    Data,
    Json,
    Log,
    NetworkSizes,
    Out,
    Quiet,
    Resume,
    Train,
    Views,
    callbacks_for,
    kept_settings,
    open_examples,
)
from limbeck.cli.console import print_json, print_metrics, print_verdicts, say
from limbeck.options import Augmentation, DataOptions, ModelOptions, Network, Training
from limbeck.options.mutual import Mutual


def mutual(
    *,
    out: Out,
    data: Data = DataOptions(),  # noqa: B008
    student: Annotated[str, Parameter(group=GROUPS["Network"])] = "mlp",
    network: NetworkSizes = Network(),  # noqa: B008
    learning: Annotated[Mutual, Parameter(name="*", group=GROUPS["Distillation"])] = Mutual(),  # noqa: B008
    baseline: Annotated[bool, Parameter(group=GROUPS["Distillation"])] = True,
    training: Train = Training(),  # noqa: B008
    augmentation: Views = Augmentation(),  # noqa: B008
    resume: Resume = False,
    config: Config = None,
    log: Log = None,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Deep mutual learning: train students on labels and each other's outputs, and compare the first with its baseline.

    There is no teacher. The baseline is the first student's network, trained on labels alone, with the same initial
    weights and number of steps. The first student is the run's model; the others are in peers/2, peers/3, ...

    ```
    limbeck mutual --data mnist --student mlp --hidden 300 300 --out runs/two
    limbeck mutual --data letters.mat --student cnn --students 3 --order "in turn" --out runs/three
    ```

    Args:
        out: Folder of the run to write.
        student: "mlp", "cnn", timm:NAME, hf:PATH, or a function of your own that returns a torch module, as
            package.module:function.
        baseline: Train the baseline; the verdict needs it.
        resume: Resume the run in the folder.
        config: A TOML file with any of these settings, such as another run's config.toml; flags override it.
        log: Also write to trackers: tensorboard[:FOLDER] (default: the run's), wandb[:PROJECT], mlflow[:EXPERIMENT],
            trackio[:PROJECT].
        quiet: No progress bar.
        json: Print the metrics as JSON.
    """
    options = ModelOptions(model=student, **dataclasses.asdict(network))
    from limbeck.runs.early_refusals import refuse_early
    from limbeck.runs.models_for_data import model_maker
    from limbeck.runs.mutual_learning import mutual as run_mutual
    from limbeck.runs.named_models import require_models
    from limbeck.runs.pages import report_run

    refuse_early(out, resume=resume, command="mutual")
    data = require_models(data, model=student)
    examples = open_examples(data, quiet=quiet)
    kept = {"student" if name == "model" else name: value for name, value in dataclasses.asdict(options).items()}
    run = run_mutual(
        model_maker(options, examples, data),
        examples,
        **dataclasses.asdict(learning),
        augmentation=augmentation,
        baseline=baseline,
        out=out,
        resume=resume,
        settings={**kept_settings(data), **kept},
        callbacks=callbacks_for(out, log),
        progress=not quiet,
        **dataclasses.asdict(training),
    )
    page = report_run(out, data=examples)
    if json:
        print_json(run.metrics)
        return
    roles = [role for role in ("baseline", "student") if role in run.metrics]
    print_metrics({role: run.metrics[role] for role in roles}, part=run.metrics["judged_on"] or "no")
    print_verdicts(run.metrics)
    say(f"The first student is in {out / 'model'}, the others in {out / 'peers'}, the report is {page}")
