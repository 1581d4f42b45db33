"""A generalist with its specialists as one teacher.

Axes: ``N`` examples, ``K`` classes.
"""

__all__ = ["Committee"]

from collections.abc import Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from limbeck.arguments import checked_arguments
from limbeck.errors import DataError
from limbeck.losses import softened
from limbeck.models.calling import call_model
from limbeck.models.copying import copy_module
from limbeck.models.titles import title_of
from limbeck.protocols import Batch
from limbeck.specialists.combining import combine
from limbeck.specialists.training import correct_dustbin

if TYPE_CHECKING:
    from limbeck.data.examples import Examples
    from limbeck.options import Augmentation


class Committee:
    """A generalist and its specialists, combined per example, as a teacher.

    The combined distribution is that at T = 1; a temperature softens its logits.

    Args:
        generalist: Gives logits ``(N, K)``; like the specialists, it is copied.
        specialists: Each gives logits ``(N, S + 1)``, the dustbin last.
        groups: The special classes of each, in the order of its logits.
        oversampling: Of each, as :class:`~limbeck.specialists.SpecialistData` has it.
        top: How many of the generalist's top-1 classes decide which specialists are asked.
        classes: Names of the classes in order, where known.

    Raises:
        DataError: If the numbers of specialists, groups and oversamplings differ.

    Example:
        >>> committee = Committee(nn.Linear(2, 3), [nn.Linear(2, 2)], [(1,)], [2.0])
        >>> committee.log_probs(Batch(torch.arange(1), 0, torch.ones(1, 2), None), 1.0).exp().sum().round(decimals=4)
        tensor(1.)
    """

    every_temperature = has_logits = live = True

    @checked_arguments
    def __init__(
        self,
        generalist: nn.Module,
        specialists: Sequence[nn.Module],
        groups: Sequence[Sequence[int]],
        oversampling: Sequence[float],
        *,
        top: int = 1,
        classes: Sequence[str] | None = None,
    ) -> None:
        if not len(specialists) == len(groups) == len(oversampling):
            raise DataError(
                f"there are {len(specialists)} specialists, {len(groups)} groups and {len(oversampling)} oversamplings"
            )
        self.generalist, *self.specialists = (
            copy_module(model).requires_grad_(False).eval() for model in (generalist, *specialists)
        )
        self.groups, self.oversampling, self.top = [tuple(group) for group in groups], list(oversampling), top
        self.classes = None if classes is None else tuple(classes)

    def to(self, device: torch.device | str) -> "Committee":
        """Move every network to a device."""
        for model in (self.generalist, *self.specialists):
            model.to(device)
        return self

    def modules(self) -> list[tuple[nn.Module, Any]]:
        """The generalist and the specialists."""
        return [(model, None) for model in (self.generalist, *self.specialists)]

    def bind(self, examples: "Examples", augmentation: "Augmentation | None" = None) -> "Committee":
        """Itself: it answers whatever it is shown."""
        return self

    @property
    def title(self) -> str:
        """What it is called in reports."""
        return f"{title_of(self.generalist)} and {len(self.specialists)} specialists"

    @property
    def networks(self) -> list[nn.Module]:
        """The networks that are each looked at by themselves."""
        return [self.generalist, *self.specialists]

    def settings(self) -> dict[str, Any]:
        """What its answers depend on beside its networks, as plain values."""
        return {"groups": [list(group) for group in self.groups], "oversampling": self.oversampling, "top": self.top}

    @property
    def device(self) -> torch.device:
        """Where the networks are."""
        first = next(chain(self.generalist.parameters(), self.generalist.buffers()), None)
        return torch.device("cpu") if first is None else first.device

    @torch.no_grad()
    def log_probs(self, batch: Batch, temperature: float) -> Tensor:
        """Log-probabilities softened at a temperature, float32 ``(N, K)``.

        Args:
            batch: The examples.
            temperature: T > 0.

        Returns:
            Natural logarithms, without gradient.
        """
        general = torch.log_softmax(call_model(self.generalist, batch.inputs), -1)
        experts = [
            correct_dustbin(call_model(model, batch.inputs), share)
            for model, share in zip(self.specialists, self.oversampling, strict=True)
        ]
        return softened(combine(general, experts, self.groups, top=self.top), temperature)
