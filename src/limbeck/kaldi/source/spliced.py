"""Spliced frames, put together per batch.

Axes: ``N`` examples, ``U`` utterances, ``C`` frames of context, ``D`` features.
"""

__all__ = ["Spliced"]

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from limbeck.data.source import Source
from limbeck.errors import ConfigError, MismatchError
from limbeck.inputs import Inputs
from limbeck.kaldi.formats import nnet1_components as nc
from limbeck.kaldi.source.frontend import Splicing
from limbeck.kaldi.source.store import FrameStore
from limbeck.keyed import permutation
from limbeck.system.files import digest_bytes

if TYPE_CHECKING:
    from limbeck.options import Augmentation

WINDOW = 1 << 17
"""Frames that are shuffled among each other, out of utterances in random order."""


class Spliced(Source):
    """The inputs of an acoustic model: rows of some utterances, each a frame with its neighbours.

    Utterances (``keys``) are groups that belong together, and speakers larger ones. Nothing of the size of all inputs
    is ever made.

    Args:
        store: The frames.
        utterances: Which utterances, int64 ``(U,)``.
        splicing: The neighbours.
        every: Every how many frames there is an example.
        keys: Name of each utterance.
        speakers: Speaker of each.
        digests: What each utterance holds, 16 bytes each.
        settings: What else decides the frames, for the digest.

    Example:
        >>> store = FrameStore(torch.tensor([2, 1]), 1, None, torch.tensor([[1.0], [2.0], [7.0]]))
        >>> inputs = Spliced(store, torch.arange(2), Splicing((-1, 0)), 1, ["a", "b"], ["x", "y"], [b"", b""], "")
        >>> inputs[torch.tensor([1, 2])].flatten(1)
        tensor([[1., 2.],
                [7., 7.]])
    """

    unmixable = "frames of speech"

    def __init__(
        self,
        store: FrameStore,
        utterances: Tensor,
        splicing: Splicing,
        every: int,
        keys: Sequence[str],
        speakers: Sequence[str],
        digests: Sequence[bytes],
        settings: str,
    ) -> None:
        self.store, self.utterances = store, utterances.to(store.device)
        self.splicing, self.every, self.settings = splicing, every, settings
        self.keys, self.speakers, self.digests = tuple(keys), tuple(speakers), tuple(digests)
        self.counts = -(-store.lengths[self.utterances] // every)
        self.ends = self.counts.cumsum(0)
        self._count = int(self.ends[-1])
        self._steps: dict[Splicing, list[Callable[[Tensor], Tensor]]] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_steps": {}}  # functions, which are made again where they are wanted

    def __len__(self) -> int:
        return self._count

    @property
    def shape(self) -> tuple[int, ...]:
        """Examples, and the shape of one."""
        return (self._count, *self.splicing.shape(self.store.features - self.store.ivector))

    @property
    def ndim(self) -> int:
        """How many axes there are."""
        return len(self.shape)

    def __getitem__(self, rows: slice | Tensor) -> Tensor:
        return self.spliced(rows, self.splicing)

    def spliced(self, rows: slice | Tensor, splicing: Splicing) -> Tensor:
        """Some rows with any neighbours: a teacher may see others than its student.

        Args:
            rows: Which, places here.
            splicing: The neighbours.

        Returns:
            float32 ``(rows, C, D)``, or flat ``(rows, outputs)`` with what follows the splice and the i-vector.

        Raises:
            MismatchError: If an i-vector is wanted that the data do not have.
        """
        if isinstance(rows, slice):
            rows = torch.arange(*rows.indices(self._count), device=self.store.device)
        which = torch.searchsorted(self.ends, rows, right=True)
        places = (rows - self.ends[which] + self.counts[which]) * self.every
        offsets = torch.tensor(splicing.offsets, device=self.store.device)
        if splicing.ivector:
            return self._with_ivector(rows, which, places, splicing)
        width = self.store.features - self.store.ivector
        frames = self.store.gather(self.utterances[which], places, offsets, slice(0, width))
        if splicing.after is None:
            return frames
        if splicing not in self._steps:
            self._steps[splicing] = [_step(part, self.store.device) for part in splicing.after.components]
        values = frames.flatten(1)
        with torch.autocast(self.store.device.type, enabled=False):  # features keep their precision
            for step in self._steps[splicing]:
                values = step(values)
        return values

    def _with_ivector(self, rows: Tensor, which: Tensor, places: Tensor, splicing: Splicing) -> Tensor:
        """Rows with their neighbours and the i-vector, flat; ``which`` are their utterances and ``places`` in them."""
        width, ivector = self.store.features - self.store.ivector, self.store.ivector
        if splicing.ivector != ivector:
            held = f"of {ivector}" if ivector else "none"
            raise MismatchError(
                f"a model reads i-vectors of {splicing.ivector} values, and the data have {held}: give --ivectors"
            )
        frames = self.spliced(rows, replace(splicing, ivector=0)).flatten(1)
        here = torch.zeros(1, dtype=torch.int64, device=rows.device)
        beside = self.store.gather(self.utterances[which], places, here, slice(width, None))
        return torch.cat([frames, beside[:, 0]], 1)

    def fetch(
        self,
        rows: Tensor,
        keys: Tensor,
        *,
        view: int = 0,
        augmentation: "Augmentation | None" = None,
        presentations: Sequence[Any] = (None,),
    ) -> list[Inputs]:
        """Rows with the neighbours that each model sees: a presentation is a :class:`Splicing`."""
        return [self.spliced(rows, self.splicing if wanted is None else wanted) for wanted in presentations]

    def to(self, device: torch.device | str) -> "Spliced":
        """The same inputs on a device."""
        store = self.store.to(device)
        return self if store is self.store else self._with(store, torch.arange(len(self.keys)))

    @property
    def device(self) -> torch.device:
        """Where the frames are."""
        return self.store.device

    def with_splicing(self, splicing: Splicing) -> "Spliced":
        """The same rows with other neighbours."""
        found = self._with(self.store, torch.arange(len(self.keys)))
        found.splicing = splicing
        return found

    def select(self, rows: Tensor) -> "Spliced | Tensor":
        """Some rows: whole utterances as such, others held in memory with the neighbours that they have."""
        found = torch.searchsorted(self.ends, rows.to(self.ends.device), right=True)
        chosen: Tensor = torch.unique_consecutive(found)
        if torch.equal(self.rows_of(chosen), rows.to(self.ends.device)):
            return self._with(self.store, chosen.cpu())
        return self.spliced(rows, self.splicing)

    def rows_of(self, chosen: Tensor) -> Tensor:
        """The rows of some utterances, int64; ``chosen`` are places among those here."""
        counts = self.counts[chosen]
        begins = (self.ends - self.counts)[chosen]
        shift = torch.repeat_interleave(begins - counts.cumsum(0) + counts, counts)
        return torch.arange(int(counts.sum()), device=shift.device) + shift

    def groups(self) -> Tensor:
        """The utterance that each row is in, counted here, int64 ``(N,)``."""
        return torch.repeat_interleave(self.counts)

    def together(self, purpose: Literal["validation", "subset"]) -> Tensor:
        """The speaker of each row, where a validation set is cut out, and the utterance, where some are kept."""
        names = self.speakers if purpose == "validation" else self.keys
        number = {name: place for place, name in enumerate(dict.fromkeys(names))}
        return torch.repeat_interleave(torch.tensor([number[name] for name in names]), self.counts.cpu())

    def orders(self, *, seed: int, epoch: int, batch_size: int, start: int = 0) -> Iterator[Tensor]:
        """The order of an epoch, a stretch at a time, each stretch's frames being in memory while it is used.

        Utterances come in random order, and the frames of each stretch of them are shuffled, so that an order needs
        to be worked out, and features be read, for one stretch at a time. It is a function of seed and epoch alone.

        Args:
            seed: Seed of the order.
            epoch: Which epoch, from 0.
            batch_size: Each stretch but the last is a multiple of it.
            start: The first row wanted, counted in the order of the epoch.

        Yields:
            Rows, int64, from the stretch on in which ``start`` is, without those before it.
        """
        device = self.store.device
        size = max(batch_size, WINDOW // batch_size * batch_size)
        shuffled = permutation(len(self.keys), seed=seed, epoch=epoch, device=device)
        ends = self.counts[shuffled].cumsum(0)
        for number in range(start // size, -(-self._count // size)):
            first, last = number * size, min((number + 1) * size, self._count)
            inside = torch.tensor([first, last - 1], device=device)
            begin, end = torch.searchsorted(ends, inside, right=True).tolist()
            chosen = shuffled[begin : end + 1]
            skipped = first - int(ends[begin] - self.counts[shuffled[begin]])
            rows = self.rows_of(chosen)[skipped : skipped + last - first]
            self.store.hold(self.utterances[chosen])
            order = rows[permutation(len(rows), seed=seed, epoch=epoch, part=number + 1, device=device)]
            yield order[max(0, start - first) :]

    def digest(self, others: Sequence[bytes | memoryview]) -> str:
        """SHA-256 over the frames, whatever their neighbours, and over what else belongs to the examples."""
        names = "\n".join((self.settings, *self.keys)).encode()
        return digest_bytes([names, *self.digests, *others])

    def _with(self, store: FrameStore, chosen: Tensor) -> "Spliced":
        numbers = chosen.tolist()
        return Spliced(
            store,
            self.utterances.cpu()[chosen],
            self.splicing,
            self.every,
            [self.keys[n] for n in numbers],
            [self.speakers[n] for n in numbers],
            [self.digests[n] for n in numbers],
            self.settings,
        )


def _step(part: nc.Component, device: torch.device) -> Callable[[Tensor], Tensor]:
    if isinstance(part, nc.Copy):
        columns = torch.tensor(part.indices, device=device)
        return lambda x: x.index_select(1, columns)
    if isinstance(part, nc.AddShift | nc.Rescale):
        values = torch.from_numpy(part.values.copy()).to(device)
        return (lambda x: x + values) if isinstance(part, nc.AddShift) else (lambda x: x * values)
    if isinstance(part, nc.AffineTransform | nc.LinearTransform):
        weight = torch.from_numpy(part.weight.copy()).to(device)
        bias = torch.from_numpy(part.bias.copy()).to(device) if isinstance(part, nc.AffineTransform) else None
        return lambda x: torch.nn.functional.linear(x, weight, bias)
    raise ConfigError(f"<{part.tag}> cannot follow the splice of a feature transform")
