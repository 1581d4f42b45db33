"""``limbeck quickstart``."""

__all__ = ["quickstart"]

import time
from pathlib import Path

from limbeck.cli.common import Json, Quiet, Resume
from limbeck.cli.console import Told, print_json, print_metrics, print_verdicts, say


def quickstart(
    *,
    out: Path = Path("runs/quickstart"),
    seed: int = 0,
    resume: Resume = False,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Distil an MNIST teacher in about three minutes on two cores: teacher, baseline, student, verdict, report.

    The data are inside the package. A convolutional teacher with dropout and jittered digits, a 784-300-300-10
    student distilled from it, and the same student trained on labels alone. The results are a report, and a page,
    try/model.html, on which you draw digits for the student.

    ```
    limbeck quickstart --out runs/first
    limbeck quickstart --out runs/second --seed 1
    ```

    Args:
        out: Folder for the student's run; the teacher's is inside.
        seed: Seed of the weights, the order, the augmentation and dropout; the validation set stays the same.
        resume: Resume the run in the folder.
        quiet: No progress bars.
        json: Print the metrics as JSON.
    """
    from limbeck.recipes.quickstart import Quickstart, expected_seconds, write_page
    from limbeck.recipes.quickstart import quickstart as run_quickstart
    from limbeck.runs.pages import report_run

    began, settings = time.monotonic(), Quickstart().with_seed(seed)
    if not (quiet or resume or (out / "teacher").exists()):  # what exists is refused at once
        say(f"This will take about {_minutes(expected_seconds(settings))} on this machine.")
    run = run_quickstart(
        out,
        settings,
        resume=resume,
        callbacks=Told(),
        progress=not quiet,
    )
    tried = write_page(run, out)
    page = report_run(out)
    if json:
        print_json(run.metrics)
        return
    print_metrics(
        {role: run.metrics[role] for role in ("teacher", "baseline", "student")}, part=run.metrics["judged_on"]
    )
    print_verdicts(run.metrics)
    say(f"Done in {_minutes(time.monotonic() - began)}. Look at {page}")
    say(f"Draw digits for the student on {tried}: it opens in any browser, offline")


def _minutes(seconds: float) -> str:
    whole = round(seconds)
    return f"{whole // 60} min {whole % 60} s" if whole >= 60 else f"{whole} s"
