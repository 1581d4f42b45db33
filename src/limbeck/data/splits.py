"""Stratified, seeded splits: the same for every run with the same share."""

__all__ = ["PART_NAMES", "count_of", "cut_test", "cut_validation", "stratified_rows", "subset"]

from dataclasses import replace

import torch
from torch import Tensor

from limbeck.data.data_set import DataSet
from limbeck.data.examples import Examples
from limbeck.errors import DataError
from limbeck.keyed import permutation

PART_NAMES = {"train": "train", "training": "train", "val": "validation", "valid": "validation",
              "validation": "validation", "dev": "validation", "test": "test", "testing": "test"}  # fmt: skip
"""Parts of a data set by their common names."""
_SPLIT_SEED = 20150309
"""Fixed, so that runs with different seeds are evaluated on the same examples."""
_TEST_SEED, _TEST_SHARE = 0, 0.1


def count_of(share_or_count: float, total: int, *, name: str = "count") -> int:
    """How many examples a share (below 1) or a count means.

    Args:
        share_or_count: A share in [0, 1), or a whole number.
        total: How many there are.
        name: What to call it in a message.

    Returns:
        The count.

    Raises:
        DataError: If it is more than there are, or a number above 1 that is not whole.

    Example:
        >>> count_of(0.1, 60000), count_of(5000, 60000)
        (6000, 5000)
    """
    count = round(share_or_count * total) if share_or_count < 1 else int(share_or_count)
    if share_or_count >= 1 and count != share_or_count:
        raise DataError(f"{name} = {share_or_count} is neither a share below 1 nor a whole count of examples")
    if count > total:
        raise DataError(f"{name} = {share_or_count} is too many: there are {total} training examples")
    return count


def stratified_rows(labels: Tensor, count: int, *, seed: int = _SPLIT_SEED) -> Tensor:
    """Rows of a sample that holds each class in proportion.

    Args:
        labels: Classes, int64 ``(N,)``.
        count: How many rows to draw, at most ``N``.
        seed: Which sample.

    Returns:
        ``count`` different rows in rising order, int64.

    Example:
        >>> labels = torch.tensor([0, 0, 0, 0, 1, 1])
        >>> labels[stratified_rows(labels, 3)].bincount()
        tensor([2, 1])
    """
    shuffled = permutation(len(labels), seed=seed, epoch=0)
    by_class = shuffled[torch.argsort(labels[shuffled], stable=True)]
    sizes = torch.bincount(labels)
    # Each class gets the whole part of its share; the largest remainders share out what is left (Hamilton's method).
    take, remainder = sizes * count // len(labels), sizes * count % len(labels)
    take[torch.argsort(remainder, descending=True, stable=True)[: count - int(take.sum())]] += 1
    starts = torch.repeat_interleave(sizes.cumsum(0) - sizes, sizes)
    rank = torch.arange(len(labels)) - starts
    return by_class[rank < torch.repeat_interleave(take, sizes)].sort().values


def cut_validation(data: DataSet, share_or_count: float) -> DataSet:
    """Set aside training examples for validation.

    Of speech, whole speakers are set aside: about as many frames as are asked for.

    Args:
        data: A data set; one that has a validation set already is returned as it is.
        share_or_count: How much to set aside: a share below 1, or a count; 0 for none.

    Returns:
        The data set with a smaller training set.

    Raises:
        DataError: If nothing would be left to train on, or the training set has no labels.
    """
    if data.validation is not None or share_or_count == 0:
        return data
    count = count_of(share_or_count, len(data.train), name="validation")
    if not 0 < count < len(data.train):
        raise DataError(
            f"{data.name}: validation = {share_or_count} sets {count} of {len(data.train)} examples aside: give a "
            f"count from 1 to {len(data.train) - 1}, or 0 to do without"
        )
    units = data.train.together("validation")
    if units is not None:
        train, validation = _divide_units(data, units, count, _SPLIT_SEED)
        return replace(data, train=train, validation=validation)
    rows = stratified_rows(_labels(data), count)
    kept = torch.ones(len(data.train), dtype=torch.bool)
    kept[rows] = False
    return replace(data, train=data.train.take(kept.nonzero().flatten()), validation=data.train.take(rows))


def cut_test(data: DataSet) -> DataSet:
    """Set aside a tenth of the training set for testing: always the same.

    Groups stay together; other examples are stratified by class.

    Args:
        data: A data set without a test set.

    Returns:
        The data set with a smaller training set; as it is where there is a test set, or there are no labels or too few
        examples.
    """
    units = data.train.together("validation")
    few = units is None and len(data.train) < 2 * len(data.classes)
    if data.test is not None or data.train.labels is None or few:
        return data
    count = max(1, round(_TEST_SHARE * len(data.train)))
    if units is not None:
        train, test = _divide_units(data, units, count, _TEST_SEED)
        return replace(data, train=train, test=test)
    rows = stratified_rows(data.train.labels, count, seed=_TEST_SEED)
    kept = torch.ones(len(data.train), dtype=torch.bool)
    kept[rows] = False
    return replace(data, train=data.train.take(kept.nonzero().flatten()), test=data.train.take(rows))


def subset(data: DataSet, share_or_count: float) -> DataSet:
    """Keep only some of the training examples, stratified; the other parts are untouched.

    Of speech, whole utterances are kept, drawn at random: about as many frames as are asked for.

    Args:
        data: A data set.
        share_or_count: How much to keep: a share below 1, or a count.

    Returns:
        The smaller data set.

    Raises:
        DataError: If a class would be left without an example.
    """
    count = count_of(share_or_count, len(data.train), name="train_examples")
    units = data.train.together("subset")
    if units is not None:
        _, kept = _divide_units(data, units, count, _SPLIT_SEED + 1)
        return replace(data, train=kept)
    labels = _labels(data)
    rows = stratified_rows(labels, count, seed=_SPLIT_SEED + 1)
    if len(torch.unique(labels[rows])) < len(data.classes):
        raise DataError(
            f"{data.name}: train_examples = {share_or_count} leaves {count}, too few to hold each of the "
            f"{len(data.classes)} classes: use more"
        )
    return replace(data, train=data.train.take(rows))


def _divide_units(data: DataSet, units: Tensor, count: int, seed: int) -> tuple[Examples, Examples]:
    """Divide training examples so that about ``count`` are in the second part, and all of a unit in the same part."""
    sizes = torch.bincount(units).tolist()
    if len(sizes) < 2:
        raise DataError(f"{data.name}: all examples are in one group: give separate validation data")
    chosen: list[int] = []
    total = 0
    for unit in permutation(len(sizes), seed=seed, epoch=0).tolist():
        if chosen and abs(total + sizes[unit] - count) >= abs(total - count):
            break
        chosen.append(unit)
        total += sizes[unit]
        if len(chosen) == len(sizes) - 1:
            break
    inside = torch.isin(units, torch.tensor(chosen))
    return data.train.take((~inside).nonzero().flatten()), data.train.take(inside.nonzero().flatten())


def _labels(data: DataSet) -> Tensor:
    if data.train.labels is None:
        raise DataError(f"{data.name}: a stratified split needs labels, and the training set has none")
    return data.train.labels
