"""Windows of frames that follow each other in an utterance, put together. Axes: ``N`` windows, ``C`` frames of each.

Whoever asks a teacher about frames in their order asks about the same neighbours again and again. Computed together
they cost what the utterance costs, and not what its windows do.
"""

__all__ = ["Run", "runs_of"]

from dataclasses import dataclass

import torch
from torch import Tensor

_LONGEST = 1024


@dataclass(frozen=True)
class Run:
    """Windows of consecutive frames.

    Attributes:
        first: The first of them.
        count: How many.
    """

    first: int
    count: int

    def frames(self, x: Tensor, count: int) -> Tensor:
        """The frames that the windows are of, and the last of them again so that ``count`` windows fit.

        Args:
            x: All windows, ``(N, C, D)``.
            count: At least as many as there are.

        Returns:
            ``(C + count - 1, D)``.
        """
        held = torch.cat([x[self.first], x[self.first + 1 : self.first + self.count, -1]])
        more = count - self.count
        return torch.cat([held, held[-1:].expand(more, -1)]) if more else held


def runs_of(x: Tensor, beside: Tensor | None = None) -> list[Run]:
    """Divide windows into runs of consecutive frames, each at most 1,024 long.

    Args:
        x: Windows, ``(N, C, D)``.
        beside: What is the same for all windows of a run, such as i-vectors, ``(N, E)``.

    Returns:
        The runs, in order; as many as windows where none follows another.

    Example:
        >>> frames = torch.arange(6.0)[:, None]
        >>> [run.count for run in runs_of(torch.stack([frames[0:3], frames[1:4], frames[3:6]]))]
        [2, 1]
    """
    follows = (x[1:, :-1] == x[:-1, 1:]).flatten(1).all(1)
    if beside is not None:
        follows &= (beside[1:] == beside[:-1]).all(1)
    starts = [0, *((~follows).nonzero().flatten() + 1).tolist(), len(x)]
    return [
        Run(place, min(_LONGEST, end - place))
        for begin, end in zip(starts, starts[1:], strict=False)
        for place in range(begin, end, _LONGEST)
    ]
