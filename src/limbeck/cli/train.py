"""``limbeck train``."""

__all__ = ["train"]

import dataclasses
from pathlib import Path
from typing import Annotated, Literal

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
    open_examples,
)
from limbeck.cli.console import print_json, print_metrics, say
from limbeck.options import Augmentation, DataOptions, ModelOptions, Network, Training


def train(
    *,
    out: Out,
    data: Data = DataOptions(),  # noqa: B008
    model: Annotated[str, Parameter(group=GROUPS["Network"])] = "mlp",
    network: NetworkSizes = Network(),  # noqa: B008
    members: Annotated[int, Parameter(group=GROUPS["Network"])] = 1,
    mean: Annotated[Literal["arithmetic", "geometric"], Parameter(group=GROUPS["Network"])] = "arithmetic",
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
    """Train a classifier, or an ensemble, on labels.

    ```
    limbeck train --data mnist --hidden 1200 1200 --dropout 0.3 --max-norm 3 --shift 2 --out runs/teacher
    limbeck train --data letters.mat --model cnn --members 3 --epochs 15 --out runs/three
    limbeck train --config runs/three/config.toml --seed 7 --out runs/three-more
    limbeck train --data data/train --ali exp/tri_ali --activation sigmoid --schedule newbob --save-hdf5 --out dnn
    ```

    Args:
        out: Folder of the run to write.
        model: "mlp", "cnn", timm:NAME, hf:PATH, or a function of your own that returns a torch module, as
            package.module:function.
        members: Number of members; above 1 they form an ensemble, and its gain over its members is reported.
        mean: How the ensemble averages its members' distributions.
        resume: Resume the run in the folder.
        save_hdf5: Also write the weights after each epoch as HDF5, and at the end as nnet1 text, into the run's folder.
        jobs: How many members are trained in parallel, one process each.
        ray: Instead of jobs: the address of a Ray cluster, or "local"; the cluster must see the folder.
        config: A TOML file with any of these settings, such as another run's config.toml; flags override it.
        log: Also write to trackers: tensorboard[:FOLDER] (default: the run's), wandb[:PROJECT], mlflow[:EXPERIMENT],
            trackio[:PROJECT].
        quiet: No progress bar.
        json: Print the metrics as JSON.
    """
    options = ModelOptions(model=model, **dataclasses.asdict(network))
    from limbeck.runs import train as run_training
    from limbeck.runs.early_refusals import refuse_early
    from limbeck.runs.models_for_data import model_maker
    from limbeck.runs.named_models import require_models
    from limbeck.runs.pages import report_run
    from limbeck.system.processes import is_first

    refuse_early(out, resume=resume, command="train")
    data = require_models(data, model=model)
    examples = open_examples(data, quiet=quiet)
    run = run_training(
        model_maker(options, examples, data),
        examples,
        members=members,
        mean=mean,
        augmentation=augmentation,
        out=out,
        resume=resume,
        save_hdf5=save_hdf5,
        jobs=jobs,
        ray=ray,
        settings={**kept_settings(data), **dataclasses.asdict(options)},
        callbacks=callbacks_for(out, log),
        progress=not quiet,
        **dataclasses.asdict(training),
    )
    if not is_first():
        return
    page = report_run(out, data=examples)
    if json:
        print_json(run.metrics)
        return
    print_metrics({"model": run.metrics["model"]}, part=run.metrics["judged_on"] or "no")
    if "gain" in run.metrics:
        gain = run.metrics["gain"]
        say(
            f"The accuracy of the ensemble of {members} is {100 * gain['over_mean']:.2f} points above its members' on "
            f"average, and {100 * gain['over_best']:.2f} above the best of them."
        )
    _say_where(out, page)


def _say_where(out: Path, page: Path) -> None:
    say(f"The model is in {out / 'model' if (out / 'model').exists() else out}, the report is {page}")
