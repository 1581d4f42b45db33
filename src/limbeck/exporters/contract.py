"""The input contract of an exported file, in plain values: how to prepare its inputs."""

__all__ = ["input_contract"]

from typing import Any

from torch import Tensor

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
