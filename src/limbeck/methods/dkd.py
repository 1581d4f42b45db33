r"""Decoupled knowledge distillation (DKD): separate weights of target and non-target classes.

Axes: ``N`` examples, ``K`` classes; ``T`` is the temperature.
"""

__all__ = ["DKD"]

from types import MappingProxyType

import torch
from torch import Tensor

from limbeck.methods.base import Method, main_labels, require_option, require_temperature, targets_at
from limbeck.methods.formulas import one_hot, softmax, softmax_of_others
from limbeck.methods.target_split import cross_entropy_of_others, label_and_rest, others
from limbeck.options.methods import Range
from limbeck.protocols import Batch, Output


class DKD(Method):
    r"""Decoupled distillation: target class against the rest, and the non-target classes, each with its own weight.

    .. math::
        \ell_n = T^2 \bigl[\alpha\,\mathrm{KL}(b_q \| b_p) + \beta\,\mathrm{KL}(\hat q \| \hat p)\bigr]

    where :math:`b = (p_y, 1 - p_y)`, hats are renormalised over the classes other than the label y, and teacher q and
    student p, ``(N, K)``, are both softened at T. With :math:`\alpha = 1, \beta = 1 - q_y` it is kd. Its gradient is

    .. math::
        g_y = T \alpha (p_y - q_y), \qquad
        g_k = T \bigl[-\alpha (p_y - q_y)\,\hat p_k + \beta (\hat p_k - \hat q_k)\bigr]

    The authors add it to cross-entropy with weight 1 (here hard weight 0.5, up to a factor 2 of the whole), with T = 4,
    :math:`\alpha = 1`, :math:`\beta` from 1 to 10 (8 for most pairs), and a weight that rises over 20 epochs, which is
    not made here. Their code takes the label out of the softmax by a mask of -1000 on logits over T, which fails in
    half precision and where logits are far apart; here the others are normalised among themselves. With two classes
    the second term is 0.

    Args:
        temperature: T, from 0.05 to 100.
        alpha: Weight of the target class against the rest.
        beta: Weight of the non-target classes.

    References:
        Zhao, Cui, Song, Qiu and Liang, `Decoupled Knowledge Distillation <https://arxiv.org/abs/2203.08679>`_, 2022.

    Example:
        >>> batch = Batch(torch.arange(1), 0, torch.zeros(1, 1), torch.tensor([0]))
        >>> same = torch.tensor([[4.0, 1.0, 0.0]]).log_softmax(-1)
        >>> DKD(temperature=1.0)(Output(same), Output(same), batch).abs() < 1e-6
        tensor([True])
    """

    needs_labels = True

    ranges = MappingProxyType({"alpha": Range(0.1, 10), "beta": Range(0.5, 50)})

    def __init__(self, *, temperature: float = 4.0, alpha: float = 1.0, beta: float = 8.0) -> None:
        super().__init__()
        self.temperature = require_temperature("dkd", temperature)
        for name, weight in (("alpha", alpha), ("beta", beta)):
            require_option(0 <= weight < torch.inf, name, weight, "at least 0 and finite")
        self.alpha, self.beta = float(alpha), float(beta)

    def forward(self, student: Output, teacher: Output, batch: Batch) -> Tensor:
        """The value of each example, ``(N,)``."""
        labels, temperature = main_labels(batch), self.temperature
        z, v = student.logits / temperature, targets_at(teacher, temperature)
        taught, learnt = label_and_rest(v, labels), label_and_rest(z, labels)
        mass = taught.exp()
        label = torch.where(mass > 0, mass * (taught - learnt), 0.0).sum(-1)
        hat = others(v, labels)
        share = hat.exp()
        entropy = -torch.where(share > 0, share * hat, 0.0).sum(-1)
        rest = cross_entropy_of_others(z, hat, labels) - entropy
        return temperature**2 * (self.alpha * label + self.beta * rest)

    def reference_gradient(self, student: Output, teacher: Output, batch: Batch) -> Output:
        """The formula above."""
        temperature = self.temperature
        z, v = student.logits / temperature, teacher.logits / (temperature / teacher.temperature)
        truth = one_hot(main_labels(batch), z.shape[-1])
        p, q = softmax(z), softmax(v)
        p_hat, q_hat = softmax_of_others(z, truth), softmax_of_others(v, truth)
        far = ((p - q) * truth).sum(-1, keepdim=True)
        # A teacher with all mass on the label says nothing about the others.
        told = q_hat.sum(-1, keepdim=True)
        apart = self.beta * (p_hat * told - q_hat) - self.alpha * far * p_hat
        return Output(temperature * torch.where(truth > 0, self.alpha * far, apart))
