"""Hugging Face's classifiers as teachers, by ``hf:`` and a folder or name."""

__all__ = ["hugging_face"]

from collections.abc import Sequence
from typing import Any

from torch import nn

from limbeck.models.hf_models import HF_PREFIX, hf_teacher


class _HuggingFace:
    """Makes a module of ``hf:FOLDER`` or ``hf:NAME``."""

    def takes(self, given: Any) -> bool:
        """Whether it is a string or path that begins so."""
        return (isinstance(given, str) or hasattr(given, "__fspath__")) and str(given).startswith(HF_PREFIX)

    def __call__(self, given: Any, classes: Sequence[str] | None = None) -> nn.Module:
        """The model in evaluation mode, its logits in the order of the data's classes."""
        return hf_teacher(str(given), classes)


hugging_face = _HuggingFace()
"""The adapter."""
