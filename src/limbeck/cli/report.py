"""``limbeck report``."""

__all__ = ["report"]

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from limbeck.cli.console import say
from limbeck.errors import ConfigError


def report(
    run: Annotated[Path, Parameter(help="A run folder.")],
    /,
    *,
    decoded: list[Path] | None = None,
    allow_pipes: Annotated[bool, Parameter(negative=())] = False,
) -> None:
    """Write the report of a run or a search again: one self-contained HTML page.

    Test images, or for speech the spectrogram of an utterance with the models' posteriors, are shown if the run's data
    are still in place.

    ```
    limbeck report runs/student
    limbeck report runs/student --decoded student.json teacher.json
    ```

    Args:
        run: A folder of a run or of limbeck tune.
        decoded: JSON files of limbeck decode for the run, its baseline or its teacher: word error rates and real-time
            factors.
        allow_pipes: Run the shell commands in script files of the run's data: only for data you trust. The run's own
            setting does not count.
    """
    if (run / "best.toml").exists():
        from limbeck.tuning import report_search

        if decoded:
            raise ConfigError("--decoded is for the report of a run, and this is a search")
        say(f"The report is {report_search(run)}")
        return
    from limbeck.runs.pages import report_run

    say(f"The report is {report_run(run, decoded=decoded or (), allow_pipes=allow_pipes)}")
