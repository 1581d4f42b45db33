r"""Attention transfer.

Axes: ``N`` examples, ``C`` channels, ``P`` positions of a feature map.
"""

__all__ = ["Attention"]

from types import MappingProxyType
from typing import Literal

import torch
from torch import Tensor

from limbeck.errors import ConfigError
from limbeck.methods.base import require_option
from limbeck.methods.features import FeatureMethod, as_map, pooled_to, spread_back
from limbeck.options.methods import Range
from limbeck.protocols import Batch, Output

_TINY = 1e-12
"""Smallest norm of a map to divide by."""


class Attention(FeatureMethod):
    r"""Attention transfer: match the spatial attention maps of student and teacher.

    With :math:`a_{np} = \sum_c F_{ncp}^2` of a layer's feature maps, ``(N, C, P)``, and :math:`\hat a = a / |a|_2`, for
    each pair of layers

    .. math::
        \ell_n = \frac{w}{P} \sum_p (\hat a^s_{np} - \hat a^t_{np})^2 \quad \text{(code)}, \qquad
        \ell_n = \frac{w}{2} \bigl|\hat a^s_n - \hat a^t_n\bigr|_2 \quad \text{(paper)}

    where the code's maps are means over channels, which the length divides out. It needs no parameters of its own, and
    no equal numbers of channels; the larger of two maps is averaged to the size of the smaller first. With
    :math:`g` the gradient by :math:`\hat a` that by F is :math:`2 F (g - \hat a\,(g \cdot \hat a)) / |a|`. The authors
    weigh it with 1000 in their code, where w stands here, beside cross-entropy of weight 1.

    Args:
        weight: w; the authors' 1000.
        variant: "code" for the mean of squares, "paper" for half the length of the difference.
        student_layers: Names of the student's layers; default: its last stages.
        teacher_layers: Names of the teacher's, as many.

    References:
        Zagoruyko and Komodakis, `Paying More Attention to Attention <https://arxiv.org/abs/1612.03928>`_, 2017.

    Example:
        >>> method = Attention(student_layers="a", teacher_layers="b")
        >>> method.find_taps([], [])
        >>> student = Output(torch.zeros(1, 2), {"a": torch.ones(1, 3, 4, 4)})
        >>> teacher = Output(torch.zeros(1, 2), {"b": 5 * torch.ones(1, 8, 4, 4)})
        >>> method(student, teacher, Batch(torch.arange(1), 0, torch.zeros(1, 1), None))
        tensor([0.])
    """

    ranges = MappingProxyType({"weight": Range(10, 1e5)})

    def __init__(
        self,
        *,
        weight: float = 1000.0,
        variant: Literal["code", "paper"] = "code",
        student_layers: str = "",
        teacher_layers: str = "",
    ) -> None:
        super().__init__()
        require_option(0 < weight < torch.inf, "weight", weight, "above 0 and finite")
        require_option(variant in {"code", "paper"}, "variant", variant, "code or paper")
        self.weight, self.variant = float(weight), variant
        self.student_layers, self.teacher_layers = student_layers, teacher_layers

    def prepare(self, student: Output, teacher: Output) -> None:
        """Check that there are positions to compare."""
        for s, t in self.pairs(student, teacher):
            if as_map(s).shape[2] < 2 or as_map(pooled_to(s, t)).shape[2] != as_map(pooled_to(t, s)).shape[2]:
                raise ConfigError(
                    f"method attention compares maps, and the layers give {tuple(s.shape[1:])} and "
                    f"{tuple(t.shape[1:])}: name layers whose outputs have height and width; an mlp "
                    "has none, and needs a method on logits"
                )

    def forward(self, student: Output, teacher: Output, batch: Batch) -> Tensor:
        """The value of each example, ``(N,)``."""
        values = []
        for s, t in self.pairs(student, teacher):
            away = _attention(pooled_to(s, t)) - _attention(pooled_to(t, s))
            if self.variant == "code":
                values.append(away.square().mean(1))
            else:
                values.append(torch.linalg.vector_norm(away, dim=1) / 2)
        return self.weight * torch.stack(values).sum(0)

    def reference_gradient(self, student: Output, teacher: Output, batch: Batch) -> Output:
        """The formula above."""
        slopes = {}
        for name, (s, t) in zip(self.student_taps, self.pairs(student, teacher), strict=True):
            mine, theirs = as_map(pooled_to(s, t)), as_map(pooled_to(t, s))
            a, b = (mine**2).sum(1), (theirs**2).sum(1)
            length, other = ((each**2).sum(1, keepdim=True) ** 0.5 for each in (a, b))
            unit = a / length.clamp_min(_TINY)
            away = unit - b / other.clamp_min(_TINY)
            if self.variant == "code":
                g = 2 * away / away.shape[1]
            else:
                far = (away**2).sum(1, keepdim=True) ** 0.5
                g = torch.where(far > 0, away / (2 * far), 0.0)
            by_a = torch.where(length > _TINY, (g - unit * (g * unit).sum(1, keepdim=True)) / length, 0.0)
            slopes[name] = spread_back(self.weight * 2 * mine * by_a.unsqueeze(1), s, t)
        return Output(torch.zeros_like(student.logits), slopes)


def _attention(features: Tensor) -> Tensor:
    """The attention map of a layer, of unit norm, ``(N, P)``."""
    return torch.nn.functional.normalize(as_map(features).square().sum(1), dim=1, eps=_TINY)
