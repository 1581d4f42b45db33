"""Trained timm models as teachers: ``timm:FOLDER`` or ``timm:NAME@CHECKPOINT``."""

__all__ = ["timm_network"]

import warnings
from collections.abc import Sequence
from typing import Any

from torch import nn

from limbeck.errors import ConfigError, LimbeckWarning, MismatchError
from limbeck.models.timm_models import TIMM_PREFIX, checkpoint_of, make_timm


class _TimmNetwork:
    """Makes a module of ``timm:FOLDER`` or ``timm:NAME@CHECKPOINT``."""

    def takes(self, given: Any) -> bool:
        """Whether it is a string or path that begins so."""
        return (isinstance(given, str) or hasattr(given, "__fspath__")) and str(given).startswith(TIMM_PREFIX)

    def __call__(self, given: Any, classes: Sequence[str] | None = None) -> nn.Module:
        """The network in evaluation mode."""
        if classes is None:
            raise ConfigError(f"{given} needs the names of the data's classes: give classes=[...]")
        if checkpoint_of(str(given)) is None:
            raise ConfigError(
                f"{given} has no weights, and a teacher must be trained: give timm:NAME@CHECKPOINT or timm:FOLDER"
            )
        with warnings.catch_warnings():
            warnings.simplefilter("error", LimbeckWarning)
            try:
                return make_timm(str(given), classes=len(classes)).eval()
            except LimbeckWarning as warning:  # a new head would be drawn
                raise MismatchError(
                    f"teacher {given} has a head for other classes than the data's {len(classes)}: {warning}"
                ) from warning


timm_network = _TimmNetwork()
"""The adapter."""
