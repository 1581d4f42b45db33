r"""Multi-label examples: each pair of example and label is a two-class example.

A model has one logit :math:`z` per label; with :math:`(0, z)` its softmax is the sigmoid of z, also at a temperature:

.. math::
    \mathrm{softmax}\bigl((0, z) / T\bigr)_1 = \sigma(z / T)

so that losses, their self-check, stored answers and verdicts are those of two classes. An example is answered once for
all of its labels, and its labels stay together in splits and in the clusters of verdicts.

Axes: ``M`` examples, ``L`` labels, ``N`` pairs of both.
"""

__all__ = ["ManyLabels", "MultiLabel", "seen_within"]

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from limbeck.data.columns import seen_values
from limbeck.data.row_hashes import bytes_of, hash_rows
from limbeck.data.source import Source, numbered
from limbeck.errors import DataError
from limbeck.inputs import BARE, Inputs, labels_key
from limbeck.keyed import permutation

if TYPE_CHECKING:
    from limbeck.options import Augmentation


@dataclass(frozen=True)
class ManyLabels:
    """The presentation of a model that has one logit per label.

    Attributes:
        names: Of the labels, in order.
        inner: How it sees the examples, or None.
    """

    names: tuple[str, ...]
    inner: Any = None


def seen_within(presentation: Any) -> Any:
    """How a model sees the examples themselves, whether it has a logit per class or per label.

    Args:
        presentation: Any, or None.

    Returns:
        What :class:`ManyLabels` has inside; else the presentation.

    Example:
        >>> seen_within(ManyLabels(("red", "round"), "pixels")), seen_within(None)
        ('pixels', None)
    """
    return presentation.inner if isinstance(presentation, ManyLabels) else presentation


class MultiLabel(Source):
    """Pairs of example and label, over inputs in memory or of another source.

    Args:
        base: The M inputs.
        truth: Whether each label holds, 0 or 1, ``(M, L)``; or, where it is not known, L.
        names: Of the labels; None for their numbers.

    Raises:
        DataError: If there are not M rows of at least one label, or a value is not 0 or 1.

    Example:
        >>> pairs = MultiLabel(torch.eye(2), torch.tensor([[1, 0, 1], [0, 0, 1]]))
        >>> len(pairs), pairs.labels.tolist(), pairs.groups().tolist()
        (6, [1, 0, 1, 0, 0, 1], [0, 0, 0, 1, 1, 1])
    """

    unmixable = "pairs of example and label"

    def __init__(self, base: Tensor | Source, truth: Tensor | int, names: Sequence[str] | None = None) -> None:
        self.base, count = base, len(base)
        self.outputs = truth if isinstance(truth, int) else _checked(truth, count).shape[1]
        self.label_names = tuple(map(str, range(self.outputs) if names is None else names))
        if len(self.label_names) != self.outputs:
            raise DataError(
                f"there are {self.outputs} labels of each example, and {len(self.label_names)} names of labels"
            )
        self.labels = None if isinstance(truth, int) else truth.reshape(-1).to(torch.int64)
        pairs = np.arange(count * self.outputs)
        self.row, self.which = (pairs // self.outputs).astype(np.int32), (pairs % self.outputs).astype(np.int32)
        self.kind = base.kind if isinstance(base, Source) else _kind(base)
        self.decoded = isinstance(base, Source) and base.decoded
        self.alike = base.alike if isinstance(base, Source) else "to the bit"
        self.random = isinstance(base, Source) and base.random
        self.augments = isinstance(base, Source) and base.augments

    def __len__(self) -> int:
        return len(self.row)

    @property
    def shape(self) -> tuple[int, ...]:
        """Pairs, and the shape of an example."""
        return (len(self), *self.base.shape[1:])

    @property
    def presentation(self) -> ManyLabels:
        """The labels, and how examples are seen."""
        return ManyLabels(self.label_names, getattr(self.base, "presentation", None))

    def remembered(self, own: Any) -> ManyLabels:
        """What a model keeps that was trained on these: the labels, and its own presentation where it has one."""
        inner = seen_within(own)
        return ManyLabels(self.label_names, inner if inner is not None else self.presentation.inner)

    def named(self, names: Sequence[str]) -> "MultiLabel":
        """The same pairs, with names for the labels."""
        if len(names) != self.outputs:
            raise DataError(f"there are {self.outputs} labels of each example, and classes names {len(names)}")
        found = copy.copy(self)
        found.label_names = tuple(map(str, names))
        return found

    def fetch(
        self,
        rows: Tensor,
        keys: Tensor,
        *,
        view: int = 0,
        augmentation: "Augmentation | None" = None,
        presentations: Sequence[Any] = (None,),
    ) -> list[Inputs]:
        """The examples that some pairs are of, each once, and which of their labels are asked for."""
        wanted = rows.cpu().numpy()
        chosen, first, place = np.unique(self.row[wanted], return_index=True, return_inverse=True)
        places = torch.from_numpy(place * self.outputs + self.which[wanted])
        there = torch.from_numpy(chosen.astype(np.int64))
        if isinstance(self.base, Tensor):
            seen = {BARE: seen_values(self.base.index_select(0, there)), labels_key(self.outputs): places}
            return [seen for _ in presentations]
        inner = [seen_within(each) for each in presentations]
        # The numbers of an example's pairs follow each other, and the first one's stands for the example.
        numbers = keys.cpu()[torch.from_numpy(first)] - torch.from_numpy(self.which[wanted][first])
        made = self.base.fetch(there, numbers, view=view, augmentation=augmentation, presentations=inner)
        named: list[Mapping[str, Tensor]] = [{BARE: each} if isinstance(each, Tensor) else each for each in made]
        return [{**each, labels_key(self.outputs): places} for each in named]

    def select(self, rows: Tensor) -> "MultiLabel":
        """Some of the pairs; the examples are shared."""
        found, places = copy.copy(self), rows.cpu().numpy()
        found.row, found.which = self.row[places], self.which[places]
        return found

    def with_presentation(self, presentation: Any) -> "MultiLabel":
        """The same pairs of examples that are seen otherwise."""
        inner = seen_within(presentation)
        if inner is None or isinstance(self.base, Tensor):
            return self
        found = copy.copy(self)
        found.base = self.base.with_presentation(inner)
        return found

    def like(self, train: Source) -> "MultiLabel":
        """The same pairs as the training examples are presented."""
        if not isinstance(train, MultiLabel) or train is self:
            return self
        found = self.named(train.label_names) if train.outputs == self.outputs else self
        if isinstance(self.base, Source) and isinstance(train.base, Source):
            found = copy.copy(found)
            found.base = self.base.like(train.base)
        return found

    def groups(self) -> Tensor:
        """What each pair's example belongs to, or the example, numbered by first appearance, int64 ``(N,)``."""
        together = self.base.groups() if isinstance(self.base, Source) else None
        return numbered(self.row if together is None else together.numpy()[self.row])

    def together(self, purpose: Literal["validation", "subset"]) -> Tensor:
        """The groups, or examples, whatever is set aside."""
        return self.groups()

    def largest(self, count: int) -> Tensor | None:
        """Rows of all pairs of the largest examples, int64; None where all take the same."""
        found = self.base.largest(count) if isinstance(self.base, Source) else None
        return None if found is None else torch.from_numpy(np.flatnonzero(np.isin(self.row, found.numpy())))

    @property
    def together_at_once(self) -> float:
        """Pairs of an example in the mean."""
        return len(self) / len(np.unique(self.row))

    def group_names(self) -> list[Any] | None:
        """What each pair's example belongs to."""
        names = self.base.group_names() if isinstance(self.base, Source) else None
        return None if names is None else [names[row] for row in self.row.tolist()]

    def marks(self) -> NDArray[np.int64] | None:
        """Hashes of the examples, each with the label of the pair."""
        if isinstance(self.base, Tensor):
            found: NDArray[np.int64] | None = hash_rows(bytes_of(self.base)).view(np.int64)
        else:
            found = self.base.marks()
        return None if found is None else found[self.row] ^ self.which.astype(np.int64)

    def exact(self, row: int) -> bytes:
        """The example, and which label is meant."""
        place = int(self.row[row])
        if isinstance(self.base, Tensor):
            content = bytes_of(self.base[place : place + 1]).tobytes()
        else:
            content = self.base.exact(place)
        return content + int(self.which[row]).to_bytes(4, "little")

    @property
    def text_lengths(self) -> Callable[[], NDArray[np.int64]] | None:
        """Lengths of the texts that the pairs are of, where they are such."""
        known = getattr(self.base, "text_lengths", None)
        return None if known is None else lambda: known()[self.row]

    def orders(self, *, seed: int, epoch: int, batch_size: int, start: int = 0) -> Iterator[Tensor]:
        """The order of an epoch: examples are shuffled, and the labels of each follow each other."""
        groups = numbered(self.row)
        shuffled = permutation(int(groups.max()) + 1, seed=seed, epoch=epoch)
        rank = torch.empty_like(shuffled)
        rank[shuffled] = torch.arange(len(shuffled))
        yield torch.argsort(rank[groups], stable=True)[start:]

    def content(self) -> Iterator[bytes | memoryview]:
        """All examples, and which pairs are meant; whether labels hold does not count."""
        if isinstance(self.base, Source):
            yield from self.base.content()
        else:
            array = self.base.detach().cpu().contiguous().numpy()
            yield f"{array.dtype.str}{array.shape}".encode()
            yield array.reshape(-1).view(np.uint8).data
        yield self.row.tobytes()
        yield self.which.tobytes()

    def scores(self, predicted: NDArray[np.int64], labels: NDArray[np.int64]) -> dict[str, Any]:
        """What is told of labels beside errors over all pairs.

        Args:
            predicted: Whether each label was said to hold, ``(N,)``.
            labels: Whether it does.

        Returns:
            ``exact_match``, the share of examples with all labels right; ``macro_f1``, the mean over labels of F1,
            which is 0 for a label that neither holds nor is said to; and ``label_errors`` by name.
        """
        wrong = predicted != labels
        groups = numbered(self.row).numpy()
        spoilt = np.bincount(groups, wrong) > 0
        f1, errors = [], {}
        for number, name in enumerate(self.label_names):
            mine = self.which == number
            both = int((predicted[mine] & labels[mine]).sum())
            either = int(predicted[mine].sum() + labels[mine].sum())
            f1.append(2 * both / either if either else 0.0)
            errors[name] = int(wrong[mine].sum())
        return {"exact_match": float(1 - spoilt.mean()), "macro_f1": float(np.mean(f1)), "label_errors": errors}


def _kind(base: Tensor) -> str:
    whole = not base.is_floating_point() and base.dtype != torch.uint8
    return "integers" if whole else "floating-point numbers"


def _checked(truth: Tensor, count: int) -> Tensor:
    if truth.ndim != 2 or len(truth) != count or not truth.shape[1]:
        raise DataError(f"labels of several kinds must be ({count}, labels), and have shape {tuple(truth.shape)}")
    odd = (truth != 0) & (truth != 1)
    if bool(odd.any()):
        row = int(odd.any(1).nonzero()[0])
        raise DataError(f"each label must be 0 or 1, and example {row} has {truth[row].tolist()[:8]}")
    return truth
