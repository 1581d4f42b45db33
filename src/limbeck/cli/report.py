"""``limbeck report``."""

__all__ = ["report"]

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from limbeck.cli.console import say


def report(run: Annotated[Path, Parameter(help="Folder of a run.")], /) -> None:
    """Draw a run's report, or that of a search, anew: one HTML page that opens anywhere.

    Pictures of the test set are shown where the run's data are still where they were.

    ```
    limbeck report runs/student
    ```

    Args:
        run: Folder of a run, or of limbeck tune.
    """
    if (run / "best.toml").exists():
        from limbeck.tuning import report_search

        say(f"The report is {report_search(run)}")
        return
    from limbeck.runs.pages import report_run

    say(f"The report is {report_run(run)}")
