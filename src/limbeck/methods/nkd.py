r"""Normalised knowledge distillation.

Axes: ``N`` examples, ``K`` classes; ``T`` is the temperature.
"""

__all__ = ["NKD"]

from types import MappingProxyType

import torch
from torch import Tensor

from limbeck.losses import widened
from limbeck.methods.base import Method, main_labels, require_option, require_temperature, targets_at
from limbeck.methods.formulas import one_hot, softmax, softmax_of_others
from limbeck.methods.target_split import cross_entropy_of_others, others
from limbeck.options.methods import Range
from limbeck.protocols import Batch, Output


class NKD(Method):
    r"""Normalised distillation: the teacher's probability of the label, and the others renormalised on both sides.

    .. math::
        \ell_n = -q_y \log p_y - \gamma T^2 \sum_{k \ne y} \hat q_k \log \hat p_k

    where :math:`q_y` and :math:`p_y` are the teacher's and the student's probabilities of the label at T = 1, and hats
    are softmaxes at T over the other classes. Its gradient is

    .. math::
        g_y = -q_y (1 - p_y), \qquad g_k = q_y p_k + \gamma T (\hat p_k - \hat q_k)

    It does **not** vanish where the student equals the teacher: there :math:`q_y (q - [k = y])` is left, since the
    label is still to be learnt. The authors add it to cross-entropy with weight 1 (here hard weight 0.5, up to a factor
    2 of the whole), with :math:`\gamma = 1.5` and T = 1 on ImageNet. This is the form of their code; with two classes
    the second term is 0.

    Args:
        temperature: T, from 0.05 to 100; other than 1 it needs a teacher whose logits are known.
        gamma: Weight of the other classes.

    References:
        Yang, Zeng, Li, Zhang, Yuan and Li, `From Knowledge Distillation to Self-Knowledge Distillation: A Unified
        Approach with Normalized Loss and Customized Soft Labels <https://arxiv.org/abs/2303.13005>`_, 2023.

    Example:
        >>> batch = Batch(torch.arange(1), 0, torch.zeros(1, 1), torch.tensor([0]))
        >>> NKD(temperature=1.0)(Output(torch.zeros(1, 2)), Output(torch.zeros(1, 2).log_softmax(-1)), batch)
        tensor([0.3466])
    """

    needs_labels = True

    ranges = MappingProxyType({"gamma": Range(0.1, 10)})

    def __init__(self, *, temperature: float = 4.0, gamma: float = 1.5) -> None:
        super().__init__()
        self.temperature = require_temperature("nkd", temperature)
        self.needs_logits = self.temperature != 1.0
        require_option(0 <= gamma < torch.inf, "gamma", gamma, "at least 0 and finite")
        self.gamma = float(gamma)

    def forward(self, student: Output, teacher: Output, batch: Batch) -> Tensor:
        """The value of each example, ``(N,)``."""
        labels, temperature = main_labels(batch), self.temperature
        rows = labels.unsqueeze(-1)
        of_label = targets_at(teacher, 1.0).gather(-1, rows).squeeze(-1).exp()
        said = torch.log_softmax(widened(student.logits), -1).gather(-1, rows).squeeze(-1)
        hat = others(targets_at(teacher, temperature), labels)
        rest = cross_entropy_of_others(student.logits / temperature, hat, labels)
        return self.gamma * temperature**2 * rest - of_label * said

    def reference_gradient(self, student: Output, teacher: Output, batch: Batch) -> Output:
        """The formula above."""
        z, v, temperature = student.logits, teacher.logits, self.temperature
        truth = one_hot(main_labels(batch), z.shape[-1])
        of_label = (softmax(v) * truth).sum(-1, keepdim=True)
        p_hat, q_hat = softmax_of_others(z / temperature, truth), softmax_of_others(v / temperature, truth)
        told = q_hat.sum(-1, keepdim=True)  # 0 where the teacher is sure of the label
        return Output(of_label * (softmax(z) - truth) + self.gamma * temperature * (p_hat * told - q_hat))

    def known_gradient(self, logits: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """At the student that equals the teacher, :math:`q_y (q - [k = y])` is left."""
        q = torch.softmax(logits, -1)
        rows = main_labels(batch).unsqueeze(-1)
        return logits, q.gather(-1, rows) * q.scatter_add(-1, rows, -q.new_ones(rows.shape))
