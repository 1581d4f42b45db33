"""How a saved model sees its examples: written beside its weights, and read again."""

__all__ = ["load_presentation", "presentation_files", "save_presentation"]

import dataclasses
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from limbeck.data.many_labels import ManyLabels
from limbeck.data.table_encoding import TableEncoding
from limbeck.errors import ConfigError, DataError, FormatError
from limbeck.options import ImagePresentation, TextPresentation
from limbeck.system.checksums import check_file
from limbeck.system.files import make_folder, replace_bytes
from limbeck.system.hugging_face import load_tokenizer

_TOKENIZER = "tokenizer"
_PLAIN: dict[str, Any] = {"image": ImagePresentation, "table": TableEncoding}
"""Kinds that are plain values."""


def presentation_files(folder: Path) -> list[str]:
    """Files that a presentation has in a model's folder, as paths from there."""
    return sorted(f"{_TOKENIZER}/{file.name}" for file in (folder / _TOKENIZER).glob("*") if file.is_file())


def save_presentation(folder: Path, presentation: Any) -> dict[str, Any] | None:
    """Write what a model's own presentation needs, such as the files of its tokenizer.

    Args:
        folder: The model's.
        presentation: Of the model.

    Returns:
        What ``config.json`` holds of it; None where there is none, or a kind that is written elsewhere.
    """
    if isinstance(presentation, ManyLabels):
        inner = save_presentation(folder, presentation.inner)
        return {"kind": "labels", "names": list(presentation.names), "inner": inner}
    for kind, made in _PLAIN.items():
        if type(presentation) is made:
            return {"kind": kind, **presentation.to_dict()}
    if not isinstance(presentation, TextPresentation):
        return None
    fresh = load_tokenizer.__wrapped__(presentation.tokenizer)  # the one in use remembers how it was last called
    place = make_folder(folder / _TOKENIZER)
    with tempfile.TemporaryDirectory() as made:
        fresh.save_pretrained(made)
        for file in sorted(Path(made).iterdir()):
            if file.is_file():
                replace_bytes(place / file.name, file.read_bytes())
    return {"kind": "text", **dataclasses.asdict(presentation), "tokenizer": _TOKENIZER}


def load_presentation(folder: Path, config: Mapping[str, Any]) -> Any:
    """The presentation of a model's folder.

    Args:
        folder: The model's.
        config: Its ``config.json``.

    Returns:
        The presentation, or None where there is none.

    Raises:
        FormatError: If it is damaged.
    """  # noqa: DOC501
    described = config.get("presentation")
    if described is None:
        return None
    try:
        fields = dict(described)
        if fields.get("kind") == "labels":
            return ManyLabels(
                tuple(map(str, fields["names"])), load_presentation(folder, {"presentation": fields["inner"]})
            )
        if fields.get("kind") in _PLAIN:
            return _PLAIN[fields.pop("kind")].from_dict(fields)
        if fields.pop("kind") != "text" or fields.pop("tokenizer") != _TOKENIZER:
            raise ValueError("its kind is not known, or its tokenizer is elsewhere")
        for name in presentation_files(folder):
            check_file(folder / name, folder=folder)
        names = fields.pop("names")
        return TextPresentation(str(folder / _TOKENIZER), names=None if names is None else tuple(names), **fields)
    except (KeyError, TypeError, ValueError, ConfigError, DataError) as error:
        raise FormatError(folder / "config.json", f"describes a presentation that cannot be used: {error}") from error
