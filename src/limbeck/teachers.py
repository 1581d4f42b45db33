r"""Teachers: whatever can answer with a distribution over classes.

A teacher is frozen, in evaluation mode and without gradient, whatever is done with the modules it was made from: it
holds copies of its own.

Axes: ``N`` examples, ``K`` classes, ``M`` members; ``T`` is the temperature.
"""

__all__ = ["Ensemble", "ModelTeacher", "StoredTargets", "UserTeacher", "as_teacher"]

import copy
import dataclasses
import hashlib
import math
from collections.abc import Sequence
from functools import cached_property
from itertools import chain
from typing import TYPE_CHECKING, Any, Literal, NoReturn

import torch
from torch import Tensor, nn

from limbeck.adapters import adapted
from limbeck.answers import require_log_probs
from limbeck.calling import call_model, evaluating, refuse_changed, versions
from limbeck.copying import copy_module
from limbeck.errors import DataError, LimbeckError, MismatchError
from limbeck.losses import softened, widened
from limbeck.protocols import Answering, Batch, Teacher
from limbeck.watcher import warn_user

if TYPE_CHECKING:
    from limbeck.data.examples import Examples
    from limbeck.options import Augmentation


_TRIED = 8
"""Examples, and classes, that are looked at to know a teacher of the user's own."""


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

    every_temperature = has_logits = live = True

    def __init__(self, model: nn.Module, classes: Sequence[str] | None = None, splicing: Any = None) -> None:
        try:
            self.model = copy_module(model, what="teacher")
            self.model.requires_grad_(False)
        except DataError as error:
            warn_user(f"{error}; the teacher is used as it is: leave its weights alone until training ends")
            self.model = model
        self.splicing = splicing
        self.classes = None if classes is None else tuple(classes)

    def to(self, device: torch.device | str) -> "ModelTeacher":
        """Move the teacher to a device."""
        self.model.to(device)
        return self

    def modules(self) -> list[tuple[nn.Module, Any]]:
        """The model, with the splicing that it sees."""
        return [(self.model, self.splicing)]

    def bind(self, examples: "Examples", augmentation: "Augmentation | None" = None) -> "ModelTeacher":
        """Itself: it answers whatever it is shown."""
        return self

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        first = next(chain(self.model.parameters(), self.model.buffers()), None)
        return torch.device("cpu") if first is None else first.device

    @torch.no_grad()
    def log_probs(self, batch: Batch, temperature: float) -> Tensor:
        """Log-probabilities softened at a temperature, float32 ``(N, K)``.

        Args:
            batch: The examples.
            temperature: :math:`T > 0`.

        Returns:
            Natural logarithms, without gradient.
        """
        return softened(self.logits(batch), temperature)

    @torch.no_grad()
    def logits(self, batch: Batch) -> Tensor:
        """What the model answers before a softmax, float32 ``(N, K)``, without gradient."""
        inputs = batch.inputs
        if self.splicing is not None and batch.spliced is not None:
            inputs = batch.spliced(self.splicing)
        with evaluating(self.model):
            return call_model(self.model, inputs)


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

    @property
    def every_temperature(self) -> bool:
        """Whether answers at T = 1 serve every temperature: not for an arithmetic mean of several."""
        alone = len(self.members) == 1
        return (alone or self.mean == "geometric") and all(member.every_temperature for member in self.members)

    @property
    def has_logits(self) -> bool:
        """Whether answers at T = 1 are logits but for a constant: as :attr:`every_temperature`, and each member's."""
        return self.every_temperature and all(member.has_logits for member in self.members)

    @property
    def live(self) -> bool:
        """Whether any member computes its answers."""
        return any(member.live for member in self.members)

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
        """Where the first member is; they are asked together, so all are to be there."""
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


class StoredTargets:
    """Old answers of a teacher, looked up by example and view.

    Log-probabilities at T = 1 serve every temperature for a single model and for a geometric mean, because they
    differ from the scores by a constant. An arithmetic mean depends on its temperature: name it then.

    Args:
        log_probs: Answering ``(V, N, K)`` for V views, or ``(N, K)`` for one; natural logarithms.
        index: The examples' numbers, int64 ``(N,)``, in the order of the answers.
        classes: Names of the classes in order, where known.
        temperature: The only temperature that the answers hold for, or None where they are for T = 1 and serve all.
        source: Digest of the data that ``index`` counts, :attr:`limbeck.Examples.source`; None where it is not known:
            then the examples that the answers are first used for count as theirs.

    Raises:
        DataError: If the shapes do not fit, an answer is NaN or gives no class mass (the message names the example), or
            rows are not log-probabilities.

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
        source: str | None = None,
    ) -> None:
        values = (log_probs.unsqueeze(0) if log_probs.ndim == 2 else log_probs).float()
        if values.ndim != 3 or index.shape != values.shape[1:2]:
            raise DataError(
                f"soft targets of shape {tuple(log_probs.shape)} do not fit {tuple(index.shape)} example numbers: "
                "(examples, classes) or (views, examples, classes) are needed"
            )
        usable = (values < math.inf).all(-1) & (values > -math.inf).any(-1)  # false for NaN
        if not bool(usable.all()):
            view, row = (~usable).nonzero()[0].tolist()
            raise DataError(
                f"the soft targets of example {int(index[row])}{f' in view {view}' if view else ''} hold NaN, plus "
                "infinity or nothing but minus infinity: the teacher that gave them is broken there"
            )
        require_log_probs(log_probs)
        self.values, self.temperature, self.source = values, temperature, source
        self._fingerprint: Any = None
        self._softened: tuple[float, Tensor] | None = None
        self.classes = None if classes is None else tuple(classes)
        # Rows by example number; -1 where there is none.
        self.row_of = torch.full((int(index.max()) + 1,), -1, dtype=torch.int64, device=index.device)
        self.row_of[index] = torch.arange(len(index), device=index.device)

    def to(self, device: torch.device | str) -> "StoredTargets":
        """The same answers on a device."""
        moved = copy.copy(self)
        moved.values, moved.row_of, moved._softened = self.values.to(device), self.row_of.to(device), None
        return moved

    live = False

    @property
    def every_temperature(self) -> bool:
        """Whether the answers are for T = 1 and serve every temperature."""
        return self.temperature is None

    @property
    def has_logits(self) -> bool:
        """Whether the answers are logits but for a constant: all classes are kept, so where they are for T = 1."""
        return self.temperature is None

    @property
    def fingerprint(self) -> Any:
        """What tells these answers from others when a run resumes: that of the teacher, or a digest of all values."""
        if self._fingerprint is None:
            held = hashlib.sha256(self.values.cpu().contiguous().numpy().tobytes())
            held.update(self.row_of.cpu().numpy().tobytes())
            self._fingerprint = held.hexdigest()
        return self._fingerprint

    @fingerprint.setter
    def fingerprint(self, value: Any) -> None:
        self._fingerprint = value

    def modules(self) -> list[tuple[nn.Module, Any]]:
        """None: the answers are stored."""
        return []

    def bind(self, examples: "Examples", augmentation: "Augmentation | None" = None) -> "StoredTargets":
        """The answers for these examples alone.

        Args:
            examples: What will be asked about.
            augmentation: In which views.

        Returns:
            The same answers, which refuse batches of other data.

        Raises:
            MismatchError: If they belong to other examples, some are missing, or fewer views are stored.
        """
        if self.source not in {None, examples.source}:
            raise MismatchError(
                f"these soft targets belong to other data: source {self.source}, and these examples have "
                f"{examples.source}: ask the teacher about these"
            )
        self.require(examples.index)
        views = augmentation.views if augmentation is not None and augmentation.active else 1
        if views is not None and views > len(self.values):
            raise MismatchError(f"{views} views are asked for, and {len(self.values)} are stored: set views")
        bound = copy.copy(self)
        bound.source = examples.source
        return bound

    @property
    def device(self) -> torch.device:
        """Where the answers are."""
        return self.values.device

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
            MismatchError: If the batch is of other data, or an example, a view or the temperature is not among those
                stored.
        """
        refuse_other_data(batch, self.source)
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


def refuse_other_data(batch: Batch, source: str | None) -> None:
    """Raise MismatchError where a batch is known to be of other data than stored answers are for."""
    if source is not None and batch.source is not None and batch.source != source:
        raise MismatchError(
            f"stored answers of other data: they are of source {source[:16]}..., and a batch of source "
            f"{batch.source[:16]}... is asked about, in which a number names another example"
        )


class UserTeacher:
    """A teacher of the user's own: anything with ``classes`` and ``log_probs``.

    It may name ``every_temperature``, ``has_logits`` and ``teacher_digest``, and have ``to(device)``. Whether it looks
    its answers up by the examples' numbers is found out before it is asked about other data than it was bound to, by
    showing it the same numbers with other inputs; then it is asked about no others.

    Args:
        teacher: The object.

    Example:
        >>> from limbeck import Examples
        >>> class Table:
        ...     classes = None
        ...     def log_probs(self, batch, temperature):
        ...         return torch.eye(4)[batch.index].log_softmax(-1)
        >>> train, other = Examples.of(torch.randn(4, 2)), Examples.of(torch.randn(4, 2))
        >>> UserTeacher(Table()).bind(train).bind(other)
        Traceback (most recent call last):
        limbeck.errors.MismatchError: Table looks its answers up by the examples' numbers, and was bound to other...
    """

    live = True

    def __init__(self, teacher: Answering) -> None:
        self.teacher = teacher
        named = getattr(teacher, "classes", None)
        self.classes = None if named is None else tuple(named)
        self.every_temperature = bool(getattr(teacher, "every_temperature", False))
        self.has_logits = bool(getattr(teacher, "has_logits", self.every_temperature))
        self.temperature: float | None = getattr(teacher, "temperature", None)
        self.teacher_digest: str | None = getattr(teacher, "teacher_digest", None)
        self._device = torch.device(getattr(teacher, "device", "cpu"))
        self._sample: Batch | None = None

    @property
    def device(self) -> torch.device:
        """Where it is asked."""
        return self._device

    def to(self, device: torch.device | str) -> "UserTeacher":
        """Tell it the device, where it wants to know."""
        self._device = torch.device(device)
        if callable(moved := getattr(self.teacher, "to", None)):
            moved(device)
        return self

    def modules(self) -> list[tuple[nn.Module, Any]]:
        """None that are known."""
        return []

    def bind(self, examples: "Examples", augmentation: "Augmentation | None" = None) -> "UserTeacher":
        """The teacher for these examples.

        Args:
            examples: What it will be asked about.
            augmentation: Not looked at: which views it knows is its own concern.

        Returns:
            The teacher, which remembers what it was bound to first.

        Raises:
            MismatchError: If it looks answers up, and was bound to other data.
        """  # noqa: DOC502
        self._refuse(examples.source)
        if self._sample is not None:
            return self
        bound = copy.copy(self)
        rows = torch.linspace(0, len(examples) - 1, min(_TRIED, len(examples))).long()
        bound._sample = examples.batch(rows.to(examples.index.device))
        return bound

    def log_probs(self, batch: Batch, temperature: float) -> Tensor:
        """What the object answers, float32 ``(N, K)``; MismatchError for data that it has no answers for."""
        self._refuse(batch.source)
        before = versions([batch.inputs])
        answers = self._at_home(batch, temperature)
        refuse_changed(type(self.teacher).__name__, [batch.inputs], before)
        return answers

    def _at_home(self, batch: Batch, temperature: float) -> Tensor:
        """Ask the object, where it stays if it cannot be moved and says where it is."""
        home = None if callable(getattr(self.teacher, "to", None)) else getattr(self.teacher, "device", None)
        if home is None:
            return self.teacher.log_probs(batch, temperature)
        return self.teacher.log_probs(batch.to(home), temperature).to(batch.index.device)

    @property
    def fingerprint(self) -> str | list[list[float]] | None:
        """Its own digest, or else some of its answers: what tells it from another when a run resumes."""
        if self.teacher_digest is not None or self._sample is None:
            return self.teacher_digest
        answers = self._ask(self._sample.to(self._device)).exp()
        return [[round(float(probability), 3) for probability in row[:_TRIED]] for row in answers]

    def _refuse(self, source: str | None) -> None:
        bound = None if self._sample is None else self._sample.source
        if None not in {bound, source} and source != bound and self._looks_up:
            raise MismatchError(
                f"{type(self.teacher).__name__} looks its answers up by the examples' numbers, and was bound to other "
                f"data: source {str(bound)[:16]}..., and these have {str(source)[:16]}..."
            )

    @cached_property
    def _looks_up(self) -> bool:
        """Whether the same numbers get the same answers whatever the inputs are."""
        assert self._sample is not None, "only a bound teacher is tried"
        batch = self._sample.to(self._device)
        others = dataclasses.replace(batch, inputs=batch.inputs.roll(1, 0), spliced=None)
        alike = torch.equal(batch.inputs, others.inputs)
        return not alike and torch.equal(self._ask(batch), self._ask(others))

    def _ask(self, batch: Batch) -> Tensor:
        try:
            return self._at_home(batch, self.temperature or 1.0)
        except LimbeckError:
            raise
        except Exception as error:  # whatever the user's code raises
            name = type(self.teacher).__name__
            raise MismatchError(f"the teacher {name} failed: {type(error).__name__}: {error}") from error


def as_teacher(teacher: nn.Module | Answering, classes: Sequence[str] | None = None) -> Teacher:
    """A teacher as it is, or one made of a module or of an object that answers.

    Args:
        teacher: A module, a teacher, anything with ``classes`` and ``log_probs``, an estimator with ``predict_proba``,
            or a function from inputs to logits.
        classes: Names of the data's classes in order, where known; the columns of an estimator are put in their order.

    Returns:
        A teacher.

    Raises:
        DataError: If it is none of these.

    Example:
        >>> as_teacher(Ensemble([nn.Identity(), nn.Identity()], mean="arithmetic")).every_temperature
        False
    """  # noqa: DOC502
    teacher = adapted(teacher, classes)
    if isinstance(teacher, nn.Module):
        return ModelTeacher(teacher)
    return teacher if hasattr(teacher, "bind") else UserTeacher(teacher)  # type: ignore[return-value]
