"""Writing of a store: shard by shard, atomically, resumable after a kill.

Axes: ``N`` examples, ``V`` views, ``K`` classes.
"""

__all__ = ["take_store", "write_arrays", "write_plan", "write_shards"]

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from limbeck.errors import DataError, FormatError, MismatchError, RunError
from limbeck.softtargets.encodings import Encoding
from limbeck.softtargets.fidelity_card import Card, CardSums, add_up
from limbeck.softtargets.manifest import MANIFEST, Manifest, Plan
from limbeck.softtargets.pipeline import ShardPipeline
from limbeck.softtargets.planning import SHARD_BYTES, make_plan
from limbeck.softtargets.rows import Ahead, Blocks, Measured
from limbeck.softtargets.shards import shard_name
from limbeck.softtargets.side_files import (
    check_shard,
    check_tail,
    index_header,
    index_layout,
    read_tail,
    write_tail,
)
from limbeck.softtargets.tail import sample_size
from limbeck.softtargets.topk import tail_of
from limbeck.system.callbacks import warn_user
from limbeck.system.files import make_folder, replace_bytes, replace_json
from limbeck.system.locks import LOCK, hold

_LEFT = (".*.safetensors.*partial", ".card.json.*.partial", ".shard-*.partial", ".index*.partial", ".tail*.partial")
"""What a write that was killed leaves of files that were under way."""
_SUM = 0.05
"""Largest difference from one of what may be a sum of rounded probabilities."""
_PIECE_BYTES = 1 << 20
"""Of float32 scores: what is worked on at a time fits in a processor's cache."""


def write_arrays(
    folder: str | Path,
    blocks: Blocks,
    *,
    classes: Sequence[str],
    examples: int,
    encoding: Encoding,
    views: int = 1,
    temperature: float | None = None,
    index: NDArray[np.int64] | None = None,
    labels: NDArray[np.int64] | None = None,
    card_rows: int | None = 2048,
    shard_bytes: int = SHARD_BYTES,
    teacher_digest: str | None = None,
    data_digest: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Card:
    """Write a store of outputs given as arrays, without torch and in constant memory.

    The same call resumes a killed write; rows that are written already are not requested again where
    ``blocks`` is a function, and are drawn and dropped where it is an iterable. How top-k's tails are shared out is
    learnt from the first 16,384 rows at most, so answers should not be sorted by class.

    Args:
        folder: Where; made if it is missing.
        blocks: Log-probabilities or logits at T = 1, or at ``temperature``; rows of the first view, then the second.
        classes: Names of the K classes.
        examples: How many examples N.
        encoding: :class:`Dense`, :class:`TopK` or :class:`Sampled`.
        views: Views of each.
        temperature: The only temperature that the targets hold for; None where they serve all.
        index: The examples' numbers, ``(N,)``; None for 0, 1, 2, ...
        labels: True classes, int64 ``(N,)``, for the teacher's accuracy.
        card_rows: Rows of a shard that the card measures, evenly spaced; None for all.
        shard_bytes: About how large a shard is, bytes.
        teacher_digest: SHA-256 of the teacher, where known.
        data_digest: SHA-256 of the examples, where known.
        progress: Called with the rows done and all rows.

    Returns:
        The fidelity card.

    Raises:
        ConfigError: If a setting is out of its range, or contradicts another.
        DataError: If an answer is not finite, or there are too few or too many.
        MismatchError: If the answers have another number of classes, or the folder holds another store.
        RunError: If the folder is being written by another process, holds something else, or cannot be written.

    Example:
        >>> import tempfile
        >>> from limbeck.softtargets import Dense
        >>> scores = np.log(np.array([[0.9, 0.1], [0.4, 0.6]], np.float32))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     truth = np.zeros(2, int)
        ...     card = write_arrays(folder, [scores], classes='ab', examples=2, encoding=Dense(), labels=truth)
        >>> card.bytes_per_example, card.teacher_accuracy
        (4.0, 0.5)
    """
    truth = None if labels is None else np.asarray(labels, np.int64)
    numbers = None if index is None else np.asarray(index, np.int64)
    plan = make_plan(
        classes=classes,
        examples=examples,
        views=views,
        encoding=encoding,
        temperature=temperature,
        index=numbers,
        labelled=truth is not None,
        card_rows=card_rows,
        shard_bytes=shard_bytes,
        teacher_digest=teacher_digest,
        data_digest=data_digest,
    )
    return write_plan(Path(folder), plan, blocks, index=numbers, labels=truth, progress=progress)


def write_plan(
    folder: Path,
    plan: Plan,
    blocks: Blocks,
    *,
    index: NDArray[np.int64] | None = None,
    labels: NDArray[np.int64] | None = None,
    sample: Callable[[int], NDArray[np.float32]] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Card:
    """Write, or finish, the store of a plan.

    Args:
        folder: Where; made if it is missing.
        plan: What to write.
        blocks: The rows.
        index: The examples' numbers, ``(N,)``; None for 0, 1, 2, ...
        labels: True classes, ``(N,)``, or None.
        sample: Gives so many rows for the tail's profile; None for the first ones of ``blocks``.
        progress: Called with the rows done and all rows.

    Returns:
        The fidelity card.

    Raises:
        DataError: If labels or indices are not one per example.
        RunError: If the folder is being written by another process, holds something else, or cannot be written.
    """
    for name, values in (("index", index), ("labels", labels)):
        if values is not None and values.shape != (plan.examples,):
            raise DataError(f"{name} must have shape ({plan.examples},), and has {values.shape}")
    make_folder(folder)
    with hold(folder):
        ahead = Ahead(blocks, len(plan.classes))
        found = take_store(folder, plan, index, sample or ahead.look)
        if len(found) < plan.shards:
            found |= write_shards(folder, plan, ahead, range(len(found), plan.shards), index, labels, progress)
        codec = plan.codec
        card = add_up(
            [found[shard][1] for shard in range(plan.shards)],
            examples=plan.examples,
            views=plan.views,
            classes=len(plan.classes),
            encoding=codec,
            temperature=plan.temperature,
        )
        replace_json(folder / "card.json", card.to_dict())
        tail = check_tail(folder, plan) if codec.has_tail else None
        Manifest(plan).complete([found[shard][0] for shard in range(plan.shards)], tail).write(folder)
    return card


def take_store(
    folder: Path, plan: Plan, index: NDArray[np.int64] | None, sample: Callable[[int], NDArray[np.float32]]
) -> dict[int, tuple[str, CardSums]]:
    """Resume a store, or start one where there is none; the caller holds the folder's lock.

    Args:
        folder: Where.
        plan: What it is to hold.
        index: The examples' numbers.
        sample: Gives so many rows for the tail's profile; not called where that is there.

    Returns:
        Seals and sums of the shards that are there and good, from the first up to the first that is not.
    """
    found = _take(folder, plan)
    if len(found) < plan.shards:
        Manifest(plan).write(folder)
        if plan.index is not None and index is not None:
            replace_bytes(folder / "index.safetensors", [index_header(plan), index.astype("<i8").tobytes()])
        top = tail_of(plan.codec)
        if top is not None and not _has_tail(folder, plan):
            write_tail(folder, plan, top.learn(sample(sample_size(plan.rows, len(plan.classes)))))
    return found


def _has_tail(folder: Path, plan: Plan) -> bool:
    try:
        check_tail(folder, plan)
    except FormatError:
        return False
    return True


def _take(folder: Path, plan: Plan) -> dict[int, tuple[str, CardSums]]:
    # What a write that was killed left, before the first manifest was there or after.
    left = set(folder.glob(f".{MANIFEST}.*.partial"))
    names = {entry.name for entry in folder.iterdir() if entry not in left} - {LOCK}
    if names and MANIFEST not in names:
        raise RunError(f"{folder} holds files that are not soft targets: choose another folder")
    for path in left.union(*(folder.glob(pattern) for pattern in _LEFT)):
        path.unlink(missing_ok=True)
    names = {entry.name for entry in folder.iterdir()} - {LOCK}
    found: dict[int, tuple[str, CardSums]] = {}
    if not names:
        return found
    before = Manifest.read(folder).plan
    if before.digest != plan.digest:
        raise MismatchError(f"{folder} holds other soft targets: {before.differences(plan)}; choose another folder")
    try:
        if plan.index is not None:
            check_shard(folder / "index.safetensors", index_layout(plan), plan=plan.digest, number=-1)
        if plan.codec.has_tail:
            check_tail(folder, plan)
        for shard in range(plan.shards):
            path = folder / shard_name(shard)
            header = check_shard(path, plan.layout(shard), plan=plan.digest, number=shard)
            found[shard] = (header.seal, header.sums)
    except FormatError:
        pass  # missing or damaged: it is rewritten
    return found


def write_shards(
    folder: Path,
    plan: Plan,
    blocks: Ahead,
    shards: range,
    index: NDArray[np.int64] | None,
    labels: NDArray[np.int64] | None,
    progress: Callable[[int, int], None] | None,
) -> dict[int, tuple[str, CardSums]]:
    """Write some shards that follow each other.

    Args:
        folder: Where, with a manifest of the plan.
        plan: What the store is to hold.
        blocks: The rows.
        shards: Which shards.
        index: The examples' numbers, ``(N,)``.
        labels: True classes, ``(N,)``.
        progress: Called with the rows done and all rows.

    Returns:
        Seals and sums.
    """
    codec, classes, top = plan.codec, len(plan.classes), tail_of(plan.codec)
    if top is not None:
        codec = replace(top, profile=read_tail(folder, plan))
    rows = blocks.rows(plan.first_row(shards.start))
    piece = max(1, _PIECE_BYTES // (4 * classes))
    every = -(-plan.rows_per_shard // plan.card_rows)
    sums: dict[int, CardSums] = {}
    with ShardPipeline(folder, plan) as pipeline:
        for shard in shards:
            pipeline.begin(shard)
            base, count = plan.first_row(shard), plan.first_row(shard + 1) - plan.first_row(shard)
            measured = Measured(plan, codec)
            for place in range(0, count, piece):
                scores = rows.take(min(piece, count - place), base + place)
                if base + place == 0:
                    _tell_probabilities(scores)
                row = np.arange(base + place, base + place + len(scores))
                view, example = np.divmod(row, plan.examples)
                encoded = codec.encode(scores, example if index is None else index[example], view, base + place)
                pipeline.add(place, encoded)
                chosen = slice(-place % every, None, every)
                measured.add(
                    scores[chosen],
                    {name: values[chosen].copy() for name, values in encoded.items()},
                    None if labels is None else labels[example[chosen]],
                )
                if progress is not None:
                    progress(base + place + len(scores), plan.rows)
            sums[shard] = measured.total()
            pipeline.finish(sums[shard])
        if shards.stop == plan.shards:
            rows.end(plan.rows)
        pipeline.close()
        return {shard: (pipeline.seals[shard], total) for shard, total in sums.items()}


def _tell_probabilities(scores: NDArray[np.float32]) -> None:
    """Warn of rows that are not logits or log-probabilities: they would be softened twice."""
    if scores.shape[1] < 2 or len(scores) < 2 or not bool((scores >= 0).all()):
        return
    off = float(np.abs(scores.sum(-1) - 1).max())
    if off <= _SUM and float(np.ptp(scores, 0).max()) > 10 * off:
        warn_user(
            "the answers look like probabilities (at least 0, summing to one), and log-probabilities or logits are "
            "needed: take their logarithm"
        )
