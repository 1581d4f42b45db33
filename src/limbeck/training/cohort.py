r"""Deep mutual learning: several networks trained together, each with its own loss.

Axes: ``N`` examples, ``K`` classes; ``M`` networks; ``T`` is the temperature, ``w`` the hard weight.
"""

__all__ = ["Cohort", "MutualObjective", "Turns"]

import copy
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn

from limbeck.data.feed import Feed
from limbeck.errors import DataError, SelfCheckError
from limbeck.losses import soft_target_loss, softened, widened
from limbeck.losses.fused import label_loss
from limbeck.methods import Moment, labels_of
from limbeck.methods.formulas import one_hot, softmax
from limbeck.models.calling import logits_of
from limbeck.options.mutual import Order
from limbeck.protocols import Batch, Loss
from limbeck.training.self_check import exact

_EXAMPLES = 8
"""Examples on which the losses are checked."""
_OFF = 1e-6
"""Largest error of a gradient in float64, as a share of the largest."""
_FAR = 3000.0
"""Logits of confident networks, as multiples of T."""


class Cohort(nn.Module):
    """Networks that are called together: all in training, only the first in evaluation.

    Args:
        members: The networks.

    Attributes:
        turn: The network that learns now; None where all learn at once.
        said: The logits of each network from the last call in training.
    """

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.turn: int | None = None
        self.said: list[Tensor] = []

    def forward(self, *inputs: Any, **named: Any) -> Tensor:
        """Logits ``(N, K)`` of the network whose turn it is, or of the first."""
        if not self.training:
            return logits_of(self.members[0](*inputs, **named))
        self.said = []
        for number, member in enumerate(self.members):
            with torch.set_grad_enabled(torch.is_grad_enabled() and self.turn in {None, number}):
                self.said.append(logits_of(member(*inputs, **named)).float())
        return self.said[self.turn or 0]

    @torch.no_grad()
    def project_(self) -> None:
        """Apply each network's weight constraints after a step."""
        for member in self.members:
            getattr(member, "project_", lambda: None)()


class MutualObjective:
    r"""The losses of deep mutual learning.

    .. math::
        \ell_{mn} = w\,\mathrm{CE}(z_{mn}, y_n) + \frac{1 - w}{M - 1} \sum_{l \ne m} T^2\,\mathrm{KL}\bigl(
        \mathrm{softmax}(z_{ln} / T)\,\|\,\mathrm{softmax}(z_{mn} / T)\bigr)

    where the outputs of the others are constants, so that the gradient of the sum over m by the logits of one network
    is that of its own loss, :math:`w\,(\mathrm{softmax}(z_m) - [k = y]) + (1 - w)\,T\,(\mathrm{softmax}(z_m / T) -
    \frac{1}{M - 1} \sum_{l \ne m} \mathrm{softmax}(z_l / T))`.

    Args:
        order: "together", from the same outputs; or "in turn", each after the update of the one before it.
        temperature: T > 0; the paper's is 1.
        hard_weight: w in (0, 1); 0.5 as in the paper.
        label_smoothing: Share of a hard label's mass spread over all classes.

    References:
        Zhang, Xiang, Hospedales and Lu, `Deep Mutual Learning <https://arxiv.org/abs/1706.00384>`_, 2018.
    """

    def __init__(
        self, *, order: Order = "together", temperature: float = 1.0, hard_weight: float, label_smoothing: float = 0.0
    ) -> None:
        self.order, self.temperature = order, temperature
        self.hard_weight, self.label_smoothing = hard_weight, label_smoothing
        self._cohort: Cohort | None = None

    def begun(self, model: nn.Module, feed: Any) -> Self:
        """The objective of one training, with access to the outputs of all networks of a cohort."""
        one = copy.copy(self)
        assert isinstance(model, Cohort), "several networks are trained as a cohort"
        one._cohort = model
        return one

    def at(self, moment: Moment) -> None:
        """Advance to the next network, where they take turns."""
        assert self._cohort is not None, "it has begun"
        self._cohort.turn = moment.step % len(self._cohort.members) if self.order == "in turn" else None

    def __call__(self, logits: Tensor, batch: Batch) -> Loss:
        """The loss of the network whose turn it is, or the sum of all."""
        assert self._cohort is not None, "it has begun"
        said, turn = [widened(each) for each in self._cohort.said], self._cohort.turn
        if any(each.shape != logits.shape for each in said):
            raise DataError(
                f"the students answer with shapes {', '.join(str(tuple(each.shape)) for each in said)} for "
                f"{len(batch.index)} examples: mutual learning takes one row of logits per example from each"
            )
        said[turn or 0] = widened(logits)
        return Loss(self.of_all(said, batch, range(len(said)) if turn is None else [turn]))

    def of_all(self, said: Sequence[Tensor], batch: Batch, learners: Sequence[int]) -> Tensor:
        """The sum of the losses of some networks.

        Args:
            said: Logits of each network, ``(N, K)``.
            batch: The examples, with labels.
            learners: Which of the networks learn.

        Returns:
            One value per example, ``(N,)``.
        """
        targets = [softened(each.detach(), self.temperature) for each in said]
        total = said[0].new_zeros(len(batch.index))
        for number in learners:
            hard = label_loss(said[number], labels_of(batch), self.label_smoothing, batch.mixed)
            soft = [
                soft_target_loss(said[number], target, temperature=self.temperature)
                for other, target in enumerate(targets)
                if other != number
            ]
            total = total + self.hard_weight * hard + (1 - self.hard_weight) * torch.stack(soft).mean(0)
        return total

    def gradient_of(self, said: Sequence[Tensor], batch: Batch, number: int) -> Tensor:
        """The gradient of one network's loss by its logits, from the formula, float64 ``(N, K)``."""
        temperature, z = self.temperature, said[number]
        classes = z.shape[-1]
        truth = one_hot(labels_of(batch), classes).to(z)
        if batch.mixed is not None:
            share = batch.mixed.share.to(z).unsqueeze(-1)
            truth = share * truth + (1 - share) * one_hot(batch.mixed.labels, classes).to(z)
        truth = truth * (1 - self.label_smoothing) + self.label_smoothing / classes
        others = [softmax(each / temperature) for other, each in enumerate(said) if other != number]
        away = softmax(z / temperature) - torch.stack(others).sum(0) / len(others)
        return self.hard_weight * (softmax(z) - truth) + (1 - self.hard_weight) * temperature * away

    def reference_gradient(self, logits: Tensor, batch: Batch) -> None:
        """None: that of all networks is in :meth:`gradient_of`, which :meth:`prove` compares."""
        return

    def prove(self, batch: Batch, classes: int) -> None:
        """Check the losses in float64 on synthetic logits, for all networks at once and for each in turn.

        Args:
            batch: The first batch of a run, for its labels.
            classes: Number of classes K.

        Raises:
            SelfCheckError: If a gradient differs from its formula, reaches a network that does not learn, or is not
                finite.
        """
        assert self._cohort is not None, "it has begun"
        count, few = len(self._cohort.members), batch.head(_EXAMPLES).to("cpu")
        generator = torch.Generator().manual_seed(0)
        for size in (3.0 * max(self.temperature, 1.0), _FAR * max(self.temperature, 1.0)):
            drawn = exact(torch.randn(count, len(few.index), classes, generator=generator)) * size
            for learners in (range(count), *([number] for number in range(count))):
                leaves = [each.clone().requires_grad_(True) for each in drawn]
                value = self.of_all(leaves, few, learners)
                found = torch.autograd.grad(value.sum(), leaves, allow_unused=True)
                for number, slope in enumerate(found):
                    right = self.gradient_of(list(drawn), few, number) if number in learners else drawn.new_zeros(())
                    slope = torch.zeros_like(drawn[0]) if slope is None else slope
                    off = float((slope - right).abs().max())
                    if not bool(value.isfinite().all()) or not off <= _OFF * max(1.0, self.temperature):
                        raise SelfCheckError(
                            f"the gradient of mutual learning by the logits of student {number + 1} differs from its "
                            f"formula by {off:.3g}: the loss is wrong, and nothing was trained"
                        )

    def fingerprint(self) -> Mapping[str, Any]:
        """What a run that resumes must agree in."""
        names = ("order", "temperature", "hard_weight", "label_smoothing")
        return {"objective": "mutual", **{name: getattr(self, name) for name in names}}


class Turns:
    """A feed that repeats each batch once per network.

    All other attributes are those of the inner feed.

    Args:
        inner: The batches.
        turns: How often each batch is repeated.

    Example:
        >>> from limbeck.data import Examples
        >>> feed = Turns(Feed(Examples.of(torch.rand(4, 3), torch.arange(4) % 2), batch_size=2, seed=0), 2)
        >>> feed.steps, len(list(feed.batches(0, start=1)))
        (4, 3)
    """

    def __init__(self, inner: Feed, turns: int) -> None:
        self.inner, self.turns, self.steps = inner, turns, inner.steps * turns

    def __getattr__(self, name: str) -> Any:
        """An attribute of the inner feed."""
        if name == "inner" or name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.inner, name)

    def parts(self, epoch: int, step: int) -> tuple[list[slice], int]:
        """Which rows of a step's batch each of its parts has, see :meth:`limbeck.data.feed.Feed.parts`."""
        return self.inner.parts(epoch, step // self.turns)

    def batches(self, epoch: int, *, start: int = 0) -> Iterator[Batch]:
        """The batches of an epoch, from a step on.

        Args:
            epoch: Which epoch, from 0.
            start: The first step, from 0.

        Yields:
            Each batch, as often as there are turns left of it.
        """
        begun, step = start // self.turns, start
        for number, batch in enumerate(self.inner.batches(epoch, start=begun), begun + 1):
            while step < number * self.turns:
                yield batch
                step += 1
