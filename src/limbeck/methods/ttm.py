r"""Transformed teacher matching: only the teacher is softened.

Axes: ``N`` examples, ``K`` classes; ``T`` is the temperature.
"""

__all__ = ["TTM"]

import torch
from torch import Tensor

from limbeck.losses import widened
from limbeck.methods.base import Method, require_option, require_temperature, targets_at
from limbeck.methods.formulas import softmax
from limbeck.protocols import Batch, Output


class TTM(Method):
    r"""Transformed teacher matching: the teacher is softened and the student is not.

    .. math::
        \ell_n = u_n \sum_k q_{nk} \bigl(\log q_{nk} - \log \mathrm{softmax}(z_n)_k\bigr), \qquad
        g_k = u_n \bigl(\mathrm{softmax}(z)_k - q_k\bigr)

    with the teacher's q softened at T and the student at 1, both ``(N, K)``. The weight u is 1, or in the weighted form
    :math:`u_n = \sum_k (q^{(1)}_{nk})^{1 / T}` of the teacher's probabilities at T = 1, by which examples count more
    where the teacher is less sure. There is no factor T squared, since the student's gradient does not shrink with T.
    It vanishes where the student's logits are the teacher's over T: the student ends softer than with kd. The authors
    add it to cross-entropy of weight 1, with a weight of its own for each pair of networks (here the share of the hard
    weight).

    Args:
        temperature: T, from 0.05 to 100.
        weighted: Whether examples are weighted, which needs a teacher whose logits are known.

    References:
        Zheng and Yang, `Knowledge Distillation Based on Transformed Teacher Matching
        <https://arxiv.org/abs/2402.11148>`_, 2024.

    Example:
        >>> batch = Batch(torch.arange(1), 0, torch.zeros(1, 1), None)
        >>> teacher = torch.tensor([[4.0, 2.0, 0.0]])
        >>> TTM(temperature=2.0)(Output(teacher / 2), Output(teacher.log_softmax(-1)), batch).abs() < 1e-6
        tensor([True])
    """

    def __init__(self, *, temperature: float = 4.0, weighted: bool = False) -> None:
        super().__init__()
        self.temperature = require_temperature("ttm", temperature)
        require_option(isinstance(weighted, bool), "weighted", weighted, "true or false")
        self.weighted, self.needs_logits = weighted, weighted and self.temperature != 1.0
        self.takes_samples = not weighted

    def forward(self, student: Output, teacher: Output, batch: Batch) -> Tensor:
        """The value of each example, ``(N,)``."""
        targets = targets_at(teacher, self.temperature)
        q, said = targets.exp(), torch.log_softmax(widened(student.logits), -1)
        value = torch.where(q > 0, q * (targets - said), 0.0).sum(-1)
        if not self.weighted:
            return value
        return value * (targets_at(teacher, 1.0) / self.temperature).exp().sum(-1)

    def reference_gradient(self, student: Output, teacher: Output, batch: Batch) -> Output:
        """The formula above."""
        v = teacher.logits
        q = softmax(v / (self.temperature / teacher.temperature))
        if not self.weighted:
            return Output(softmax(student.logits) - q)
        away = v - v.max(-1, keepdim=True).values
        powers = torch.exp((away - away.exp().sum(-1, keepdim=True).log()) / self.temperature)
        return Output(powers.sum(-1, keepdim=True) * (softmax(student.logits) - q))

    def known_gradient(self, logits: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """It vanishes where the student is the softened teacher."""
        return logits / self.temperature, torch.zeros_like(logits)
