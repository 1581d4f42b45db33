r"""Hints from a layer of the teacher: FitNets.

Axes: ``N`` examples, ``C`` channels of the student and ``D`` of the teacher, ``P`` positions.
"""

__all__ = ["FitNets"]

import torch
from torch import Tensor, nn

from limbeck.errors import ConfigError
from limbeck.methods.base import require_option
from limbeck.methods.features import FeatureMethod, as_map, pooled_to, spread_back
from limbeck.protocols import Batch, Output


class FitNets(FeatureMethod):
    r"""Hints: a layer of the student, through a regressor of its own, learns a layer of the teacher.

    .. math::
        \ell_n = \frac{w}{2 D P} \sum_{d,p} \bigl((R\,s_n)_{dp} + c_d - t_{ndp}\bigr)^2

    of the student's features s, ``(N, C, P)``, and the teacher's t, ``(N, D, P)``, with a linear map R, ``(D, C)``, and
    a shift c, the same at each position (a convolution of one pixel), which are trained with the student, checkpointed,
    and never shipped. Its gradient is :math:`w\,R^\top (R s + c - t) / (D P)`. The larger of two maps is averaged to
    the size of the smaller.

    This is the form of one stage that others call by the name: the mean over all numbers, with the labels' loss beside
    it from the first step. The paper trains the hint alone first, without the layers above it, and then the whole
    student on labels and soft targets: that form of two stages is not made here.

    Args:
        weight: w, a factor of the whole.
        student_layers: Name of the student's layer; nothing for the middle one of its stages.
        teacher_layers: Name of the teacher's.

    References:
        Romero, Ballas, Kahou, Chassang, Gatta and Bengio, `FitNets: Hints for Thin Deep Nets
        <https://arxiv.org/abs/1412.6550>`_, 2015.

    Example:
        >>> hints = FitNets(student_layers="a", teacher_layers="b")
        >>> hints.find_taps([], [])
        >>> student = Output(torch.zeros(2, 3), {"a": torch.ones(2, 4)})
        >>> teacher = Output(torch.zeros(2, 3), {"b": torch.ones(2, 5)})
        >>> hints.prepare(student, teacher)
        >>> hints(student, teacher, Batch(torch.arange(2), 0, torch.zeros(2, 1), None)).shape
        torch.Size([2])
    """

    def __init__(self, *, weight: float = 1.0, student_layers: str = "", teacher_layers: str = "") -> None:
        super().__init__()
        require_option(0 < weight < torch.inf, "weight", weight, "above 0 and finite")
        self.weight, self.student_layers, self.teacher_layers = float(weight), student_layers, teacher_layers
        self.regressors = nn.ModuleList()

    def choose(self, stages: list[str], others: list[str]) -> tuple[list[str], list[str]]:
        """The middle stage of each."""
        return stages[len(stages) // 2 :][:1], others[len(others) // 2 :][:1]

    def prepare(self, student: Output, teacher: Output) -> None:
        """Make a regressor for each pair of layers."""
        for s, t in self.pairs(student, teacher):
            mine, theirs = self._alike(s, t)
            if mine.shape[2] != theirs.shape[2]:
                raise ConfigError(
                    f"method fitnets compares position with position, and the student's layer has shape "
                    f"{tuple(s.shape[1:])} where the teacher's has {tuple(t.shape[1:])}: name other layers"
                )
            self.regressors.append(nn.Linear(mine.shape[1], theirs.shape[1]))

    def forward(self, student: Output, teacher: Output, batch: Batch) -> Tensor:
        """The value of each example, ``(N,)``."""
        values = []
        for regressor, (s, t) in zip(self.regressors, self.pairs(student, teacher), strict=True):
            mine, theirs = self._alike(s, t)
            said: Tensor = regressor(mine.transpose(1, 2))
            away = said - theirs.transpose(1, 2)
            values.append(away.square().flatten(1).mean(1) / 2)
        return self.weight * torch.stack(values).sum(0)

    def reference_gradient(self, student: Output, teacher: Output, batch: Batch) -> Output:
        """The formula above; of a map that is averaged, spread over what each mean is of."""
        slopes = {}
        for name, regressor, (s, t) in zip(
            self.student_taps, self.regressors, self.pairs(student, teacher), strict=True
        ):
            mine, theirs = self._alike(s, t)
            matrix, shift = (value.detach() for value in regressor.parameters())
            away = torch.einsum("dc,ncp->ndp", matrix, mine) + shift[:, None] - theirs
            slope = self.weight * torch.einsum("dc,ndp->ncp", matrix, away) / away[0].numel()
            slopes[name] = spread_back(slope, s, t)
        return Output(torch.zeros_like(student.logits), slopes)

    @staticmethod
    def _alike(s: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        return as_map(pooled_to(s, t)), as_map(pooled_to(t, s))
