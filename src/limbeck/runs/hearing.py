"""What a report of speech shows beside that of pictures: an utterance with posteriors, and word error rates.

Axes: ``N`` frames, ``P`` phones.
"""

__all__ = ["hear", "with_words"]

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limbeck.data.data_set import DataSet
from limbeck.data.examples import Examples
from limbeck.errors import FormatError, LimbeckError, MismatchError
from limbeck.evaluation.prediction import predict
from limbeck.kaldi.source import Spliced
from limbeck.kaldi.source.phones import one_utterance, phones_of, spectrogram
from limbeck.report import Heard, Model
from limbeck.runs.folder import RunFolder
from limbeck.runs.inputs import load_teacher
from limbeck.runs.measure import labels_of
from limbeck.system.files import read_json

_FRAME_SHIFT = 0.01
_FIGURES = ("wer", "insertions", "deletions", "substitutions", "acoustic_scale", "real_time_factor")


def hear(
    run: RunFolder, config: Mapping[str, Any], data: DataSet, examples: Examples
) -> tuple[Heard | None, list[str]]:
    """One utterance that a run was judged on, and what its models take each frame for.

    Args:
        run: The run.
        config: Its settings.
        data: Its data set, of speech.
        examples: The part that it was judged on.

    Returns:
        The utterance, or None where its phones are not known; and what could not be shown, a note each.
    """
    mdl = Path(str(config.get("mdl") or Path(str(config.get("ali", ""))) / "final.mdl"))
    if not mdl.is_file() or examples.labels is None:
        return None, []
    one = one_utterance(examples)
    assert isinstance(one.inputs, Spliced)
    found: dict[str, NDArray[np.float32]] = {}
    notes = []
    try:
        phones = phones_of(mdl)
        for role, folders in _models(run, config).items():
            mean: Any = config.get("mean") or "arithmetic"
            weights = config.get("weights") if len(folders) > 1 else None
            guide = load_teacher(folders, data=data, role=role, mean=mean, weights=weights)
            found[role] = phones.add_up(predict(guide, one).exp().numpy())
    except LimbeckError as error:
        notes.append(f"Not all posteriors could be shown: {error}")
        if not found:
            return None, notes
    truth = phones.of_pdf[labels_of(one)]
    return Heard(one.inputs.keys[0], spectrogram(one), found, truth, phones.names, _FRAME_SHIFT), notes


def with_words(
    models: tuple[Model, ...], run: RunFolder, config: Mapping[str, Any], decoded: Sequence[Path]
) -> tuple[Model, ...]:
    """Put what ``limbeck decode`` found to the scores of the models that it decoded with.

    Args:
        models: The report's models.
        run: The run.
        config: Its settings.
        decoded: Figures as JSON.

    Returns:
        The models.

    Raises:
        FormatError: If a file holds no figures of a model.
        MismatchError: If they are of none of these models.
    """
    known = {role: [path.resolve() for path in folders] for role, folders in _models(run, config).items()}
    scores: dict[str, dict[str, Any]] = {}
    for path in decoded:
        figures = read_json(path)
        if not isinstance(figures, dict) or "wer" not in figures or not isinstance(figures.get("model"), list):
            raise FormatError(path, "holds no word error rate of a model: give the .json that limbeck decode left")
        used = [Path(str(name)).resolve() for name in figures["model"]]
        roles = [role for role, folders in known.items() if folders == used]
        if not roles:
            raise MismatchError(
                f"{path} was decoded with {', '.join(map(str, figures['model']))}, which is no model of {run.path}"
            )
        scores |= {role: {name: figures[name] for name in _FIGURES} for role in roles}
    return tuple(dataclasses.replace(model, scores={**model.scores, **scores.get(model.role, {})}) for model in models)


def _models(run: RunFolder, config: Mapping[str, Any]) -> dict[str, list[Path]]:
    """Where the models of a run are, by role."""
    teachers = [Path(str(path)) for path in config.get("teacher") or ()]
    found = {}
    if teachers and all(path.is_dir() for path in teachers):
        found["teacher"] = teachers
    if (run.path / "baseline" / "model").is_dir():
        found["baseline"] = [run.path / "baseline"]
    found["student" if "hard_weight" in config else "model"] = [run.path]
    return found
