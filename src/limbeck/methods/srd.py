r"""Simple recipe distillation (SRD): a projected feature against the teacher's, both batch-normalised.

Axes: ``N`` examples in a batch, ``C`` features of the student and ``D`` of the teacher.
"""

__all__ = ["SRD"]

from types import MappingProxyType

import torch
from torch import Tensor, nn

from limbeck.methods.base import require_option
from limbeck.methods.features import FeatureMethod, averaged, spread_average, unrounded
from limbeck.options.methods import Range
from limbeck.protocols import Batch, Output

_TINY = 1e-4
"""Epsilon that the authors' code adds to a variance."""
_LEAST = 1e-12
"""Sum of powers below which nothing is learnt: its logarithm would be minus infinity."""


class SRD(FeatureMethod):
    r"""Simple recipe distillation: the logarithm of the distance of projected, batch-normalised features.

    .. math::
        \ell = w \log \sum_{n,d} \bigl|\bar s_{nd} - \bar t_{nd}\bigr|^\alpha, \qquad s = x R^\top, \qquad
        \bar s_{nd} = \frac{s_{nd} - m_d}{\sqrt{v_d + 10^{-4}}}

    of one layer's features, averaged over positions, of the student x, ``(N, C)``, and the teacher t, ``(N, D)``, with
    the mean m and the variance v over the batch (over N, not N - 1) and a linear projection R, ``(D, C)``, which is
    trained with the student, checkpointed, and never exported. With :math:`g = w \alpha\,\mathrm{sign}(\bar s - \bar
    t)\,|\bar s - \bar t|^{\alpha - 1} / \sum |\bar s - \bar t|^\alpha` the gradient by s is :math:`(g - \frac1N \sum_n
    g - \bar s\,\frac1N \sum_n g\,\bar s) / \sqrt{v + 10^{-4}}`, times R by x, and N times that for the sum over the
    batch.

    The value is that of the batch, given N times: the method is **coupled**, and refused in several processes and under
    gradient accumulation. A batch of one has no variance, and teaches nothing.

    This is the form of the authors' code, :math:`\alpha = 4` and w = 2, with both sides normalised by their own batch;
    torchdistill's loss of this name is the same with :math:`\alpha` as an option. R has no bias, since the
    normalisation would subtract it. Both add the divergence from the teacher at T = 1 and cross-entropy, each of
    weight 1: here ``--method srd+kd --temperature 1 --hard-weight 0.5``, up to a factor 2 of the whole.

    Args:
        weight: w, a factor of the whole.
        exponent: :math:`\alpha`, at least 2.
        student_layers: Name of the student's layer; default: the last of its stages.
        teacher_layers: Name of the teacher's.

    References:
        Miles and Mikolajczyk, `Understanding the Role of the Projector in Knowledge Distillation
        <https://arxiv.org/abs/2303.11098>`_, 2024.

    Example:
        >>> method = SRD(weight=1.0, student_layers="a", teacher_layers="b")
        >>> method.find_taps([], [])
        >>> student = Output(torch.zeros(2, 3), {"a": torch.tensor([[1.0], [-1.0]])})
        >>> teacher = Output(torch.zeros(2, 3), {"b": torch.tensor([[-1.0], [1.0]])})
        >>> method.prepare(student, teacher)
        >>> _ = nn.init.ones_(method.projections[0].weight)
        >>> method(student, teacher, Batch(torch.arange(2), 0, torch.zeros(2, 1), None)).exp()
        tensor([31.9936, 31.9936], grad_fn=<ExpBackward0>)
    """

    coupled = True

    ranges = MappingProxyType({"weight": Range(0.2, 20)})

    def __init__(
        self, *, weight: float = 2.0, exponent: float = 4.0, student_layers: str = "", teacher_layers: str = ""
    ) -> None:
        super().__init__()
        require_option(0 < weight < torch.inf, "weight", weight, "above 0 and finite")
        require_option(2 <= exponent <= 8, "exponent", exponent, "from 2 to 8")
        self.weight, self.exponent = float(weight), float(exponent)
        self.student_layers, self.teacher_layers = student_layers, teacher_layers
        self.projections = nn.ModuleList()

    def choose(self, stages: list[str], others: list[str]) -> tuple[list[str], list[str]]:
        """The last stage of each."""
        return stages[-1:], others[-1:]

    def prepare(self, student: Output, teacher: Output) -> None:
        """Make a projection for each pair of layers."""
        for s, t in self.pairs(student, teacher):
            self.projections.append(nn.Linear(averaged(s).shape[1], averaged(t).shape[1], bias=False))

    def forward(self, student: Output, teacher: Output, batch: Batch) -> Tensor:
        """The value of the batch, ``(N,)`` times."""
        values = []
        with unrounded(student.logits):
            for projection, (s, t) in zip(self.projections, self.pairs(student, teacher), strict=True):
                away = _normalised(projection(averaged(s))) - _normalised(averaged(t))
                values.append(away.abs().pow(self.exponent).sum().clamp_min(_LEAST).log())
        return self.weight * torch.stack(values).sum().expand(len(batch.index))

    def reference_gradient(self, student: Output, teacher: Output, batch: Batch) -> Output:
        """The formula above."""
        slopes = {}
        for name, projection, (s, t) in zip(
            self.student_taps, self.projections, self.pairs(student, teacher), strict=True
        ):
            (matrix,) = (value.detach() for value in projection.parameters())
            mine, deviation = _standard(torch.einsum("dc,nc->nd", matrix, averaged(s)))
            away = mine - _standard(averaged(t))[0]
            total = (away.abs() ** self.exponent).sum()
            g = self.weight * self.exponent * away.sign() * away.abs() ** (self.exponent - 1) / total.clamp_min(_LEAST)
            by_said = (g - g.mean(0) - mine * (g * mine).mean(0)) / deviation
            slope = len(mine) * torch.einsum("nd,dc->nc", by_said, matrix)
            slopes[name] = spread_average(slope if total > _LEAST else 0 * slope, s)
        return Output(torch.zeros_like(student.logits), slopes)


def _normalised(said: Tensor) -> Tensor:
    """Each feature less its mean over the batch, over its standard deviation."""
    away = said - said.mean(0)
    found: Tensor = away * (away.square().mean(0) + _TINY).rsqrt()
    return found


def _standard(values: Tensor) -> tuple[Tensor, Tensor]:
    """The same from its definition, and the standard deviation."""
    mean = values.sum(0) / len(values)
    deviation = (((values - mean) ** 2).sum(0) / len(values) + _TINY) ** 0.5
    return (values - mean) / deviation, deviation
