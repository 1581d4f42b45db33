"""Which kind of values saved answers are: probabilities, their logarithms or logits, as far as they are rounded.

Axes: ``N`` examples, ``K`` classes.
"""

__all__ = ["KIND_WORDS", "AnswerKind", "guessed_kind", "kind_of", "refuse_spoilt", "sum_limit", "tell_kind"]

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from limbeck.errors import DataError

AnswerKind = Literal["probs", "log_probs", "logits"]
"""The kinds of saved values."""

_SUM, _SUM_COARSE, _SUM_DECIMALS = 1e-3, 3e-2, 0.1
"""Largest difference of a row's sum from one; 16-bit numbers, and such with few decimals, are rounded more."""
KIND_WORDS = {"probs": "probabilities", "log_probs": "log-probabilities", "logits": "logits"}


def kind_of(values: NDArray[Any]) -> AnswerKind:
    """Detect the kind of saved values.

    Args:
        values: ``(N, K)``.

    Returns:
        "probs" where rows are at least 0 and sum to one, as far as they are rounded; "log_probs" where their
        exponentials do, else "logits".

    Example:
        >>> [kind_of(rows) for rows in (np.array([[0.5, 0.5]]), np.log([[0.5, 0.5]]), np.array([[3.0, -1.0]]))]
        ['probs', 'log_probs', 'logits']
    """
    if _are_probs(values, sum_limit(values, "probs")):
        return "probs"
    with np.errstate(over="ignore"):
        exponentials = np.exp(values.astype(np.float64))
    return "log_probs" if _are_probs(exponentials, sum_limit(values, "log_probs")) else "logits"


def guessed_kind(values: NDArray[Any]) -> AnswerKind:
    """Guess the kind of saved values; values that are not logits either are left to :func:`tell_kind`.

    Args:
        values: ``(N, K)``.

    Returns:
        As :func:`kind_of`; and "probs" for values from 0 to 1 and for percentages, which would be flattened as logits.

    Example:
        >>> guessed_kind(np.array([[0.9, 0.8], [0.2, 0.7]]))
        'probs'
    """
    kind = kind_of(values)
    if kind != "logits" or not values.size or not (values >= 0).all():
        return kind
    return "probs" if (values <= 1).all() or _are_percentages(values.sum(1, dtype=np.float64)) else kind


def tell_kind(values: NDArray[Any], kind: AnswerKind) -> None:
    """Check that saved values are of the stated kind.

    Args:
        values: ``(N, K)``.
        kind: What they are said to be.

    Raises:
        DataError: If they are something else; the message says what a row looks like.
    """
    refuse_spoilt(values, kind)
    looks = kind_of(values)
    if looks == kind or (kind == "logits" and looks == "log_probs"):  # the same distribution
        return
    if kind == "logits":
        raise DataError(
            f"the values given as logits are at least 0 and sum to one in all {len(values)} rows, as probabilities do: "
            "a second softmax would flatten them; give them as probs"
        )
    sums = values.astype(np.float64).sum(1) if kind == "probs" else np.exp(values.astype(np.float64)).sum(1)
    limit = sum_limit(values, kind)
    odd = int(np.argmax(np.abs(sums - 1) > limit))
    if kind == "probs" and (values < 0).any():
        odd = int(np.argmax((values < 0).any(1)))
    if looks != "logits":
        cure = f"they look like {KIND_WORDS[looks]}: give them as {looks}"
    elif kind == "probs" and (values >= 0).all() and _are_percentages(sums):
        cure = "they look like percentages: divide them by 100"
    elif kind == "probs" and (values >= 0).all() and (values <= 1).all():
        cure = (
            "several may be high at a time, as after a sigmoid, or classes or decimals are missing; logits are given "
            "as logits"
        )
    else:
        cure = "they look like logits: give them as logits"
    raise DataError(
        f"the values given as {kind} must be {KIND_WORDS[kind]}, and row {odd} sums to {sums[odd]:.4g}, not to 1"
        f"{' after exp' if kind == 'log_probs' else ''}; {cure}"
    )


def _coarse(values: NDArray[Any]) -> bool:
    return bool(values.dtype == np.float16)


def _are_probs(values: NDArray[Any], limit: float) -> bool:
    return bool((values >= 0).all()) and bool((np.abs(values.sum(1, dtype=np.float64) - 1) <= limit).all())


def _are_percentages(sums: NDArray[Any]) -> bool:
    return bool(np.allclose(sums, 100, atol=1))


def sum_limit(values: NDArray[Any], kind: AnswerKind) -> float:
    """How far rounding may take the sums of probabilities from one.

    Args:
        values: ``(N, K)``.
        kind: "probs", of which each may be off by half a last decimal, or their logarithms, whose exponentials may be
            off by that share of themselves.

    Returns:
        The largest difference, at least 0.001.

    Example:
        >>> round(sum_limit(np.array([[-1.11, -1.09, -1.1]]), "log_probs"), 4)
        0.0052
    """
    decimals = None if _coarse(values) else _decimals(values)
    if decimals is None:
        return _SUM_COARSE if _coarse(values) else _SUM
    if kind == "probs":
        return float(min(max(_SUM, values.shape[1] * 0.5 * 10**-decimals + 1e-6), _SUM_DECIMALS))
    return max(_SUM, float(0.52 * 10**-decimals))


def _decimals(values: NDArray[Any]) -> int | None:
    """To how many decimals numbers are rounded, up to four."""
    return next((each for each in (1, 2, 3, 4) if _rounded(values[:64], each) and _rounded(values, each)), None)


def _rounded(values: NDArray[Any], decimals: int) -> bool:
    scaled = values[np.isfinite(values)].astype(np.float64) * 10**decimals
    return bool((np.abs(scaled - scaled.round()) < 2e-3).all())  # float32 is off by up to 1e-3 at four decimals


def refuse_spoilt(values: NDArray[Any], kind: AnswerKind) -> None:
    """Refuse what is no table of numbers, and NaN and infinity.

    Args:
        values: ``(N, K)``.
        kind: What they are said to be; logarithms of 0 are infinite.

    Raises:
        DataError: If they are such.
    """
    if values.ndim != 2 or not values.size:
        raise DataError(f"saved answers must be (examples, classes), and have shape {values.shape}")
    bad = np.isnan(values) | (values == np.inf) if kind == "log_probs" else ~np.isfinite(values)
    if bad.any():
        row = int(np.argmax(bad.any(1)))
        raise DataError(
            f"row {row} of the saved answers holds NaN or infinity, {int(bad.any(1).sum())} of {len(values)} rows do: "
            "leave such rows out and give the others' index"
        )
