r"""Knowledge distillation by the KL divergence of softened distributions (Hinton, Vinyals and Dean).

Axes: ``N`` examples, ``K`` classes; ``T`` is the temperature.
"""

__all__ = ["KD"]

import math

import torch
from torch import Tensor

from limbeck.losses.fused import HOT, fused_loss
from limbeck.methods.base import Method, labels_of, targets_at
from limbeck.methods.formulas import softmax
from limbeck.protocols import Batch, Output


class KD(Method):
    r"""Knowledge distillation: the divergence of the softened distributions, times T squared.

    .. math::
        \ell_n = T^2 \sum_k q_{nk} \bigl(\log q_{nk} - \log p_{nk}\bigr), \qquad
        \frac{\partial \ell_n}{\partial z_{nk}} = T\,(p_{nk} - q_{nk})

    with the teacher's q and the student's :math:`p = \mathrm{softmax}(z / T)`, both ``(N, K)``. It vanishes where
    student and teacher differ by a constant per example. The authors found T from 2.5 to 20 useful, with a small weight
    of the true labels. Any temperature is supported: above T = 32 by a form without cancellation.

    Args:
        temperature: T > 0.

    References:
        Hinton, Vinyals and Dean, `Distilling the Knowledge in a Neural Network
        <https://arxiv.org/abs/1503.02531>`_, 2015, section 2.

    Example:
        >>> from limbeck.losses import softened
        >>> batch = Batch(torch.arange(1), 0, torch.zeros(1, 1), None)
        >>> teacher = Output(softened(torch.tensor([[4.0, 1.0, 0.0]]), 2.0), temperature=2.0)
        >>> KD(temperature=2.0)(Output(torch.tensor([[0.0, 1.0, 4.0]])), teacher, batch)
        tensor([5.0920])
    """

    takes_samples = True

    def __init__(self, *, temperature: float = 4.0) -> None:
        super().__init__()
        self.temperature = float(temperature)

    def forward(self, student: Output, teacher: Output, batch: Batch) -> Tensor:
        """The value of each example, ``(N,)``."""
        return self.with_labels(student, teacher, batch, 0.0, 0.0)

    def with_labels(
        self, student: Output, teacher: Output, batch: Batch, hard_weight: float, label_smoothing: float
    ) -> Tensor:
        """Soft targets and labels in one autograd node, ``(N,)``."""
        # At high T, softened float32 log-probabilities lose precision that those at T = 1 keep.
        at_one = self.temperature > HOT and teacher.temperature == 1.0
        return fused_loss(
            student.logits,
            teacher.logits if at_one else targets_at(teacher, self.temperature),
            labels_of(batch) if hard_weight else None,
            temperature=self.temperature,
            hard_weight=hard_weight,
            label_smoothing=label_smoothing,
            targets_at_one=at_one,
            mixed=batch.mixed,
        )

    def reference_gradient(self, student: Output, teacher: Output, batch: Batch) -> Output:
        r""":math:`T (p - q)`, for targets whose mass is 1 only nearly :math:`T (p \sum q - q)`."""
        q = self._targets(teacher)
        p = softmax(student.logits / self.temperature)
        return Output(self.temperature * (p * q.sum(-1, keepdim=True) - q))

    def rounding(
        self, student: Output, teacher: Output, batch: Batch, unit: float, moved: float
    ) -> tuple[Tensor, Tensor]:
        """Bounds of rounding by a forward error analysis.

        A softmax of z / T is off by its own size times the rounding of z / T and of a logarithm of K; the gradient
        multiplies that by T, the value by T squared.

        Args:
            student: In float64 on the CPU.
            teacher: In float64 on the CPU.
            batch: The examples.
            unit: The largest relative rounding error.
            moved: The constant that is added to the logits.

        Returns:
            Both bounds, ``(N,)`` and ``(N, K)``.
        """
        z, q, temperature = student.logits, self._targets(teacher), self.temperature
        largest, logarithm = z.abs().amax(-1, keepdim=True) + moved, math.log(z.shape[-1]) + 1
        entropy = torch.where(q > 0, -q * q.clamp_min(1e-300).log(), 0.0).sum(-1, keepdim=True)
        value = unit * temperature**2 * (largest / temperature + logarithm + entropy)
        each = q + torch.softmax(z / temperature, -1)
        return value.squeeze(-1), unit * temperature * (largest / temperature + logarithm) * each

    def _targets(self, teacher: Output) -> Tensor:
        """The teacher's distribution at T, in float64."""
        if teacher.temperature != self.temperature:
            return softmax(teacher.logits / self.temperature)
        return softmax(teacher.logits) if self.temperature > HOT else teacher.logits.exp()
