"""``limbeck compare``."""

__all__ = ["compare"]

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from limbeck.cli.common import GROUPS, Json, open_examples
from limbeck.cli.console import print_json, print_rows, say, say_odd
from limbeck.evaluation.score_table import score_cell
from limbeck.options import DataOptions


def compare(
    *runs: Path,
    data: Annotated[str | None, Parameter(group=GROUPS["Data"])] = None,
    out: Annotated[Path | None, Parameter(name="--out")] = None,
    json: Json = False,
) -> None:
    """Compare the models of finished runs on the test set that all of them were evaluated on.

    The others are compared with the first, p-values adjusted for their number. Nothing is computed again.

    ```
    limbeck compare runs/kd runs/dist runs/dkd
    limbeck compare runs/student runs/smaller --out runs/compared
    ```

    Args:
        runs: Folders of runs.
        data: Their data set, where their settings do not name it, as in runs made in Python.
        out: A folder for a report of all of them: learning curves, errors against size, examples on which they differ.
        json: Print the comparison as JSON.
    """
    from limbeck.runs.comparing import compare as compare_runs

    examples = None if data is None else open_examples(DataOptions(data=data), quiet=True)
    found = compare_runs(*runs, data=examples, out=out)
    if json:
        print_json(found.to_dict())
        return
    print_rows(
        ("run", f"{found.judged_on} errors", "NLL", "weights", "ms", "against the first, points"),
        [
            (
                run.name,
                f"{run.scores['test_errors']:,}",
                score_cell(run.scores, "nll", "{:.3f}".format, ""),
                f"{run.scores['parameters']:,}" if "parameters" in run.scores else "",
                f"{run.scores['latency_ms']:.2f}" if "latency_ms" in run.scores else "",
                ""
                if run.difference is None
                else f"{100 * run.difference.estimate:+.2f} ({100 * run.difference.low:+.2f} to "
                f"{100 * run.difference.high:+.2f})",
            )
            for run in found.runs
        ],
    )
    for sentence in found.sentences:
        say(sentence)
    for warning in found.warnings:
        say_odd(warning)
    if found.page is not None:
        say(f"The report is {found.page}")
