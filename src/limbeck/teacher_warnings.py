"""Warnings about suspicious teachers and models, given before training starts.

Axes: ``N`` examples, ``K`` classes; ``T`` is the temperature.
"""

__all__ = ["tell_fitted_rows", "tell_odd_teacher", "tell_probabilities"]

from collections.abc import Sequence
from contextlib import suppress
from itertools import islice
from typing import Literal

import torch
from torch import Tensor, nn

from limbeck.data.data_set import DataSet
from limbeck.data.examples import Examples
from limbeck.data.feed import Feed
from limbeck.evaluation.swapped_classes import describe_swapped, swapped_classes
from limbeck.inputs import move
from limbeck.losses import softened
from limbeck.models.calling import call_model, evaluating, presentations_of, weights_dtype
from limbeck.models.last_operation import Ending, ends_in
from limbeck.models.output_kind import looks_like_probabilities, looks_like_sigmoids, looks_softened_twice
from limbeck.options import Augmentation
from limbeck.protocols import Batch, Teacher
from limbeck.system.callbacks import Callback
from limbeck.system.devices import Device
from limbeck.system.user_code import refuse_misfit

_LOOKED_AT, _EACH, _BATCHES = 1024, 16, 8
"""Batch size of the questions to a teacher; how many examples per class are wanted, and the most batches."""
_ANSWERS = 1 << 23
"""Most log-probabilities of one question."""
_16_BITS = {torch.float16, torch.bfloat16}
_SURER = 0.05
"""Largest accepted gap between an estimator's mean confidence on training and on validation examples."""
_ANSWERED = 64
"""Number of examples whose logits are checked."""
_SUM = 0.05
"""Largest difference of a sum of probabilities from one."""
_ALIKE, _APART = 1e-6, 1e-3
"""Largest difference between probabilities that count as equal, and smallest between those that count as different."""


def tell_odd_teacher(
    teacher: Teacher,
    examples: Examples,
    augmentation: Augmentation,
    temperature: float,
    device: Device,
    callback: Callback | None,
    *,
    classes: Sequence[str] | None = None,
) -> None:
    """Warn of a teacher that is worse than guessing, gives constant outputs, or has its classes in another order.

    Each member of an ensemble is checked too, and a user-defined teacher must respect the temperature. The check uses
    the first training examples.

    Args:
        teacher: The teacher, on the device.
        examples: The student's training examples.
        augmentation: The augmentation.
        temperature: Temperature of the soft targets.
        device: Where to compute.
        callback: Receives the warnings; None: they are a :class:`~limbeck.LimbeckWarning`.
        classes: Names of the classes, for the message; None for their numbers.
    """
    callback = callback or Callback()
    size = min(_LOOKED_AT, max(1, _ANSWERS // (1 if classes is None else len(classes))))
    seen = presentations_of(teacher)
    feed = Feed(examples, batch_size=size, augmentation=augmentation, seed=0, device=device.device, presentations=seen)
    parts = _members(teacher)
    names = [_named("teacher", number, len(parts)) for number in range(len(parts))]
    asked = parts if len(parts) == 1 else [*parts, teacher]
    answered = [_Answered() for _ in asked]
    labels: list[Tensor] = []
    with torch.no_grad(), device.autocast():
        wanted = -(-_EACH * (1 if classes is None else len(classes)) // size)
        for batch in islice(feed.batches(0), min(feed.steps, _BATCHES, wanted)):
            for one, kept in zip(asked, answered, strict=True):
                # If the output at high T is the softened output at T = 1, the latter separates examples better.
                kept.add(one.log_probs(batch, 1.0 if one.every_temperature else temperature).float())
            known = batch.main_labels
            labels += [] if known is None else [known]
    truth = torch.cat(labels) if labels else None
    told = False
    for name, answers in zip(names, answered, strict=False):
        said = _odd_answers(name, answers, truth, classes)
        if said is not None:
            callback.on_warning(said)
            told = True
    if not told and truth is not None:
        _tell_worse_than_guessing(answered[-1], truth, callback)
    first = next(feed.batches(0))
    for name, part in zip(names, parts, strict=True):
        if temperature != 1 and not getattr(part, "softens", True) and _ignores(part, first, temperature):
            callback.on_warning(
                f"the {name} gives the same answers at temperature {temperature:g} as at 1, so that its soft targets "
                "are not softened: divide its logits by the temperature that log_probs is called with"
            )


class _Answered:
    """What the check needs of a model's answers, batch by batch: of many classes they would not fit into memory.

    Attributes:
        classes: K.
        spread: Largest difference of a probability from that of the first example.
    """

    def __init__(self) -> None:
        self.classes, self.spread = 0, 0.0
        self._predicted: list[Tensor] = []
        self._first: Tensor | None = None

    def add(self, log_probs: Tensor) -> None:
        """Take the log-probabilities ``(N, K)`` of a batch."""
        self.classes = log_probs.shape[1]
        self._predicted.append(log_probs.argmax(-1))
        probabilities = log_probs.exp()
        self._first = probabilities[0].clone() if self._first is None else self._first
        found = float(probabilities.sub_(self._first).abs_().max())
        if found > self.spread or found != found:  # NaN stays
            self.spread = found

    @property
    def predicted(self) -> Tensor:
        """Top-1 classes, int64 ``(N,)``."""
        return torch.cat(self._predicted)


def _odd_answers(name: str, answers: _Answered, truth: Tensor | None, classes: Sequence[str] | None) -> str | None:
    """A warning about one model's log-probabilities, or None."""
    count = len(answers.predicted)
    if count < 2:
        return None
    if answers.spread < _ALIKE:
        return (
            f"the {name} gives the same output for all {count} examples checked, so that its targets teach nothing "
            f"about them: are its inputs scaled as it was trained?"
        )
    if truth is None or int(truth.max()) >= answers.classes:
        return None  # another number of classes than the data's is refused where the two are compared
    labels, predicted = (values.cpu().long().numpy() for values in (truth, answers.predicted))
    cycles = swapped_classes(labels, predicted, answers.classes)
    if not cycles:
        return None
    right = float((labels == predicted).mean())
    return (
        f"the {name} answers {describe_swapped(cycles, classes)}: it is right on {right:.1%} of {count} training "
        "examples, and would be on more were these classes in the data's order: put its outputs in that order"
    )


def _tell_worse_than_guessing(answers: _Answered, truth: Tensor, callback: Callback) -> None:
    predicted = answers.predicted
    count = len(predicted)
    right = float((predicted == truth).float().mean())
    guessing = float(torch.bincount(truth).max()) / count
    # Three standard errors: a teacher that guesses is warned about, one that is slightly better is not.
    noise = 3 * (guessing * (1 - guessing) / count) ** 0.5
    if count > 1 and (right < guessing - noise or (right <= 1 / answers.classes and right < guessing)):
        callback.on_warning(
            f"the teacher has {right:.1%} accuracy on {count} training examples, and always guessing the most frequent "
            f"class has {guessing:.1%}: are its classes in the data's order, and its inputs scaled as it was trained?"
        )


@torch.no_grad()
def _ignores(teacher: Teacher, batch: Batch, temperature: float) -> bool:
    """Whether a user-defined teacher ignores the temperature although its outputs could be softened."""
    with suppress(Exception):  # it may refuse temperatures other than its own; then it does not ignore them
        plain, hot = (teacher.log_probs(batch, t).float() for t in (1.0, temperature))
        changed = (softened(plain, temperature).exp() - plain.exp()).abs().max()
        return bool((hot.exp() - plain.exp()).abs().max() < _ALIKE) and bool(changed > _APART)
    return False


def tell_fitted_rows(
    teacher: Teacher,
    data: DataSet,
    device: Device,
    callback: Callback | None,
    *,
    beside: Literal["validation", "test"] = "validation",
) -> bool:
    """Warn of an estimator that is far more confident on training than on held-out examples: it was fitted on them.

    Args:
        teacher: The teacher, on the device; it is asked about up to 1,024 examples of each part.
        data: The data set.
        device: Where to compute.
        callback: Receives the warnings.
        beside: The held-out examples. An estimator may have been fitted on those of validation as well, where they
            were set aside from its own rows.

    Returns:
        Whether there was a warning.
    """
    held = data.parts().get(beside)
    if not getattr(getattr(teacher, "teacher", None), "fitted", False) or held is None:
        return False
    means, spreads = [], []
    for part in (data.train, held):
        rows = torch.linspace(0, len(part) - 1, min(_LOOKED_AT, len(part))).round().long()
        batch = part.batch(rows.to(part.index.device)).to(device.device)
        sure = teacher.bind(part).log_probs(batch, 1.0).exp().amax(1)
        means.append(float(sure.mean()))
        spreads.append(float(sure.var()) / len(sure) if len(sure) > 1 else 0.0)
    gap = means[0] - means[1]
    if gap > _SURER and gap > 3 * sum(spreads) ** 0.5:
        (callback or Callback()).on_warning(
            f"the teacher is more confident on training examples ({means[0]:.2f} on average) than on {beside} "
            f"examples ({means[1]:.2f}): it was fitted on these rows, so that their soft targets are nearer to the "
            f"labels than its predictions for new examples; compare with out-of-fold predictions, those of "
            f"scikit-learn's cross_val_predict(..., method='predict_proba'), as "
            f"limbeck.SoftTargets.from_array(probs=...)"
        )
        return True
    return False


def tell_probabilities(
    role: str, subject: nn.Module | Teacher, examples: Examples, device: Device | None, callback: Callback | None
) -> None:
    """Warn of a model that ends in a softmax or a sigmoid, where logits are needed.

    The last operation is read off the model's PyTorch calls; where these cannot be traced the values decide, as for
    stored outputs. Log-probabilities need no warning, for they are logits of the same distribution.

    Args:
        role: What to call it, such as "teacher".
        subject: A module, or a teacher on the device.
        examples: Some of these are passed to it.
        device: Where a teacher is; None for the CPU.
        callback: Receives the warnings.

    Raises:
        MismatchError: If it cannot take the examples.
    """  # noqa: DOC502
    rows = torch.linspace(0, len(examples) - 1, min(_ANSWERED, len(examples))).long()
    batch = examples.batch(rows.to(examples.index.device))
    batch = batch if device is None else batch.to(device.device)
    told = callback or Callback()
    models = _models(subject)
    for number, model in enumerate(models):
        name = _named(role, number, len(models))
        with refuse_misfit(name, examples.shape):
            said = _odd_logits(model, batch, trained=role == "teacher")
        if said is not None:
            told.on_warning(f"the answers of the {name} {said}")


@torch.no_grad()
def _odd_logits(part: nn.Module | Teacher, batch: Batch, *, trained: bool) -> str | None:
    """A description of a model's outputs where they are not logits, and the cure."""
    found = _logits(part, batch)
    if found is None:
        assert not isinstance(part, nn.Module), "a module gives logits"
        temperature = float(getattr(part, "temperature", None) or 1.0)
        return _TWICE if looks_softened_twice(part.log_probs(batch, temperature), temperature) else None
    logits, ending, coarse = found
    summing = bool(((logits.sum(-1) - 1).abs() < _SUM).all())
    if (ending == "softmax" and summing) or (ending is None and looks_like_probabilities(logits, coarse=coarse)):
        return (
            "look like probabilities (at least 0, summing to one), and logits are needed: leave out the softmax at its "
            "end, or end it in log_softmax"
        )
    if ending == "softmax":
        return (
            "come out of a softmax, and do not sum to one over the classes, and logits are needed: leave out the "
            "softmax at its end, which is along another axis"
        )
    if ending == "sigmoid" or (trained and looks_like_sigmoids(logits)):
        return "all lie between 0 and 1, as after a sigmoid, and logits are needed: leave out the sigmoid at its end"
    return None


_TWICE = (
    "look as if a softmax was applied to probabilities (no odds above e, and many at it), and logits are needed: leave "
    "out the softmax at the end of the model that gave them, and write them again"
)


def _logits(part: nn.Module | Teacher, batch: Batch) -> tuple[Tensor, Ending | None, bool] | None:
    """A model's output before any softmax, its last operation, and whether it computes in 16 bits; None if unknown."""
    if isinstance(part, nn.Module):
        module = part
        first = next(module.parameters(), None)
        inputs = batch.inputs if first is None else move(batch.inputs, first.device)
        with evaluating(module):
            return *ends_in(lambda: call_model(module, inputs)), weights_dtype(module) in _16_BITS
    answer = getattr(part, "before_softmax", None)
    if answer is None:
        return None
    return *ends_in(lambda: answer(batch)), any(weights_dtype(each) in _16_BITS for each, _ in part.modules())


def _members(teacher: Teacher) -> list[Teacher]:
    """The teachers in an ensemble, at any depth; any other teacher alone."""
    members = getattr(teacher, "members", None)
    return [teacher] if members is None else [part for member in members for part in _members(member)]


def _models(subject: nn.Module | Teacher) -> list[nn.Module | Teacher]:
    """The models in an ensemble or committee, at any depth; any other model alone."""
    if isinstance(subject, nn.Module):
        return [subject]
    found: list[nn.Module | Teacher] = []
    for member in _members(subject):
        found += getattr(member, "networks", [member])
    return found


def _named(role: str, number: int, count: int) -> str:
    return role if count == 1 else f"{role} (its part {number + 1})"
