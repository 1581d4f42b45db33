"""Models in folders: ``config.json`` and ``model.safetensors``, in the layout of the Hugging Face Hub."""

__all__ = [
    "attached_reading",
    "classes_of",
    "load",
    "reading_of",
    "rows_trained_on",
    "save_ensemble",
    "save_model",
]

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import nn

from limbeck.arguments import checked_arguments
from limbeck.data.presentations import load_presentation, presentation_files, save_presentation
from limbeck.data.registry import Reading, reading_in, reading_keys
from limbeck.data.trained_rows import TrainedRows
from limbeck.errors import ConfigError, DataError, FormatError, LimbeckError, RunError
from limbeck.models import build, changes_of, count_outputs, count_parameters, describe, rebuild
from limbeck.models.calling import presentation_of
from limbeck.models.class_names import named_classes
from limbeck.models.copying import copy_module
from limbeck.models.factories import make_model
from limbeck.models.wrapped import load_weights, unwrapped
from limbeck.options.kinds import kept_files
from limbeck.system.checksums import check_file
from limbeck.system.files import make_folder, read_json, replace_bytes, replace_json, seal_files, unseal_files
from limbeck.system.model_folders import open_model_folder
from limbeck.teachers import Ensemble, ModelTeacher

_ROWS = "trained_rows.safetensors"
_FILES = ("config.json", "model.safetensors", _ROWS, *kept_files())
"""Files of a model folder that are recorded in ``SHA256SUMS``."""


@checked_arguments
def save_model(
    folder: str | Path,
    model: nn.Module,
    *,
    classes: Sequence[str],
    source: str | None = None,
    reading: Reading | None = None,
    trained_on: TrainedRows | None = None,
    overwrite: bool = False,
) -> Path:
    """Save a model's config and weights, and their digests in ``SHA256SUMS``.

    Args:
        folder: The folder; created if it is missing.
        model: One of Limbeck's architectures, or your own module.
        classes: Names of the classes in order.
        source: For your own module, the ``package.module:function`` that makes it; for the record.
        reading: How the inputs are made, for kinds of data that save that.
        trained_on: Hashes of its training inputs.
        overwrite: Whether a model that is in the folder may be replaced.

    Returns:
        The folder.

    Raises:
        DataError: If the number of names is not that of the classes, or a name is repeated.
        RunError: If the folder holds a model already, or a run.

    Example:
        >>> import tempfile, torch
        >>> from limbeck.models import MLP, MLPConfig
        >>> net = MLP(MLPConfig(input_shape=(4,), classes=2)).eval()
        >>> again = load(save_model(tempfile.mkdtemp(), net, classes=["no", "yes"]))
        >>> again.classes, torch.equal(again(torch.ones(1, 4)), net(torch.ones(1, 4)))
        (('no', 'yes'), True)
    """
    path, plain = Path(folder), unwrapped(model)
    own = {"model_type": "own", "source": source, "class": type(plain).__qualname__}
    description = describe(plain) or {**own, **changes_of(plain)}
    names = [str(name) for name in classes]
    _check_names(names, plain)
    _require_place(path, overwrite=overwrite)
    make_folder(path)
    unseal_files(path, [*_FILES, *presentation_files(path)])
    config = {
        "library_name": "limbeck",
        **description,
        "id2label": {str(number): name for number, name in enumerate(names)},
        "label2id": {name: number for number, name in enumerate(names)},
    }
    if reading is not None:
        config[reading.key] = reading.write(path)
    presentation = save_presentation(path, presentation_of(plain))
    if presentation is not None:
        config["presentation"] = presentation
    weights = {name: value.detach().cpu().contiguous().clone() for name, value in plain.state_dict().items()}
    replace_json(path / "config.json", config)
    replace_bytes(path / "model.safetensors", save(weights, {"format": "pt"}))
    if trained_on is not None:
        trained_on.write(path / _ROWS)
    seal_files(path, [*_FILES, *presentation_files(path)])
    return path


def _require_place(folder: Path, *, overwrite: bool) -> None:
    """Refuse a folder in which a model would replace another, or stand between a run's files."""
    if (folder / "config.toml").exists():
        raise RunError(f"{folder} is the folder of a run, whose model is in {folder / 'model'}: choose another folder")
    if not overwrite and any((folder / name).exists() for name in ("config.json", "model.safetensors")):
        raise RunError(f"{folder} holds a model already: choose another folder, or replace it with overwrite=True")


def _check_names(names: Sequence[str], model: nn.Module) -> None:
    """Check that there is one name per class, as far as the model's number of classes is known."""
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise DataError(f"classes has {twice!r} twice: give each class a unique name")
    known = count_outputs(model)
    # One logit means two classes; a multi-label model has one logit per label.
    if known in {None, len(names)} or (known == 1 and len(names) == 2) or hasattr(presentation_of(model), "names"):
        return
    shown = ", ".join(names[:4]) + (", ..." if len(names) > 4 else "")
    raise DataError(f"classes has {len(names)} names ({shown}), and the model has {known} classes: give one per class")


def save_ensemble(folder: Path, *, members: int, mean: str) -> None:
    """Record in a run's folder that its models are in ``members/1`` to ``members/M``."""
    replace_json(folder / "ensemble.json", {"members": members, "mean": mean})


@checked_arguments
def load(path: str | Path, *, model: Callable[..., nn.Module] | nn.Module | None = None) -> nn.Module | Ensemble:
    """Load the model of a run.

    No code in the folder is executed. A run of your own architecture therefore needs it again.

    Args:
        path: A run's folder, or a folder with ``config.json`` and ``model.safetensors``.
        model: Your own architecture: a module, or a function that returns one, as for :func:`~limbeck.train`.

    Returns:
        The module in evaluation mode, or the ensemble; its attribute ``classes`` names the classes, and ``trained_on``
        has hashes of its training inputs.

    Raises:
        ConfigError: If the architecture is your own and ``model`` is not given.
        FormatError: If a file is missing, corrupt, or its weights do not fit the architecture.
    """
    folder = Path(path)
    if (folder / "ensemble.json").exists():
        listed = read_json(folder / "ensemble.json")
        try:
            members, mean = int(listed["members"]), str(listed["mean"])
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise FormatError(folder / "ensemble.json", "must hold the number of members and the mean") from error
        if not 1 <= members <= 10_000 or mean not in {"arithmetic", "geometric"}:
            raise FormatError(folder / "ensemble.json", f"names {members} members and the mean {mean!r}")
        makers = None if model is None else _each_its_own(model)
        loaded = [load(folder / "members" / str(number + 1), model=makers) for number in range(members)]
        named = [
            member if isinstance(member, Ensemble) else ModelTeacher(member, named_classes(member)) for member in loaded
        ]
        return Ensemble(named, mean="geometric" if mean == "geometric" else "arithmetic")
    folder, config = open_model_folder(folder)
    module = _architecture(folder, config, model)
    weights_path = folder / "model.safetensors"
    check_file(weights_path)
    try:
        weights = load_file(weights_path)
    except FileNotFoundError as error:
        raise FormatError(weights_path, "is missing") from error
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        raise FormatError(weights_path, f"is truncated, corrupt or not a safetensors file: {error}") from error
    try:
        load_weights(module, weights)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise FormatError(weights_path, f"does not fit the architecture in config.json: {reason[:300]}") from error
    broken = next((name for name, value in module.named_parameters() if bool(torch.isnan(value.detach()).any())), None)
    if broken is not None:
        raise FormatError(weights_path, f"has NaN in {broken}: restore it from a copy, or train the network again")
    presentation = load_presentation(folder, config)
    if presentation is not None:
        module.presentation = presentation
    check_file(folder / _ROWS)
    rows = TrainedRows.read(folder / _ROWS) if (folder / _ROWS).exists() else None
    _annotate(module, classes=classes_of(config), reading=reading_in(folder, config), trained_on=rows)
    return module.eval()


def _annotate(module: nn.Module, **found: Any) -> None:
    """Attach what its folder says of a module; a module that has parts of these names keeps them."""
    for name, value in found.items():
        own = any(name in parts for parts in (module._modules, module._parameters, module._buffers))
        if not own and not hasattr(type(module), name):
            setattr(module, name, value)


def attached_reading(model: Any) -> Reading | None:
    """How the inputs of a loaded model are made, from its attribute ``reading``.

    Args:
        model: A module, or anything else.

    Returns:
        The reading; None where it has no such attribute, or something else of that name, such as a layer.

    Example:
        >>> attached_reading(nn.ModuleDict({"reading": nn.Linear(2, 2)})) is None
        True
    """
    found = getattr(model, "reading", None)
    return found if isinstance(found, Reading) else None


def rows_trained_on(model: Any) -> TrainedRows | None:
    """Hashes of the training inputs of a loaded model, from its attribute ``trained_on``."""
    found = getattr(model, "trained_on", None)
    return found if isinstance(found, TrainedRows) else None


def reading_of(path: str | Path) -> Reading | None:
    """How the inputs of a run's model are made, where it saves that.

    Args:
        path: A run's folder, of one model or several, or a model's folder.

    Returns:
        The reading, or None.

    Raises:
        FormatError: If the description is damaged.
    """  # noqa: DOC502
    folder = Path(path)
    if (folder / "ensemble.json").exists():
        folder = folder / "members" / "1"
    folder = folder / "model" if (folder / "model").is_dir() else folder
    config = read_json(folder / "config.json") if (folder / "config.json").exists() else {}
    return reading_in(folder, config) if isinstance(config, dict) else None


def _architecture(
    folder: Path, config: dict[str, Any], model: Callable[..., nn.Module] | nn.Module | None
) -> nn.Module:
    if config.get("model_type") == "own":
        if model is None:
            raise ConfigError(
                f"{folder} has a network of your own ({config.get('source') or config.get('class')}), and Limbeck "
                "executes no code from files: give the architecture as model= (--model), of a teacher "
                "as teacher_model= (--teacher-model)"
            )
        made = copy_module(model) if isinstance(model, nn.Module) else make_model(model, 0)
        try:
            return rebuild(made, config)
        except LimbeckError as error:
            raise FormatError(folder / "config.json", f"does not fit the architecture given: {error}") from error
    beside = {"library_name", "id2label", "label2id", "presentation"} | reading_keys()
    fields = {name: value for name, value in config.items() if name not in beside}
    try:
        _refuse_larger(folder, fields)
        return build(fields)
    except (ConfigError, DataError) as error:
        raise FormatError(folder / "config.json", str(error)) from error


def _refuse_larger(folder: Path, fields: dict[str, Any]) -> None:
    """Refuse an architecture with more parameters than its weights have bytes, before allocating memory."""
    weights = folder / "model.safetensors"
    if not weights.is_file():
        return  # reported where they are read
    with torch.device("meta"):
        described = count_parameters(build({name: value for name, value in fields.items() if name != "int8"}))
    if described > weights.stat().st_size:
        raise FormatError(
            weights,
            f"is truncated, or does not fit config.json: that describes {described:,} parameters, and this file has "
            f"{weights.stat().st_size:,} bytes",
        )


def _each_its_own(model: Callable[..., nn.Module] | nn.Module) -> Callable[[], nn.Module]:
    """Make a function that returns a new module per member, even if the user's returns the same one."""
    given: list[nn.Module] = []

    def make() -> nn.Module:
        made = model if isinstance(model, nn.Module) else make_model(model, 0)
        if made is model or any(made is other for other in given):
            made = copy_module(made)
        given.append(made)
        return made

    return make


def classes_of(config: dict[str, Any]) -> tuple[str, ...] | None:
    """Names of the classes in a model's ``config.json``, in order, or None where they are not there."""
    labels = config.get("id2label")
    if not isinstance(labels, dict):
        return None
    ordered = [labels.get(str(number)) for number in range(len(labels))]
    return None if any(not isinstance(name, str) for name in ordered) else tuple(str(name) for name in ordered)
