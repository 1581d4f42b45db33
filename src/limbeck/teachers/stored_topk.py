r"""Stored top-k probabilities, looked up by example.

Axes: ``N`` examples, ``K`` classes, ``k`` of them kept per example; ``T`` is the temperature.
"""

__all__ = ["StoredTopK"]

import copy
import hashlib
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from limbeck.errors import DataError, MismatchError
from limbeck.losses import softened
from limbeck.protocols import Batch
from limbeck.teachers.stored import StoredTargets, refuse_other_data


class StoredTopK(StoredTargets):
    r"""Stored top-k probabilities, looked up; the rest of the mass is spread evenly over the other classes.

    At a temperature, with :math:`m` the mass of the tail,

    .. math::
        p_j(T) \propto \begin{cases} p_j^{1/T} & j \text{ among the } k \text{ kept} \\
        \bigl(m / (K - k)\bigr)^{1/T} & \text{otherwise} \end{cases}

    Args:
        log_probs: Natural logarithms of the probabilities kept, at T = 1, ``(N, k)``.
        ids: Their classes, int ``(N, k)``, all different in a row.
        index: The examples' numbers, int64 ``(N,)``.
        count: K.
        classes: Names of the classes in order, where known.
        source: As of :class:`StoredTargets`.

    Raises:
        DataError: If shapes do not fit, or a class is out of range or comes twice in a row.

    Example:
        >>> top = StoredTopK(torch.tensor([[0.8]]).log(), torch.tensor([[2]]), torch.tensor([5]), 3)
        >>> top.log_probs(Batch(torch.tensor([5]), 0, torch.zeros(1, 1), None), 1.0).exp()
        tensor([[0.1000, 0.1000, 0.8000]])
    """

    def __init__(
        self,
        log_probs: Tensor,
        ids: Tensor,
        index: Tensor,
        count: int,
        *,
        classes: Sequence[str] | None = None,
        source: str | None = None,
    ) -> None:
        if log_probs.ndim != 2 or ids.shape != log_probs.shape or index.shape != log_probs.shape[:1]:
            raise DataError(
                f"values of shape {tuple(log_probs.shape)}, class ids of shape {tuple(ids.shape)} and index of shape "
                f"{tuple(index.shape)} do not fit: (examples, k), (examples, k) and (examples,) are needed"
            )
        _refuse_ids(ids, count)
        mass = log_probs.double().exp().sum(1)
        rest = (1 - mass).clamp_min(0) / max(1, count - ids.shape[1])
        self.ids, self.count, self.tail = ids.to(torch.int32), count, rest.log().float()
        self.values, self.temperature, self.source = log_probs.float().unsqueeze(0), None, source
        self._fingerprint: Any = None
        self._softened = None
        self.classes = None if classes is None else tuple(classes)
        self._number(index)

    @property
    def has_logits(self) -> bool:
        """False: the logits of the tail are known in sum."""
        return False

    @property
    def fingerprint(self) -> Any:
        """A digest of values, classes and numbers."""
        if self._fingerprint is None:
            held = hashlib.sha256()
            for part in (self.values, self.ids, self.tail, self.row_of):
                held.update(part.cpu().contiguous().numpy().tobytes())
            self._fingerprint = held.hexdigest()
        return self._fingerprint

    @fingerprint.setter
    def fingerprint(self, value: Any) -> None:
        self._fingerprint = value

    def to(self, device: torch.device | str) -> "StoredTopK":
        """The same answers on a device."""
        moved = copy.copy(self)
        for name in ("values", "ids", "tail", "row_of"):
            setattr(moved, name, getattr(self, name).to(device))
        return moved

    @torch.no_grad()
    def log_probs(self, batch: Batch, temperature: float) -> Tensor:
        """The stored answers, softened at a temperature, float32 ``(N, K)``.

        Args:
            batch: The examples; only their numbers are used.
            temperature: :math:`T > 0`.

        Returns:
            Natural logarithms, without gradient.

        Raises:
            MismatchError: If the batch is of other data or another view, or an example is not among those stored.
        """
        refuse_other_data(batch, self.source)
        if batch.view:
            raise MismatchError(f"view {batch.view} is asked for, and 1 is stored: set views")
        try:
            rows = self.row_of.index_select(0, batch.index)
            full = self.tail.index_select(0, rows).unsqueeze(1).repeat(1, self.count)
            full.scatter_(1, self.ids.index_select(0, rows).long(), self.values[0].index_select(0, rows))
        except IndexError as error:
            self.require(batch.index)
            raise MismatchError(f"soft targets cannot be looked up: {error}") from error
        return softened(full, temperature)


def _refuse_ids(ids: Tensor, count: int) -> None:
    if ids.numel() and not 0 <= int(ids.min()) <= int(ids.max()) < count:
        row = int(((ids < 0) | (ids >= count)).any(1).nonzero()[0])
        raise DataError(f"row {row} of the top-k answers names the classes {ids[row].tolist()}, and there are {count}")
    ordered = ids.sort(1).values
    twice = (ordered[:, 1:] == ordered[:, :-1]).any(1)
    if bool(twice.any()):
        row = int(twice.nonzero()[0])
        raise DataError(f"row {row} of the top-k answers names a class twice: {ids[row].tolist()}")
