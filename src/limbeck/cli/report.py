"""``limbeck report``."""

__all__ = ["report"]

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from limbeck.cli.console import say
from limbeck.errors import ConfigError


def report(
    run: Annotated[Path, Parameter(help="Folder of a run.")],
    /,
    *,
    decoded: list[Path] | None = None,
    allow_pipes: Annotated[bool, Parameter(negative=())] = False,
) -> None:
    """Draw a run's report, or that of a search, anew: one HTML page that opens anywhere.

    Pictures of the test set, or for speech the spectrogram of an utterance with the models' posteriors, are shown where
    the run's data are still where they were.

    ```
    limbeck report runs/student
    limbeck report runs/student --decoded student.json teacher.json
    ```

    Args:
        run: Folder of a run, or of limbeck tune.
        decoded: Figures that limbeck decode left of the run, its baseline or its teacher: word error rates and
            real-time factors.
        allow_pipes: Run script lines of the run's data that are commands, in a shell: only for data you trust. What the
            run's own settings say does not count.
    """
    if (run / "best.toml").exists():
        from limbeck.tuning import report_search

        if decoded:
            raise ConfigError("--decoded is for the report of a run, and this is a search")
        say(f"The report is {report_search(run)}")
        return
    from limbeck.runs.pages import report_run

    say(f"The report is {report_run(run, decoded=decoded or (), allow_pipes=allow_pipes)}")
