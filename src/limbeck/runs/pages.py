"""A run's report: its contents, read from the run's folder, and the page."""

__all__ = ["gather", "opened_data", "report_run"]

import dataclasses
import datetime
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from limbeck.data import open_data
from limbeck.data.data_set import DataSet
from limbeck.data.examples import Examples
from limbeck.data.source import Source
from limbeck.errors import ConfigError, DataError, FormatError, LimbeckError, RunError
from limbeck.lowrank import RankPlan
from limbeck.models import layer_sizes
from limbeck.models.calling import presentation_of
from limbeck.options.kinds import every_option
from limbeck.options.methods import has_temperature, option_list
from limbeck.report import Contents, Heard, Layer, Model, Singular, write_report
from limbeck.runs.claims import reach_of
from limbeck.runs.folder import RunFolder
from limbeck.runs.models import attached_reading, classes_of, load
from limbeck.runs.run_models import answers_by_role, with_words
from limbeck.runs.settings import options_of
from limbeck.runs.speed import modules_of
from limbeck.system.callbacks import warn_user
from limbeck.system.files import read_json
from limbeck.training.checkpoint import load_tensors

TRIED = "try"
"""Name of the optional subfolder with an interactive page of the network."""
_ODD = (LookupError, TypeError, AttributeError, ValueError, ArithmeticError, RecursionError)
"""Exceptions that malformed contents raise."""
_NOT_OURS = (
    "or another file of the run is malformed ({said}): restore the folder from a copy, or resume the run with "
    "resume=True (--resume)"
)
_TRIED = f"{TRIED}/model.html"
_DATA_KEYS = tuple(field.name for field in dataclasses.fields(every_option()))


def report_run(
    folder: str | Path, *, data: DataSet | None = None, decoded: Sequence[Path] = (), allow_pipes: bool = False
) -> Path:
    """Write ``report.html`` and ``figures/`` into a run's folder.

    Args:
        folder: The run.
        data: The run's data set, if it is in memory already; None to open it again by its name.
        decoded: JSON files of ``limbeck decode`` for this run's models.
        allow_pipes: Run shell commands in script files, whatever the run's settings say.

    Returns:
        The page.

    Raises:
        RunError: If the run is not finished.
        FormatError: If a file of the run is damaged or malformed.
    """  # noqa: DOC501
    run = RunFolder(folder)
    try:
        contents = gather(run, data=data, decoded=decoded, allow_pipes=allow_pipes)
        return write_report(contents, run.path / "report.html")
    except _ODD as error:
        if data is not None:  # just written by the run
            raise
        # Intact files with unexpected contents: the report's accesses are the schema.
        said = f"{type(error).__name__}: {error}"[:160]
        raise FormatError(run.path / "metrics.json", _NOT_OURS.format(said=said)) from error


def gather(
    run: RunFolder, *, data: DataSet | None = None, decoded: Sequence[Path] = (), allow_pipes: bool = False
) -> Contents:
    """Read the contents of a report from a run's folder.

    Args:
        run: The run.
        data: The run's data set, or None to open it again by its name.
        decoded: JSON files of ``limbeck decode`` for this run's models.
        allow_pipes: Run shell commands in script files: never because the run's folder says so.

    Returns:
        The contents. Parts that are missing in the folder are left out.

    Raises:
        RunError: If the run is not finished.
        FormatError: If a file of the run is damaged or malformed.
    """
    config = run.config()
    if not run.finished:
        raise RunError(f"{run.path} is not finished: resume it with resume=True (--resume), then write its report")
    metrics = _metrics(run)
    notes: list[str] = []
    if data is None and "data" in config:
        data = _opened(run, config, allow_pipes=allow_pipes, notes=notes)
    data, examples, answers = _judged(run, metrics, data, notes)
    models = _models(run, config, metrics, answers, examples)
    shown = with_words(models, run, config, decoded)
    heard = None
    if data is not None and examples is not None and data.reading is not None:
        found, said = data.reading.illustrate(config, examples, partial(answers_by_role, run, config, data))
        heard = None if found is None else Heard(*found)
        notes += said
    if examples is not None and examples.labels is not None:
        notes.append(reach_of(len(examples), metrics.get("judged_on") or "test", config.get("margin")) + ".")
    modified = (run.path / "metrics.json").stat().st_mtime
    taught = bool(config.get("finetune_epochs", 1))
    # Students that learn from each other have no teacher to soften: the paper's settings are not worth a line.
    untold = "students" in config and (config.get("temperature"), config.get("hard_weight")) == (1.0, 0.5)
    seeds = tuple(metrics.get("seeds", ()))
    return Contents(
        title=f"{shown[-1].title} on {data.name if data is not None else config.get('data', 'own data')}",
        created=datetime.datetime.fromtimestamp(modified, datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        classes=_classes(run, data),
        models=shown,
        labels=None if examples is None or examples.labels is None or not answers else examples.labels.long().numpy(),
        images=None if examples is None or not answers else _pictures(examples),
        command=None,
        temperature=config.get("temperature") if taught and not untold and _has_temperature(config) else None,
        hard_weight=config.get("hard_weight") if taught and not untold else None,
        verdict=metrics.get("verdict"),
        margin=metrics.get("margin"),
        inherited=metrics.get("inherited"),
        judged_on=metrics.get("judged_on") or "test",
        seeds=seeds if len(seeds) > 1 else (),
        config=config,
        notes=tuple(notes),
        warned=tuple(map(str, metrics.get("warnings") or ())),
        way=tuple(metrics.get("stages", {})),
        spectra=_spectra(run) if metrics.get("stages") else (),
        heard=heard,
        given=None if examples is None or not answers else partial(_given, examples),
        tried=_TRIED if (run.path / _TRIED).is_file() else None,
    )


def _has_temperature(config: Mapping[str, Any]) -> bool:
    """Whether a run's method uses the temperature; an unknown method may."""
    try:
        return has_temperature(config.get("method", "kd"), option_list(config.get("method_options", ())))
    except (ConfigError, AttributeError):
        return True


def _metrics(run: RunFolder) -> dict[str, Any]:
    """The metrics of a run, checked."""
    metrics = run.metrics()
    if not isinstance(metrics.get("judged_on"), str | None):
        raise FormatError(run.path / "metrics.json", "judged_on must be the name of a part of the data, or null")
    if not any(role in metrics for role in ("model", "student", "stages")):
        raise FormatError(run.path / "metrics.json", "is not of a run: it has no model, student or stages")
    return metrics


def _opened(run: RunFolder, config: Mapping[str, Any], *, allow_pipes: bool, notes: list[str]) -> DataSet | None:
    """The run's data, opened again; None and a note where that is impossible."""
    try:
        known = {key: config[key] for key in _DATA_KEYS if key in config}
        return open_data(options_of(run.path, {**known, "allow_pipes": allow_pipes}))
    except LimbeckError as error:
        notes.append(f"The data could not be opened again, so no examples are shown: {error}")
        warn_user(
            f"the report of {run.path} shows no examples, for its data could not be opened again: {error} (relative "
            "paths begin where the run was started)"
        )
        return None


def opened_data(run: RunFolder) -> DataSet:
    """Open a run's data again by its settings.

    Args:
        run: The run.

    Returns:
        The data set.

    Raises:
        DataError: If the run was made in Python from data without a name, or they cannot be opened again.
    """
    config = run.config()
    try:
        if "data" in config:
            known = {key: config[key] for key in _DATA_KEYS if key in config}
            return open_data(options_of(run.path, {**known, "allow_pipes": False}))
        why = "it was made in Python from data in memory, which its folder does not hold"
    except LimbeckError as error:
        why = str(error)
    raise DataError(
        f"the examples that {run.path} was evaluated on cannot be loaded again ({why}): give the run's data set, as in "
        "limbeck.compare(a, b, data=data_set), or on the command line --data and the file or folder that holds it"
    )


def _judged(
    run: RunFolder, metrics: Mapping[str, Any], data: DataSet | None, notes: list[str]
) -> tuple[DataSet | None, Examples | None, dict[str, NDArray[Any]]]:
    """The data, the evaluated part, and the predictions by role, where they belong together."""
    examples = None
    if data is not None and metrics.get("judged_on"):
        examples = data.parts().get(metrics["judged_on"])
    answers = _answers(run)
    wanted = (0 if examples is None else len(examples), 0 if data is None else len(data.classes))
    if examples is not None and any(answer.shape != wanted for answer in answers.values()):
        notes.append("The data are not those that the run was evaluated on, so no examples are shown.")
        data = examples = None
    if metrics.get("judged_on") == "validation":
        notes.append(
            "There was no test set: all metrics are on the validation set, on which epochs may have been chosen."
        )
    return data, examples, {} if examples is None else answers  # useless without the examples


def _models(
    run: RunFolder,
    config: Mapping[str, Any],
    metrics: Mapping[str, Any],
    answers: Mapping[str, NDArray[Any]],
    examples: Examples | None,
) -> tuple[Model, ...]:
    """The evaluated models: the stages of a compression, one model, or teacher, baseline and student."""
    scores = metrics.get("stages") or metrics
    roles = metrics.get("stages") or (("model",) if "model" in metrics else ("teacher", "baseline", "student"))
    found = [_model(run, config, scores, role, answers, examples) for role in roles]
    return tuple(model for model in found if model is not None)


def _spectra(run: RunFolder) -> tuple[Singular, ...]:
    """The singular values of a compressed network's layers, where they were saved."""
    path = run.path / "singular_values.safetensors"
    if not path.exists():
        return ()
    values, _ = load_tensors(path)
    plan = RankPlan.load(run.path / "plan.json")
    named = [(layer.name or "(network)", layer.rank) for layer in plan.layers]
    return tuple(Singular(name, values[name].numpy(), rank) for name, rank in named if name in values)


def _answers(run: RunFolder) -> dict[str, NDArray[Any]]:
    path = run.path / "answers.safetensors"
    if not path.exists():
        return {}
    tensors, _ = load_tensors(path)
    return {role: tensor.numpy() for role, tensor in tensors.items()}


def _classes(run: RunFolder, data: DataSet | None) -> tuple[str, ...]:
    if data is not None:
        return data.classes
    model = run.path / "model" if (run.path / "model").is_dir() else run.path / "members" / "1" / "model"
    description = read_json(model / "config.json")
    found = classes_of(description) if isinstance(description, dict) else None
    if found is None:
        raise RunError(f"{model / 'config.json'} does not name the classes: the run's data are needed for its report")
    return found


def _pictures(examples: Examples) -> NDArray[np.uint8] | None:
    if not isinstance(examples.inputs, Tensor):
        return None
    if examples.inputs.dtype != torch.uint8 or examples.inputs.ndim != 4 or examples.shape[0] not in {1, 3}:
        return None
    array: NDArray[np.uint8] = examples.inputs.cpu().numpy()
    return array[:, 0] if array.shape[1] == 1 else np.moveaxis(array, 1, -1)


def _folder_of(run: RunFolder, config: Mapping[str, Any], role: str) -> RunFolder | None:
    if role == "baseline":
        return RunFolder(run.path / "baseline")
    if role == "teacher":
        paths = (_settings(config["source"]) if "source" in config else config).get("teacher") or []
        return RunFolder(paths[0]) if paths and Path(paths[0]).is_dir() else None
    if "calibration" not in config:  # not a compression, whose stages have folders
        return run
    if role in {"original", "student"}:
        source = config.get("source")
        return RunFolder(source) if source is not None and Path(source).is_dir() else None
    stage = run.path / role.replace(" + ", "-")
    return RunFolder(stage) if stage.is_dir() else run


def _settings(source: str) -> dict[str, Any]:
    return RunFolder(source).config() if (Path(source) / "config.toml").exists() else {}


def _model(
    run: RunFolder,
    config: Mapping[str, Any],
    metrics: Mapping[str, Any],
    role: str,
    answers: Mapping[str, NDArray[Any]],
    examples: Examples | None,
) -> Model | None:
    if role not in metrics:
        return None
    scores = {name: value for name, value in metrics[role].items() if name != "title"}
    folder = _folder_of(run, config, role)
    history: list[dict[str, Any]] = []
    layers: tuple[Layer, ...] = ()
    members = 1
    if folder is not None:
        first = folder if (folder.path / "history.jsonl").exists() else RunFolder(folder.path / "members" / "1")
        history = first.history()
        try:
            loaded = load(folder.path) if _holds_model(folder.path) else None
        except ConfigError:
            loaded = None  # a user's architecture: its diagram is left out
        if loaded is not None and examples is not None:
            members = 1 if isinstance(loaded, nn.Module) else len(loaded.members)
            module = modules_of(loaded)[0][0]
            reading = attached_reading(module)
            seen = presentation_of(module) if reading is None else reading.presentation
            inputs = examples.as_seen(slice(0, 1), seen)
            layers = tuple(Layer(*sizes) for sizes in layer_sizes(module, inputs))
    scores |= cost_of(history) if members == 1 else {}
    rows = tuple({**row, "images_per_second": row.get("examples_per_second")} for row in history)
    return Model(role, metrics[role].get("title", role), answers.get(role), rows, scores, layers, members)


def cost_of(history: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """What a training took, where it is known for each epoch: seconds of its steps, and joules of the machine.

    Args:
        history: A mapping per epoch.

    Returns:
        ``training_seconds`` and ``training_joules``.

    Example:
        >>> cost_of([{"seconds": 1.5, "joules": 30.0}, {"seconds": 1.0}])
        {'training_seconds': 2.5}
    """
    found = {}
    for name in ("seconds", "joules"):
        values = [row.get(name) for row in history]
        if values and all(isinstance(value, int | float) for value in values):
            found[f"training_{name}"] = float(sum(value for value in values if value is not None))
    return found


def _given(examples: Examples, rows: NDArray[np.int64]) -> Sequence[Any] | None:
    """Texts, or the rows of a table as mappings, of some examples; None where examples are of another kind."""
    source = examples.inputs
    return source.as_given(torch.from_numpy(rows)) if isinstance(source, Source) else None


def _holds_model(path: Path) -> bool:
    return (path / "model").is_dir() or (path / "ensemble.json").exists()
