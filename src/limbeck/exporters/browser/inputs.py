"""The inputs of a page, and their conversion to the network's inputs: plain values for the page's script.

Axes: ``n`` samples, ``C`` channels, ``H`` and ``W`` pixels.
"""

__all__ = ["SCRIPTS", "input_of", "samples_of", "tall_first"]

import base64
from collections.abc import Mapping, Sequence
from functools import cache
from io import BytesIO
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from limbeck.data.table_encoding import TableEncoding
from limbeck.errors import ConfigError
from limbeck.exporters.browser.tokenizer import tokenizer_for_page
from limbeck.exporters.protocol import Samples
from limbeck.options import ImagePresentation
from limbeck.options.text import TextPresentation

_DRAWN = 64
"""Pixels of a side up to which grey images can be drawn by hand."""
SCRIPTS = {"image": ("images",), "text": ("tokens", "fields"), "table": ("fields",)}
"""Scripts of the page by what it asks for."""
_LOSSLESS = 64
"""Pixels of a side up to which sample images are kept as they are; larger ones are JPEG, for the size of the page."""
_QUALITY = 88
_MOST_NUMBERS = 4096


def input_of(samples: Samples) -> dict[str, Any]:
    """The description of the page's input.

    Args:
        samples: Held-out examples, and how the model sees them.

    Returns:
        Values by name, of which ``kind`` is "image", "text", "table" or "numbers".

    Raises:
        ConfigError: If it is something that a page cannot ask for.
    """
    if isinstance(samples.given, Tensor):
        return _image(samples)
    if samples.given is not None and isinstance(samples.presentation, TextPresentation):
        return _text(samples)
    if samples.given is not None and isinstance(samples.presentation, TableEncoding):
        return _table(samples)
    if isinstance(samples.inputs, Mapping):
        raise ConfigError(
            f"a page cannot ask a person for the inputs {', '.join(samples.inputs)}: it is for images, single texts, "
            "rows of a table as one tensor, and vectors of numbers"
        )
    shape = list(samples.inputs.shape[1:])
    count = int(np.prod(shape))
    if count > _MOST_NUMBERS or not (samples.inputs.is_floating_point() or samples.inputs.dtype == torch.uint8):
        raise ConfigError(
            f"a page cannot ask a person for {count:,} numbers of shape {tuple(shape)}: give images as uint8, or in "
            f"files; vectors may have {_MOST_NUMBERS:,} numbers"
        )
    return {"kind": "numbers", "shape": shape, "count": count}


def _text(samples: Samples) -> dict[str, Any]:
    assert samples.given is not None and isinstance(samples.inputs, Mapping), "texts become tokens by name"
    read = tokenizer_for_page(samples.presentation, list(samples.given))
    most = samples.presentation.max_length
    how = [f"The text is tokenised in the page as it was for training; the network sees at most {most:,} tokens."]
    return {"kind": "text", "names": list(samples.inputs), "how": how, **read}


def _table(samples: Samples) -> dict[str, Any]:
    seen = samples.presentation
    if seen.categories != "one-hot":
        raise ConfigError("a page cannot ask for a table whose categories are codes: export to onnx or torch")
    how = ["An empty field is a gap, filled as in training. Numbers are standardised in the page."]
    return {"kind": "table", "columns": seen.to_dict()["columns"], "how": how}


def _image(samples: Samples) -> dict[str, Any]:
    pixels = samples.given
    assert isinstance(pixels, Tensor)
    channels, height, width = pixels.shape[1:]
    seen = samples.presentation
    if not isinstance(seen, ImagePresentation):  # images in memory, on [0, 1]
        seen = ImagePresentation.plain((height, width), channels=channels)
    border = torch.cat([pixels[..., 0, :].flatten(), pixels[..., -1, :].flatten()]).float()
    return {
        "kind": "image",
        "height": height,
        "width": width,
        "channels": channels,
        "mean": list(seen.mean),
        "std": list(seen.std),
        "crop": seen.crop_pct,
        "squash": seen.squash,
        "interpolation": seen.interpolation,
        "tallFirst": tall_first(),
        "draw": channels == 1 and max(height, width) <= _DRAWN,
        "dark": bool(border.median() > 127),  # dark ink on light paper
    }


@cache
def tall_first() -> bool:
    """Whether this Pillow shrinks the height of tall images before their width, which rounds otherwise.

    Returns:
        What a small image shows.
    """
    pixels = np.random.default_rng(0).integers(0, 256, (31, 17), np.uint8)
    image, way = Image.fromarray(pixels), Image.Resampling.BICUBIC
    return image.resize((16, 13), way) != image.resize((16, 31), way).resize((16, 13), way)


def samples_of(samples: Samples, classes: Sequence[str]) -> list[dict[str, Any]]:
    """The samples as the page shows them.

    Args:
        samples: Held-out examples.
        classes: Names of the classes.

    Returns:
        ``label`` of each, and what it is.
    """
    labels = [None] * 99 if samples.labels is None else [classes[label] for label in samples.labels]
    if isinstance(samples.given, Tensor):
        made = [_encoded(image) for image in samples.given]
    elif samples.given is None:
        made = _vectors(samples)
    else:
        made = [_titled(each) for each in samples.given]
    return [{"label": label, **sample} for label, sample in zip(labels, made, strict=False)]


def _titled(given: Any) -> dict[str, Any]:
    """A text, or a row by column, with a few words of it."""
    if isinstance(given, str):
        return {"title": " ".join(given.split())[:160], "text": given}
    known = {name: value for name, value in given.items() if value not in {None, ""}}
    words = [f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}" for name, value in known.items()]
    return {"title": ", ".join(words)[:160], "row": given}


def _encoded(image: Tensor) -> dict[str, Any]:
    """Pixels ``(C, H, W)`` as an address that holds the image itself."""
    array = image.numpy()
    picture = Image.fromarray(array[0] if len(array) == 1 else np.ascontiguousarray(array.transpose(1, 2, 0)))
    content, small = BytesIO(), max(picture.size) <= _LOSSLESS
    if small:
        picture.save(content, "PNG", optimize=True)
    else:
        picture.save(content, "JPEG", quality=_QUALITY)
    kind = "png" if small else "jpeg"
    return {"image": f"data:image/{kind};base64,{base64.b64encode(content.getvalue()).decode()}"}


def _vectors(samples: Samples) -> list[dict[str, Any]]:
    assert isinstance(samples.inputs, Tensor)
    rows = [[float(f"{value:.7g}") for value in row.flatten().tolist()] for row in samples.inputs.float()]
    return [{"title": " ".join(f"{value:.3g}" for value in row[:8]), "numbers": row} for row in rows]
