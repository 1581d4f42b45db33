"""Run a recipe, and write its results beside the paper's."""

__all__ = ["Reproduced", "reproduce"]

import datetime
import importlib
import os
import platform
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from limbeck import __version__
from limbeck.errors import ConfigError, InterruptedRun, RunError
from limbeck.recipes.catalogue import Recipe, recipe_named
from limbeck.recipes.findings import Findings, Order, results_table
from limbeck.recipes.series import Series
from limbeck.report import Drawing, Study, Table, write_study
from limbeck.report.figures_study import draw_results
from limbeck.system.callbacks import Callback
from limbeck.system.files import make_folder, replace_json


@dataclass(frozen=True, eq=False)
class Reproduced:
    """The result of a recipe.

    Attributes:
        findings: What it found.
        table: Its claims beside the paper's numbers.
        markdown: The Markdown file.
        page: The report.
    """

    findings: Findings
    table: Table
    markdown: Path
    page: Path


def reproduce(
    name: str,
    out: Path,
    *,
    command: str,
    seeds: int = 3,
    quick: bool = False,
    data: str | None = None,
    epochs_factor: float = 1.0,
    jobs: int = 1,
    ray: str | None = None,
    results: Path | None = None,
    callback_for: Callable[[str], Callback] | None = None,
) -> Reproduced:
    """Run one of the paper's experiments; what is done already is not done again.

    Args:
        name: Of the recipe.
        out: Folder of all recipes: trainings are kept there as they come.
        command: The command line, for the record.
        seeds: How many seeds.
        quick: The small version: a few hundred examples, tiny networks, the same path.
        data: The examples, for a recipe that needs a file.
        epochs_factor: All numbers of epochs are multiplied by it.
        jobs: How many specialists train at the same time, each in its own process.
        ray: Instead of ``jobs``: the address of a Ray cluster, or "local"; the cluster must see ``out``.
        results: Folder for the Markdown and its figures; None for ``OUT/NAME/results``.
        callback_for: Makes the callback of a training, given its name.

    Returns:
        Findings, table and files.

    Raises:
        ConfigError: If there is no such recipe, or it needs data that are not given.
        RunError: If the recipe's folder is that of a run.
        InterruptedRun: If a signal stopped it; the same call goes on.
    """
    recipe = recipe_named(name)
    if recipe.data is None and data is not None:
        raise ConfigError(f"recipe {name} is of MNIST, which is inside the package: leave --data out")
    if recipe.data is not None and data is None and not (quick and recipe.stand_in):
        without = "; --quick does without" if recipe.stand_in else ", also for --quick"
        raise ConfigError(f"recipe {name} needs examples, such as --data {recipe.data}{without}")
    if jobs < 1:
        raise ConfigError(f"jobs must be at least 1, and is {jobs}")
    series = Series(out, name, seeds=seeds, quick=quick, epochs_factor=epochs_factor, callback_for=callback_for)
    if (series.folder / "config.toml").exists():
        raise RunError(f"{series.folder} is the folder of a run: choose another --out")
    make_folder(series.folder)
    try:
        findings: Findings = importlib.import_module(recipe.module).run(series, Order(data, jobs, ray))
    except InterruptedRun as stop:
        raise InterruptedRun(
            f"stopped by {signal.Signals(stop.exit_code - 128).name}; everything is saved, the same command continues",
            stop.exit_code - 128,
        ) from stop
    table = results_table(recipe, findings)
    now = datetime.datetime.now(datetime.UTC)
    study = Study(
        name,
        f"{recipe.title}: limbeck reproduce {name}",
        f"{recipe.origin} {recipe.about}",
        findings.answer,
        command,
        (
            now.strftime("%Y-%m-%d %H:%M UTC"),
            _machine(),
            f"{len(series.cells)} trainings, {_duration(series.seconds)} of training in sum",
            f"Limbeck {__version__}",
        ),
        (table, *findings.tables),
        (*_beside(recipe, findings), *findings.drawings),
        (
            *findings.remarks,
            *_older(recipe),
            *(["This is the small version, which shows that the recipe runs."] if quick else []),
        ),
    )
    page = series.folder / "report.html"
    written = write_study(study, page, results or series.folder / "results")
    replace_json(
        series.folder / "results.json",
        {
            "recipe": name,
            "command": command,
            "facts": study.facts,
            "values": {key: list(values) for key, values in findings.values.items()},
            "notes": dict(findings.notes),
            "answer": findings.answer,
        },
    )
    return Reproduced(findings, table, written, page)


def _older(recipe: Recipe) -> list[str]:
    """Where the older replications' numbers are from."""
    if not recipe.replications:
        return []
    told = " ".join(f"{other.who} ({other.source}): {other.how}" for other in recipe.replications)
    return [f"Older replications have one run each. {told}"]


def _beside(recipe: Recipe, findings: Findings) -> list[Drawing]:
    """Results in a figure, where they are of one unit; shares of them are told in the table alone."""
    units = {"errors": "test errors", "% errors": "test errors (%)", "%": "test accuracy (%)"}
    claims = [claim for claim in recipe.claims if findings.values.get(claim.key) and claim.unit in units]
    if not claims or len({claim.unit for claim in claims}) > 1:
        return []
    comparable = recipe.data is None
    return [
        Drawing(
            "results",
            "At a glance",
            "Each dot is a seed, the bar their mean"
            + (", the diamond the paper's number." if comparable else "; the paper's numbers are of other data."),
            draw_results(
                [claim.what for claim in claims],
                [findings.values[claim.key] for claim in claims],
                [claim.paper if comparable else None for claim in claims],
                units[claims[0].unit],
            ),
        )
    ]


def _machine() -> str:
    """Processor or accelerator, and threads, without the machine's name."""
    if torch.cuda.is_available():
        return f"{torch.cuda.get_device_name()}, PyTorch {torch.__version__}"
    model = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8", errors="replace").splitlines()
        model = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    return f"{model}, {torch.get_num_threads()} of {os.cpu_count()} cores, PyTorch {torch.__version__}"


def _duration(seconds: float) -> str:
    """A time in words.

    Args:
        seconds: At least 0.

    Returns:
        Seconds, minutes or hours.

    Example:
        >>> _duration(45), _duration(600), _duration(9000)
        ('45 s', '10 min', '2 h 30 min')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
