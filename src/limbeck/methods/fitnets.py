r"""FitNets: hints from a layer of the teacher.

Axes: ``N`` examples, ``C`` channels of the student and ``D`` of the teacher, ``P`` positions.
"""

__all__ = ["FitNets"]

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from limbeck.errors import ConfigError
from limbeck.methods.base import Moment, require_option
from limbeck.methods.features import FeatureMethod, as_map, pooled_to, spread_back
from limbeck.methods.kd import KD
from limbeck.options.methods import Range
from limbeck.protocols import Batch, Output


class FitNets(FeatureMethod):
    r"""FitNets: a layer of the student, through a regressor, is trained to match a layer of the teacher.

    .. math::
        \ell_n = \frac{w}{2 D P} \sum_{d,p} \bigl((R\,s_n)_{dp} + c_d - t_{ndp}\bigr)^2

    of the student's features s, ``(N, C, P)``, and the teacher's t, ``(N, D, P)``, with a linear map R, ``(D, C)``, and
    a shift c, the same at each position (a convolution of one pixel), which are trained with the student, checkpointed,
    and never exported. Its gradient is :math:`w\,R^\top (R s + c - t) / (D P)`. The larger of two maps is averaged to
    the size of the smaller.

    ``stages=1`` is the form that others call by the name: the mean over all numbers, with the labels' loss beside it
    from the first step. ``stages=2`` is the paper's: for the first ``hint_epochs`` only the hint is trained, without
    labels and soft targets, and the layers above it do not change; then the whole student learns labels and soft
    targets, :math:`(1 - h)\,\lambda\,\ell^{\mathrm{kd}} + h\,\ell^{\mathrm{hard}}` with the hard weight h and
    :math:`\lambda` falling linearly from ``anneal`` to 1. It is one training: steps of both stages count as steps,
    under one schedule of the learning rate, and a baseline has as many. The paper trains the stages one after the other
    with a learning rate each, starts at :math:`\lambda` = 4 and T = 3, and has no factor T squared, which kd has here.
    The best epoch, early stopping and schedules that go by validation look at the second stage alone.

    Args:
        weight: w, a factor of the hint's loss.
        stages: 1 or 2.
        hint_epochs: Epochs of the first of two stages.
        anneal: :math:`\lambda` at the beginning of the second, at least 1; 1 leaves kd as it is.
        temperature: T of the second stage's soft targets.
        student_layers: Name of the student's layer; default: the middle one of its stages.
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

    ranges = MappingProxyType({"weight": Range(0.01, 100)})

    def __init__(
        self,
        *,
        weight: float = 1.0,
        stages: int = 1,
        hint_epochs: int = 5,
        anneal: float = 1.0,
        temperature: float = 4.0,
        student_layers: str = "",
        teacher_layers: str = "",
    ) -> None:
        super().__init__()
        require_option(0 < weight < torch.inf, "weight", weight, "above 0 and finite")
        require_option(stages in {1, 2}, "stages", stages, "1 or 2")
        require_option(hint_epochs >= 1, "hint_epochs", hint_epochs, "at least 1")
        require_option(1 <= anneal < torch.inf, "anneal", anneal, "at least 1 and finite")
        self.weight, self.stages, self.hint_epochs, self.anneal = float(weight), stages, hint_epochs, float(anneal)
        self.student_layers, self.teacher_layers = student_layers, teacher_layers
        self.regressors = nn.ModuleList()
        self.soft = KD(temperature=temperature)
        self.temperature = self.soft.temperature
        self.phases, self.hints, self.reads_logits = stages, stages == 2, stages == 2
        self.factor = self.anneal

    @classmethod
    def ranges_for(cls, options: Mapping[str, str]) -> Mapping[str, Range]:
        """With two stages also the initial factor of the second."""
        return {**cls.ranges, "anneal": Range(1, 8)} if options.get("stages") == "2" else cls.ranges

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

    def require_epochs(self, epochs: int) -> None:
        """Refuse a training that ends with its first stage."""
        if self.stages == 2 and epochs <= self.hint_epochs:
            raise ConfigError(
                f"method fitnets learns hints alone for hint_epochs = {self.hint_epochs}, and epochs is {epochs}: "
                "nothing is left for the second stage"
            )

    def at(self, moment: Moment) -> None:
        """Switch to the second stage, and anneal its factor."""
        if self.stages == 1:
            return
        self.hints = moment.epoch < self.hint_epochs
        done = (moment.epoch - self.hint_epochs) * moment.steps + moment.step
        last = max((moment.epochs - self.hint_epochs) * moment.steps - 1, 1)
        self.factor = self.anneal + (1 - self.anneal) * min(max(done / last, 0.0), 1.0)

    def enter(self, phase: int) -> None:
        """Enter the first or the second of two stages."""
        self.hints = self.stages == 2 and phase == 0

    def forward(self, student: Output, teacher: Output, batch: Batch) -> Tensor:
        """The value of each example, ``(N,)``: of the hint, or in the second of two stages of the soft targets."""
        if self.stages == 2 and not self.hints:
            return self.factor * self.soft.forward(student, teacher, batch)
        return self._of_hints(student, teacher)

    def with_labels(
        self, student: Output, teacher: Output, batch: Batch, hard_weight: float, label_smoothing: float
    ) -> Tensor:
        """Combined with labels, except in the first of two stages, ``(N,)``."""
        if self.hints:
            return self._of_hints(student, teacher)
        return super().with_labels(student, teacher, batch, hard_weight, label_smoothing)

    def _of_hints(self, student: Output, teacher: Output) -> Tensor:
        values = []
        for regressor, (s, t) in zip(self.regressors, self.pairs(student, teacher), strict=True):
            mine, theirs = self._alike(s, t)
            said: Tensor = regressor(mine.transpose(1, 2))
            away = said - theirs.transpose(1, 2)
            values.append(away.square().flatten(1).mean(1) / 2)
        return self.weight * torch.stack(values).sum(0)

    def reference_gradient(self, student: Output, teacher: Output, batch: Batch) -> Output:
        """The formula above; through average pooling, spread over the pooled positions."""
        if self.stages == 2 and not self.hints:
            return Output(self.factor * self.soft.reference_gradient(student, teacher, batch).logits)
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

    def known_gradient(self, logits: Tensor, batch: Batch) -> tuple[Tensor, Tensor] | None:
        """In the second of two stages it vanishes at the teacher."""
        return (logits, torch.zeros_like(logits)) if self.stages == 2 and not self.hints else None

    def rounding(
        self, student: Output, teacher: Output, batch: Batch, unit: float, moved: float
    ) -> tuple[Tensor, Tensor] | None:
        """In the second of two stages that of kd."""
        if self.stages == 1 or self.hints:
            return super().rounding(student, teacher, batch, unit, moved)
        value, gradient = self.soft.rounding(student, teacher, batch, unit, moved)
        return self.factor * value, self.factor * gradient

    def fingerprint(self) -> dict[str, Any]:
        """What a run that resumes must agree in: of one stage what counts in it."""
        found = super().fingerprint()
        unused = () if self.stages == 2 else ("stages", "hint_epochs", "anneal", "temperature")
        return {name: value for name, value in found.items() if name not in unused}

    @staticmethod
    def _alike(s: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        return as_map(pooled_to(s, t)), as_map(pooled_to(t, s))
