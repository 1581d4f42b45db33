r"""Several teachers as one, by a mean of their distributions.

Axes: ``N`` examples, ``K`` classes, ``M`` members; ``T`` is the temperature.
"""

__all__ = ["Ensemble"]

import copy
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, NoReturn

import torch
from torch import Tensor, nn

from limbeck.arguments import checked_arguments
from limbeck.errors import DataError, MismatchError
from limbeck.losses import widened
from limbeck.models.titles import title_of
from limbeck.protocols import Answering, Batch
from limbeck.teachers.conversion import as_teacher

if TYPE_CHECKING:
    from limbeck.data.examples import Examples
    from limbeck.options import Augmentation


class Ensemble:
    r"""Several teachers whose distributions at a temperature are averaged; their architectures may differ.

    With weights :math:`w_m` that sum to one,

    .. math::
        p_k = \sum_m w_m p^{(m)}_k \quad \text{(arithmetic)}, \qquad
        p_k \propto \prod_m \bigl(p^{(m)}_k\bigr)^{w_m} \quad \text{(geometric)}

    where :math:`p^{(m)}` is the softmax of member m at temperature T. The geometric mean is the softmax of the members'
    averaged logits; it keeps a class only where all members do.

    Args:
        members: Modules or teachers.
        mean: "arithmetic" or "geometric".
        weights: One per member, at least 0, scaled to sum to one; None for equal weights.
        classes: Names of the classes in order, where known.

    Raises:
        DataError: If there are no members, or the weights are negative, all zero or of another number.
        MismatchError: If members name different classes.

    References:
        Hinton, Vinyals and Dean, `Distilling the Knowledge in a Neural Network
        <https://arxiv.org/abs/1503.02531>`_, 2015, section 1.

    Example:
        >>> sure, unsure = nn.Identity(), nn.Flatten()
        >>> both = Ensemble([sure, unsure], mean="geometric", weights=[3, 1])
        >>> batch = Batch(torch.arange(1), 0, torch.tensor([[0.0, 2.0]]), None)
        >>> both.log_probs(batch, 1.0).exp()
        tensor([[0.1192, 0.8808]])
    """

    @checked_arguments
    def __init__(
        self,
        members: Sequence[nn.Module | Answering],
        *,
        mean: Literal["arithmetic", "geometric"] = "arithmetic",
        weights: Sequence[float] | None = None,
        classes: Sequence[str] | None = None,
    ) -> None:
        if not members:
            raise DataError("an ensemble needs at least one member")
        if mean not in {"arithmetic", "geometric"}:
            raise DataError(f"mean must be arithmetic or geometric, and is {mean!r}")
        shares = [1.0] * len(members) if weights is None else [float(weight) for weight in weights]
        if len(shares) != len(members):
            raise DataError(f"there are {len(members)} members and {len(shares)} weights")
        if not all(0 <= share < math.inf for share in shares) or sum(shares) == 0:
            raise DataError(f"weights must be finite, at least 0 and not all 0, and are {shares}")
        self.members = tuple(as_teacher(member) for member in members)
        largest = max(shares)  # of shares near 1e308 the sum would be infinite
        relative = [share / largest for share in shares]
        self.mean, self.weights = mean, tuple(share / sum(relative) for share in relative)
        named = {member.classes for member in self.members if member.classes is not None}
        named |= set() if classes is None else {tuple(classes)}
        if len(named) > 1:
            raise MismatchError(f"the members of the ensemble name different classes: {sorted(named)[:2]}")
        self.classes = next(iter(named), None)

    def to(self, device: torch.device | str) -> "Ensemble":
        """The ensemble with every member on a device."""
        moved = copy.copy(self)
        moved.members = tuple(member.to(device) for member in self.members)
        return moved

    def compiled(self) -> "Ensemble":
        """The ensemble with compiled models."""
        found = copy.copy(self)
        found.members = tuple(getattr(member, "compiled", lambda m=member: m)() for member in self.members)
        return found

    @property
    def every_temperature(self) -> bool:
        """Whether outputs at T = 1 serve every temperature: not for an arithmetic mean."""
        alone = len(self.members) == 1
        return (alone or self.mean == "geometric") and all(member.every_temperature for member in self.members)

    @property
    def has_logits(self) -> bool:
        """Whether outputs at T = 1 are logits up to a constant."""
        return self.every_temperature and all(member.has_logits for member in self.members)

    @property
    def live(self) -> bool:
        """Whether any member computes its answers."""
        return any(member.live for member in self.members)

    @property
    def title(self) -> str:
        """Its display name in reports."""
        kinds = sorted({title_of(member) for member in self.members})
        return f"{self.mean} mean of {len(self.members)}: {', '.join(kinds)}"

    def modules(self) -> list[tuple[nn.Module, Any]]:
        """The networks of all members."""
        return [found for member in self.members for found in member.modules()]

    def bind(self, examples: "Examples", augmentation: "Augmentation | None" = None) -> "Ensemble":
        """The ensemble of its members, each bound to the examples; MismatchError where one has no answers for them."""
        bound = copy.copy(self)
        bound.members = tuple(member.bind(examples, augmentation) for member in self.members)
        return bound

    @property
    def device(self) -> torch.device:
        """The device of the first member; all members must be on it."""
        return torch.device(getattr(self.members[0], "device", "cpu"))

    def log_probs(self, batch: Batch, temperature: float) -> Tensor:
        """Log-probabilities of the mean at a temperature, float32 ``(N, K)``.

        Args:
            batch: The examples.
            temperature: :math:`T > 0`.

        Returns:
            Natural logarithms, without gradient.

        Raises:
            DataError: If a member's answer is NaN, or members of a geometric mean have no class in common; the message
                names the example.
            MismatchError: If members answer with different numbers of classes.
        """
        answers = [member.log_probs(batch, temperature) for member in self.members]
        counts = {answer.shape[-1] for answer in answers}
        if len(counts) > 1:
            raise MismatchError(f"the members of the ensemble answer with {sorted(counts)} classes")
        # A member without weight is left out: 0 times -inf is not a number.
        used = [number for number, weight in enumerate(self.weights) if weight > 0]
        stacked = torch.stack([widened(answers[number]) for number in used])
        weights = stacked.new_tensor([self.weights[number] for number in used]).view(-1, 1, 1)
        if self.mean == "arithmetic":
            mean = torch.logsumexp(stacked + weights.log(), 0)
        else:
            mean = torch.log_softmax((weights * stacked).sum(0), -1)
        spoilt = mean.isnan().any(-1)
        if bool(spoilt.any()):
            self._blame(used, stacked, spoilt, batch)
        return mean

    def _blame(self, used: Sequence[int], stacked: Tensor, spoilt: Tensor, batch: Batch) -> NoReturn:
        """Say why the mean of some examples is not a distribution."""
        row = int(spoilt.nonzero()[0])
        example = int(batch.index[row])
        wrong = ~(stacked[:, row] < math.inf).all(-1)
        if bool(wrong.any()):
            member = used[int(wrong.nonzero()[0])] + 1
            raise DataError(
                f"member {member} of the ensemble (of {len(self.members)}) answers NaN or plus infinity for example "
                f"{example}: repair it or leave it out"
            )
        raise DataError(
            f"the members of the ensemble give mass to different classes for example {example}: their geometric mean "
            "is no distribution; set mean to arithmetic"
        )
