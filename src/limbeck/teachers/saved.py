r"""Existing outputs as arrays: checked, and stored by example index.

Axes: ``N`` examples, ``K`` classes, ``k`` of them kept per example.
"""

__all__ = ["saved_answers"]

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from limbeck.data.data_set import DataSet
from limbeck.data.examples import Examples
from limbeck.data.values import as_tensor
from limbeck.errors import DataError, MismatchError
from limbeck.system.callbacks import warn_user
from limbeck.teachers.answer_kinds import KIND_WORDS, AnswerKind, refuse_spoilt, sum_limit, tell_kind
from limbeck.teachers.stored import StoredTargets
from limbeck.teachers.stored_topk import StoredTopK


def saved_answers(
    *,
    probs: Any = None,
    log_probs: Any = None,
    logits: Any = None,
    ids: Any = None,
    index: ArrayLike | None = None,
    classes: Sequence[str] | None = None,
    examples: Any = None,
) -> StoredTargets:
    """Make a teacher of outputs saved as arrays.

    Exactly one of ``probs``, ``log_probs`` and ``logits`` is given, all at T = 1. With ``ids`` they are the top k of
    each example, and the rest of the mass is spread evenly over the other classes.

    Args:
        probs: Probabilities ``(N, K)``, rows summing to one; or ``(N, k)`` with ``ids``. A DataFrame's columns are
            matched with ``classes`` by name. Where several labels may hold at a time, the probability of each label.
        log_probs: Natural logarithms of such.
        logits: Logits, ``(N, K)``; of labels those before a sigmoid.
        ids: Classes of the values, ``(N, k)``: numbers, or names of ``classes``.
        index: Number of each row's example in the data, ``(N,)``; None: rows are in the examples' order.
        classes: Names of the K classes in order.
        examples: What the answers are for: :class:`~limbeck.Examples`, a :class:`~limbeck.DataSet` or what
            :meth:`Examples.of` takes. They are refused for other data; None: for others than they are first used for.

    Returns:
        The answers, as a teacher.

    Raises:
        DataError: If values are not what their name says, or shapes do not fit.
        MismatchError: If there is not a row for each example.

    Example:
        >>> x = torch.zeros(2, 4)
        >>> teacher = saved_answers(probs=[[0.9, 0.1], [0.4, 0.6]], examples=x)
        >>> teacher.log_probs(Examples.of(x).batch(torch.tensor([1])), 1.0).exp()
        tensor([[0.4000, 0.6000]])
    """
    given = {"probs": probs, "log_probs": log_probs, "logits": logits}
    kinds = [kind for kind, values in given.items() if values is not None]
    if len(kinds) != 1:
        raise DataError(f"give exactly one of probs, log_probs and logits: {len(kinds)} are given")
    data = examples if isinstance(examples, DataSet) else None
    part = _as_examples(examples)
    labels = None if part is None else getattr(part.inputs, "label_names", None)
    if labels is not None and (classes is None or tuple(classes) == _TWO):
        classes = labels
    elif classes is None and data is not None:
        classes = data.classes
    names = None if classes is None else tuple(map(str, classes))
    values = _by_name(given[kinds[0]], names if ids is None else None)
    kind: AnswerKind = kinds[0]  # type: ignore[assignment]
    numbers = torch.arange(len(values)) if index is None else _numbers(index, len(values))
    if labels is not None:
        if ids is not None:
            raise DataError("several labels may hold at a time: give a probability for each, and not the top k")
        values, numbers, kind, names = _pairs(values, kind, labels), _pair_numbers(numbers, len(labels)), "probs", _TWO
    if part is not None:
        numbers = _keyed(
            numbers, len(values), part, data, in_order=index is None, per=1 if labels is None else len(labels)
        )
    source = None if part is None else part.source
    if ids is None:
        tell_kind(values, kind)
        if names is not None and values.shape[1] != len(names):
            raise MismatchError(f"saved answers have {values.shape[1]} columns, and there are {len(names)} classes")
        found = StoredTargets(_normalised(values, kind), numbers, classes=names, source=source)
    else:
        found = _top(values, kind, ids, numbers, names, source)
    found.in_order = index is None and part is None
    return found


_TWO = ("no", "yes")
"""The classes of a label."""


def _pair_numbers(numbers: Tensor, labels: int) -> Tensor:
    """Numbers of the pairs of example and label, of those of the examples."""
    return (numbers[:, None] * labels + torch.arange(labels)).flatten()


def _pairs(values: NDArray[Any], kind: AnswerKind, labels: Sequence[str]) -> NDArray[Any]:
    """Probabilities of two classes for each label of each example, ``(N L, 2)``, of one number for each."""
    refuse_spoilt(values, kind)
    if values.shape[1] != len(labels):
        raise MismatchError(f"saved answers have {values.shape[1]} columns, and there are {len(labels)} labels")
    numbers = values.astype(np.float64)
    inside = bool((numbers >= 0).all() and (numbers <= 1).all())
    if kind == "logits":
        if inside and len(numbers) > 1:
            raise DataError(
                f"the values given as logits are from 0 to 1 in all {len(values)} rows, as after a sigmoid: a second "
                "one would flatten them; give them as probs"
            )
        with np.errstate(over="ignore"):
            held = 1 / (1 + np.exp(-numbers))
    else:
        held = numbers if kind == "probs" else np.exp(np.minimum(numbers, 700))
        odd = ~((held >= 0) & (held <= 1 + 1e-6))
        if odd.any():
            row = int(np.argmax(odd.any(1)))
            raise DataError(
                f"row {row} of the saved answers holds {numbers[row][odd[row]][0]:.4g}, which is not a "
                f"{'logarithm of a probability' if kind == 'log_probs' else 'probability'} of a label: are they logits?"
            )
        held = np.minimum(held, 1)
    return np.stack([1 - held, held], -1).reshape(-1, 2)


def _normalised(values: NDArray[Any], kind: AnswerKind) -> Tensor:
    """Log-probabilities, float32; what rounding took from the sums is given back."""
    found = torch.from_numpy(np.ascontiguousarray(values)).float()
    return torch.log_softmax(found.log() if kind == "probs" else found, -1)


def _by_name(values: Any, classes: tuple[str, ...] | None) -> NDArray[Any]:
    """An array; the columns of a DataFrame in the order of the classes."""
    named = getattr(values, "columns", None)
    if named is not None:
        texts = [str(name) for name in named]
        if classes is not None:
            if sorted(texts) != sorted(classes):
                missing = [name for name in classes if name not in texts] or [t for t in texts if t not in classes]
                raise MismatchError(
                    f"the columns of the saved answers are not the classes: {', '.join(map(repr, missing[:5]))} "
                    f"{'is' if len(missing) == 1 else 'are'} on one side alone; classes are {', '.join(classes[:8])}"
                )
            values = values.iloc[:, [texts.index(name) for name in classes]]
        values = values.to_numpy()
    tensor = as_tensor("saved answers", values)
    array: NDArray[Any] = (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()
    if array.dtype.kind not in "fiu":
        raise DataError(f"saved answers must be numbers, and are of type {array.dtype}")
    return array


def _top(
    values: NDArray[Any],
    kind: AnswerKind,
    ids: Any,
    numbers: Tensor,
    classes: tuple[str, ...] | None,
    source: str | None,
) -> StoredTopK:
    if classes is None:
        raise DataError("top-k answers do not tell how many classes there are: give classes=[...]")
    if kind == "logits":
        raise DataError(
            "the logits of the top k do not tell how much mass the other classes have: save log_softmax over all "
            "classes, then take the top k, and give them as log_probs"
        )
    refuse_spoilt(values, kind)
    with np.errstate(over="ignore"):
        mass = (values if kind == "probs" else np.exp(values.astype(np.float64))).sum(1, dtype=np.float64)
    limit = sum_limit(values, kind)
    wrong = (mass > 1 + limit) | ((values < 0).any(1) if kind == "probs" else (values > limit).any(1))
    if wrong.any():
        row = int(np.argmax(wrong))
        raise DataError(
            f"row {row} of the top-k {KIND_WORDS[kind]} sums to {mass[row]:.4g}"
            f"{' after exp' if kind != 'probs' else ''}, and at most 1 is possible: are they logits, or of several "
            "labels?"
        )
    found = torch.from_numpy(np.ascontiguousarray(values)).float()
    logs = found.log() if kind == "probs" else found
    logs = logs - torch.from_numpy(np.maximum(mass, 1)).log().float()[:, None]
    if values.shape[1] < len(classes) and bool((np.abs(mass - 1) <= 1e-6).all()):
        warn_user(
            f"the top {values.shape[1]} probabilities sum to one in every row, so that the other classes get nothing: "
            "where they were scaled to do so, give them as they were"
        )
    return StoredTopK(logs, _class_numbers(ids, classes), numbers, len(classes), classes=classes, source=source)


def _class_numbers(ids: Any, classes: tuple[str, ...]) -> Tensor:
    array = np.asarray(ids.detach().cpu() if isinstance(ids, Tensor) else ids)
    if array.dtype.kind in "OSU":
        place = {name: number for number, name in enumerate(classes)}
        texts = np.asarray(array, dtype=object)
        unknown = {str(name) for name in texts.flat} - set(place)
        if unknown:
            raise MismatchError(f"the saved answers name the class {sorted(unknown)[0]!r}, which the data do not have")
        array = np.vectorize(lambda name: place[str(name)], otypes=[np.int64])(texts)
    if array.dtype.kind == "f" and (array == np.floor(array)).all():
        array = array.astype(np.int64)
    if array.dtype.kind not in "iu":
        raise DataError(f"class ids must be whole numbers or names of classes, and are of type {array.dtype}")
    return torch.from_numpy(array.astype(np.int64))


def _numbers(index: ArrayLike, count: int) -> Tensor:
    array = np.asarray(index)
    if array.shape != (count,) or array.dtype.kind not in "iu":
        raise DataError(
            f"index must be one whole number for each of {count} rows, and has shape {array.shape} and type "
            f"{array.dtype}"
        )
    numbers = torch.from_numpy(array.astype(np.int64))
    if int(numbers.min()) < 0:
        raise DataError(f"index must be at least 0, and row {int(numbers.argmin())} has {int(numbers.min())}")
    ordered = numbers.sort().values
    twice = ordered[1:][ordered[1:] == ordered[:-1]]
    if len(twice):
        raise DataError(f"index names example {int(twice[0])} twice: one row for each example is needed")
    return numbers


def _as_examples(examples: Any) -> Examples | None:
    if examples is None or isinstance(examples, Examples):
        return examples
    if isinstance(examples, DataSet):
        return examples.train
    return Examples.of(*examples) if isinstance(examples, tuple) else Examples.of(examples)


def _keyed(numbers: Tensor, rows: int, part: Examples, data: DataSet | None, *, in_order: bool, per: int = 1) -> Tensor:
    """The examples' numbers for each row of the answers, where there is one for each example, of ``per`` labels."""
    parts = [part] if data is None else [each for each in data.parts().values() if each.source == part.source]
    whole = sum(map(len, parts))
    if not in_order:
        known = set(numbers.tolist())
        missing = [number for number in part.index.tolist() if number not in known]
        if missing:
            first = ", ".join(str(number // per) for number in missing[::per][:3])
            raise MismatchError(
                f"the saved answers have no row for {len(missing) // per} of {len(part) // per} examples, the first "
                f"{'is example' if len(missing) == per else 'are examples'} {first}"
            )
        return numbers
    if rows == len(part):
        return part.index.long()
    last = max(int(each.index.max()) for each in parts)
    if rows == whole == last + 1 or (part.origin is not None and whole < rows and last < rows):
        return numbers  # what was set aside for choosing and judging was taken out of these rows
    apart = "" if whole == len(part) else f" ({whole // per} with those set aside for choosing and judging)"
    raise MismatchError(
        f"there are {rows // per} rows of saved answers, and {len(part) // per} examples{apart}: give a row for each, "
        "in their order, or the rows' index"
    )
