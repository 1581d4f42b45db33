"""A store as a teacher: outputs are computed once over keyed views, then looked up.

Axes: ``N`` examples, ``V`` views, ``K`` classes; ``T`` is the temperature.
"""

__all__ = ["SoftTargets"]

import copy
import dataclasses
import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from limbeck.arguments import checked_arguments
from limbeck.data.examples import Examples
from limbeck.data.viewing import Viewing
from limbeck.errors import MismatchError
from limbeck.models.calling import presentations_of
from limbeck.options import Augmentation, OwnAugmentation
from limbeck.protocols import Answering, Batch
from limbeck.softtargets.decoding import decoded, profile_tensors
from limbeck.softtargets.digests import teacher_digest
from limbeck.softtargets.fidelity_card import Card
from limbeck.softtargets.reader import Store
from limbeck.softtargets.softening import soften
from limbeck.teachers import as_teacher
from limbeck.teachers.saved import saved_answers
from limbeck.teachers.stored import refuse_other_data

_RESIDENT_BYTES = 4 << 30
"""Largest store to keep whole on an accelerator."""
_SPAN = 1 << 20
"""Rows copied there at a time."""
_SOFTENED_BYTES = 1 << 28
"""Stores up to this size as float32 are softened whole, once a temperature and not once a step."""
_DECODED = 1 << 22
"""Numbers that are worked on at a time meanwhile."""
_COMPARED = 8
"""Examples that a live teacher is asked again when a store is opened."""
_TOLERANCE = 0.05
"""Largest difference of a probability that rounding (bf16 on another machine, top-k, float16) may explain."""


class SoftTargets:
    """A teacher with stored outputs, looked up by example and view.

    Args:
        store: The opened store.

    Attributes:
        store: The arrays.
        classes: Names of the classes, in order.
        temperature: The only temperature that the targets hold for, or None.
        drawn: Whether the targets are drawn at random, and right on average alone.
        views: How many views of each example.
        augmentation: The augmentation of the views; training with it sees the same images.
        source: Digest of the data whose numbers the answers are kept by, :attr:`limbeck.Examples.source`.

    Example:
        >>> import tempfile
        >>> net, examples = nn.Linear(2, 3), Examples.of(torch.randn(5, 2))
        >>> folder = tempfile.mkdtemp()
        >>> card = SoftTargets.write(folder, net, examples, classes="abc")
        >>> targets = SoftTargets.open(folder, examples=examples, teacher=net)
        >>> batch = Batch(torch.tensor([3]), 0, torch.empty(0), None)
        >>> exact = (net(examples.inputs[3:4]) / 4).log_softmax(-1)
        >>> torch.allclose(targets.log_probs(batch, 4.0), exact, atol=1e-3)
        True
    """

    @checked_arguments
    def __init__(self, store: Store) -> None:
        self.store = store
        plan = store.plan
        self.classes: tuple[str, ...] = plan.classes
        self.temperature, self.views = plan.temperature, plan.views
        self.mean, self.teacher_digest = plan.mean, plan.teacher_digest
        self.drawn = plan.encoding.get("name") == "sampled"
        self.source = plan.source or plan.inputs_digest
        self.augmentation = Augmentation() if plan.augmentation is None else _settings(plan.augmentation, plan.views)
        self._device = torch.device("cpu")
        self._profile = profile_tensors(store.codec, self._device)
        self._resident: dict[str, Tensor] = {}
        self._softened: tuple[float, Tensor] | None = None
        self._place_of: Tensor | None = None
        if store.index is not None:
            numbers = torch.from_numpy(store.index)
            self._place_of = torch.full((int(numbers.max()) + 1,), -1, dtype=torch.int64)
            self._place_of[numbers] = torch.arange(len(numbers))

    def __reduce__(self) -> tuple[Callable[[Path, str | None], "SoftTargets"], tuple[Path, str | None]]:
        """Another process opens the store anew; its arrays are not sent."""
        return _reopened, (self.store.folder.resolve(), self.source)

    def __copy__(self) -> "SoftTargets":
        # Not by __reduce__, which would open the store anew, on the CPU.
        twin = object.__new__(type(self))
        twin.__dict__.update(self.__dict__)
        return twin

    write = staticmethod(soften)
    from_array = staticmethod(saved_answers)

    @classmethod
    @checked_arguments
    def open(
        cls,
        folder: str | Path,
        *,
        examples: Examples | None = None,
        teacher: nn.Module | Answering | None = None,
    ) -> "SoftTargets":
        """Open a store.

        The manifest and all headers are checked; :meth:`verify` checks every byte.

        Args:
            folder: The store.
            examples: What it must belong to: the examples it was written for, with labels or without.
            teacher: Who must have written it. With ``examples``, it is asked about a few of them again.

        Returns:
            The soft targets, as a teacher on the CPU.

        Raises:
            FormatError: If the store is incomplete or damaged.
            MismatchError: If the examples or the teacher differ, or the teacher's outputs differ.
        """
        found = cls(Store(folder))
        plan = found.store.plan
        if examples is not None:
            found._refuse_other_examples(examples)
        if teacher is not None:
            digest = teacher_digest(teacher)
            if digest is not None and plan.teacher_digest is not None and digest != plan.teacher_digest:
                raise MismatchError(
                    f"{folder} was written by another teacher: digest {plan.teacher_digest}, and this one has "
                    f"{digest}; write soft targets of this one"
                )
            if examples is not None:
                found._compare(teacher, examples)
        return found

    @property
    def card(self) -> Card:
        """The fidelity card."""
        return self.store.card

    def verify(self) -> None:
        """Compare every byte of the store with its checksums; a difference raises FormatError."""
        self.store.verify()

    def verify_once(self) -> str | None:
        """The same, unless this process did it already: what was checked and how fast, in words, or None."""
        return self.store.verify_once()

    live = False

    @property
    def every_temperature(self) -> bool:
        """Whether the targets serve every temperature."""
        return self.temperature is None

    @property
    def fingerprint(self) -> str:
        """Digest of the store: its plan and the seals of its shards."""
        seals = "".join(header.seal for header in self.store.headers)
        return hashlib.sha256(f"{self.store.plan.digest}{seals}".encode()).hexdigest()

    def modules(self) -> list[tuple[nn.Module, Any]]:
        """None: the answers are stored."""
        return []

    def bind(self, examples: Examples, augmentation: Augmentation | None = None) -> "SoftTargets":
        """The soft targets for these examples alone.

        Args:
            examples: What will be asked about: those that the store was written for, or a part of their data.
            augmentation: In which views.

        Returns:
            The same targets, which refuse batches of other data.

        Raises:
            MismatchError: If they belong to other examples or views, or some are missing.
        """
        self._refuse_other_examples(examples)
        self.require(examples.index)
        self.check_views(augmentation)
        bound = copy.copy(self)
        bound.source = examples.source
        return bound

    def _refuse_other_examples(self, examples: Examples) -> None:
        plan = self.store.plan
        if self.augmentation.mixes:
            self._require_partners(examples)
        if plan.inputs_digest is None or examples.source == self.source:
            return
        # A store of an earlier version names the part of the data that it was written for, and not where it is from.
        if plan.inputs_digest != examples.without_labels().whole().source:
            raise MismatchError(
                f"{self.store.folder} was written for other examples, {plan.examples:,} of digest {plan.data_digest}, "
                f"and these are {len(examples):,} of digest {examples.digest}: "
                "give the same data with the same validation and train_examples, or write soft targets for these"
            )

    def _require_partners(self, examples: Examples) -> None:
        """Check that each example is mixed with the same partner as for the teacher."""
        held = self.store.index
        mine = np.arange(self.store.plan.examples) if held is None else np.sort(held)
        theirs = np.sort(examples.index.long().cpu().numpy())
        if not np.array_equal(mine, theirs):
            raise MismatchError(
                f"partners of mixup and cutmix are chosen among the {len(mine):,} examples that {self.store.folder} "
                f"was written for, and these are {len(theirs):,} others or a part of them: write soft targets for these"
            )

    def require(self, index: Tensor) -> None:
        """Make sure that examples are among those stored; MismatchError names one that is not."""
        self._places(index)

    def check_views(self, augmentation: Augmentation | None) -> None:
        """Check that a training sees the same images as the teacher.

        Args:
            augmentation: The training's augmentation.

        Raises:
            MismatchError: If a setting differs; the message names it.
        """
        theirs = augmentation if augmentation is not None and augmentation.active else Augmentation()
        mine = dataclasses.asdict(self.augmentation)
        wrong = [
            f"{name} is {value} here and {mine[name]} in {self.store.folder}"
            for name, value in dataclasses.asdict(theirs).items()
            if value != mine[name]
        ]
        if wrong:
            raise MismatchError(f"training would see other images than the teacher did: {'; '.join(wrong)}")

    @property
    def device(self) -> torch.device:
        """Where answers are looked up."""
        return self._device

    def to(self, device: torch.device | str) -> "SoftTargets":
        """The same targets on a device; on an accelerator a store of up to 4 GiB is kept there whole."""
        moved = copy.copy(self)
        moved._device = torch.device(device)
        moved._resident, moved._softened = {}, None
        moved._profile = profile_tensors(self.store.codec, moved._device)
        if self._place_of is not None:
            moved._place_of = self._place_of.to(moved._device)
        if moved._device.type != "cpu" and self.store.size <= _RESIDENT_BYTES:
            parts = [moved._tensors(self.store.span(*span)) for span in self._spans(_SPAN)]
            moved._resident = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
        return moved

    def _spans(self, step: int) -> list[tuple[int, int]]:
        rows = self.store.plan.rows
        return [(start, min(start + step, rows)) for start in range(0, rows, step)]

    @property
    def has_logits(self) -> bool:
        """Whether the logits of every class are kept."""
        return self.store.codec.keeps_logits and self.temperature is None

    @torch.no_grad()
    def log_probs(self, batch: Batch, temperature: float) -> Tensor:
        """The stored answers, softened at a temperature, float32 ``(N, K)``.

        A small store is softened whole at the first call for a temperature, and its rows are looked up from then on.

        Args:
            batch: The examples; only their numbers and their view are used.
            temperature: T.

        Returns:
            Natural logarithms, without gradient.

        Raises:
            MismatchError: If the batch is of other data, or an example, a view or the temperature is not among those
                stored.
        """
        refuse_other_data(batch, self.source)
        rows = self._rows(batch, temperature)
        if 4 * self.store.plan.rows * len(self.classes) > _SOFTENED_BYTES:
            return self._decoded(self._look_up(rows), temperature)
        if self._softened is None or self._softened[0] != temperature:
            whole = torch.empty(self.store.plan.rows, len(self.classes), device=self._device)
            for start, stop in self._spans(max(1, _DECODED // len(self.classes))):
                whole[start:stop] = self._decoded(self._tensors(self.store.span(start, stop)), temperature)
            self._softened = (temperature, whole)
        return self._softened[1].index_select(0, rows.to(self._device))

    def _decoded(self, fields: dict[str, Tensor], temperature: float) -> Tensor:
        used = 1.0 if self.temperature is not None else temperature
        return decoded(fields, self.store.codec, len(self.classes), used, self._profile)

    def _rows(self, batch: Batch, temperature: float) -> Tensor:
        """Where the answers are, once it is sure that they are there."""
        plan = self.store.plan
        if not 0 <= batch.view < plan.views:
            raise MismatchError(
                f"view {batch.view} is asked for, and {plan.views} are stored in {self.store.folder}: set views to "
                f"{plan.views}"
            )
        if self.temperature is not None and temperature != self.temperature:
            raise MismatchError(
                f"the soft targets in {self.store.folder} hold for temperature {self.temperature} alone, and "
                f"{temperature} is asked for"
            )
        return self._places(batch.index) + batch.view * plan.examples

    def _look_up(self, rows: Tensor) -> dict[str, Tensor]:
        if self._resident:
            here = rows.to(self._device)
            return {name: values.index_select(0, here) for name, values in self._resident.items()}
        return self._tensors(self.store.rows(rows.cpu().numpy()))

    def _tensors(self, found: dict[str, NDArray[Any]]) -> dict[str, Tensor]:
        if "ids" in found and found["ids"].dtype != np.uint8:  # torch hardly knows wider unsigned types
            found["ids"] = found["ids"].astype(np.int32)
        return {name: torch.from_numpy(values).to(self._device) for name, values in found.items()}

    def _places(self, index: Tensor) -> Tensor:
        known = self.store.plan.examples if self._place_of is None else len(self._place_of)
        if not index.numel():
            return index
        if int(index.min()) < 0 or int(index.max()) >= known:
            strange = int(index.max()) if int(index.max()) >= known else int(index.min())
            raise MismatchError(f"no soft targets are stored for example {strange} in {self.store.folder}")
        if self._place_of is None:
            return index
        places = self._place_of[index.to(self._place_of.device)]
        if int(places.min()) < 0:
            raise MismatchError(
                f"no soft targets are stored for example {int(index[int(places.argmin())])} in {self.store.folder}"
            )
        return places

    def _compare(self, teacher: nn.Module | Answering, examples: Examples) -> None:
        if self.store.codec.estimates:
            return  # a few draws say nothing of one answer
        guide = as_teacher(teacher)
        viewing = Viewing(examples, self.augmentation, presentations=presentations_of(guide))
        rows = torch.linspace(0, len(examples) - 1, min(_COMPARED, len(examples))).long()
        used = 1.0 if self.temperature is None else self.temperature
        batch = viewing.batch(rows, self.views - 1)
        with torch.no_grad():
            live = guide.log_probs(batch, used).float().exp().cpu()
        stored = self._decoded(self._look_up(self._rows(batch, used)), used).exp().cpu()
        if live.shape != stored.shape:
            raise MismatchError(
                f"the teacher outputs {live.shape[-1]} classes, and {self.store.folder} holds {stored.shape[-1]}"
            )
        difference = (live - stored).abs()
        if self.store.codec.has_tail:  # the tail is known in sum only
            numbers = self._places(batch.index).cpu().numpy() + batch.view * len(examples)
            head = torch.from_numpy(self.store.rows(numbers)["ids"].astype(np.int64))
            difference = difference.gather(1, head)
        worst = float(difference.max())
        if not worst <= _TOLERANCE:
            example = int(batch.index[int(difference.amax(1).argmax())])
            raise MismatchError(
                f"the teacher's outputs differ from those in {self.store.folder}: a probability of example {example} "
                f"differs by {worst:.3f}; write soft targets of this teacher again"
            )


def _reopened(folder: Path, source: str | None) -> SoftTargets:
    found = SoftTargets.open(folder)
    found.source = source
    return found


def _settings(kept: Mapping[str, Any], views: int) -> Augmentation:
    kind = OwnAugmentation if "own" in kept else Augmentation
    return kind(**kept, views=views)
