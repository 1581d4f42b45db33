"""Computing a teacher's outputs for every view of every example, and storing them.

Axes: ``N`` examples, ``V`` views, ``K`` classes; ``T`` is the temperature.
"""

__all__ = ["precision_of", "soften"]

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from limbeck.arguments import checked_arguments
from limbeck.data.examples import Examples
from limbeck.data.source import Source
from limbeck.data.viewing import TEXTS_AT_ONCE, Viewing, in_parts, lengths_of
from limbeck.errors import ConfigError, FormatError, LimbeckError, MismatchError, RunError
from limbeck.models.calling import presentations_of
from limbeck.options import Augmentation
from limbeck.protocols import Answering, Teacher
from limbeck.softtargets.digests import mean_kind, teacher_digest
from limbeck.softtargets.encodings import Dense, Encoding
from limbeck.softtargets.fidelity_card import Card
from limbeck.softtargets.manifest import MANIFEST, Manifest, Plan
from limbeck.softtargets.planning import SHARD_BYTES, make_plan
from limbeck.softtargets.rows import Ahead
from limbeck.softtargets.sampled import Sampled
from limbeck.softtargets.topk import TopK, ladder_for
from limbeck.softtargets.writer import take_store, write_plan, write_shards
from limbeck.system.devices import Device
from limbeck.system.files import make_folder
from limbeck.system.locks import hold
from limbeck.system.processes import is_first, on_first, world
from limbeck.system.progress import counting
from limbeck.teacher_warnings import tell_odd_teacher, tell_probabilities
from limbeck.teachers import as_teacher

_ANSWERS = 1 << 24
"""Logits that a teacher is asked for at a time, 64 MB: of 100,000 classes those of 167 examples."""


@checked_arguments
def soften(
    folder: str | Path,
    teacher: nn.Module | Answering,
    examples: Examples,
    *,
    classes: Sequence[str],
    augmentation: Augmentation | None = None,
    views: int | None = None,
    encoding: str = "dense",
    k: int | None = None,
    draws: int | None = None,
    proposal: float | None = None,
    seed: int | None = None,
    dtype: str | None = None,
    temperature: float | None = None,
    device: Device | None = None,
    batch_size: int = 1024,
    shard_bytes: int = SHARD_BYTES,
    progress: bool | Callable[[int, int], None] = True,
) -> Card:
    """Compute a teacher's outputs for every view of every example, and store them.

    The same call resumes a killed write.

    Args:
        folder: The folder; created if it is missing.
        teacher: A module or a teacher, already on the device.
        examples: The examples.
        classes: Names of the classes, in the teacher's order.
        augmentation: Augmentation, as training will have them; None for the examples as they are.
        views: How many views of each example, where ``augmentation.views`` does not say; training cycles through
            them.
        encoding: "dense", "topk" or "sampled".
        k: How many classes top-k keeps.
        draws: How many classes are drawn, for "sampled".
        proposal: Exponent of the distribution drawn from, for "sampled"; None for 1.
        seed: Seed of the draws, for "sampled"; None for 0.
        dtype: "float16" or "float32", for "dense"; None for float16.
        temperature: The only temperature that the targets will hold for; needed for an arithmetic mean, and 1
            for "sampled" unless set. None: they serve every temperature.
        device: Where and how precisely to compute; None for float32 on the CPU.
        batch_size: The teacher's batch size; less where a batch would have more than 16 million logits.
        shard_bytes: About how large a shard is, bytes.
        progress: Show a progress bar, where there is a terminal or a notebook; or a function that is called with the
            answers written and all answers.

    Returns:
        The fidelity card.

    Raises:
        ConfigError: If a setting contradicts another, or an arithmetic mean is given no temperature.
        MismatchError: If the teacher names other classes, or the folder holds another store.
    """
    augmentation = examples.drawn(augmentation)
    labels_of_each = getattr(examples.inputs, "label_names", None)
    guide = as_teacher(teacher, labels_of_each or classes).bind(examples, augmentation)
    named = guide.classes
    if named is not None and tuple(named) not in {tuple(classes), labels_of_each}:
        raise MismatchError(f"the teacher names the classes {named[:4]}..., and {tuple(classes)[:4]}... are given")
    views_kept = _views(augmentation, views)
    temperature = _settled_temperature(teacher, temperature, encoding)
    if batch_size < 1:
        raise ConfigError(f"batch_size must be at least 1, and is {batch_size}")
    place = device or Device(torch.device("cpu"), "float32")
    index = examples.index.long().cpu().numpy()
    known = examples.labels if not augmentation.mixes else None  # a mixture has no class to be right about
    labels = None if known is None else known.long().cpu().numpy()
    looked_at = _looked_at(guide, examples, augmentation)
    settings = {name: value for name, value in dataclasses.asdict(augmentation).items() if name != "views"}
    plan = make_plan(
        classes=classes,
        examples=len(examples),
        views=views_kept,
        encoding=_encoding(encoding, k, draws, proposal, dtype, seed, temperature, len(classes)),
        temperature=temperature,
        index=index,
        labelled=labels is not None,
        augmentation=settings if augmentation.active else None,
        mean=mean_kind(teacher),
        teacher_digest=teacher_digest(teacher),
        data_digest=examples.digest,
        inputs_digest=examples.without_labels().digest,
        precision=place.precision,
        source=examples.origin,
        shard_bytes=shard_bytes,
    )
    used = 1.0 if temperature is None else temperature
    if is_first() and not (Path(folder) / MANIFEST).exists():  # what is continued was looked at when it began
        tell_probabilities("teacher", guide, looked_at, place, None)
        tell_odd_teacher(guide, looked_at, augmentation, used, place, None, classes=classes)
    presentations = presentations_of(guide)
    viewing = Viewing(
        looked_at.to(place.device), augmentation if augmentation.active else None, presentations=presentations
    )
    asking = _Asking(guide, viewing, plan, used, place, min(batch_size, max(1, _ANSWERS // len(plan.classes))))
    with counting("softening", progress if is_first() else False) as show:
        if world().size > 1:
            _share(Path(folder), plan, Ahead(asking.blocks, len(plan.classes)), index, labels, asking.sample, show)
        # Where all the shards are there it adds up, and makes the store complete.
        return on_first(
            lambda: write_plan(
                Path(folder), plan, asking.blocks, index=index, labels=labels, sample=asking.sample, progress=show
            )
        )


def _looked_at(guide: Teacher, examples: Examples, augmentation: Augmentation) -> Examples:
    """Examples as the teacher sees them; without what is not looked at where its answers are stored."""
    if not guide.live and isinstance(examples.inputs, Source) and not augmentation.active:
        return examples.unseen()
    return examples.shown_as(next((seen for seen in presentations_of(guide) if seen is not None), None))


@dataclass(frozen=True, eq=False)
class _Asking:
    """A teacher's answers to all views of some examples, in the order in which a store has them.

    Attributes:
        guide: Who is asked.
        viewing: The examples on the device, and their views.
        plan: Of the store.
        temperature: What it is asked at.
        device: Where and how precisely to compute.
        batch_size: Examples at a time.
    """

    guide: Teacher
    viewing: Viewing
    plan: Plan
    temperature: float
    device: Device
    batch_size: int

    def blocks(self, first_row: int) -> Iterator[NDArray[np.float32]]:
        """Answers from a row of the store on; ``(rows, K)``."""
        # Batches begin at multiples of the batch size, wherever writing goes on: rounding is then the same.
        examples = self.plan.examples
        for view in range(first_row // examples, self.plan.views):
            skip = first_row - view * examples if view == first_row // examples else 0
            begin = skip - skip % self.batch_size
            for answers in self._answers(torch.arange(begin, examples), view):
                yield answers[skip % self.batch_size :]
                skip = 0

    def sample(self, count: int) -> NDArray[np.float32]:
        """Answers to rows spread evenly over all examples and views, for data may be sorted by class."""
        examples = self.plan.examples
        chosen = np.linspace(0, self.plan.rows - 1, count).round().astype(np.int64)
        found: list[NDArray[np.float32]] = []
        for view in range(self.plan.views):
            rows = torch.from_numpy(chosen[chosen // examples == view] % examples)
            found += self._answers(rows, view)
        return np.concatenate(found)

    def _answers(self, rows: Tensor, view: int) -> Iterator[NDArray[np.float32]]:
        lengths = lengths_of(self.viewing.examples) if self.guide.live else None
        if lengths is None:
            yield from self._asked(rows, self.batch_size, view)
            return
        size = min(self.batch_size, TEXTS_AT_ONCE) if self.device.device.type == "cpu" else self.batch_size
        for part in in_parts(len(rows), self.batch_size):
            order = lengths[rows[part]].argsort(stable=True)
            found = np.concatenate([*self._asked(rows[part][order], size, view)])
            yield found[order.argsort().numpy()]

    def _asked(self, rows: Tensor, size: int, view: int) -> Iterator[NDArray[np.float32]]:
        for batch in self.viewing.batches(rows, in_parts(len(rows), size), view):
            with torch.no_grad(), self.device.autocast():
                answers = self.guide.log_probs(batch, self.temperature)
            if answers.shape[-1] != len(self.plan.classes):
                raise MismatchError(
                    f"the teacher outputs {answers.shape[-1]} classes, and {len(self.plan.classes)} classes are named"
                )
            yield answers.float().cpu().numpy()


def _settled_temperature(teacher: nn.Module | Answering, temperature: float | None, encoding: str) -> float | None:
    """The only temperature that the answers will hold for, or None where they serve every one."""
    only = _temperature_of(teacher)
    if temperature is None and (encoding == "sampled" or only is not None):
        temperature = 1.0 if only is None else only
    if only is not None and temperature != only:
        raise MismatchError(f"the teacher answers at temperature {only} alone, and {temperature} is asked for")
    if mean_kind(teacher) == "arithmetic" and temperature is None:
        raise ConfigError(
            "the soft targets of an arithmetic mean depend on the temperature: set temperature, or use a "
            "geometric mean, which serves every temperature"
        )
    return temperature


def precision_of(folder: str | Path) -> Literal["auto", "float32", "bf16"]:
    """The precision in which a store was begun, or "auto" where there is none; the same in all processes.

    What is measured may come out differently the next time, and a store whose shards differ in it would not be that
    of a write that was never stopped.

    Args:
        folder: Where a store is, or will be.

    Returns:
        What to compute in, where nobody asks for another.
    """

    def look() -> str | None:
        try:
            return Manifest.read(Path(folder)).plan.precision if (Path(folder) / MANIFEST).exists() else None
        except FormatError:
            return None  # writing will say what is wrong with it

    found = on_first(look)
    return "bf16" if found == "bf16" else "float32" if found == "float32" else "auto"


def _share(
    folder: Path,
    plan: Plan,
    blocks: Ahead,
    index: NDArray[np.int64],
    labels: NDArray[np.int64] | None,
    sample: Callable[[int], NDArray[np.float32]],
    progress: Callable[[int, int], None] | None,
) -> None:
    """Write the shards that are missing, each process some that follow each other; the first holds the folder."""
    here = world()
    with ExitStack() as stack:

        def begin() -> int:
            stack.enter_context(hold(make_folder(folder)))
            return len(take_store(folder, plan, index, sample))

        first = on_first(begin)
        own = here.slice_of(plan.shards - first)
        mine = range(first + own.start, first + own.stop)
        failed: LimbeckError | None = None
        try:
            if mine:
                write_shards(folder, plan, blocks, mine, index, labels, progress)
        except LimbeckError as error:
            failed = error
        told = next((words for words in here.heard(None if failed is None else str(failed)) if words is not None), None)
        if failed is not None:
            raise failed
        if told is not None:
            raise RunError(f"another process of this run failed: {told}")


def _temperature_of(teacher: nn.Module | Answering) -> float | None:
    """The only temperature that a teacher answers at: that of stored targets that have one."""
    found: Any = None if isinstance(teacher, nn.Module) else getattr(teacher, "temperature", None)
    return float(found) if isinstance(found, int | float) else None


def _encoding(
    name: str,
    k: int | None,
    draws: int | None,
    proposal: float | None,
    dtype: str | None,
    seed: int | None,
    temperature: float | None,
    classes: int,
) -> Encoding:
    if name not in {"dense", "topk", "sampled"}:
        raise ConfigError(f"encoding must be dense, topk or sampled, and is {name!r}")
    owned = (
        ("k", k, "topk"), ("draws", draws, "sampled"), ("proposal", proposal, "sampled"), ("seed", seed, "sampled"),
        ("dtype", dtype, "dense"),
    )  # fmt: skip
    for setting, value, owner in owned:
        if value is not None and name != owner:
            raise ConfigError(f"{setting} belongs to encoding {owner}, and encoding is {name}")
        if value is None and name == owner and setting in {"k", "draws"}:
            raise ConfigError(f"encoding {owner} needs {setting}")
    if name == "dense":
        if dtype not in {None, "float16", "float32"}:
            raise ConfigError(f"dtype must be float16 or float32, and is {dtype!r}")
        return Dense("float32" if dtype == "float32" else "float16")
    if name == "topk" and k is not None:
        return TopK(k, ladder_for(k, classes) if temperature is None else (1.0,))
    assert draws is not None, "sampled needs draws"
    return Sampled(draws, 1.0 if proposal is None else proposal, seed or 0)


def _views(augmentation: Augmentation | None, views: int | None) -> int:
    if augmentation is None or not augmentation.active:
        if views not in {None, 1}:
            raise ConfigError(f"views is {views}, and without augmentation all views are the same: leave it out")
        return 1
    if views is not None and augmentation.views not in {None, views}:
        raise ConfigError(f"views is {views}, and augmentation.views is {augmentation.views}: give one of them")
    return views or augmentation.views or 1
