"""Dropout that is quick on a processor: one random 64-bit word serves four units."""

__all__ = ["Dropout", "draw_for"]

import torch
from torch import Tensor, nn

_LEVELS = 1 << 16
_rows: tuple[int, int] | None = None


def draw_for(rows: tuple[int, int] | None) -> None:
    """Say which rows of a batch this process has, so that each of several draws the mask that one would.

    Args:
        rows: The first row and the number of rows of the whole batch; None where the batch is whole.
    """
    global _rows
    _rows = rows


class Dropout(nn.Module):
    """Drop each unit with probability ``p`` while training, and scale the rest by ``1 / (1 - p)``.

    On a processor the mask is drawn 16 bits a unit, so ``p`` is rounded to a multiple of 2**-16; elsewhere PyTorch's
    own kernel is used. ``torch.nn.Dropout`` draws each unit by itself there, and takes about four times as long forward
    and backward (``benchmarks/dropout.py``).

    Args:
        p: Share of units dropped, in [0, 1).

    References:
        Srivastava et al., `Dropout: a simple way to prevent neural networks from overfitting
        <https://jmlr.org/papers/v15/srivastava14a.html>`_, JMLR 2014.

    Example:
        >>> drop = Dropout(0.5)
        >>> sorted(set(drop(torch.ones(1000)).tolist()))
        [0.0, 2.0]
        >>> drop.eval()(torch.ones(2))
        tensor([1., 1.])
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """Drop units of ``x``, of any shape."""
        if not self.training or self.p == 0:
            return x
        if _rows is not None:
            first, rows = _rows
            return x * self._mask(x.new_empty(()).expand(rows, *x.shape[1:]))[first : first + len(x)]
        if x.device.type != "cpu":
            return nn.functional.dropout(x, self.p)
        return x * self._mask(x)

    def _mask(self, x: Tensor) -> Tensor:
        if x.device.type != "cpu":
            return nn.functional.dropout(torch.ones(x.shape, dtype=x.dtype, device=x.device), self.p)
        kept = round((1 - self.p) * _LEVELS)
        words = torch.empty((x.numel() + 3) // 4, dtype=torch.int64).random_(-(1 << 63), None)
        bits = words.view(torch.int16)[: x.numel()].view(x.shape)
        return (bits < kept - _LEVELS // 2).to(x.dtype).mul_(_LEVELS / kept)

    def extra_repr(self) -> str:
        """The probability, for printing."""
        return f"p={self.p}"
