r"""Class weights, for long-tailed training sets.

The whole loss of an example is weighted by its true class, the soft term as well as the term of labels. The soft term
is minimal where the student equals the teacher, whatever an example's weight, so weights do not change the target: they
say on which examples it matters most. Where the labels' term alone were weighted, soft targets, which have most of the
weight and the teacher's long tail, would be learnt from the common classes as before, and student and baseline would
differ in more than their targets.

Axes: ``N`` examples, ``K`` classes.
"""

__all__ = ["Weighted", "balanced_weights", "weighted"]

import copy
import math
from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from limbeck.errors import ConfigError, DataError, SelfCheckError
from limbeck.options import Training
from limbeck.protocols import Batch, Loss, Objective, Output
from limbeck.training.self_check import check_objective, exact

_ROUNDINGS = 64
"""Roundings of float32 by which a product may be off."""


def balanced_weights(counts: Sequence[int]) -> list[float]:
    r"""Balanced class weights: each class has the same total weight.

    .. math::
        w_k = \frac{N}{K\,n_k}

    with :math:`n_k` examples of class k among N, and K the classes that have any. The mean over the examples is 1, so
    that a learning rate suits as well as without weights. It is the rule of scikit-learn's ``"balanced"``.

    Args:
        counts: Training examples of each class, ``(K,)``.

    Returns:
        The weights; 1 for a class without examples.

    Raises:
        DataError: If there are no examples.

    References:
        King and Zeng, `Logistic regression in rare events data <https://doi.org/10.1093/oxfordjournals.pan.a004868>`_,
        Political Analysis 9, 2001.

    Example:
        >>> balanced_weights([6, 2, 0])
        [0.6666666666666666, 2.0, 1.0]
    """
    total, classes = sum(counts), sum(count > 0 for count in counts)
    if not total:
        raise DataError("class_weight needs labels to count, and there are none")
    return [total / (classes * count) if count else 1.0 for count in counts]


def weighted(objective: Objective, training: Training, counts: Sequence[int]) -> Objective:
    """Weight an objective by class, where the settings ask for it and there are labels.

    Args:
        objective: The loss of an example.
        training: The settings.
        counts: Labelled training examples of each class; all 0 where there are no labels.

    Returns:
        The objective, as it is or weighted.

    Raises:
        ConfigError: If the loss of an example depends on others in its batch, which may be of other classes.
    """
    if training.class_weight is None or not any(counts):
        return objective
    if getattr(objective, "coupled", False):
        raise ConfigError(
            "class_weight multiplies the loss of each example, and in this method an example's loss depends on the "
            "others in its batch: leave class_weight out, or take another method"
        )
    return Weighted(objective, counts)


class Weighted:
    """An objective with a weight per example, by its true class.

    All other attributes are those of the inner objective.

    Args:
        inner: The objective of an example.
        counts: Training examples of each class, ``(K,)``.

    Example:
        >>> from limbeck.training.objective import LabelObjective
        >>> batch = Batch(torch.arange(2), 0, torch.zeros(2, 1), torch.tensor([0, 1]))
        >>> Weighted(LabelObjective(), [3, 1])(torch.zeros(2, 2), batch).per_example
        tensor([0.4621, 1.3863])
    """

    def __init__(self, inner: Objective, counts: Sequence[int]) -> None:
        self.inner, self.counts = inner, list(counts)
        self.weights = torch.tensor(balanced_weights(counts))

    def __getattr__(self, name: str) -> Any:
        """An attribute of the inner objective."""
        if name == "inner" or name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.inner, name)

    def begun(self, model: nn.Module, feed: Any) -> "Weighted":
        """The objective of one training, see :meth:`limbeck.training.objective.DistillationObjective.begun`."""
        begin = getattr(self.inner, "begun", None)
        if begin is None:
            return self
        one = copy.copy(self)
        one.inner = begin(model, feed)
        return one

    def answered(self, answers: Output) -> "Weighted":
        """The same objective for given answers of the teacher."""
        one, inner = copy.copy(self), cast(Any, self.inner)
        one.inner = inner.answered(answers)
        return one

    def __call__(self, logits: Tensor, batch: Batch) -> Loss:
        """The loss of logits ``(N, K)``."""
        found, weights = self.inner(logits, batch), self._of(batch)
        return Loss(found.per_example * weights.to(found.per_example.dtype), found.parts)

    def reference_gradient(self, logits: Tensor, batch: Batch) -> Tensor | None:
        """The inner objective's gradient by its formula, times the weights, float64 ``(N, K)`` on the CPU."""
        inside = self.inner.reference_gradient(logits, batch)
        return None if inside is None else inside * exact(self._of(batch))[:, None]

    def fingerprint(self) -> Mapping[str, Any]:
        """The values that a resumed run must match."""
        return {**self.inner.fingerprint(), "class counts": self.counts}

    def prove(self, batch: Batch, classes: int) -> None:
        """Check the inner objective, and that this is its value and gradient times the weights.

        Args:
            batch: The first batch of a run.
            classes: Number of classes K.

        Raises:
            DataError: If the batch has no labels.
            SelfCheckError: If a check fails.
        """  # noqa: DOC502
        check_objective(self.inner, batch, classes)
        # Hints do not use logits, whose gradient is compared here.
        inner: Any = self.inner
        inner = inner.in_phase(1) if getattr(inner, "hints", False) else inner
        remembering = getattr(inner, "remembering", None)
        few = batch.head(32)
        kept = inner if remembering is None else remembering(few)
        mine = copy.copy(self)
        mine.inner = kept
        # Each class has the same sum of weights: N / K of those that have examples.
        rule = [count * float(weight) for count, weight in zip(self.counts, self.weights, strict=True) if count]
        even = sum(self.counts) / len(rule)
        if not all(math.isclose(each, even, rel_tol=1e-6) for each in rule):
            raise SelfCheckError("the classes' weights are not N / (K n_k): nothing was trained")
        by_rule = torch.tensor([even / max(1, count) for count in self.counts])
        expected = exact(_by_label(by_rule.to(few.index.device), few))
        logits = torch.randn(len(few.index), classes, generator=torch.Generator().manual_seed(2)).to(few.index.device)
        once, found = _value_and_gradient(kept, logits, few), _value_and_gradient(mine, logits, few)
        # What cancels in a gradient is as large as the temperature, in a value as its square.
        size = max(1.0, float(getattr(kept, "temperature", 1.0))) * float(expected.max())
        for power, (value, other) in enumerate(zip(reversed(once), reversed(found), strict=True), 1):
            wanted = value * expected.view(-1, *[1] * (value.ndim - 1))
            allowed = _ROUNDINGS * torch.finfo(torch.float32).eps * (float(wanted.abs().max()) + size**power)
            if not bool(((other - wanted).abs() <= allowed).all()):
                raise SelfCheckError(
                    f"the weighted objective differs from the classes' weights times the objective by "
                    f"{float((other - wanted).abs().max()):.3g}: nothing was trained"
                )

    def _of(self, batch: Batch) -> Tensor:
        self.weights = self.weights.to(batch.index.device)
        return _by_label(self.weights, batch)


def _by_label(weights: Tensor, batch: Batch) -> Tensor:
    """The weight of each example; for a mixture, the weighted mean of both."""
    if batch.labels is None:
        raise DataError("class_weight needs the labels of the examples, and these have none: leave it out")
    own = weights[batch.labels]
    if batch.mixed is None:
        return own
    return batch.mixed.share * own + (1 - batch.mixed.share) * weights[batch.mixed.labels]


def _value_and_gradient(objective: Objective, logits: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
    leaf = logits.detach().requires_grad_(True)
    value = objective(leaf, batch).per_example
    (gradient,) = torch.autograd.grad(value.sum(), leaf)
    return exact(value), exact(gradient)
