"""``limbeck taps``."""

__all__ = ["taps"]

import dataclasses
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from limbeck.cli.common import DataOfRun, Json, Quiet, open_examples
from limbeck.cli.console import print_json, print_rows
from limbeck.errors import ConfigError
from limbeck.options import DataOptions, ModelOptions
from limbeck.options.data import OWN_DATA


def taps(
    model: Annotated[str, Parameter(help="A run's folder, mlp, cnn, timm:NAME, hf:NAME or package.module:function.")],
    /,
    *,
    data: DataOfRun = DataOptions(data=OWN_DATA),  # noqa: B008
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """List a model's layers with their output shapes, for methods that read features.

    fitnets and attention choose among the layers marked "stage" where none is named. Without --data a run is shown its
    own data, and a model that is named the digits of mnist.

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
    from limbeck.runs.data_settings import options_as_read, own_data
    from limbeck.runs.models_for_data import load_module, model_maker
    from limbeck.system.user_code import refuse_misfit

    folder = Path(model)
    if folder.is_dir():
        _refuse_own(folder)
        data = options_as_read(own_data(data, folder), folder)
    elif data.data == OWN_DATA:
        data = dataclasses.replace(data, data=DataOptions().data)
    examples = open_examples(data, quiet=quiet)
    module = load_module(folder, data=examples) if folder.is_dir() else None
    module = module or model_maker(ModelOptions(model=model), examples)(0)
    part = examples.seen_by(module).train
    with refuse_misfit("model", part.shape, examples.name, "name the model's data with --data"):
        found = list_taps(module, part.batch(slice(0, 2)).inputs)
    stages = set(default_stages(found))
    if json:
        print_json([{"name": t.name, "kind": t.kind, "shape": t.shape, "stage": t.name in stages} for t in found])
        return
    rows = [(t.name, t.kind, " x ".join(map(str, t.shape)), "stage" if t.name in stages else "") for t in found]
    print_rows(("layer", "kind", "output per example", ""), rows)


def _refuse_own(folder: Path) -> None:
    """Refuse a run of a user's architecture, whose layers are listed by the architecture's name."""
    from limbeck.system.model_folders import open_model_folder

    if (folder / "ensemble.json").exists():
        return  # refused with its members' names
    _, config = open_model_folder(folder)
    if config.get("model_type") == "own":
        name = config.get("source") or "package.module:function"
        raise ConfigError(
            f"{folder} has a network of your own, and Limbeck executes no code from files: list the layers of its "
            f"architecture, limbeck taps {name} --data ..."
        )
