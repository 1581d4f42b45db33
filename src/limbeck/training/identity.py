"""Fingerprints of data, teacher and settings, compared when a run is resumed."""

__all__ = ["require_agreement"]

from limbeck.errors import RunError

_TOLERANCE = 0.02
"""Largest difference of a probability from a teacher without a digest on two machines."""
_ALIKE = 1e-4
"""Largest difference of a user's loss function on its probes."""
_DATA = {
    "examples": "training data",
    "train": "training data",
    "transfer": "transfer data",
    "validation": "validation data",
    "test": "test data",
}


def require_agreement(
    folder: object, name: str, before: object, now: object, *, places: tuple[str | None, str | None] = (None, None)
) -> None:
    """Refuse to resume a run that was started with something else.

    Args:
        folder: The run folder, for the message.
        name: A setting, a part of the data ("train", "validation", "test", "transfer"), or "teacher".
        before: Its value when the run started, from JSON.
        now: Its value now; numbers are compared with a tolerance for a teacher, and exactly for all else.
        places: What the two were read from, then and now, as far as that is known.

    Raises:
        RunError: If the two differ.

    Example:
        >>> require_agreement("runs/a", "teacher", [[0.5, 0.5]], [(0.501, 0.499)])
        >>> require_agreement("runs/a", "temperature", 4.0, 2.0)
        Traceback (most recent call last):
        limbeck.errors.RunError: runs/a was begun with temperature = 4.0, and now it is 2.0: resume with the same ...
    """
    if _agree(before, now, {"teacher": _TOLERANCE, "method": _ALIKE}.get(name, 0.0)):
        return
    old, new = places
    changed = f"{old} has changed since, and had {_told(before)} and has {_told(now)} now"
    if name in _DATA:
        said = f"{_told(before)}, and these have {_told(now)}"
        if old is not None and new is not None:
            said = changed if old == new else f"{old} with {_told(before)}, and now it is {new} with {_told(now)}"
        raise RunError(
            f"{folder} was begun with other {_DATA[name]}: {said}: resume with the data that its config.toml names, as "
            "they were, or start in another folder"
        )
    if name == "teacher":
        said = f"{_told(before)}, and this one has {_told(now)}"
        if old is not None and new is not None:
            said = changed if old == new else f"{old}, and now it is {new}"
        raise RunError(
            f"{folder} was begun with another teacher: {said}: resume with the same teacher or store, or start in "
            "another folder"
        )
    if name == "method":
        raise RunError(
            f"{folder} was begun with another method or loss function, or with other options: {_named(before)}, and "
            f"this one is {_named(now)}: resume with the same, or start in another folder"
        )
    if name in {"student", "model", "network"}:
        raise RunError(
            f"{folder} was begun with another {name}: {_told(before)}, and this one has {_told(now)}: give the same "
            "architecture, or start in another folder"
        )
    raise RunError(
        f"{folder} was begun with {name} = {before}, and now it is {now}: resume with the same settings, or start in "
        "another folder"
    )


def _agree(before: object, now: object, tolerance: float) -> bool:
    if isinstance(before, list | tuple) and isinstance(now, list | tuple):
        return len(before) == len(now) and all(_agree(*pair, tolerance) for pair in zip(before, now, strict=True))
    if isinstance(before, dict) and isinstance(now, dict):
        return before.keys() == now.keys() and all(_agree(value, now[key], tolerance) for key, value in before.items())
    if isinstance(before, float) and isinstance(now, float):
        return before == now or abs(before - now) <= tolerance
    return before == now


def _named(value: object) -> str:
    shown = {key: each for key, each in value.items() if key != "probes"} if isinstance(value, dict) else value
    return str(shown)[:200]


def _told(value: object) -> str:
    if value is None:
        return "none"
    return f"digest {value[:12]}..." if isinstance(value, str) else "other answers to the same examples"
