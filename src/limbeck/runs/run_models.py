"""Predictions and decoding results of a run's models, by role, for its report."""

__all__ = ["answers_by_role", "with_words"]

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from limbeck.data.data_set import DataSet
from limbeck.data.examples import Examples
from limbeck.errors import FormatError, MismatchError
from limbeck.evaluation.prediction import predict
from limbeck.report import Model
from limbeck.runs.folder import RunFolder
from limbeck.runs.models_for_data import load_teacher
from limbeck.system.files import read_json

_FIGURES = ("wer", "insertions", "deletions", "substitutions", "acoustic_scale", "real_time_factor")


def answers_by_role(
    run: RunFolder, config: Mapping[str, Any], data: DataSet, examples: Examples
) -> Iterator[tuple[str, Tensor]]:
    """Predict some examples with each model of a run.

    Args:
        run: The run.
        config: Its settings.
        data: Its data set.
        examples: The examples.

    Yields:
        Roles and log-probabilities ``(N, K)`` of teacher, baseline and student, or of the model.
    """
    for role, folders in _models(run, config).items():
        mean: Any = config.get("mean") or "arithmetic"
        weights = config.get("weights") if len(folders) > 1 else None
        yield role, predict(load_teacher(folders, data=data, role=role, mean=mean, weights=weights), examples)


def with_words(
    models: tuple[Model, ...], run: RunFolder, config: Mapping[str, Any], decoded: Sequence[Path]
) -> tuple[Model, ...]:
    """Add the results of ``limbeck decode`` to the metrics of its models.

    Args:
        models: The report's models.
        run: The run.
        config: Its settings.
        decoded: JSON files of ``limbeck decode``.

    Returns:
        The models.

    Raises:
        FormatError: If a file is not a result of ``limbeck decode`` with a model.
        MismatchError: If its models are not of this run.
    """
    known = {role: [path.resolve() for path in folders] for role, folders in _models(run, config).items()}
    scores: dict[str, dict[str, Any]] = {}
    for path in decoded:
        figures = read_json(path)
        if not isinstance(figures, dict) or "wer" not in figures or not isinstance(figures.get("model"), list):
            raise FormatError(path, "has no word error rate of a model: give the .json file of limbeck decode")
        used = [Path(str(name)).resolve() for name in figures["model"]]
        roles = [role for role, folders in known.items() if folders == used]
        if not roles:
            raise MismatchError(
                f"{path} was decoded with {', '.join(map(str, figures['model']))}, which is not a model of {run.path}"
            )
        scores |= {role: {name: figures[name] for name in _FIGURES} for role in roles}
    return tuple(dataclasses.replace(model, scores={**model.scores, **scores.get(model.role, {})}) for model in models)


def _models(run: RunFolder, config: Mapping[str, Any]) -> dict[str, list[Path]]:
    """The folders of a run's models, by role."""
    teachers = [Path(str(path)) for path in config.get("teacher") or ()]
    found = {}
    if teachers and all(path.is_dir() for path in teachers):
        found["teacher"] = teachers
    if (run.path / "baseline" / "model").is_dir():
        found["baseline"] = [run.path / "baseline"]
    found["student" if "hard_weight" in config else "model"] = [run.path]
    return found
