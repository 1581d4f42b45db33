r"""Logit standardisation.

Axes: ``N`` examples, ``K`` classes; ``T`` is the temperature.
"""

__all__ = ["Standardised"]

from types import MappingProxyType
from typing import Literal

import torch
from torch import Tensor

from limbeck.errors import ConfigError
from limbeck.losses import softened, widened
from limbeck.methods.base import Method, require_option, require_temperature
from limbeck.methods.formulas import softmax
from limbeck.options.methods import Range
from limbeck.protocols import Batch, Output

_TINY = 1e-7
"""Epsilon that the authors' code adds to a standard deviation."""


class Standardised(Method):
    r"""Logit standardisation: kd of logits that have mean 0 and standard deviation 1 in each example.

    .. math::
        \ell_n = w\,T^2\,\mathrm{KL}\Bigl(\mathrm{softmax}(\tilde v_n / T)\,\Big\|\,\mathrm{softmax}(\tilde z_n / T)
        \Bigr), \qquad \tilde z_{nk} = \frac{z_{nk} - \bar z_n}{\sigma(z_n)}

    of the student's logits z and the teacher's v, ``(N, K)``, with the standard deviation :math:`\sigma` over K - 1 and
    1e-7 added to it, as in the authors' code. With :math:`g = w T (p - q)` the gradient is :math:`\bigl(g_k - \bar g -
    \tilde z_k \sum_j g_j \tilde z_j / (K - 1)\bigr) / \sigma`. It is invariant to the scale of the student's logits,
    which the true labels alone determine, and vanishes where student and teacher differ by a linear map per example. Of
    two classes it could learn nothing, and refuses them.

    The authors compare kd of weight 0.9 with theirs of weight 9, so that their gain mixes a tenfold weight with the
    standardisation. Here both have the same weight unless ``weight`` says otherwise (10 for theirs, at a hard weight of
    0.1 and T = 2), and ``variant="control"`` is kd with that weight and nothing standardised.

    Args:
        temperature: T, from 0.05 to 100.
        weight: w, a factor of the whole.
        variant: "standardised", or "control" for the same without standardisation.

    References:
        Sun, Ren, Li, Wang and Cao, `Logit Standardization in Knowledge Distillation
        <https://arxiv.org/abs/2403.01427>`_, 2024.

    Example:
        >>> batch = Batch(torch.arange(1), 0, torch.zeros(1, 1), None)
        >>> teacher = torch.tensor([[4.0, 1.0, 0.0]])
        >>> Standardised()(Output(5 * teacher), Output(teacher.log_softmax(-1)), batch).abs() < 1e-5
        tensor([True])
    """

    needs_logits = needs_every_class = True

    ranges = MappingProxyType({"weight": Range(0.2, 20)})

    def __init__(
        self,
        *,
        temperature: float = 4.0,
        weight: float = 1.0,
        variant: Literal["standardised", "control"] = "standardised",
    ) -> None:
        super().__init__()
        self.temperature = require_temperature("standardised", temperature)
        require_option(0 < weight < torch.inf, "weight", weight, "above 0 and finite")
        names = {"standardised", "control"}
        require_option(variant in names, "variant", variant, "standardised or control")
        self.weight, self.variant = float(weight), variant

    def require(self, classes: int) -> None:
        """Refuse two classes, whose standardised logits are the same for every example."""
        if classes == 2 and self.variant == "standardised":
            raise ConfigError(
                "method standardised learns nothing of two classes, whose logits are plus and minus the same number "
                "once they are standardised: use kd"
            )

    def forward(self, student: Output, teacher: Output, batch: Batch) -> Tensor:
        """The value of each example, ``(N,)``."""
        z, v = widened(student.logits), widened(teacher.logits)
        if self.variant == "standardised":
            z, v = _standardised(z), _standardised(v)
        said, targets = softened(z, self.temperature), softened(v, self.temperature)
        return self.weight * self.temperature**2 * (targets.exp() * (targets - said)).sum(-1)

    def reference_gradient(self, student: Output, teacher: Output, batch: Batch) -> Output:
        """The formula above, with the small number beside the standard deviation."""
        z, v, temperature = student.logits, teacher.logits, self.temperature
        if self.variant == "control":
            return Output(self.weight * temperature * (softmax(z / temperature) - softmax(v / temperature)))
        away, deviation = _deviations(z)
        mine, theirs = away / (deviation + _TINY), _deviations(v)[0] / (_deviations(v)[1] + _TINY)
        g = self.weight * temperature * (softmax(mine / temperature) - softmax(theirs / temperature))
        free, below = z.shape[-1] - 1, deviation + _TINY
        turned = torch.where(deviation > 0, (g * away).sum(-1, keepdim=True) / (free * deviation * below**2), 0.0)
        return Output((g - g.sum(-1, keepdim=True) / z.shape[-1]) / below - away * turned)


def _standardised(logits: Tensor) -> Tensor:
    """Logits less their mean, over their standard deviation; what is infinite in squares is scaled first."""
    away = logits - logits.mean(-1, keepdim=True)
    largest = away.detach().abs().amax(-1, keepdim=True).clamp_min(torch.finfo(away.dtype).tiny)
    # The norm's gradient is 0 where all logits are equal, and that of a square root would be NaN.
    length: Tensor = torch.linalg.vector_norm(away / largest, dim=-1, keepdim=True)
    deviation = length * largest / (away.shape[-1] - 1) ** 0.5
    found: Tensor = away / (deviation + _TINY)
    return found


def _deviations(z: Tensor) -> tuple[Tensor, Tensor]:
    """Deviations from the mean, and the standard deviation over K - 1, from their definitions."""
    away = z - z.sum(-1, keepdim=True) / z.shape[-1]
    return away, ((away**2).sum(-1, keepdim=True) / (z.shape[-1] - 1)) ** 0.5
