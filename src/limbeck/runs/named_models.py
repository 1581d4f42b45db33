"""Checks of the models that a command names, before data are read."""

__all__ = ["reading_of_models", "require_models"]

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from limbeck.data.presentations import load_presentation
from limbeck.errors import ConfigError, FormatError
from limbeck.models import own_function
from limbeck.models.hf_files import HF_PREFIX, Look, look_at
from limbeck.models.timm_models import TIMM_PREFIX, require_timm
from limbeck.options import DataOptions
from limbeck.system.model_folders import open_model_folder

_USUAL_LENGTH = 256


def require_models(
    options: DataOptions,
    *,
    model: str | None = None,
    teachers: Sequence[str | Path] = (),
    own: str | None = None,
) -> DataOptions:
    """Check the models that a command names, and complete the text options from them.

    Args:
        options: The data options.
        model: The model to train, as for ``--model`` and ``--student``; None for none.
        teachers: Run folders, files, or models as ``hf:FOLDER`` or ``timm:FOLDER``.
        own: A user's architecture of the teachers.

    Returns:
        The options; for language models with the tokenizer, the window and the vocabulary of the models.

    Raises:
        ConfigError: If a model does not exist, cannot be used, or its tokenizer belongs to another.
        FormatError: If a folder or a file is missing, or is not a run with a model.
    """  # noqa: DOC502
    looks: list[Look] = []
    for name in (model, own):
        if name is not None and name.startswith(TIMM_PREFIX):
            require_timm(name)
        elif name is not None and name.startswith(HF_PREFIX):
            looks.append(look_at(name, tokenizer=options.tokenizer))
        elif name is not None and ":" in name:
            own_function(name)
    for teacher in map(str, teachers):
        if teacher.startswith(HF_PREFIX):
            looks.append(look_at(teacher, tokenizer=options.tokenizer, trained=True))
        elif teacher.startswith(TIMM_PREFIX):
            require_timm(teacher)
        elif (found := _run(Path(teacher))) is not None:
            looks.append(found)
    return reading_of_models(options, looks)


def reading_of_models(options: DataOptions, looks: Sequence[Look]) -> DataOptions:
    """Complete the options of language-model texts from the models.

    Args:
        options: What was asked for.
        looks: What is known about the models.

    Returns:
        The options; unchanged for other data.

    Raises:
        ConfigError: If models have different vocabulary sizes.
    """
    known = [look for look in looks if look.tokenizer is not None]
    if not options.next_token or not known:
        return options
    sizes = sorted({look.vocabulary for look in known if look.vocabulary})
    if options.vocabulary is None and len(sizes) > 1:
        raise ConfigError(
            f"the models have vocabularies of {' and '.join(map(str, sizes))} tokens: teacher and student need the same"
        )
    found: dict[str, Any] = {
        "tokenizer": options.tokenizer or known[-1].tokenizer,
        "max_length": options.max_length or min(_USUAL_LENGTH, *(look.max_length for look in known)),
        "vocabulary": options.vocabulary or (sizes[0] if sizes else None),
    }
    return dataclasses.replace(options, **found)


def _run(place: Path) -> Look | None:
    """The text settings of a run's model; None for other models, and for teacher files."""
    if not place.is_dir():
        if not place.exists():
            raise FormatError(place, "there is no such file or folder, so it is not a run with a model")
        return None
    if (place / "ensemble.json").exists():
        place = place / "members" / "1"
        if not place.is_dir():
            return None  # reported with the contents of ensemble.json
    folder, config = open_model_folder(place)
    seen = load_presentation(folder, config)
    tokenizer, length = getattr(seen, "tokenizer", None), getattr(seen, "max_length", 0)
    inner = config.get("config")
    size = inner.get("vocab_size") if isinstance(inner, dict) else None
    return Look(tokenizer, length, size if isinstance(size, int) else 0)
