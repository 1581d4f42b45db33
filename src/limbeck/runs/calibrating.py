"""Temperature scaling of a run's model, fitted on validation and never on the evaluation data.

Axes: ``N`` examples, ``K`` classes.
"""

__all__ = ["Calibration", "calibration_of", "checked_temperature", "temperature_for", "temperature_of_run"]

from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from limbeck.data.data_set import DataSet
from limbeck.data.examples import Examples
from limbeck.errors import ConfigError
from limbeck.evaluation.calibration import NoTemperature, fit_temperature
from limbeck.evaluation.prediction import answers_in_blocks
from limbeck.keyed import permutation
from limbeck.protocols import Teacher
from limbeck.runs.claims import judged_by
from limbeck.runs.folder import RunFolder

_MOST_EXAMPLES, _MOST_NUMBERS = 20_000, 1 << 24
"""Examples to fit on; of more, so many are drawn evenly."""


@dataclass(frozen=True)
class Calibration:
    """The fitted temperature of one model.

    Attributes:
        temperature: T, or None where no temperature fits best.
        examples: Number of validation examples.
        digest: Digest of the validation set, for which no calibrated metrics are given.
        why: Why there is no temperature.
    """

    temperature: float | None
    examples: int
    digest: str
    why: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """The entry in ``metrics.json`` beside the calibrated metrics."""
        found: dict[str, Any] = {"calibration_temperature": self.temperature, "calibration_examples": self.examples}
        return found if self.why is None else {**found, "calibration_why": self.why}


def calibration_of(subject: nn.Module | Teacher, examples: Examples | None) -> Calibration | None:
    """Fit a model's temperature.

    Args:
        subject: A module or a teacher, on its device.
        examples: The validation set, or None where there is none.

    Returns:
        The fit; None where there is nothing to fit on, or a teacher has no outputs for it.
    """
    if examples is None or examples.labels is None:
        return None
    asked = subject if isinstance(subject, nn.Module) else judged_by(subject, examples)
    if asked is None:
        return None
    whole = examples
    if len(examples) > _MOST_EXAMPLES:
        examples = examples.take(permutation(len(examples), seed=0, epoch=0)[:_MOST_EXAMPLES].sort().values)
    labels = examples.labels
    assert labels is not None, "some of what has labels"
    answers, count = [], 0
    for rows, block in answers_in_blocks(asked, examples):
        answers.append(block.numpy())
        count = rows.stop
        if count * block.shape[1] > _MOST_NUMBERS:
            break
    truth = labels[:count].long().cpu().numpy()
    try:
        return Calibration(fit_temperature(np.concatenate(answers), truth), count, whole.digest)
    except NoTemperature as error:
        return Calibration(None, count, whole.digest, str(error))


def checked_temperature(value: float) -> float:
    """Check a temperature that the user gave.

    Args:
        value: The temperature.

    Returns:
        The same.

    Raises:
        ConfigError: If it is not positive and finite.
    """
    if isinstance(value, bool) or not isinstance(value, Real) or not 0 < value < float("inf"):
        raise ConfigError(f"temperature must be a positive and finite number, and is {value!r}")
    return float(value)


def temperature_for(model: nn.Module, data: Any, *, given: float | None, calibrate: bool) -> float:
    """The temperature that a model is exported with: the given one, or one fitted on validation.

    Args:
        model: The network, in evaluation mode.
        data: The data; a data set has a validation part.
        given: The given temperature, or None.
        calibrate: Whether to fit one.

    Returns:
        T.

    Raises:
        ConfigError: If both are asked for, or there is nothing to fit it on, or no temperature fits best.
    """
    if given is not None:
        if calibrate:
            raise ConfigError("calibrate fits a temperature, and one is given: leave one of them out")
        return checked_temperature(given)
    found = calibration_of(model, data.validation) if isinstance(data, DataSet) else None
    if found is None:
        raise ConfigError(
            "calibrate fits a temperature on the validation part of the data, and there is none with labels: give a "
            "temperature instead, or leave calibrate out"
        )
    if found.temperature is None:
        raise ConfigError(f"validation shows no temperature to calibrate with ({found.why}): leave calibrate out")
    return found.temperature


def temperature_of_run(run: str | Path) -> float:
    """The temperature that was fitted when a run was evaluated.

    Args:
        run: The run's folder.

    Returns:
        T.

    Raises:
        ConfigError: If the run has none; the message says why.
    """
    folder = RunFolder(run)
    metrics = folder.metrics() if folder.finished else {}
    stages = metrics.get("stages") or {}
    last = list(stages)[-1] if stages else "student" if "student" in metrics else "model"
    scores = (stages or metrics).get(last) or {}
    found = scores.get("calibration_temperature")
    if isinstance(found, int | float) and 0 < found < float("inf"):
        return float(found)
    why = scores.get("calibration_why") or "there were no validation examples to fit it on"
    raise ConfigError(f"{run} has no temperature to calibrate with ({why}): leave calibrate out, or give a temperature")
