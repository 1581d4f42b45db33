"""``limbeck evaluate``."""

__all__ = ["evaluate"]

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from limbeck.cli.common import Data, Json
from limbeck.cli.console import print_json, print_metrics
from limbeck.options import DataOptions


def evaluate(
    run: Annotated[Path, Parameter(help="Folder of a run, or of a model.")],
    /,
    *,
    data: Data = DataOptions(),  # noqa: B008
    teacher: Path | None = None,
    model: str | None = None,
    json: Json = False,
) -> None:
    """Judge a model on a test set: errors, size, speed.

    ```
    limbeck evaluate runs/student --data mnist
    limbeck evaluate runs/student --data letters.mat --teacher runs/teacher --json
    ```

    Args:
        run: Folder of a run, or of a model.
        teacher: Another run, whose answers the model's are compared with.
        model: The architecture where it is your own, as package.module:function.
        json: Print the metrics as JSON.
    """
    from limbeck.data import open_data
    from limbeck.runs import evaluate as judge
    from limbeck.runs.inputs import load_teacher
    from limbeck.runs.measure import title_of

    examples = open_data(data)
    subject = load_teacher([run], own=model, data=examples, role="model")
    guide = None if teacher is None else load_teacher([teacher], own=model, data=examples)
    scores = judge(subject, examples, teacher=guide)
    if json:
        print_json({"title": title_of(subject), **scores})
    else:
        print_metrics({str(run): {"title": title_of(subject), **scores}})
