"""A specialist network: some classes and a dustbin for all others, on top of a generalist.

Axes: ``N`` examples, ``K`` classes of the network inside, ``S`` special ones.
"""

__all__ = ["Specialist"]

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from limbeck.errors import DataError
from limbeck.models.calling import call_model
from limbeck.options.checks import class_number


class Specialist(nn.Module):
    r"""Logits of special classes, and of a dustbin that stands for all others.

    .. math::
        z'_s = z_{k_s} \quad (s < S), \qquad z'_S = b + \log \sum_{k \notin S} e^{z_k}

    With :math:`b = 0` these say of the special classes what the network inside says of them, so a specialist that is
    made of a generalist starts as good as it.

    Args:
        network: Gives logits ``(..., K)``; it becomes part of the specialist, and is trained with it.
        special: The special classes, in rising order; there must be others.
        bias: b, which is trained too.

    Raises:
        DataError: If special classes are not in rising order, or, when called, the network has not more classes.

    Example:
        >>> Specialist(nn.Identity(), (0, 2))(torch.tensor([[1.0, 0.0, 3.0, 0.0]]))
        tensor([[1.0000, 3.0000, 0.6931]], grad_fn=<CatBackward0>)
    """

    special: Tensor

    def title_around(self, inner: str) -> str:
        """What it is called, given what the network inside is."""
        return f"specialist for {len(self.chosen)} classes on {inner}"

    def __init__(self, network: nn.Module, special: Sequence[int], *, bias: float = 0.0) -> None:
        super().__init__()
        chosen = [class_number(k) for k in (special.tolist() if isinstance(special, Tensor) else special)]
        if not chosen or chosen[0] < 0 or chosen != sorted(set(chosen)):
            raise DataError(f"special classes must be in rising order from 0 on, one at least, and are {chosen}"[:300])
        self.network, self.chosen = network, tuple(chosen)
        self.bias = nn.Parameter(torch.tensor(float(bias)))
        self.register_buffer("special", torch.tensor(chosen), persistent=False)

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits of the special classes and the dustbin, ``(..., S + 1)``."""
        scores = call_model(self.network, inputs)
        count = scores.shape[-1]
        if self.chosen[-1] >= count or len(self.chosen) >= count:
            raise DataError(
                f"special classes {list(self.chosen)} must be from 0 to {count - 1} and leave others for the dustbin: "
                f"the network has {count} classes"
            )
        scores = scores.float()
        rest = scores.index_fill(-1, self.special, -math.inf).logsumexp(-1, keepdim=True)
        return torch.cat([scores.index_select(-1, self.special), rest + self.bias], -1)
