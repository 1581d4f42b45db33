"""Measurements of this machine, cached in the user's cache folder."""

__all__ = ["cache_folder", "remembered"]

import contextlib
import json
import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path

from limbeck.errors import LimbeckError
from limbeck.system.files import replace_json


def cache_folder() -> Path | None:
    """Where measurements are kept: ``$LIMBECK_CACHE``, or ``limbeck`` in the user's cache folder; None with ``0``."""
    given = os.environ.get("LIMBECK_CACHE")
    if given is not None:
        return None if given in {"", "0"} else Path(given)
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "limbeck"
    except RuntimeError:  # a user without a home
        return None


def remembered(name: str, key: str, measure: Callable[[], Mapping[str, float]]) -> dict[str, float]:
    """Positive numbers that were measured before under the same key, or are measured now and kept.

    A cache that cannot be read or written, or holds something else, is as if there were none.

    Args:
        name: What was measured: the name of its file.
        key: All that the numbers depend on, such as processor and versions.
        measure: Measures them.

    Returns:
        The numbers.
    """
    folder = cache_folder()
    if folder is None:
        return dict(measure())
    path = folder / f"{name}.json"
    kept: dict[str, dict[str, float]] = {}
    with contextlib.suppress(OSError, ValueError, RecursionError):
        found = json.loads(path.read_text("utf-8"))
        kept = found if isinstance(found, dict) else {}
    if _positive(kept.get(key)):
        return dict(kept[key])
    made = dict(measure())
    with contextlib.suppress(OSError, LimbeckError):
        folder.mkdir(parents=True, exist_ok=True)
        replace_json(path, {**{name: value for name, value in kept.items() if _positive(value)}, key: made})
    return made


def _positive(value: object) -> bool:
    """Whether a value is a mapping to positive numbers."""
    return (
        isinstance(value, dict)
        and bool(value)
        and all(isinstance(one, int | float) and 0 < one < math.inf for one in value.values())
    )
