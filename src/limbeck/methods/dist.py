r"""DIST: distillation from a stronger teacher, by correlations.

Axes: ``N`` examples in a batch, ``K`` classes; ``T`` is the temperature, which the authors call :math:`\tau`.
"""

__all__ = ["DIST"]

from types import MappingProxyType
from typing import Literal

import torch
from torch import Tensor

from limbeck.methods.base import Method, require_option, require_temperature, targets_at
from limbeck.methods.formulas import softmax
from limbeck.options.methods import Range
from limbeck.protocols import Batch, Output

_TINY = 1e-8
"""Epsilon that the authors' code adds to the product of two norms: constant vectors have correlation 0."""


class DIST(Method):
    r"""DIST: correlations instead of a divergence, over the classes of an example and over the examples of a class.

    .. math::
        \ell = T^2 \Bigl[\beta\,\frac1N \sum_n \bigl(1 - \rho(p_{n\cdot}, q_{n\cdot})\bigr)
        + \gamma\,\frac1K \sum_k \bigl(1 - \rho(p_{\cdot k}, q_{\cdot k})\bigr)\Bigr]

    where :math:`\rho` is Pearson's correlation and student p and teacher q, ``(N, K)``, are softened at T. The second
    term compares the examples of a batch, which makes the method **coupled**: it is refused in several processes and
    under gradient accumulation, and a batch of one example has the first term alone to learn from. With unit vectors
    :math:`\hat a, \hat b` of centred rows, the first term's gradient by a row of p is :math:`-\beta T^2 (\hat b - \rho
    \hat a) / |a|`, the second's by a column :math:`-\gamma T^2 \frac NK` times the same, and by the logits
    :math:`p_k (g_k - \sum_j p_j g_j) / T` for the sum over the batch.

    It is invariant to a linear map of the student's probabilities, and vanishes where these are the teacher's. The
    authors add it to cross-entropy of weight 1 (here hard weight 0.5, up to a factor 2 of the whole); their code's
    defaults are :math:`\beta = \gamma = T = 1`. The factor T squared is in their code and not in the paper.

    Args:
        temperature: T, from 0.05 to 100.
        beta: Weight of the correlation over classes.
        gamma: Weight of the correlation over examples.
        variant: "code" with the factor T squared, "paper" without it.

    References:
        Huang, You, Wang, Qian and Xu, `Knowledge Distillation from A Stronger Teacher
        <https://arxiv.org/abs/2205.10536>`_, 2022.

    Example:
        >>> batch = Batch(torch.arange(2), 0, torch.zeros(2, 1), None)
        >>> teacher = Output(torch.eye(2).log_softmax(-1))
        >>> DIST(temperature=1.0)(Output(-torch.eye(2)), teacher, batch)
        tensor([4., 4.])
    """

    coupled = True

    ranges = MappingProxyType({"beta": Range(0.1, 10), "gamma": Range(0.1, 10)})

    def __init__(
        self,
        *,
        temperature: float = 4.0,
        beta: float = 1.0,
        gamma: float = 1.0,
        variant: Literal["code", "paper"] = "code",
    ) -> None:
        super().__init__()
        self.temperature = require_temperature("dist", temperature)
        for name, weight in (("beta", beta), ("gamma", gamma)):
            require_option(0 <= weight < torch.inf, name, weight, "at least 0 and finite")
        require_option(variant in {"code", "paper"}, "variant", variant, "code or paper")
        self.beta, self.gamma, self.variant = float(beta), float(gamma), variant

    @property
    def _factor(self) -> float:
        return self.temperature**2 if self.variant == "code" else 1.0

    def forward(self, student: Output, teacher: Output, batch: Batch) -> Tensor:
        """The first term of each example and the second of the whole batch, ``(N,)``."""
        p = torch.softmax(student.logits / self.temperature, -1)
        q = targets_at(teacher, self.temperature).exp()
        across = self.beta * (1 - _correlation(p, q))
        within = self.gamma * (1 - _correlation(p.T, q.T)).mean()
        return self._factor * (across + within)

    def reference_gradient(self, student: Output, teacher: Output, batch: Batch) -> Output:
        """The formula above, with the small number in the denominator."""
        temperature = self.temperature
        p, q = softmax(student.logits / temperature), softmax(teacher.logits / (temperature / teacher.temperature))
        count, classes = p.shape
        g = self.beta * _slope(p, q) + self.gamma * count / classes * _slope(p.T, q.T).T
        g = -self._factor * g
        return Output(p * (g - (p * g).sum(-1, keepdim=True)) / temperature)

    def known_gradient(self, logits: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """At the teacher only what the small number in the denominator leaves of each centred row and column."""
        p = torch.softmax(logits / self.temperature, -1)
        count, classes = p.shape
        left = self.beta * _left_over(p) + self.gamma * count / classes * _left_over(p.T).T
        left = -self._factor * left
        return logits, p * (left - (p * left).sum(-1, keepdim=True)) / self.temperature

    def rounding(
        self, student: Output, teacher: Output, batch: Batch, unit: float, moved: float
    ) -> tuple[Tensor, Tensor] | None:
        """Beside what a perturbed formula does: unit vectors are subtracted, which are the same for two classes."""
        found = super().rounding(student, teacher, batch, unit, moved)
        assert found is not None, "the method has a formula"
        temperature = self.temperature
        p, q = softmax(student.logits / temperature), softmax(teacher.logits / (temperature / teacher.temperature))
        count, classes = p.shape
        noise = self.beta * _steepness(p, q) + self.gamma * count / classes * _steepness(p.T, q.T).T
        noise = 4 * unit * self._factor * noise
        return found[0], found[1] + p * (noise + (p * noise).sum(-1, keepdim=True)) / temperature


def _steepness(p: Tensor, q: Tensor) -> Tensor:
    """Size of the vectors whose difference is the gradient of each row's correlation."""
    mine, theirs = _length(p), _length(q)
    return theirs / (mine * theirs + _TINY)


def _length(p: Tensor) -> Tensor:
    found: Tensor = torch.linalg.vector_norm(p - p.mean(-1, keepdim=True), dim=-1, keepdim=True)
    return found


def _left_over(p: Tensor) -> Tensor:
    """Gradient of the correlation of each row with itself, which would be 0 without the small number."""
    a = p - p.mean(-1, keepdim=True)
    return a * _TINY / (a.square().sum(-1, keepdim=True) + _TINY) ** 2


def _correlation(p: Tensor, q: Tensor) -> Tensor:
    """Pearson's correlation of each row of one matrix with the same row of the other."""
    a, b = p - p.mean(-1, keepdim=True), q - q.mean(-1, keepdim=True)
    norms: Tensor = torch.linalg.vector_norm(a, dim=-1) * torch.linalg.vector_norm(b, dim=-1)
    return (a * b).sum(-1) / (norms + _TINY)


def _slope(p: Tensor, q: Tensor) -> Tensor:
    """Gradient of the correlation of each row by that row of the first matrix, from the quotient rule."""
    a, b = p - p.sum(-1, keepdim=True) / p.shape[-1], q - q.sum(-1, keepdim=True) / q.shape[-1]
    length, other = (a**2).sum(-1, keepdim=True) ** 0.5, (b**2).sum(-1, keepdim=True) ** 0.5
    below = length * other + _TINY
    unit = torch.where(length > 0, a / length, 0.0)
    return b / below - (a * b).sum(-1, keepdim=True) * other * unit / below**2
