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
from limbeck.models import Specialist, count_outputs
from limbeck.models.calling import call_model
from limbeck.models.copying import copy_module
from limbeck.models.titles import title_of
from limbeck.models.wrapped import unwrapped
from limbeck.protocols import Batch
from limbeck.specialists.combining import combine
from limbeck.specialists.groups import checked, known_classes, require_others
from limbeck.specialists.training import checked_oversampling, correct_dustbin
from limbeck.system.callbacks import warn_user

if TYPE_CHECKING:
    from limbeck.data.examples import Examples
    from limbeck.options import Augmentation


class Committee:
    """A generalist and its specialists, combined per example, as a teacher.

    The combined distribution is that at T = 1; a temperature softens its logits.

    Args:
        generalist: Gives logits ``(N, K)``; like the specialists, it is copied.
        specialists: Each gives logits ``(N, S + 1)``, the dustbin last.
        groups: The special classes of each, in the order of its logits; of a
            :func:`~limbeck.specialists.specialist_network` in any order, since its own is known.
        oversampling: Of each, as :class:`~limbeck.specialists.SpecialistData` has it.
        top: How many of the generalist's top-1 classes decide which specialists are asked.
        classes: Names of the classes in order, where known.

    Raises:
        DataError: If the numbers of specialists, groups and oversamplings differ, a group does not fit its networks, or
            a number is out of range.

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
        count = _count(generalist, classes)
        if not 1 <= top <= (top if count is None else count):
            raise DataError(f"top must be from 1 to {count or 'the number of classes'}, and is {top}")
        self.groups = [_in_order(*pair, count) for pair in zip(specialists, groups, strict=True)]
        self.oversampling, self.top = [checked_oversampling(share) for share in oversampling], top
        self.generalist, *self.specialists = (
            copy_module(model).requires_grad_(False).eval() for model in (generalist, *specialists)
        )
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


def _count(generalist: nn.Module, classes: Sequence[str] | None) -> int | None:
    """The number of classes, where it is known without asking the generalist."""
    count = known_classes(generalist)
    if classes is not None and count not in {None, len(classes)}:
        raise DataError(f"classes has {len(classes)} names, and the generalist has {count} classes: give one per class")
    return count if classes is None else len(classes)


def _in_order(specialist: nn.Module, group: Sequence[int], count: int | None) -> tuple[int, ...]:
    """A specialist's classes in the order of its logits."""
    rising, network = checked(group, count), unwrapped(specialist)
    if count is not None:
        require_others(rising, count)
    if isinstance(network, Specialist):
        if network.chosen != rising:
            raise DataError(f"the specialist for the classes {list(network.chosen)} has the group {list(group)}")
        return rising
    outputs = count_outputs(network)
    if outputs not in {None, len(rising) + 1} and (outputs, len(rising)) != (1, 1):
        raise DataError(
            f"a specialist for {len(rising)} classes has {len(rising) + 1} logits, the dustbin's last, and this has "
            f"{outputs}"
        )
    if rising != tuple(group):
        warn_user(
            f"group {list(group)} is taken for the order of its specialist's logits: networks that were trained on "
            f"specialist_data have them in rising order, {list(rising)}"
        )
    return tuple(int(k) for k in group)
