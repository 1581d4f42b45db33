r"""Logit matching: the high-temperature limit of knowledge distillation.

Axes: ``N`` examples, ``K`` classes.
"""

__all__ = ["LogitMatching"]

import math

from torch import Tensor

from limbeck.losses import logit_matching_loss
from limbeck.methods.base import Method
from limbeck.protocols import Batch, Output


class LogitMatching(Method):
    r"""Half the mean squared distance of zero-mean logits: the high-temperature limit of kd.

    .. math::
        \ell_n = \frac{1}{2K} \sum_k \bigl((z_{nk} - \bar z_n) - (v_{nk} - \bar v_n)\bigr)^2

    of the student's logits z and the teacher's v, both ``(N, K)``. Its gradient is the bracket over K; it vanishes
    where student and teacher differ by a constant per example. It needs a teacher whose logits are known.

    References:
        Hinton, Vinyals and Dean, `Distilling the Knowledge in a Neural Network
        <https://arxiv.org/abs/1503.02531>`_, 2015, section 2.1.

    Example:
        >>> import torch
        >>> batch = Batch(torch.arange(1), 0, torch.zeros(1, 1), None)
        >>> LogitMatching()(Output(torch.tensor([[1.0, 0.0]])), Output(torch.tensor([[0.0, 1.0]])), batch)
        tensor([0.5000])
    """

    name = "logits"
    needs_logits = needs_every_class = True

    def forward(self, student: Output, teacher: Output, batch: Batch) -> Tensor:
        """The value of each example, ``(N,)``."""
        return logit_matching_loss(student.logits, teacher.logits)

    def reference_gradient(self, student: Output, teacher: Output, batch: Batch) -> Output:
        """The difference of the zero-meaned logits, over K."""
        z, v = student.logits, teacher.logits
        classes = z.shape[-1]
        away = z - z.sum(-1, keepdim=True) / classes - v + v.sum(-1, keepdim=True) / classes
        return Output(away / classes)

    def rounding(
        self, student: Output, teacher: Output, batch: Batch, unit: float, moved: float
    ) -> tuple[Tensor, Tensor]:
        """Bounds of rounding, by the size of the numbers that are subtracted."""
        z = student.logits
        reach = z.abs().amax(-1, keepdim=True) + moved + teacher.logits.abs().amax(-1, keepdim=True)
        gradient = unit * (math.log(z.shape[-1]) + 1) * reach.expand_as(z) / z.shape[-1]
        return (unit * reach**2).squeeze(-1), gradient
