"""Fast dropout on CPUs: one random 64-bit word serves four units."""

__all__ = ["Dropout", "draw_for"]

import torch
from torch import Tensor, nn

_LEVELS = 1 << 16
_rows: tuple[int, int] | None = None
_drawn: list[Tensor] | None = None
"""States of the generator before each mask of a batch, where its parts follow each other; None where it has one."""
_calls = 0


def draw_for(rows: tuple[int, int] | None, *, part: int | None = None) -> None:
    """Say which rows of a batch are computed, so that each of several parts gets the mask that the whole would.

    Args:
        rows: The first row and the number of rows of the whole batch; None where the batch is whole.
        part: Which part of the batch this is, from 0, where parts follow each other in this process: those after the
            first draw the masks of the first again. None where this process has one part.
    """
    global _rows, _drawn, _calls
    _rows, _calls = rows, 0
    if not part:
        _drawn = None if part is None else []


def _again(device: torch.device) -> Tensor | None:
    """The state of the generator before the mask that comes was drawn for the first part; None for the first."""
    global _calls
    assert _drawn is not None, "parts follow each other"
    if _calls == len(_drawn):
        _drawn.append(_state(device))
        _calls += 1
        return None
    _calls += 1
    return _drawn[_calls - 1]


def _state(device: torch.device) -> Tensor:
    return torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.get_rng_state()


def _set_state(state: Tensor, device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.set_rng_state(state, device)
    else:
        torch.set_rng_state(state)


class Dropout(nn.Module):
    """Drop each unit with probability ``p`` while training, and scale the rest by ``1 / (1 - p)``.

    On a CPU the mask is drawn with 16 bits per unit, so ``p`` is rounded to a multiple of 2**-16; elsewhere PyTorch's
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
            return x * self._mask_again(x.new_empty(()).expand(rows, *x.shape[1:]))[first : first + len(x)]
        if x.device.type != "cpu":
            return nn.functional.dropout(x, self.p)
        return x * self._mask(x)

    def _mask_again(self, x: Tensor) -> Tensor:
        """The mask of a whole batch, the same for all of its parts."""
        state = None if _drawn is None else _again(x.device)
        if state is None:
            return self._mask(x)
        now = _state(x.device)
        try:
            _set_state(state, x.device)
            return self._mask(x)
        finally:
            _set_state(now, x.device)

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
