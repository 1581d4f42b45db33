"""The kind of a model's outputs: logits, probabilities or log-probabilities.

Axes: ``N`` examples, ``K`` classes.
"""

__all__ = ["looks_like_probabilities", "looks_like_sigmoids", "looks_softened_twice", "require_log_probs"]

import torch
from torch import Tensor

from limbeck.errors import DataError

_SUM = 1e-3
"""Largest difference of a row's sum from one; 16-bit numbers are rounded more."""
_SUM_16 = 3e-2
_EXACT = 2e-5
"""The same for a softmax in float32: small logits about a bias may come near one, and not so near."""
_ROUNDED = 0.05
"""The same for probabilities in 16 bits, or rounded to two digits, where they differ between examples far more."""
_APART = 10.0
"""So many times more than their sums differ from one."""
_SATURATED, _OFTEN = 0.01, 0.1
"""A probability this near one, and the least share of the rows that have such a one."""


def _tolerance(values: Tensor) -> float:
    return _SUM_16 if values.dtype in {torch.float16, torch.bfloat16} else _SUM


def looks_like_probabilities(rows: Tensor, *, coarse: bool = False) -> bool:
    """Whether every row is at least 0 and sums to one, as a softmax's output does and logits do not.

    Sums that are one but for a rounding to 16 bits or to two digits count where rows differ from each other by far more
    than that, so that it is not due to logits that are all about the same. Logarithms of probabilities are not told
    from logits, and need not be: they are logits of the same distribution, for a softmax gives the probabilities back.

    Args:
        rows: A model's outputs, ``(N, K)``.
        coarse: Whether it computed in 16 bits, in which sums are rounded.

    Returns:
        Whether a softmax was applied already.

    Example:
        >>> logits = torch.tensor([[2.0, 1.0], [0.0, 3.0]])
        >>> [looks_like_probabilities(rows) for rows in (logits, logits.softmax(-1), logits.log_softmax(-1))]
        [False, True, False]
    """
    if rows.ndim != 2 or rows.shape[1] < 2 or not len(rows) or not bool((rows >= 0).all()):
        return False
    values = rows.float()
    off = float((values.sum(-1) - 1).abs().max())
    if len(rows) == 1:
        return off <= (_SUM_16 if coarse else _EXACT)
    apart = float((values.amax(0) - values.amin(0)).max())
    if coarse and off <= _SUM_16:
        return apart > 0
    return off <= _ROUNDED and apart > 1e-6 and apart > _APART * (0 if off <= _EXACT else off)


def looks_like_sigmoids(rows: Tensor) -> bool:
    """Whether all values are strictly between 0 and 1 or at 1, and come near both: a sigmoid was applied already.

    Args:
        rows: A trained model's outputs for some dozen examples, ``(N, K)``.

    Returns:
        Whether it looks so; rows that sum to one are :func:`looks_like_probabilities`'s.

    Example:
        >>> looks_like_sigmoids(torch.tensor([[4.0, -5.0], [-6.0, 7.0]]).sigmoid())
        True
    """
    low, high = float(rows.min()), float(rows.max())
    # By small logits about a bias no class comes from one end to the other.
    widest = float((rows.amax(0) - rows.amin(0)).max())
    sums = float((rows.float().sum(-1) - 1).abs().max())
    return 0 < low < 0.02 and 0.98 < high <= 1 and widest > 0.5 and sums > _SUM


def looks_softened_twice(log_probs: Tensor, temperature: float = 1.0) -> bool:
    r"""Whether log-probabilities are those of a softmax whose inputs were probabilities already.

    Then :math:`T \log q = p - c` with one constant per row, which :math:`\sum_k p_k = 1` gives, so p can be had back:
    it is nowhere negative, and where the model is confident it is near one. The odds of two classes are then at most
    :math:`e^{1 / T}`, and are at that limit for many examples, which no logits are by themselves.

    Args:
        log_probs: :math:`\log q` of some dozen examples, natural logarithms ``(N, K)``.
        temperature: T at which they were softened.

    Returns:
        Whether they look so. A model that is never sure of a class is not found.

    Example:
        >>> logits = torch.tensor([[9.0, 0.0], [1.0, 8.0], [9.0, 1.0]])
        >>> [looks_softened_twice(rows.log_softmax(-1)) for rows in (logits, logits.softmax(-1))]
        [False, True]
    """
    if log_probs.ndim != 2 or log_probs.shape[1] < 2 or len(log_probs) < 2:
        return False
    scaled = log_probs.float() * temperature
    p = scaled + (1 - scaled.sum(-1, keepdim=True)) / scaled.shape[1]
    top, classes = p.max(-1)
    sure = top >= 1 - _SATURATED
    # NaN and classes without mass fail the first comparison. One class alone may be at the limit by its share.
    return bool((p >= -5e-3).all()) and float(sure.float().mean()) >= _OFTEN and len(set(classes[sure].tolist())) > 1


def require_log_probs(values: Tensor, *, tolerance: float | None = None, what: str = "soft targets") -> None:
    r"""Refuse rows that are not log-probabilities: :math:`\log \sum_k e^{v_k}` must be 0.

    Rows with NaN are left to whoever names the example.

    Args:
        values: Natural logarithms, ``(..., K)``.
        tolerance: Largest absolute value of the logarithm; None: 0.001, and 0.03 for 16-bit numbers.
        what: What they are, for the message.

    Raises:
        DataError: If a row's probabilities do not sum to one; the message says what the row looks like.
    """
    rows = values.reshape(-1, values.shape[-1])
    limit = _tolerance(values) if tolerance is None else tolerance
    for start in range(0, len(rows), 1 << 16):
        block = rows[start : start + (1 << 16)].float()
        wrong = block.logsumexp(-1).abs() > limit
        if not bool(wrong.any()):
            continue
        row = int(wrong.nonzero()[0])
        if looks_like_probabilities(block[row : row + 1]):
            seen = "looks like probabilities: take their logarithm"
        else:
            seen = "looks like logits: take log_softmax(-1) of them"
        raise DataError(
            f"{what} must be log-probabilities, and row {start + row} of {len(rows)} {seen} (its exponentials "
            f"sum to {float(block[row].exp().sum()):.4g}, not to 1)"
        )
