"""Saving and loading of a model's presentation beside its weights."""

__all__ = ["load_presentation", "presentation_files", "save_presentation"]

import dataclasses
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from limbeck.data.multi_label import ManyLabels
from limbeck.data.table_encoding import TableEncoding
from limbeck.errors import ConfigError, DataError, FormatError
from limbeck.options import ImagePresentation, TextPresentation
from limbeck.system.checksums import check_file
from limbeck.system.files import make_folder, replace_bytes
from limbeck.system.hugging_face import load_tokenizer

_TOKENIZER = "tokenizer"


def presentation_files(folder: Path) -> list[str]:
    """Files of a presentation in a model folder, as relative paths."""
    return sorted(f"{_TOKENIZER}/{file.name}" for file in (folder / _TOKENIZER).glob("*") if file.is_file())


def save_presentation(folder: Path, presentation: Any) -> dict[str, Any] | None:
    """Save a model's presentation, such as the files of its tokenizer.

    Args:
        folder: The model folder.
        presentation: The model's presentation.

    Returns:
        Its entry in ``config.json``; None where there is none, or its kind is saved elsewhere.
    """
    name = next((name for name, kind in _KINDS.items() if type(presentation) is kind.of), None)
    return None if name is None else {"kind": name, **_KINDS[name].save(folder, presentation)}


def load_presentation(folder: Path, config: Mapping[str, Any]) -> Any:
    """Load the presentation of a model folder.

    Args:
        folder: The model folder.
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
        name = fields.pop("kind")
        if name not in _KINDS:
            raise ValueError("its kind is unknown")
        return _KINDS[name].load(folder, fields)
    except (KeyError, TypeError, ValueError, ConfigError, DataError) as error:
        raise FormatError(folder / "config.json", f"has an invalid presentation: {error}") from error


@dataclass(frozen=True)
class _Kind:
    """One kind of presentation: its class, and how it is saved and loaded."""

    of: type[Any]
    save: Callable[[Path, Any], dict[str, Any]]
    load: Callable[[Path, dict[str, Any]], Any]


def _plain(of: type[Any]) -> _Kind:
    """A kind that plain values describe."""
    return _Kind(of, lambda _, presentation: dict(presentation.to_dict()), lambda _, fields: of.from_dict(fields))


def _save_text(folder: Path, presentation: TextPresentation) -> dict[str, Any]:
    fresh = load_tokenizer.__wrapped__(presentation.tokenizer)  # the tokenizer in use has state
    place = make_folder(folder / _TOKENIZER)
    with tempfile.TemporaryDirectory() as made:
        fresh.save_pretrained(made)
        for file in sorted(Path(made).iterdir()):
            if file.is_file():
                replace_bytes(place / file.name, file.read_bytes())
    return {**dataclasses.asdict(presentation), "tokenizer": _TOKENIZER}


def _load_text(folder: Path, fields: dict[str, Any]) -> TextPresentation:
    if fields.pop("tokenizer") != _TOKENIZER:
        raise ValueError("its tokenizer is elsewhere")
    for name in presentation_files(folder):
        check_file(folder / name, folder=folder)
    names = fields.pop("names")
    return TextPresentation(str(folder / _TOKENIZER), names=None if names is None else tuple(names), **fields)


def _save_labels(folder: Path, presentation: ManyLabels) -> dict[str, Any]:
    return {"names": list(presentation.names), "inner": save_presentation(folder, presentation.inner)}


def _load_labels(folder: Path, fields: dict[str, Any]) -> ManyLabels:
    inner = load_presentation(folder, {"presentation": fields["inner"]})
    return ManyLabels(tuple(map(str, fields["names"])), inner)


_KINDS = {
    "image": _plain(ImagePresentation),
    "table": _plain(TableEncoding),
    "text": _Kind(TextPresentation, _save_text, _load_text),
    "labels": _Kind(ManyLabels, _save_labels, _load_labels),
}
"""Kinds by their name in ``config.json``."""
