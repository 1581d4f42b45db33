"""What numbers a model answers with: logits, probabilities or their logarithms.

Axes: ``N`` examples, ``K`` classes.
"""

__all__ = ["looks_like_probabilities", "looks_like_sigmoids", "require_log_probs"]

import torch
from torch import Tensor

from limbeck.errors import DataError

_SUM = 1e-3
"""Largest difference of a row's sum from one; 16-bit numbers are rounded more."""
_SUM_16 = 3e-2
_EXACT = 2e-5
"""The same for a softmax in float32: small logits about a bias may come near one, and not so near."""


def _tolerance(values: Tensor) -> float:
    return _SUM_16 if values.dtype in {torch.float16, torch.bfloat16} else _SUM


def looks_like_probabilities(rows: Tensor, *, coarse: bool = False) -> bool:
    """Whether every row is at least 0 and sums to one, as a softmax's output does and logits do not.

    Logarithms of probabilities are not told from logits, and need not be: they are logits of the same distribution,
    for a softmax gives the probabilities back.

    Args:
        rows: What a model answered, ``(N, K)``.
        coarse: Whether it computed in 16 bits, in which sums are rounded.

    Returns:
        Whether a softmax was applied already.

    Example:
        >>> logits = torch.tensor([[2.0, 1.0], [0.0, 3.0]])
        >>> [looks_like_probabilities(rows) for rows in (logits, logits.softmax(-1), logits.log_softmax(-1))]
        [False, True, False]
    """
    if rows.ndim != 2 or rows.shape[1] < 2 or not len(rows):
        return False
    close = (rows.float().sum(-1) - 1).abs() <= (_SUM_16 if coarse else _EXACT)
    return bool((rows >= 0).all()) and bool(close.all())


def looks_like_sigmoids(rows: Tensor) -> bool:
    """Whether all values are strictly between 0 and 1 or at 1, and come near both: a sigmoid was applied already.

    Args:
        rows: What a trained model answered to some dozen examples, ``(N, K)``.

    Returns:
        Whether it looks so; rows that sum to one are :func:`looks_like_probabilities`'s.

    Example:
        >>> looks_like_sigmoids(torch.tensor([[4.0, -5.0], [-6.0, 7.0]]).sigmoid())
        True
    """
    low, high = float(rows.min()), float(rows.max())
    # By small logits about a bias no class comes from one end to the other.
    widest = float((rows.amax(0) - rows.amin(0)).max())
    return 0 < low < 0.02 and 0.98 < high <= 1 and widest > 0.5 and not looks_like_probabilities(rows)


def require_log_probs(values: Tensor, *, tolerance: float | None = None) -> None:
    r"""Refuse rows that are not log-probabilities: :math:`\log \sum_k e^{v_k}` must be 0.

    Rows with NaN are left to whoever names the example.

    Args:
        values: Natural logarithms, ``(..., K)``.
        tolerance: Largest absolute value of the logarithm; None: 0.001, and 0.03 for 16-bit numbers.

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
            f"soft targets must be log-probabilities, and row {start + row} of {len(rows)} {seen} (its exponentials "
            f"sum to {float(block[row].exp().sum()):.4g}, not to 1)"
        )
