r"""Relational knowledge distillation: distances and angles between the examples of a batch.

Axes: ``N`` examples in a batch, ``C`` features of the student and ``D`` of the teacher.
"""

__all__ = ["RKD"]

from types import MappingProxyType

import torch
from torch import Tensor

from limbeck.methods.base import require_option
from limbeck.methods.features import FeatureMethod, averaged, scaled, spread_average, unrounded
from limbeck.options.methods import Range
from limbeck.protocols import Batch, Output


class RKD(FeatureMethod):
    r"""Relational distillation (RKD): match the teacher's distances and angles between examples.

    .. math::
        \ell_n = \frac{w_d}{N} \sum_j h\bigl(\psi^s_{nj} - \psi^t_{nj}\bigr)
        + \frac{w_a}{N^2} \sum_{j,k} h\bigl(\hat e^s_{nj} \cdot \hat e^s_{nk} - \hat e^t_{nj} \cdot \hat e^t_{nk}\bigr)

    with :math:`e_{nj} = x_j - x_n` of one layer's features x, ``(N, C)`` and ``(N, D)``, :math:`\hat e = e / |e|`,
    :math:`\psi_{nj} = |e_{nj}| / \mu` for the mean distance :math:`\mu` of the batch's N(N - 1) pairs, and Huber's h,
    which is half the square below 1 and :math:`|d| - \frac12` above. Feature maps and sequences are averaged over
    their positions first. Examples that are equal have the distance 0, the angle 0, and no gradient by either.

    The value of an example depends on its batch, which makes the method **coupled**: it is refused in several processes
    and under gradient accumulation; of a batch of one has no gradient. It needs no parameters of its own, and no
    equal numbers of features. Angles take memory for N N C and N N N numbers.

    The means over all N N and N N N are those of the authors' code, the terms of an example with itself, which are 0,
    among them; the paper writes sums. The authors' weights beside cross-entropy of weight 1 are 25 and 50 (here hard
    weight 0.5, up to a factor 2 of the whole). Their code takes distances from products of matrices, of which float32
    leaves nothing where features are alike, and its gradient is 1e12 times too large where an example comes twice in a
    batch; here both are taken from the differences themselves.

    Args:
        distance: Weight of the distances, :math:`w_d`.
        angle: Weight of the angles, :math:`w_a`.
        student_layers: Names of the student's layers; default: the last of its stages.
        teacher_layers: Names of the teacher's, as many.

    References:
        Park, Kim, Lu and Cho, `Relational Knowledge Distillation <https://arxiv.org/abs/1904.05068>`_, 2019.

    Example:
        >>> method = RKD(student_layers="a", teacher_layers="b")
        >>> method.find_taps([], [])
        >>> student = Output(torch.zeros(3, 2), {"a": torch.tensor([[0.0], [1.0], [3.0]])})
        >>> teacher = Output(torch.zeros(3, 2), {"b": torch.tensor([[0.0, 5.0], [0.0, 7.0], [0.0, 11.0]])})
        >>> method(student, teacher, Batch(torch.arange(3), 0, torch.zeros(3, 1), None)) < 1e-6
        tensor([True, True, True])
    """

    coupled = True

    ranges = MappingProxyType({"distance": Range(2.5, 250), "angle": Range(5, 500)})

    def __init__(
        self, *, distance: float = 25.0, angle: float = 50.0, student_layers: str = "", teacher_layers: str = ""
    ) -> None:
        super().__init__()
        for name, weight in (("distance", distance), ("angle", angle)):
            require_option(0 <= weight < torch.inf, name, weight, "at least 0 and finite")
        require_option(distance + angle > 0, "angle", angle, "above 0 where distance is 0")
        self.distance, self.angle = float(distance), float(angle)
        self.student_layers, self.teacher_layers = student_layers, teacher_layers

    def choose(self, stages: list[str], others: list[str]) -> tuple[list[str], list[str]]:
        """The last stage of each."""
        return stages[-1:], others[-1:]

    def forward(self, student: Output, teacher: Output, batch: Batch) -> Tensor:
        """The terms with each example as the vertex, ``(N,)``."""
        with unrounded(student.logits):
            # Neither distances over their mean nor angles change by a factor.
            values = [self._value(scaled(averaged(s)), scaled(averaged(t))) for s, t in self.pairs(student, teacher)]
            return torch.stack(values).sum(0)

    def _value(self, mine: Tensor, theirs: Tensor) -> Tensor:
        value = (0 * mine).sum(1)
        if self.distance:
            value = value + self.distance * _huber(_distances(mine) - _distances(theirs)).mean(1)
        if self.angle:
            value = value + self.angle * _huber(_angles(mine) - _angles(theirs)).mean((1, 2))
        return value

    def reference_gradient(self, student: Output, teacher: Output, batch: Batch) -> Output:
        """The chain rule through distances and angles, from their definitions."""
        slopes = {}
        for name, (s, t) in zip(self.student_taps, self.pairs(student, teacher), strict=True):
            x, y = averaged(s), averaged(t)
            slope = self.distance * _slope_of_distances(x, y) + self.angle * _slope_of_angles(x, y)
            slopes[name] = spread_average(slope, s)
        return Output(torch.zeros_like(student.logits), slopes)


def _huber(off: Tensor) -> Tensor:
    return torch.nn.functional.smooth_l1_loss(off, torch.zeros_like(off), reduction="none")


def _distances(x: Tensor) -> Tensor:
    """Distances over the mean distance of two examples, ``(N, N)``."""
    count = len(x)
    found = torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist")  # its gradient is 0 at a distance of 0
    mean = found.sum() / max(count * (count - 1), 1)
    return found / torch.where(mean > 0, mean, 1.0)


def _angles(x: Tensor) -> Tensor:
    """Cosines of the angles at each example between any two others, ``(N, N, N)``."""
    away = x.unsqueeze(0) - x.unsqueeze(1)
    length = torch.linalg.vector_norm(away, dim=2, keepdim=True)
    unit = torch.where(length > 0, away / torch.where(length > 0, length, 1.0), 0.0)
    return unit @ unit.transpose(1, 2)


def _bent(off: Tensor) -> Tensor:
    """Derivative of Huber's function."""
    return off.clamp(-1, 1)


def _differences(x: Tensor) -> tuple[Tensor, Tensor]:
    """:math:`x_j - x_n` as ``(N, N, C)``, and their lengths, ``(N, N, 1)``."""
    away = x[None, :, :] - x[:, None, :]
    return away, (away**2).sum(2, keepdim=True) ** 0.5


def _units(x: Tensor) -> Tensor:
    away, length = _differences(x)
    return away / torch.where(length > 0, length, 1.0)


def _slope_of_distances(x: Tensor, y: Tensor) -> Tensor:
    """The gradient of the sum over the batch by the student's vectors."""
    count, pairs = len(x), max(len(x) * (len(x) - 1), 1)
    mine, theirs = (_differences(each)[1][:, :, 0] for each in (x, y))
    mean, other = mine.sum() / pairs, theirs.sum() / pairs
    if mean == 0:
        return torch.zeros_like(x)
    g = _bent(mine / mean - theirs / torch.where(other > 0, other, 1.0)) / count
    # Each distance counts in its own ratio, and in the mean that all are divided by.
    by_distance = g / mean - (g * mine).sum() / (mean**2 * pairs)
    # Both x_j and x_n feel each difference, and each pair comes twice.
    return 2 * (by_distance[:, :, None] * _units(x)).sum(0)


def _slope_of_angles(x: Tensor, y: Tensor) -> Tensor:
    """The gradient of the sum over the batch by the student's vectors."""
    count, unit, theirs = len(x), _units(x), _units(y)
    off = torch.einsum("njc,nkc->njk", unit, unit) - torch.einsum("njc,nkc->njk", theirs, theirs)
    g = 2 * torch.einsum("njk,nkc->njc", _bent(off), unit) / count**2
    length = _differences(x)[1]
    flat = g - unit * (g * unit).sum(2, keepdim=True)
    by_difference = torch.where(length > 0, flat / torch.where(length > 0, length, 1.0), 0.0)
    return by_difference.sum(0) - by_difference.sum(1)
