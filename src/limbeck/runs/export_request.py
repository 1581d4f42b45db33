"""Checks of an export's arguments, before any data are read."""

__all__ = ["checked_formats"]

from collections.abc import Sequence
from pathlib import Path

from limbeck.errors import ConfigError, RunError
from limbeck.evaluation.non_inferiority import checked_margin
from limbeck.exporters import Exporter, exporter_named
from limbeck.runs.calibrating import checked_temperature


def checked_formats(
    formats: Sequence[str],
    out: str | Path,
    *,
    margin: float | None = None,
    parity_examples: int | None = None,
    finetune_epochs: int = 0,
    calibrate: bool = False,
    temperature: float | None = None,
) -> list[Exporter]:
    """Check an export's arguments, independently of data and model.

    Args:
        formats: Names of formats.
        out: A folder that must not exist.
        margin: Percentage points of the error rate, or None.
        parity_examples: How many examples to compare on, or None for all.
        finetune_epochs: Epochs of fine-tuning for formats that round.
        calibrate: Whether a temperature is fitted.
        temperature: One that is given, or None.

    Returns:
        The exporters of the formats, in order.

    Raises:
        ConfigError: If a setting is out of range, contradicts another, or names an unknown format.
        RunError: If the folder exists.

    Example:
        >>> [each.name for each in checked_formats(["onnx", "torch"], "no/such/folder")]
        ['onnx', 'torch']
    """
    if isinstance(formats, str) or not formats:
        raise ConfigError(f"formats must be a list of names, such as ['onnx'], and is {formats!r}")
    twice = next((name for name in formats if list(formats).count(name) > 1), None)
    if twice is not None:
        raise ConfigError(f"format {twice} is asked for twice")
    chosen = [exporter_named(name) for name in formats]
    if Path(out).exists():
        raise RunError(f"{out} exists already: choose another out (--out), and nothing there is changed")
    if margin is not None:
        checked_margin(margin)
    if parity_examples is not None and parity_examples < 1:
        raise ConfigError(f"parity_examples must be at least 1, and is {parity_examples}")
    if finetune_epochs < 0 or (finetune_epochs and all(each.exact for each in chosen)):
        raise ConfigError(
            f"finetune_epochs is {finetune_epochs}: it must be at least 0, and is for formats that round, such as int8"
        )
    if temperature is not None:
        if calibrate:
            raise ConfigError("calibrate fits a temperature, and one is given: leave one of them out")
        checked_temperature(temperature)
    return chosen
