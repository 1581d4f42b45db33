r"""Similarity-preserving distillation: match the similarities between the examples of a batch.

Axes: ``N`` examples in a batch, ``P`` numbers of a layer for one of them.
"""

__all__ = ["Similarity"]

from types import MappingProxyType

import torch
from torch import Tensor

from limbeck.methods.base import require_option
from limbeck.methods.features import FeatureMethod, scaled, unrounded
from limbeck.options.methods import Range
from limbeck.protocols import Batch, Output


class Similarity(FeatureMethod):
    r"""Similarity-preserving distillation: match the Gram matrices of student and teacher activations.

    .. math::
        \ell_n = \frac{\gamma}{N} \sum_j \bigl(\hat G^s_{nj} - \hat G^t_{nj}\bigr)^2, \qquad G = A A^\top, \qquad
        \hat G_{n\cdot} = G_{n\cdot} / |G_{n\cdot}|_2

    of a layer's activations A, ``(N, P)``, all numbers of an example in a row, so that the mean over the batch is
    :math:`\frac{\gamma}{N^2} |\hat G^s - \hat G^t|_F^2` for each pair of layers. With :math:`g = \frac{2 \gamma}{N}
    (\hat G^s - \hat G^t)` and :math:`f_{n\cdot} = (g_{n\cdot} - \hat G_{n\cdot} (g_{n\cdot} \cdot \hat G_{n\cdot})) /
    |G_{n\cdot}|` the gradient by A is :math:`(f + f^\top) A`. A row without any activity is 0, and has no gradient.

    The value of an example depends on its batch, which makes the method **coupled**: it is refused in several processes
    and under gradient accumulation; a batch of one has :math:`\hat G = 1` and teaches nothing. It needs no parameters
    of its own, and no layers of equal shape. Rows of the product are normalised, as in the paper's equations and in the
    code that the author has confirmed, not the activations before it. The authors take the last layer of the last
    stage and :math:`\gamma` = 3000 beside cross-entropy of weight 1 (here hard weight 0.5, up to a factor 2).

    Args:
        gamma: :math:`\gamma`, a factor of the whole.
        student_layers: Names of the student's layers; default: the last of its stages.
        teacher_layers: Names of the teacher's, as many.

    References:
        Tung and Mori, `Similarity-Preserving Knowledge Distillation <https://arxiv.org/abs/1907.09682>`_, 2019.

    Example:
        >>> method = Similarity(student_layers="a", teacher_layers="b")
        >>> method.find_taps([], [])
        >>> student = Output(torch.zeros(2, 3), {"a": torch.eye(2)})
        >>> teacher = Output(torch.zeros(2, 3), {"b": 5 * torch.eye(2, 4)})
        >>> method(student, teacher, Batch(torch.arange(2), 0, torch.zeros(2, 1), None))
        tensor([0., 0.])
    """

    coupled = True

    ranges = MappingProxyType({"gamma": Range(100, 1e5)})

    def __init__(self, *, gamma: float = 3000.0, student_layers: str = "", teacher_layers: str = "") -> None:
        super().__init__()
        require_option(0 < gamma < torch.inf, "gamma", gamma, "above 0 and finite")
        self.gamma, self.student_layers, self.teacher_layers = float(gamma), student_layers, teacher_layers

    def choose(self, stages: list[str], others: list[str]) -> tuple[list[str], list[str]]:
        """The last stage of each."""
        return stages[-1:], others[-1:]

    def forward(self, student: Output, teacher: Output, batch: Batch) -> Tensor:
        """The value of each example's row, ``(N,)``."""
        with unrounded(student.logits):
            values = [(_similar(s) - _similar(t)).square().mean(1) for s, t in self.pairs(student, teacher)]
        return self.gamma * torch.stack(values).sum(0)

    def reference_gradient(self, student: Output, teacher: Output, batch: Batch) -> Output:
        """The formula above."""
        slopes = {}
        for name, (s, t) in zip(self.student_taps, self.pairs(student, teacher), strict=True):
            a, b = s.reshape(len(s), -1), t.reshape(len(t), -1)
            unit, length = _rows(torch.einsum("np,mp->nm", a, a))
            g = 2 * self.gamma * (unit - _rows(torch.einsum("np,mp->nm", b, b))[0]) / len(a)
            f = torch.where(length > 0, (g - unit * (g * unit).sum(1, keepdim=True)) / length, 0.0)
            slopes[name] = ((f + f.T) @ a).reshape(s.shape)
        return Output(torch.zeros_like(student.logits), slopes)


def _similar(features: Tensor) -> Tensor:
    """Normalised rows of the Gram matrix, ``(N, N)``; 0 where an example has no activity."""
    flat = scaled(features.flatten(1))  # a common factor cancels
    products = flat @ flat.T
    length = torch.linalg.vector_norm(products, dim=1, keepdim=True)
    return torch.where(length > 0, products / torch.where(length > 0, length, 1.0), 0.0)


def _rows(products: Tensor) -> tuple[Tensor, Tensor]:
    """Rows of unit norm, and their norms."""
    length = (products**2).sum(1, keepdim=True) ** 0.5
    return torch.where(length > 0, products / length, 0.0), length
