"""``limbeck taps``."""

__all__ = ["taps"]

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from limbeck.cli.common import Data, Json, Quiet, open_examples
from limbeck.cli.console import print_json, print_rows
from limbeck.options import DataOptions, ModelOptions


def taps(
    model: Annotated[str, Parameter(help="A run's folder, mlp, cnn, timm:NAME, hf:NAME or package.module:function.")],
    /,
    *,
    data: Data = DataOptions(),  # noqa: B008
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """List a model's layers with their output shapes, for methods that read features.

    fitnets and attention choose among the layers marked "stage" where none is named.

    ```
    limbeck taps runs/teacher --data photos/
    limbeck taps timm:resnet18 --data photos/ --image-size 64
    limbeck distill --teacher runs/teacher --method attention --method-options student_layers=0,3 teacher_layers=1,4
    ```

    Args:
        model: A run's folder, "mlp", "cnn", "timm:" or "hf:" and a name, or package.module:function.
        json: Print the layers as JSON.
        quiet: No progress bar.
    """
    from limbeck.models.taps import default_stages, list_taps
    from limbeck.runs.models_for_data import load_module, model_maker

    examples = open_examples(data, quiet=quiet)
    folder = Path(model)
    module = load_module(folder, data=examples) if folder.is_dir() else None
    module = module or model_maker(ModelOptions(model=model), examples)(0)
    batch = examples.seen_by(module).train.batch(slice(0, 2))
    found = list_taps(module, batch.inputs)
    stages = set(default_stages(found))
    if json:
        print_json([{"name": t.name, "kind": t.kind, "shape": t.shape, "stage": t.name in stages} for t in found])
        return
    rows = [(t.name, t.kind, " x ".join(map(str, t.shape)), "stage" if t.name in stages else "") for t in found]
    print_rows(("layer", "kind", "output per example", ""), rows)
