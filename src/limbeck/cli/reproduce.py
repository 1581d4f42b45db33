"""``limbeck reproduce``."""

__all__ = ["reproduce"]

import shlex
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from limbeck.cli.common import Jobs, Json, Quiet, Ray
from limbeck.cli.console import Told, print_json, print_rows, say
from limbeck.errors import ConfigError
from limbeck.system.callbacks import as_callback
from limbeck.system.progress import ProgressBar


def reproduce(
    name: str | None = None,
    /,
    *,
    list_: Annotated[bool, Parameter(name="--list", negative=())] = False,
    seeds: int = 3,
    quick: Annotated[bool, Parameter(negative=())] = False,
    data: str | None = None,
    epochs_factor: float = 1.0,
    jobs: Jobs = 1,
    ray: Ray = None,
    out: Path = Path("runs/reproduce"),
    results: Path | None = None,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Reproduce an experiment of the paper, and compare the results with the paper's.

    Every finished training is kept: the same command resumes after a stop. The results are a table in Markdown, with
    figures, and a report.

    ```
    limbeck reproduce --list
    limbeck reproduce missing-digit
    limbeck reproduce mnist --seeds 3 --epochs-factor 0.5
    limbeck reproduce ensemble --data emnist-letters.mat
    limbeck reproduce specialists --data letters.npz --jobs 4
    limbeck reproduce speech --data so762
    ```

    Args:
        name: The recipe.
        list_: List the recipes, and what each needs.
        seeds: Number of seeds.
        quick: A small version that takes seconds: few examples, tiny networks. It shows that the recipe runs.
        data: The examples, where the recipe needs a file: whatever limbeck data can read. For speech a folder with
            Kaldi's directories: train, dev, test, ali_train, ali_dev, ali_test, and graph where words are counted.
        epochs_factor: Multiply all numbers of epochs: 0.5 for half the time, 2 for twice.
        jobs: How many specialists are trained in parallel, one process each.
        ray: Instead of jobs: the address of a Ray cluster, or "local"; the cluster must see the folder.
        out: Folder of all recipes; teachers of MNIST are shared by them.
        results: Folder for the table as Markdown and its figures; default OUT/NAME/results.
        quiet: No progress bars.
        json: Print the findings as JSON.
    """
    from limbeck.recipes.catalogue import RECIPES

    if list_:
        if json:
            print_json([{"name": r.name, "title": r.title, "section": r.section, "data": r.data} for r in RECIPES])
            return
        print_rows(
            ("recipe", "what", "section", "needs"),
            [
                (r.name, r.title, r.section, "nothing: MNIST is inside" if r.data is None else f"--data {r.data}")
                for r in RECIPES
            ],
        )
        return
    if name is None:
        raise ConfigError("name a recipe, or see them all with  limbeck reproduce --list")
    from limbeck.recipes.reproduce import reproduce as run_recipe

    done = run_recipe(
        name,
        out,
        command=_command_line(
            name, seeds=seeds, quick=quick, data=data, epochs_factor=epochs_factor, jobs=jobs, ray=ray
        ),
        seeds=seeds,
        quick=quick,
        data=data,
        epochs_factor=epochs_factor,
        jobs=jobs,
        ray=ray,
        results=results,
        callback_for=lambda title: as_callback(Told(), *([] if quiet else [ProgressBar()])),
    )
    if json:
        print_json({key: list(values) for key, values in done.findings.values.items()})
        return
    print_rows(done.table.heading[:-1], [row[:-1] for row in done.table.rows])
    if done.findings.answer:
        say(done.findings.answer)
    say(f"The table is {done.markdown}, the report is {done.page}")


def _command_line(name: str, **given: object) -> str:
    """The command with the flags that differ from their defaults; files by name, without their folders."""
    defaults = {"seeds": 3, "quick": False, "data": None, "epochs_factor": 1.0, "jobs": 1, "ray": None}
    words = ["limbeck", "reproduce", name]
    for flag, value in given.items():
        if value == defaults[flag]:
            continue
        words.append("--" + flag.replace("_", "-"))
        if value is not True:
            words.append(Path(value).name if isinstance(value, str) else f"{value:g}")
    return shlex.join(words)
