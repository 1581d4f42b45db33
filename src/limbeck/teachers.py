r"""Teachers: whatever can answer with a distribution over classes.

A teacher is frozen, in evaluation mode and without gradient, whatever is done with the modules it was made from: it
holds copies of its own.

Axes: ``N`` examples, ``K`` classes, ``M`` members; ``T`` is the temperature.
"""

__all__ = ["Ensemble", "ModelTeacher", "StoredTargets", "as_teacher", "has_scores", "serves_every_temperature"]

import copy
import math
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from limbeck.calling import call_model
from limbeck.errors import DataError, MismatchError
from limbeck.losses import softened
from limbeck.protocols import Batch, Teacher


class ModelTeacher:
    """One model as a teacher.

    Args:
        model: Maps inputs ``(N, ...)`` to scores ``(N, K)``; it is copied.
        classes: Names of the classes in order, where known.
        splicing: For frames of speech, the neighbours that this model sees, where they are not those of the batches.

    Example:
        >>> net = nn.Linear(2, 3)
        >>> teacher = ModelTeacher(net)
        >>> batch = Batch(torch.arange(1), 0, torch.ones(1, 2), None)
        >>> torch.allclose(teacher.log_probs(batch, 2.0), (net(torch.ones(1, 2)) / 2).log_softmax(-1))
        True
    """

    def __init__(self, model: nn.Module, classes: Sequence[str] | None = None, splicing: Any = None) -> None:
        self.model = copy.deepcopy(model).requires_grad_(False).eval()
        self.splicing = splicing
        self.classes = None if classes is None else tuple(classes)

    def to(self, device: torch.device | str) -> "ModelTeacher":
        """Move the teacher to a device."""
        self.model.to(device)
        return self

    @torch.no_grad()
    def log_probs(self, batch: Batch, temperature: float) -> Tensor:
        """Log-probabilities softened at a temperature, float32 ``(N, K)``.

        Args:
            batch: The examples.
            temperature: :math:`T > 0`.

        Returns:
            Natural logarithms, without gradient.
        """
        for module in self.model.modules():
            module.training = False
        inputs = batch.inputs
        if self.splicing is not None and batch.spliced is not None:
            inputs = batch.spliced(self.splicing)
        return softened(call_model(self.model, inputs), temperature)


class Ensemble:
    r"""Several teachers whose distributions at a temperature are averaged; their architectures may differ.

    With weights :math:`w_m` that sum to one,

    .. math::
        p_k = \sum_m w_m p^{(m)}_k \quad \text{(arithmetic)}, \qquad
        p_k \propto \prod_m \bigl(p^{(m)}_k\bigr)^{w_m} \quad \text{(geometric)}

    where :math:`p^{(m)}` is the softmax of member m at temperature T. The geometric mean is the softmax of the
    members' averaged scores; it keeps a class only where all members do.

    Args:
        members: Modules or teachers.
        mean: "arithmetic" or "geometric".
        weights: One a member, at least 0, scaled to sum to one; None for equal weights.
        classes: Names of the classes in order, where known.

    Raises:
        DataError: If there are no members, or the weights are negative, all zero or of another number.
        MismatchError: If members name other classes than their fellows.

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

    def __init__(
        self,
        members: Sequence[nn.Module | Teacher],
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
        self.mean, self.weights = mean, tuple(share / sum(shares) for share in shares)
        named = {member.classes for member in self.members if member.classes is not None}
        named |= set() if classes is None else {tuple(classes)}
        if len(named) > 1:
            raise MismatchError(f"the members of the ensemble name different classes: {sorted(named)[:2]}")
        self.classes = next(iter(named), None)

    def to(self, device: torch.device | str) -> "Ensemble":
        """Move every member to a device."""
        for member in self.members:
            if isinstance(member, ModelTeacher | Ensemble | StoredTargets):
                member.to(device)
        return self

    def log_probs(self, batch: Batch, temperature: float) -> Tensor:
        """Log-probabilities of the mean at a temperature, float32 ``(N, K)``.

        Args:
            batch: The examples.
            temperature: :math:`T > 0`.

        Returns:
            Natural logarithms, without gradient.

        Raises:
            MismatchError: If members answer with different numbers of classes.
        """
        answers = [member.log_probs(batch, temperature) for member in self.members]
        counts = {answer.shape[-1] for answer in answers}
        if len(counts) > 1:
            raise MismatchError(f"the members of the ensemble answer with {sorted(counts)} classes")
        stacked = torch.stack(answers)
        weights = torch.tensor(self.weights, dtype=stacked.dtype, device=stacked.device).view(-1, 1, 1)
        if self.mean == "arithmetic":
            return torch.logsumexp(stacked + weights.log(), 0)
        used = weights.flatten() > 0  # 0 * -inf is no number
        return torch.log_softmax((weights[used] * stacked[used]).sum(0), -1)


class StoredTargets:
    """Old answers of a teacher, looked up by example and view.

    Log-probabilities at T = 1 serve every temperature for a single model and for a geometric mean, because they
    differ from the scores by a constant. An arithmetic mean depends on its temperature: name it then.

    Args:
        log_probs: Answers ``(V, N, K)`` for V views, or ``(N, K)`` for one; natural logarithms.
        index: The examples' numbers, int64 ``(N,)``, in the order of the answers.
        classes: Names of the classes in order, where known.
        temperature: The only temperature that the answers hold for, or None where they are for T = 1 and serve all.

    Raises:
        DataError: If the shapes do not fit.

    Example:
        >>> stored = StoredTargets(torch.tensor([[0.0, 2.0], [1.0, 1.0]]).log_softmax(-1), torch.tensor([4, 7]))
        >>> stored.log_probs(Batch(torch.tensor([7]), 0, torch.zeros(1, 1), None), 3.0).exp()
        tensor([[0.5000, 0.5000]])
    """

    def __init__(
        self,
        log_probs: Tensor,
        index: Tensor,
        *,
        classes: Sequence[str] | None = None,
        temperature: float | None = None,
    ) -> None:
        values = (log_probs.unsqueeze(0) if log_probs.ndim == 2 else log_probs).float()
        if values.ndim != 3 or index.shape != values.shape[1:2]:
            raise DataError(
                f"soft targets of shape {tuple(log_probs.shape)} do not fit {tuple(index.shape)} example numbers: "
                "(examples, classes) or (views, examples, classes) are needed"
            )
        self.values, self.temperature = values, temperature
        self._softened: tuple[float, Tensor] | None = None
        self.classes = None if classes is None else tuple(classes)
        # Rows by example number; -1 where there is none.
        self.row_of = torch.full((int(index.max()) + 1,), -1, dtype=torch.int64, device=index.device)
        self.row_of[index] = torch.arange(len(index), device=index.device)

    def to(self, device: torch.device | str) -> "StoredTargets":
        """Move the answers to a device."""
        self.values, self.row_of, self._softened = self.values.to(device), self.row_of.to(device), None
        return self

    def require(self, index: Tensor) -> None:
        """Make sure that examples are among those stored, once, before they are asked for.

        Args:
            index: The examples' numbers, int64 ``(N,)``.

        Raises:
            MismatchError: If any is not.
        """
        numbers = index.to(self.row_of.device)
        known = numbers < len(self.row_of)
        known = known & (self.row_of[numbers.clamp_max(len(self.row_of) - 1)] >= 0)
        if not bool(known.all()):
            first = int(numbers[~known][0])
            raise MismatchError(
                f"no soft targets are stored for {int((~known).sum())} of {len(numbers)} examples, the first is "
                f"example {first}: write them for this data set"
            )

    @torch.no_grad()
    def log_probs(self, batch: Batch, temperature: float) -> Tensor:
        """The stored answers, softened at a temperature, float32 ``(N, K)``.

        Args:
            batch: The examples; only their numbers and their view are used.
            temperature: :math:`T > 0`.

        Returns:
            Natural logarithms, without gradient.

        Raises:
            MismatchError: If an example, a view or the temperature is not among those stored.
        """
        if batch.view >= len(self.values):
            raise MismatchError(f"view {batch.view} is asked for, and {len(self.values)} are stored: set views")
        if self.temperature is not None and temperature != self.temperature:
            raise MismatchError(
                f"these soft targets hold for temperature {self.temperature} alone, and {temperature} is asked for"
            )
        # No look at the numbers here: that would make the host wait for an accelerator at each step. `require` does.
        try:
            answers = self._at(temperature)
            return answers[batch.view].index_select(0, self.row_of.index_select(0, batch.index))
        except IndexError as error:
            self.require(batch.index)
            raise MismatchError(f"soft targets cannot be looked up: {error}") from error

    def _at(self, temperature: float) -> Tensor:
        """All answers at a temperature: softened once, not once a step, and kept until another one is asked for."""
        if self.temperature is not None:
            return self.values
        if self._softened is None or self._softened[0] != temperature:
            self._softened = (temperature, softened(self.values, temperature))
        return self._softened[1]


def as_teacher(teacher: nn.Module | Teacher) -> Teacher:
    """A teacher as it is, or one made of a module."""
    return ModelTeacher(teacher) if isinstance(teacher, nn.Module) else teacher


def serves_every_temperature(teacher: Teacher) -> bool:
    """Whether a teacher's log-probabilities at T = 1 determine those at every other temperature.

    They do for one model and for a geometric mean of such; not for an arithmetic mean of several. Another kind of
    teacher says so by an attribute of this function's name.

    Args:
        teacher: Any teacher; one of an unknown kind is taken not to.

    Returns:
        Whether answers at T = 1 are enough.

    Example:
        >>> serves_every_temperature(Ensemble([nn.Identity(), nn.Identity()], mean="arithmetic"))
        False
    """
    if isinstance(teacher, Ensemble):
        alone = len(teacher.members) == 1
        return (alone or teacher.mean == "geometric") and all(map(serves_every_temperature, teacher.members))
    if isinstance(teacher, StoredTargets):
        return teacher.temperature is None
    return isinstance(teacher, ModelTeacher) or bool(getattr(teacher, "serves_every_temperature", False))


def has_scores(teacher: Teacher) -> bool:
    """Whether a teacher's log-probabilities at T = 1 are its scores for every class, but for a constant.

    They are where they serve every temperature, and no class was left out when they were stored. A teacher that left
    some out says so by an attribute of this function's name.

    Args:
        teacher: Any teacher.

    Returns:
        Whether its scores can be matched.

    Example:
        >>> has_scores(ModelTeacher(nn.Identity())), has_scores(Ensemble([nn.Identity(), nn.Identity()]))
        (True, False)
    """
    known = getattr(teacher, "has_scores", None)
    return serves_every_temperature(teacher) if known is None else bool(known)
