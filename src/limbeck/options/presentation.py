"""A model's image preprocessing: size, crop and normalisation, from its own configuration."""

__all__ = ["IMAGENET_MEAN", "IMAGENET_STD", "ImagePresentation"]

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from limbeck.errors import ConfigError
from limbeck.options.checks import check_types, require

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
"""Mean and standard deviation of red, green and blue over ImageNet's training set, on [0, 1]."""

Interpolation = Literal["nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"]
_OF_PILLOW: tuple[Interpolation, ...] = ("nearest", "lanczos", "bilinear", "bicubic", "box", "hamming")
"""Interpolations by Pillow's numbers, which Hugging Face's configurations use."""
_SQUASHED_FROM = 384
"""The size from which Hugging Face's ConvNextImageProcessor resizes without a crop."""


@dataclass(frozen=True, kw_only=True)
class ImagePresentation:
    """Preprocessing of the images that a model takes; the defaults are ImageNet's.

    An image is resized, keeping its proportions, until it covers ``size / crop_pct``; it is centre-cropped to ``size``;
    pixels on [0, 1] are normalised by channel, ``(x - mean) / std``.

    Attributes:
        size: Height and width in pixels; one number for a square.
        mean: Per channel, on [0, 1].
        std: Per channel, above 0.
        crop_pct: Share of the resized image, along a side, that the centre crop keeps, in (0, 1].
        interpolation: Antialiased, as Pillow's filter of that name.
        channels: 3 for red, green and blue, or 1 for grey.
        squash: Resize to ``size / crop_pct`` without keeping the aspect ratio, as some models were trained.

    Example:
        >>> ImagePresentation(size=64).size, ImagePresentation.plain(28, channels=1).std
        ((64, 64), (1.0,))
    """

    size: tuple[int, int] = (224, 224)
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    crop_pct: float = 0.875
    interpolation: Interpolation = "bilinear"
    channels: int = 3
    squash: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.size, int) and not isinstance(self.size, bool):
            object.__setattr__(self, "size", (self.size, self.size))
        check_types(self)
        require(
            len(self.size) == 2 and all(0 < side <= 8192 for side in self.size),
            "size",
            self.size,
            "height and width, from 1 to 8192 pixels",
        )
        require(self.channels in {1, 3}, "channels", self.channels, "1 or 3")
        require(0 < self.crop_pct <= 1, "crop_pct", self.crop_pct, "in (0, 1]")
        known = get_args(Interpolation)
        require(self.interpolation in known, "interpolation", repr(self.interpolation), f"one of {', '.join(known)}")
        for name in ("mean", "std"):
            values = tuple(float(value) for value in getattr(self, name))
            values = values * self.channels if len(values) == 1 else values
            if self.channels == 1 and len(values) == 3:
                values = (sum(values) / 3,)
            require(len(values) == self.channels, name, values, f"a number for each of {self.channels} channels")
            object.__setattr__(self, name, values)
        require(all(abs(value) < 1e6 for value in self.mean), "mean", self.mean, "finite")
        require(all(1e-6 < value < 1e6 for value in self.std), "std", self.std, "above 0 and finite")

    @classmethod
    def plain(cls, size: int | tuple[int, int], *, channels: int = 3) -> "ImagePresentation":
        """Pixels on [0, 1], without a crop: the preprocessing of uint8 images in memory for models without a
        presentation.

        Args:
            size: Height and width in pixels.
            channels: 1 or 3.

        Returns:
            The presentation.
        """
        return cls(size=size, mean=(0.0,), std=(1.0,), crop_pct=1.0, channels=channels)  # type: ignore[arg-type]

    @classmethod
    def from_timm(cls, config: Mapping[str, Any]) -> "ImagePresentation":
        """The presentation in a timm model's ``pretrained_cfg``; ImageNet's where it has none.

        Args:
            config: ``input_size``, ``mean``, ``std``, ``crop_pct``, ``interpolation`` and ``crop_mode``, all optional.

        Returns:
            The presentation.

        Raises:
            ConfigError: If a value is invalid.

        Example:
            >>> ImagePresentation.from_timm({"input_size": (3, 160, 160), "crop_pct": 0.95}).size
            (160, 160)
        """
        channels, height, width = (int(each) for each in config.get("input_size") or (3, 224, 224))
        given = {name: config[name] for name in ("crop_pct", "interpolation") if config.get(name) is not None}
        given |= {name: tuple(config[name]) for name in ("mean", "std") if config.get(name) is not None}
        if given.get("interpolation") == "random":
            given["interpolation"] = "bilinear"
        mode = config.get("crop_mode") or "center"
        require(mode in {"center", "squash"}, "crop_mode", repr(mode), "center or squash")
        return cls(size=(height, width), channels=channels, squash=mode == "squash", **given)

    @classmethod
    def from_processor(cls, config: Mapping[str, Any]) -> "ImagePresentation":
        """The presentation in the configuration of a Hugging Face image processor.

        Args:
            config: The contents of a ``preprocessor_config.json``.

        Returns:
            The presentation.

        Raises:
            ConfigError: If it does not resize to a fixed size, or needs an unsupported step.

        Example:
            >>> found = ImagePresentation.from_processor({"size": {"shortest_edge": 256}, "crop_size": 224,
            ...                                           "do_center_crop": True})
            >>> found.size, found.crop_pct
            ((224, 224), 0.875)
        """
        if config.get("do_flip_channel_order"):
            raise ConfigError("an image processor with do_flip_channel_order expects BGR, which is not supported")
        mean = config.get("image_mean") or (0.0,)
        std = config.get("image_std") or (1.0,)
        if not config.get("do_normalize", True):
            mean, std = (0.0,), (1.0,)
        # Pixels on [0, 1] map to pixels times the factor, minus one where there is an offset.
        factor = 255 * float(config.get("rescale_factor", 1 / 255)) if config.get("do_rescale", True) else 255.0
        offset = 1.0 if config.get("rescale_offset") else 0.0
        resample = config.get("resample", 2)
        require(resample in range(len(_OF_PILLOW)), "resample", resample, "a Pillow resampling filter, 0 to 5")
        return cls(
            **_sizes_of(config),
            mean=tuple((value + offset) / factor for value in mean),
            std=tuple(value / factor for value in std),
            interpolation=_OF_PILLOW[resample],
        )

    def to_processor(self) -> dict[str, Any]:
        """The contents of a ``preprocessor_config.json`` for Hugging Face.

        Returns:
            Values by name; :meth:`from_processor` gives a presentation with the same pixels for square images:
            ``size / crop_pct`` is rounded to whole pixels.

        Example:
            >>> shown = ImagePresentation(size=224)
            >>> ImagePresentation.from_processor(shown.to_processor()) == shown
            True
        """
        high, wide = (math.floor(side / self.crop_pct) for side in self.size)
        size = {"height": high, "width": wide} if self.squash else {"shortest_edge": min(high, wide)}
        return {
            "image_processor_type": "CLIPImageProcessor",
            "do_convert_rgb": self.channels == 3,
            "do_resize": True,
            "size": size,
            "resample": _OF_PILLOW.index(self.interpolation),
            "do_center_crop": True,
            "crop_size": {"height": self.size[0], "width": self.size[1]},
            "do_rescale": True,
            "rescale_factor": 1 / 255,
            "do_normalize": True,
            "image_mean": list(self.mean),
            "image_std": list(self.std),
        }

    def to_dict(self) -> dict[str, Any]:
        """Plain values by name, for JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, found: Mapping[str, Any]) -> "ImagePresentation":
        """The presentation from the values of :meth:`to_dict`, as read from a file.

        Args:
            found: Values by name.

        Returns:
            The presentation.

        Raises:
            ConfigError: If a name is unknown, or a value is invalid.
        """
        unknown = sorted(set(found) - {field.name for field in dataclasses.fields(cls)})
        if unknown:
            raise ConfigError(f"unknown fields of an image presentation: {', '.join(unknown)}"[:300])
        try:
            return cls(**{name: tuple(value) if isinstance(value, list) else value for name, value in found.items()})  # type: ignore[arg-type]
        except (TypeError, ValueError) as error:
            raise ConfigError(f"invalid image presentation {dict(found)}: {error}"[:300]) from error


def _sizes_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """Size, crop and squashing from the different spellings of processors."""
    size, crop = config.get("size"), config.get("crop_size")
    sides, kept, edge = _sides(size), _sides(crop), _edge(size)
    if not config.get("do_resize", True) or (sides is None and edge is None):
        raise ConfigError(
            f"an image processor must resize images to a size, and has do_resize {config.get('do_resize', True)} and "
            f"size {size!r}: give a size"[:300]
        )
    if kept is not None and config.get("do_center_crop", True):
        # A single number is the shorter side where a crop follows, and a square elsewhere.
        whole = (edge, edge) if edge is not None else sides
        assert whole is not None
        return {"size": kept, "crop_pct": _share(min(kept), min(whole)), "squash": edge is None}
    if edge is not None and config.get("crop_pct") is not None:
        large = edge >= _SQUASHED_FROM
        return {"size": edge, "crop_pct": 1.0 if large else float(config["crop_pct"]), "squash": large}
    return {"size": edge, "crop_pct": 1.0} if sides is None else {"size": sides, "crop_pct": 1.0, "squash": True}


def _share(kept: int, whole: int) -> float:
    """The share that a crop keeps, such that the kept side divided by it is exactly the whole side."""
    share = min(1.0, kept / whole)
    while share < 1 and math.floor(kept / share) < whole:
        share = math.nextafter(share, 0.0)
    return share


def _sides(size: Any) -> tuple[int, int] | None:
    """Height and width."""
    if isinstance(size, Mapping):
        return (int(size["height"]), int(size["width"])) if {"height", "width"} <= size.keys() else None
    if isinstance(size, int):
        return size, size
    return (int(size[0]), int(size[1])) if isinstance(size, list | tuple) and len(size) == 2 else None


def _edge(size: Any) -> int | None:
    """The shorter side."""
    edge = size.get("shortest_edge") if isinstance(size, Mapping) else size
    return edge if isinstance(edge, int) else None
