"""Conversion of user inputs and labels to tensors, by dtype.

Axes: ``N`` examples, ``C`` channels, ``H`` and ``W`` pixels, ``K`` classes.
"""

__all__ = ["Layout", "as_inputs", "as_labels", "as_tensor", "several_hold", "unpaired", "whole_numbers"]

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from limbeck.errors import ConfigError, DataError
from limbeck.system.callbacks import warn_user

Layout = Literal["NCHW", "NHWC"]
"""Where the channels of images are: on the second axis, as PyTorch has them, or on the last."""

_CHANNELS = (1, 3, 4)
_KEPT = (torch.uint8, torch.int32, torch.int64)


def as_inputs(given: ArrayLike | Tensor, *, layout: Layout | None = None) -> Tensor:
    """Inputs as a tensor of one of four types.

    ================================= =================================================================
    given                             becomes
    ================================= =================================================================
    uint8                             uint8: intensities of images, which models see as float32 in [0, 1]
    int32, int64                      the same: token ids and the like, which models see as they are
    other integers                    int64
    bool and all floating types       float32
    ================================= =================================================================

    Args:
        given: Arrays or tensors ``(N, ...)``; uint8 images ``(N, H, W)`` get a channel axis of length 1.
        layout: Of images with four axes: "NCHW" takes them as they are, "NHWC" moves the channels from the last
            axis to the second; None takes them as they are and refuses what looks like "NHWC".

    Returns:
        The inputs ``(N, ...)``; the memory is shared where the types allow it.

    Raises:
        DataError: If they are not finite numbers, there are none, or the layout must be named.
        ConfigError: If a layout is given that is unknown, or for inputs without four axes.

    Example:
        >>> as_inputs(np.array([[3, 1]], np.int16)).dtype, as_inputs(np.array([[0.5]])).dtype
        (torch.int64, torch.float32)
        >>> as_inputs(np.zeros((2, 8, 8, 3), np.uint8), layout="NHWC").shape
        torch.Size([2, 3, 8, 8])
    """
    values = as_tensor("inputs", given)
    if values.ndim == 1 and len(values):
        raise DataError(
            f"inputs must be (examples, ...) of two axes at least, and have shape {tuple(values.shape)}: give pairs as "
            "(inputs, labels) in this order, and single numbers as (examples, 1)"
        )
    if values.ndim < 2 or values.numel() == 0:
        raise DataError(
            f"at least one example of at least one number is needed, and inputs have shape {tuple(values.shape)}"
        )
    values = _channels_second(values, layout)
    if values.dtype == torch.uint8:
        return values.unsqueeze(1) if values.ndim == 3 else values
    if not values.is_floating_point() and values.dtype != torch.bool:
        return values if values.dtype in _KEPT else values.to(torch.int64)
    values = values.to(torch.float32)
    finite = values.isfinite().flatten(1).all(1)
    if not bool(finite.all()):
        first = int((~finite).nonzero()[0])
        raise DataError(
            f"{int((~finite).sum())} of {len(values)} examples hold NaN or infinite values in float32, "
            f"the first is example {first}: remove or repair them"
        )
    return values


def as_labels(given: ArrayLike | Tensor, count: int, *, shape: Sequence[int] = ()) -> Tensor:
    """Labels as class numbers.

    Args:
        given: One whole number for each example, ``(N,)`` or ``(N, 1)``, of any type of number; or one-hot rows
            ``(N, K)``.
        count: N.
        shape: Of the inputs as they were given, for the message where N is another.

    Returns:
        Class numbers, int64 ``(N,)``.

    Raises:
        DataError: If there is not one label for each input, or a label is not a whole number of at least 0.

    Example:
        >>> as_labels([1.0, 0.0], 2), as_labels([[0, 0, 1], [1, 0, 0]], 2)
        (tensor([1, 0]), tensor([2, 0]))
    """
    found = whole_numbers(given, count, shape=shape)
    if count and int(found.min()) < 0:
        row = int(found.argmin())
        raise DataError(
            f"labels must be at least 0, and the smallest is {int(found[row])}, of example {row}: leave out what has "
            "no label, and number the classes from 0"
        )
    return found


def several_hold(given: ArrayLike | Tensor, count: int) -> bool:
    """Whether labels are rows of 0 and 1 of which any number may be 1, and not one-hot.

    Args:
        given: Labels.
        count: Of the examples.

    Returns:
        Whether they are.

    Example:
        >>> several_hold([[1, 1], [0, 0]], 2), several_hold([[1, 0], [0, 1]], 2), several_hold([1, 0], 2)
        (True, False, False)
    """
    shape = np.shape(given)
    if len(shape) != 2 or shape[0] != count:
        return False
    values = as_tensor("labels", given)
    return values.shape[1] > 1 and bool(((values == 0) | (values == 1)).all()) and not bool((values.sum(1) == 1).all())


def whole_numbers(given: ArrayLike | Tensor, count: int, *, shape: Sequence[int] = ()) -> Tensor:
    """One whole number for each example, as :func:`as_labels` takes them, of either sign.

    Args:
        given: The numbers, or one-hot rows.
        count: N.
        shape: Of the inputs as they were given, for the message where N is another.

    Returns:
        int64 ``(N,)``.

    Raises:
        DataError: If they are not whole numbers, or not one for each example.
    """
    values = as_tensor("labels", given)
    if values.ndim == 2 and len(values) == count and values.shape[1] > 1:
        return _from_one_hot(values)
    if values.ndim == 2 and values.shape[1] == 1:
        values = values.flatten()
    if values.shape != (count,):
        raise DataError(unpaired(count, values.shape, shape))
    found = values.to(torch.int64)
    if values.is_floating_point() and not torch.equal(found.to(values.dtype), values):
        row = int((found.to(values.dtype) != values).nonzero()[0])
        raise DataError(
            f"labels must be integers, the numbers of the classes from 0, and example {row} has {values[row]:g}; "
            "regression is not supported"
        )
    return found


def unpaired(count: int, labels: Sequence[int], inputs: Sequence[int] = ()) -> str:
    """Say that labels do not fit the inputs, and why that may be.

    Args:
        count: How many inputs there are.
        labels: Shape of the labels.
        inputs: Shape of the inputs, where known.

    Returns:
        The message.

    Example:
        >>> unpaired(28, (10,), (28, 28, 10))
        'there are 28 inputs, and labels have shape (10,): inputs of shape (28, 28, 10) have the examples on...
    """
    text = f"there are {count} inputs, and labels have shape {tuple(labels)}"
    if len(inputs) > 1 and labels and inputs[-1] == labels[0]:
        text += (
            f": inputs of shape {tuple(inputs)} have the examples on their last axis, and the first is needed, as from "
            "numpy.moveaxis(x, -1, 0)"
        )
    return text


def as_tensor(what: str, given: ArrayLike | Tensor) -> Tensor:
    """Real numbers as a dense tensor in the memory of the host, without gradient.

    Args:
        what: What to call them in a message.
        given: Arrays, tensors or lists.

    Returns:
        The tensor; unsigned integers of more than 8 bits become int64, which PyTorch computes with.

    Raises:
        DataError: If they are not such numbers.
    """
    tensor = given if isinstance(given, Tensor) else torch.from_numpy(_numbers(what, given))
    if tensor.is_complex():
        raise DataError(f"{what} must be real numbers, and are of type {tensor.dtype}")
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_meta:
        raise DataError(f"{what} must be a dense tensor with values, and are {tensor.layout} {tensor.dtype}")
    tensor = tensor.detach().cpu()
    if tensor.dtype in (torch.uint16, torch.uint32, torch.uint64):
        array = tensor.numpy()
        if array.size and int(array.max()) > np.iinfo(np.int64).max:
            raise DataError(f"{what} hold {int(array.max())}, and integers of at most 2**63 - 1 can be used")
        return torch.from_numpy(array.astype(np.int64))
    return tensor


def _numbers(what: str, given: ArrayLike) -> np.ndarray:
    if hasattr(given, "tocsr"):
        raise DataError(f"{what} are a sparse matrix of scipy: give a dense array, as from .toarray()")
    if np.ma.is_masked(given):
        raise DataError(f"{what} are a masked array, and some values are masked: fill them in, or leave them out")
    try:
        array = np.asarray(given)
    except Exception as error:  # whatever comes of a list of unequal lengths, or an object's own conversion
        raise DataError(f"{what} cannot be made into one array: {' '.join(str(error).split())[:200]}") from error
    if array.dtype.kind in "USO" and what == "labels":
        raise DataError(
            f"labels must be numbers, and are of type {array.dtype}: number the classes from 0, and name them with "
            "classes=[...]"
        )
    if array.dtype.kind not in "buif":
        raise DataError(f"{what} must be numbers, and are of type {array.dtype}")
    wanted = array.dtype.newbyteorder("=") if array.dtype.itemsize <= 8 else np.dtype(np.float64)
    found = np.require(array, wanted, ["C", "W"])
    return found.copy() if any(stride < 0 for stride in found.strides) else found  # of one row any stride is in order


def _channels_second(values: Tensor, layout: Layout | None) -> Tensor:
    """Images with their channels on the second axis, or a refusal where that is not certain."""
    if layout not in (None, "NCHW", "NHWC"):
        raise ConfigError(f"layout must be NCHW or NHWC, and is {layout!r}")
    if values.ndim != 4:
        if layout is not None:
            raise ConfigError(
                f"layout {layout} is for images with four axes, and the inputs have shape {tuple(values.shape)}: "
                "leave it out"
            )
        return values
    if layout == "NHWC":
        return values.permute(0, 3, 1, 2).contiguous()
    second, third, last = values.shape[1:]
    if layout is None and second * third * last > 1 and last in _CHANNELS:
        # Read as NCHW a square image ends in two equal axes, read as NHWC it begins with them.
        square = third == last and second != third
        if not square and (second not in _CHANNELS or second == third):
            raise DataError(
                f"inputs of shape {tuple(values.shape)} may have their channels on the last axis: say so with "
                'layout="NHWC" (--layout NHWC), or with "NCHW" that they are on the second, as in '
                'Examples.of(inputs, labels, layout="NHWC")'
            )
        # Few channels either way; but grey images of three rows are taken for three channels of a single column.
        if not square and last > 1:
            warn_user(
                f"inputs of shape {tuple(values.shape)} are taken as {second} channel{'s' if second > 1 else ''} of "
                f"{third} x {last} pixels, and may be {second} x {third} pixels with {last} "
                'channels on the last axis: say which with layout="NCHW" or layout="NHWC" (--layout), as in '
                'Examples.of(inputs, labels, layout="NCHW")'
            )
    return values


def _from_one_hot(values: Tensor) -> Tensor:
    wrong = ((values != 0) & (values != 1)).any(1) | ((values == 1).sum(1) != 1)
    if bool(wrong.any()):
        row = int(wrong.nonzero()[0])
        raise DataError(
            f"labels of shape {tuple(values.shape)} must be one-hot, a single 1 in each row, and example {row} is "
            "not: soft labels are given as a teacher, and multi-label rows are 0 or 1"
        )
    return values.to(torch.uint8).argmax(1)
