"""The input contract of an exported file, in plain values: how to prepare its inputs."""

__all__ = ["input_contract", "read_contract"]

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from limbeck.data.multi_label import seen_within
from limbeck.data.table_encoding import TableEncoding
from limbeck.inputs import Inputs
from limbeck.options import ImagePresentation, TextPresentation


def input_contract(example: Inputs, presentation: Any, *, pixels: bool) -> dict[str, Any]:
    """Describe the inputs of an exported model.

    Args:
        example: Some of them.
        presentation: How the model sees images, texts or rows of a table; None where it takes them as they are.
        pixels: Whether normalisation is inside: images are then given as bytes.

    Returns:
        Values by name, for JSON: for images layout, size, colours, and how pixels become numbers; for texts the
        tokens; for other tensors the shape.

    Example:
        >>> import torch
        >>> seen = ImagePresentation.plain(28, channels=1)
        >>> found = input_contract(torch.zeros(2, 1, 28, 28), seen, pixels=False)
        >>> found["layout"], found["size"], found["mean"], found["std"]
        ('NCHW', [28, 28], [0.0], [1.0])
    """
    presentation = seen_within(presentation)
    if isinstance(presentation, ImagePresentation):
        return _of_images(presentation, pixels=pixels)
    if isinstance(presentation, TextPresentation):
        names = list(example) if not isinstance(example, Tensor) else ["input_ids"]
        return {"kind": "text", "layout": "NL", "names": names, "max_length": presentation.max_length}
    kind = "table" if isinstance(presentation, TableEncoding) else "tensor"
    tensors = {"inputs": example} if isinstance(example, Tensor) else example
    shapes = {name: ["batch", *value.shape[1:]] for name, value in tensors.items()}
    dtypes = {name: str(value.dtype).removeprefix("torch.") for name, value in tensors.items()}
    columns = {"columns": presentation.to_dict()["columns"]} if isinstance(presentation, TableEncoding) else {}
    return {"kind": kind, "shapes": shapes, "dtypes": dtypes, **columns}


def _of_images(seen: ImagePresentation, *, pixels: bool) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "kind": "image",
        "layout": "NCHW",
        "colours": "grey" if seen.channels == 1 else "RGB",
        "size": list(seen.size),
        "dtype": "uint8" if pixels else "float32",
        "resize": {"interpolation": seen.interpolation, "crop_pct": seen.crop_pct, "squash": seen.squash},
    }
    if pixels:
        return {**shown, "values": "pixels from 0 to 255; normalisation is inside"}
    return {**shown, "values": "(pixels / 255 - mean) / std", "mean": list(seen.mean), "std": list(seen.std)}


def read_contract(contract: Mapping[str, Any]) -> tuple[Any, bool]:
    """The presentation that an input contract describes.

    Args:
        contract: What :func:`input_contract` gave.

    Returns:
        How the file sees images or rows of a table, None where examples are taken as they are; and whether images are
        given as bytes, normalisation being inside.

    Raises:
        ValueError: If it is damaged.
        DataError: If its columns are.

    Example:
        >>> import torch
        >>> seen = ImagePresentation(size=64)
        >>> read_contract(input_contract(torch.zeros(2, 3, 64, 64), seen, pixels=False)) == (seen, False)
        True
    """  # noqa: DOC502
    try:
        if contract["kind"] == "table":
            categories = "codes" if "categories" in contract["shapes"] else "one-hot"
            return TableEncoding.from_dict({"categories": categories, "columns": contract["columns"]}), False
        if contract["kind"] != "image":
            return None, False
        pixels, resize = contract["dtype"] == "uint8", contract["resize"]
        high, wide = contract["size"]
        return ImagePresentation(
            size=(int(high), int(wide)),
            mean=(0.0,) if pixels else tuple(contract["mean"]),
            std=(1.0,) if pixels else tuple(contract["std"]),
            crop_pct=float(resize["crop_pct"]),
            interpolation=resize["interpolation"],
            channels=1 if contract["colours"] == "grey" else 3,
            squash=bool(resize["squash"]),
        ), pixels
    except (KeyError, TypeError) as error:
        raise ValueError(f"the input contract is damaged: {error}") from error
