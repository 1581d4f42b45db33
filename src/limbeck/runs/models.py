"""Models in folders: ``config.json`` and ``model.safetensors``, in the layout of the Hugging Face Hub."""

__all__ = ["classes_of", "load", "save_ensemble", "save_model"]

import copy
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import nn

from limbeck.errors import ConfigError, DataError, FormatError, LimbeckError
from limbeck.files import make_folder, read_json, replace_bytes, replace_json
from limbeck.models import build, changes_of, describe, rebuild
from limbeck.teachers import Ensemble, ModelTeacher


def save_model(folder: str | Path, model: nn.Module, *, classes: Sequence[str], source: str | None = None) -> Path:
    """Write a model's description and weights.

    Args:
        folder: Where; made if it is missing.
        model: One of Limbeck's architectures, or a module of your own.
        classes: Names of the classes in order.
        source: For a module of your own, the ``package.module:function`` that makes it; for the record.

    Returns:
        The folder.

    Example:
        >>> import tempfile, torch
        >>> from limbeck.models import MLP, MLPConfig
        >>> net = MLP(MLPConfig(input_shape=(4,), classes=2)).eval()
        >>> again = load(save_model(tempfile.mkdtemp(), net, classes=["no", "yes"]))
        >>> again.classes, torch.equal(again(torch.ones(1, 4)), net(torch.ones(1, 4)))
        (('no', 'yes'), True)
    """
    path = make_folder(Path(folder))
    own = {"model_type": "own", "source": source, "class": type(model).__qualname__}
    description = describe(model) or {**own, **changes_of(model)}
    names = [str(name) for name in classes]
    config = {
        "library_name": "limbeck",
        **description,
        "id2label": {str(number): name for number, name in enumerate(names)},
        "label2id": {name: number for number, name in enumerate(names)},
    }
    weights = {name: value.detach().cpu().contiguous().clone() for name, value in model.state_dict().items()}
    replace_json(path / "config.json", config)
    replace_bytes(path / "model.safetensors", save(weights, {"format": "pt"}))
    return path


def save_ensemble(folder: Path, *, members: int, mean: str) -> None:
    """Note in a run's folder that its models are in ``members/1`` to ``members/M``."""
    replace_json(folder / "ensemble.json", {"members": members, "mean": mean})


def load(path: str | Path, *, model: Callable[..., nn.Module] | nn.Module | None = None) -> nn.Module | Ensemble:
    """The model of a run.

    Nothing is executed out of the folder. A run whose architecture is your own therefore needs it from you again.

    Args:
        path: A run's folder, or a folder with ``config.json`` and ``model.safetensors``.
        model: Your own architecture, where it is one: a module, or a function without arguments that returns one.

    Returns:
        The module in evaluation mode, or the ensemble; its attribute ``classes`` names the classes.

    Raises:
        ConfigError: If the architecture is your own and ``model`` is not given.
        FormatError: If a file is missing, corrupt, or its weights do not fit the architecture.
    """
    folder = Path(path)
    if (folder / "ensemble.json").exists():
        listed = read_json(folder / "ensemble.json")
        try:
            members, mean = int(listed["members"]), str(listed["mean"])
        except (KeyError, TypeError, ValueError) as error:
            raise FormatError(folder / "ensemble.json", "must hold the number of members and the mean") from error
        if not 1 <= members <= 10_000 or mean not in {"arithmetic", "geometric"}:
            raise FormatError(folder / "ensemble.json", f"names {members} members and the mean {mean!r}")
        loaded = [load(folder / "members" / str(number + 1), model=model) for number in range(members)]
        named = [
            member if isinstance(member, Ensemble) else ModelTeacher(member, getattr(member, "classes", None))
            for member in loaded
        ]
        return Ensemble(named, mean="geometric" if mean == "geometric" else "arithmetic")
    if (folder / "model").is_dir():
        folder = folder / "model"
    if not (folder / "config.json").exists():
        raise FormatError(folder, "is no run with a model: it has no model/config.json; is the run finished?")
    config = read_json(folder / "config.json")
    if not isinstance(config, dict):
        raise FormatError(folder / "config.json", "holds no JSON object")
    module = _architecture(folder, config, model)
    weights_path = folder / "model.safetensors"
    try:
        weights = load_file(weights_path)
    except FileNotFoundError as error:
        raise FormatError(weights_path, "is missing") from error
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        raise FormatError(weights_path, f"is truncated, corrupt or no safetensors file: {error}") from error
    try:
        module.load_state_dict(weights)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise FormatError(weights_path, f"does not fit the architecture in config.json: {reason[:300]}") from error
    module.classes = classes_of(config)  # type: ignore[assignment]
    return module.eval()


def _architecture(
    folder: Path, config: dict[str, Any], model: Callable[..., nn.Module] | nn.Module | None
) -> nn.Module:
    if config.get("model_type") == "own":
        if model is None:
            raise ConfigError(
                f"{folder} holds a network of your own ({config.get('source') or config.get('class')}), and nothing is "
                "executed out of a file: give the architecture, with model= in Python or --model on the command line"
            )
        # A copy, for the members of an ensemble each need one.
        made = copy.deepcopy(model) if isinstance(model, nn.Module) else model()
        try:
            return rebuild(made, config)
        except LimbeckError as error:
            raise FormatError(folder / "config.json", f"does not fit the architecture given: {error}") from error
    fields = {name: value for name, value in config.items() if name not in {"library_name", "id2label", "label2id"}}
    try:
        return build(fields)
    except (ConfigError, DataError) as error:
        raise FormatError(folder / "config.json", str(error)) from error


def classes_of(config: dict[str, Any]) -> tuple[str, ...] | None:
    """Names of the classes in a model's ``config.json``, in order, or None where they are not there."""
    labels = config.get("id2label")
    if not isinstance(labels, dict):
        return None
    ordered = [labels.get(str(number)) for number in range(len(labels))]
    return None if any(not isinstance(name, str) for name in ordered) else tuple(str(name) for name in ordered)
