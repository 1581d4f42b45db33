"""Examples: inputs in memory or loaded lazily, labels, and indices.

Axes: ``N`` examples, ``K`` classes.
"""

__all__ = ["Examples"]

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from limbeck.data.columns import Columns, seen_values
from limbeck.data.mixing import refuse_mixing
from limbeck.data.multi_label import MultiLabel, seen_within
from limbeck.data.source import Source, Unseen
from limbeck.data.table_encoding import TableEncoding
from limbeck.data.values import Layout, as_inputs, as_labels, as_tensor, several_hold
from limbeck.errors import ConfigError, DataError, MismatchError
from limbeck.formats.column_names import listed_columns
from limbeck.inputs import Inputs, move
from limbeck.keyed import permutation
from limbeck.options import Augmentation, ImagePresentation, OwnAugmentation
from limbeck.protocols import Batch
from limbeck.system.files import digest_bytes

_WHOLE = {torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64}


def _told(value: object) -> str:
    if isinstance(value, Tensor):
        return f"{value.dtype} of shape {tuple(value.shape)}"
    return "None" if value is None else f"a {type(value).__name__}"


@dataclass(frozen=True, eq=False)
class Examples:
    """Inputs, labels and each example's index.

    Attributes:
        inputs: uint8 images ``(N, C, H, W)``, which models see as float32 in [0, 1]; float32, int32 or int64
            ``(N, ...)``, which they see as they are; or a :class:`~limbeck.data.source.Source`, which makes them in
            batches: tensors by name, files, a user's data set, frames of speech.
        labels: Classes in [0, K), int64 ``(N,)``, or None where they are unknown; a narrower integer type where
            there are very many.
        index: Indices that stay with the examples in splits, int64 ``(N,)``.
        origin: The :attr:`source` of the examples that these were taken from; None where they are whole.
        names: Name of each example, such as its file or its value in an id column, ``(N,)``; None where they have only
            indices.

    Example:
        >>> some = Examples.of(np.zeros((3, 28, 28), np.uint8), [0, 1, 1])
        >>> some.inputs.shape, some.take(torch.tensor([2])).index
        (torch.Size([3, 1, 28, 28]), tensor([2]))
        >>> some
        Examples(3, labelled: uint8 images of shape (1, 28, 28))
    """

    inputs: Tensor | Source
    labels: Tensor | None
    index: Tensor
    origin: str | None = None
    names: NDArray[Any] | None = None

    def __post_init__(self) -> None:
        for name, value in (("labels", self.labels), ("index", self.index)):
            if name == "labels" and value is None:
                continue
            if not isinstance(value, Tensor) or value.dtype not in _WHOLE or tuple(value.shape) != (len(self.inputs),):
                raise DataError(
                    f"{name} of Examples must be a tensor of {len(self.inputs)} whole numbers, one per example, and is "
                    f"{_told(value)}: Examples.of(inputs, labels) makes them of arrays, and numbers the examples"
                )

    def __repr__(self) -> str:
        known = "unlabelled" if self.labels is None else "labelled"
        return f"Examples({len(self):,}, {known}: {self.kind} of shape {self.shape})"

    @classmethod
    def of(
        cls,
        inputs: ArrayLike | Tensor | Mapping[str, Any] | Source,
        labels: ArrayLike | Tensor | None = None,
        *,
        layout: Layout | None = None,
    ) -> "Examples":
        """Check arrays or tensors, and index the examples from 0.

        Args:
            inputs: uint8 images ``(N, H, W)`` or ``(N, C, H, W)``, or numbers ``(N, ...)``; for the conversion of each
                dtype see :func:`~limbeck.data.values.as_inputs`; or a mapping of these by argument name; or a source
                that makes them.
            labels: Classes from 0, whole numbers ``(N,)`` or ``(N, 1)``, or one-hot rows ``(N, K)``; or None.
            layout: "NHWC" where images have their channels on the last axis, "NCHW" where they have them on the
                second; None where only the second is possible.

        Returns:
            The examples; the memory is shared where the types allow it.

        Raises:
            DataError: If there are none, or counts differ, or a value is not finite, a label is not a class number,
                or images may have their channels on the last axis and ``layout`` does not say.
            ConfigError: If ``layout`` is given for what are not images.

        Example:
            >>> Examples.of(np.zeros((2, 8, 8, 3), np.uint8), [[1.0], [0.0]], layout="NHWC").shape
            (3, 8, 8)
        """  # noqa: DOC502
        if isinstance(inputs, Source):
            values: Tensor | Source = inputs
        elif isinstance(inputs, Mapping):
            values = Columns({name: as_inputs(each, layout=layout) for name, each in inputs.items()})
        else:
            values = as_inputs(inputs, layout=layout)
        if labels is not None and several_hold(labels, len(values)):
            return cls.of_labels(values, labels)
        shape = () if isinstance(inputs, Source | Mapping) else np.shape(inputs)
        targets = None if labels is None else as_labels(labels, len(values), shape=shape)
        return cls(values, targets, torch.arange(len(values)))

    @classmethod
    def of_labels(
        cls,
        inputs: ArrayLike | Tensor | Mapping[str, Any] | Source,
        labels: ArrayLike | Tensor,
        *,
        names: Sequence[str] | None = None,
    ) -> "Examples":
        """Multi-label examples: each pair of example and label is a two-class example.

        Args:
            inputs: As for :meth:`of`, of M examples.
            labels: Whether each label holds, 0 or 1, ``(M, L)``.
            names: Of the labels; None for their numbers.

        Returns:
            M L examples.

        Raises:
            DataError: If a value is not 0 or 1, or counts differ.

        Example:
            >>> len(Examples.of_labels(np.zeros((2, 4)), [[1, 0, 1], [0, 0, 1]], names=["red", "round", "sweet"]))
            6
        """  # noqa: DOC502
        whole = cls.of(inputs).inputs
        pairs = MultiLabel(whole, as_tensor("labels", labels), names)
        return cls(pairs, pairs.labels, torch.arange(len(pairs)))

    def __len__(self) -> int:
        return len(self.inputs)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one example."""
        return tuple(self.inputs.shape[1:])

    @property
    def kind(self) -> str:
        """How a model sees the numbers: "uint8 images", "integers" or "floating-point numbers"."""
        if isinstance(self.inputs, Source):
            return self.inputs.kind
        if self.inputs.is_floating_point():
            return "floating-point numbers"
        return "uint8 images" if self.inputs.dtype == torch.uint8 else "integers"

    @property
    def presentation(self) -> Any:
        """The default presentation, such as the encoder of a table; None for tensors."""
        return getattr(self.inputs, "presentation", None)

    def take(self, rows: Tensor) -> "Examples":
        """Select examples by row, int64; they keep their indices."""
        labels = None if self.labels is None else self.labels[rows]
        inputs = self.inputs.select(rows) if isinstance(self.inputs, Source) else self.inputs[rows]
        names = None if self.names is None else self.names[rows.cpu().numpy()]
        return Examples(inputs, labels, self.index[rows], self.source, names)

    def named(self, names: Sequence[Any] | None) -> "Examples":
        """The same examples with names; None for indices only."""
        return replace(self, names=None if names is None else np.array([str(name) for name in names], object))

    def take_groups(self, chosen: Tensor) -> "Examples":
        """The examples of some of :meth:`groups`; ``chosen`` are their numbers, int64."""
        groups = self.groups()
        if groups is None:
            raise DataError("these examples have no groups")
        return self.take(torch.isin(groups, chosen.to(groups.device)).nonzero().flatten())

    def together(self, purpose: Literal["validation", "subset"]) -> Tensor | None:
        """Groups that splits keep together, int64 ``(N,)``; None where examples are independent."""
        return self.inputs.together(purpose) if isinstance(self.inputs, Source) else None

    def to(self, device: torch.device | str) -> "Examples":
        """The examples on a device."""
        labels = None if self.labels is None else self.labels.to(device)
        moved = Examples(self.inputs.to(device), labels, self.index.to(device), self.source, self.names)
        moved.__dict__["host_index"] = self.host_index
        return moved

    @cached_property
    def host_index(self) -> Tensor:
        """The numbers on the host, wherever the examples are: what reads files is not on a device."""
        return self.index.cpu()

    def without_labels(self) -> "Examples":
        """The same inputs as an unlabelled transfer set."""
        return replace(self, labels=None)

    def whole(self) -> "Examples":
        """The same examples as an independent data source."""
        return replace(self, origin=None)

    def numbered_from(self, first: int) -> "Examples":
        """The same examples as an independent data source, with indices from ``first`` or above."""
        return replace(self, index=self.index.long() + (first - int(self.index.min())), origin=None)

    def as_seen(self, rows: slice | Tensor, presentation: Any = None) -> Inputs:
        """Inputs for a model: uint8 images as float32 in [0, 1], other numbers unchanged.

        Args:
            rows: Places here.
            presentation: As what a source presents them; None as it does where nobody says.

        Returns:
            ``(n, ...)``, or such by name.
        """
        if isinstance(self.inputs, Source):
            places = torch.arange(*rows.indices(len(self))) if isinstance(rows, slice) else rows
            # The source looks rows up where it is; what it makes of files is on the CPU.
            return self.inputs.fetch(places, self.index[rows].long(), presentations=(presentation,))[0]
        if self.presents(presentation):
            part = Examples(self.inputs[rows], None, self.index[rows], "").with_presentation(presentation)
            return move(part.as_seen(slice(0, len(part))), self.inputs.device)
        if isinstance(rows, Tensor):
            # index_select on rows of bytes is eight times as fast as indexing images.
            values = self._flat.index_select(0, rows).view(len(rows), *self.shape)
        else:
            values = self.inputs[rows]
            if values.dtype != torch.uint8:
                values = values.clone()  # a slice shares memory with the user's own data, which no model may change
        return seen_values(values)

    def pixels(self) -> Tensor:
        """Images in memory as they are, uint8 ``(N, C, H, W)``."""
        if not isinstance(self.inputs, Tensor) or self.kind != "uint8 images":
            raise DataError(f"these examples are {self.kind}, not uint8 images in memory")
        return self.inputs

    def scores(self, predicted: NDArray[np.int64], labels: NDArray[np.int64]) -> dict[str, Any]:
        """Further metrics from the source; see :meth:`Source.scores`."""
        return self.inputs.scores(predicted, labels) if isinstance(self.inputs, Source) else {}

    @property
    def random(self) -> bool:
        """Whether views differ without an augmentation."""
        return isinstance(self.inputs, Source) and self.inputs.random

    def drawn(self, augmentation: Augmentation | None) -> Augmentation:
        """The effective augmentation: the given one, and the examples' own random transforms."""
        asked = augmentation or Augmentation()
        kept: dict[str, Any] = {name: getattr(asked, name) for name in ("views", "view_seed", "mixup", "cutmix")}
        refuse_mixing(asked, kind=self.kind, shape=self.shape, unmixable=getattr(self.inputs, "unmixable", None))
        if isinstance(asked, OwnAugmentation):
            return asked if self.random else Augmentation(**kept)
        if asked.alters and isinstance(self.inputs, Source) and not self.inputs.augments:
            raise ConfigError(
                "an augmentation is for images in memory, and these examples are made when they are wanted: leave it "
                "out, and let the data set transform them at random"
            )
        return OwnAugmentation(**dataclasses.asdict(asked)) if self.random else asked

    def groups(self) -> Tensor | None:
        """Groups of examples, such as the frames of an utterance, int64 ``(N,)``; None without groups."""
        return self.inputs.groups() if isinstance(self.inputs, Source) else None

    def largest(self, count: int) -> Tensor | None:
        """Rows of the examples that need most memory, int64; None where all need the same."""
        return self.inputs.largest(count) if isinstance(self.inputs, Source) else None

    @property
    def together_at_once(self) -> float:
        """Mean number of examples per forward input: positions of a sequence, or 1."""
        return self.inputs.together_at_once if isinstance(self.inputs, Source) else 1.0

    @cached_property
    def _flat(self) -> Tensor:
        assert isinstance(self.inputs, Tensor)
        return self.inputs.flatten(1)

    def presenter(self, rows: slice | Tensor) -> Callable[[Any], Inputs] | None:
        """A function that makes inputs in another presentation; None for plain tensors."""
        made = isinstance(self.inputs, Source) or self.kind == "uint8 images"
        return partial(self.as_seen, rows) if made else None

    def one_by_one(self) -> "Examples":
        """The same examples; uint8 images in memory as a source, which augments, resizes and normalises each."""
        if isinstance(self.inputs, Source):
            return self
        from limbeck.data.images import ImageArrays  # Pillow is imported where it is used

        return replace(self, inputs=ImageArrays(self.inputs.cpu()), origin=self.source)

    def presents(self, presentation: Any) -> bool:
        """Whether a presentation changes uint8 images in memory."""
        return isinstance(presentation, ImagePresentation) and self.kind == "uint8 images" and len(self.shape) == 3

    def with_presentation(self, presentation: Any) -> "Examples":
        """The same examples in a model's own presentation."""
        if self.presents(presentation):
            return self.one_by_one().with_presentation(presentation)
        self._refuse_encoder(presentation)
        if presentation is None or not isinstance(self.inputs, Source):
            return self
        return replace(self, inputs=self.inputs.with_presentation(presentation), origin=self.source)

    def _refuse_encoder(self, presentation: Any) -> None:
        """Refuse tensors for a model that encodes the rows of a table: they have no columns to encode.

        Raises:
            MismatchError: If they are such.
        """
        seen = seen_within(presentation)
        inputs = self.inputs.base if isinstance(self.inputs, MultiLabel) else self.inputs
        if isinstance(seen, TableEncoding) and not isinstance(inputs, Source):
            raise MismatchError(
                f"the model encodes rows of a table by their columns, {listed_columns(seen.names)}, and the inputs are "
                "tensors without names: give a DataFrame with these columns"
            )

    def shown_as(self, presentation: Any) -> "Examples":
        """The same examples with a default presentation, where they have none."""
        return self if seen_within(self.presentation) is not None else self.with_presentation(presentation)

    def unseen(self) -> "Examples":
        """The same indices, labels and source without inputs, for stored outputs."""
        return replace(self, inputs=Unseen(len(self)), origin=self.source)

    def batch(self, rows: slice | Tensor) -> Batch:
        """Make a batch of some rows for a teacher."""
        labels = None if self.labels is None else self.labels[rows].long()
        return Batch(self.index[rows].long(), 0, self.as_seen(rows), labels, self.presenter(rows), self.source)

    def orders(self, *, seed: int, epoch: int, batch_size: int, start: int = 0) -> Iterator[Tensor]:
        """The order of an epoch, a function of seed and epoch, in chunks that fit in memory.

        Args:
            seed: Seed of the order.
            epoch: Which epoch, from 0.
            batch_size: Each stretch but the last is a multiple of it.
            start: The first row wanted, counted in the order of the epoch.

        Yields:
            Rows, int64.
        """
        if isinstance(self.inputs, Tensor):
            yield permutation(len(self), seed=seed, epoch=epoch, device=self.index.device)[start:]
        else:
            yield from self.inputs.orders(seed=seed, epoch=epoch, batch_size=batch_size, start=start)

    def class_counts(self, classes: int) -> list[int]:
        """Number of examples per class; all 0 where there are no labels."""
        return [0] * classes if self.labels is None else torch.bincount(self.labels, minlength=classes).tolist()

    @cached_property
    def source(self) -> str:
        """Digest of the data that :attr:`index` refers to; stored outputs are bound to it.

        A part of some examples keeps their source and their numbers. Labels do not count, so that an unlabelled
        transfer set has the source of the labelled one.
        """
        return self._digest(self.inputs, self.index) if self.origin is None else self.origin

    @cached_property
    def digest(self) -> str:
        """SHA-256 over type, shape and bytes of inputs, labels and numbers."""
        return self._digest(self.inputs, self.labels, self.index)

    def _digest(self, *parts: object) -> str:
        pieces: list[bytes | memoryview] = []
        for tensor in parts:
            if isinstance(tensor, Tensor):
                array = tensor.detach().cpu().contiguous().numpy()
                pieces += [
                    f"{array.dtype.str}{array.shape}".encode(),
                    array.reshape(-1).view(np.uint8).data,
                ]
        return digest_bytes(pieces) if isinstance(self.inputs, Tensor) else self.inputs.digest(pieces)
