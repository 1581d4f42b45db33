"""Folders of images, one sub-folder per class, read into one array.

Axes: ``N`` images, ``C`` channels (1 grey, 3 red-green-blue), ``H`` rows, ``W`` columns.
"""

__all__ = ["OpenedPicture", "Pictures", "open_picture", "pixels_of", "read_pictures", "read_unlabelled"]

import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from limbeck.errors import ConfigError, DataError, FormatError
from limbeck.formats.image_files import Listing, list_classes, list_images

# Only these decoders run, whatever a file's magic bytes: some of Pillow's call external programs.
_DECODERS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
_ROOM = 90 << 20
"""Bytes that decoding an image may take, beside four times the file's size: a few bytes can claim any size."""
_ROOM_REDUCED = 384 << 20
"""The same limit where a size is given, so that large photographs are expected."""
_MEMORY = {"1": 5, "L": 5, "P": 13, "RGB": 13, "CMYK": 15, "RGBA": 18}
_MEMORY_REDUCED = {"L": 3, "RGB": 8, "CMYK": 8, "RGBA": 12}
"""Bytes a pixel where the image is reduced before anything else is made of it; other modes cannot be averaged."""
_ORIENTATION = 0x0112  # the tag of EXIF
_TURNED = (5, 6, 7, 8)
"""Orientations that exchange height and width."""
_WITH_DRAFT = ("JPEG", "MPO")
"""Formats that are decoded at a half, a quarter or an eighth of their size where that is enough."""
_WEBP_MEMORY = 26
_MOST_MEMORY = 24
"""Bytes a pixel while it is decoded, by mode, as measured: 16 bits and transparency go through several copies."""
_DEFAULT_MAX_PIXELS = 89_478_485  # Pillow's own limit, for when a program has switched that off


@dataclass(frozen=True, eq=False)
class Pictures:
    """Images with their classes.

    Attributes:
        images: uint8 ``(N, C, H, W)``; C is 1 if all images are grey, else 3.
        labels: int64 ``(N,)``, positions in ``classes``; empty where there are no classes.
        classes: Names of the sub-folders, sorted.
        files: The N paths relative to the folder, with ``/`` between the parts.
        notes: What people should know of how the folder was read.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    classes: tuple[str, ...]
    files: tuple[str, ...]
    notes: tuple[str, ...] = ()


def read_pictures(folder: str | PathLike[str], *, size: tuple[int, int] | None = None) -> Pictures:
    """Read all images of a folder with one sub-folder per class.

    Images come in the order of class and file name, whatever the file system's order. Names that start with a dot and
    files without an image extension are skipped. Of an animation the first frame is used. Images are rotated by their
    EXIF orientation, transparent parts are composited on white, and 16-bit grey is scaled so that 65535 becomes 255. An
    image is grey if it is stored as grey, or with a palette of which it uses only greys.

    Args:
        folder: The folder, with sub-folders of images.
        size: Height and width in pixels to resize every image to, by antialiased bilinear interpolation and
            without keeping proportions; None where all have one size.

    Returns:
        The images.

    Raises:
        ConfigError: If ``size`` is not two positive whole numbers.
        FormatError: If the folder has no classes, a class no images, the sizes differ and ``size`` is None, or an image
            is corrupt, too large to be safe, or a link that leads outside the folder.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for name, grey in (("dark", 10), ("light", 240)):
        ...         Path(folder, name).mkdir()
        ...         Image.new("L", (4, 2), grey).save(Path(folder, name, "1.png"))
        ...     pictures = read_pictures(folder)
        >>> pictures.images.shape, pictures.classes, pictures.files
        ((2, 1, 2, 4), ('dark', 'light'), ('dark/1.png', 'light/1.png'))
    """
    _check_size(size)
    root = Path(folder)
    listing = list_classes(root)
    return _decoded(root, listing, size)


def read_unlabelled(folder: str | PathLike[str], *, size: tuple[int, int] | None = None) -> Pictures:
    """Read all images of a folder and of the folders inside it, as :func:`read_pictures` does, without classes.

    Args:
        folder: The folder.
        size: Height and width in pixels to resize every image to; None where all have one size.

    Returns:
        The images, sorted by path; neither labels nor classes.

    Raises:
        ConfigError: If ``size`` is not two positive whole numbers.
        FormatError: If there are no images, folders are nested too deep, the sizes differ and ``size`` is None, or an
            image is corrupt, too large to be safe, or a link that leads outside the folder.
    """  # noqa: DOC502
    _check_size(size)
    root = Path(folder)
    return _decoded(root, list_images(root), size)


def _check_size(size: tuple[int, int] | None) -> None:
    if size is not None and (len(size) != 2 or not all(isinstance(side, int) and side > 0 for side in size)):
        raise ConfigError(f"size must be the height and width in pixels, two positive whole numbers, and is {size}")


def _decoded(root: Path, listing: Listing, size: tuple[int, int] | None) -> Pictures:
    files = listing.files
    pixels: list[NDArray[np.uint8]] = []
    for file in files:
        pixels.append(_decode(file, size))
        if pixels[-1].shape[:2] != pixels[0].shape[:2]:
            (height, width), (first_height, first_width) = pixels[-1].shape[:2], pixels[0].shape[:2]
            raise FormatError(
                file,
                f"it has {height} x {width} pixels (height x width), and {files[0]} has {first_height} x "
                f"{first_width}: resize all, as with image_size=224 (--image-size 224)",
            )
    grey = all(picture.ndim == 2 for picture in pixels)
    images = np.empty((len(files), 1 if grey else 3, *pixels[0].shape[:2]), np.uint8)
    for image, picture in zip(images, pixels, strict=True):
        image[:] = picture if picture.ndim == 2 else picture.transpose(2, 0, 1)
    names = tuple(file.relative_to(root).as_posix() for file in files)
    return Pictures(images, np.array(listing.labels, np.int64), listing.classes, names, listing.notes)


# Pixels (H, W) of a grey image, (H, W, 3) of another.
def _decode(file: Path, size: tuple[int, int] | None) -> NDArray[np.uint8]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with _told(file), Image.open(file, formats=_DECODERS) as opened:
            kind = opened.format
            picture = _reduced(file, opened, None if size is None else 2 * max(size))
            ImageOps.exif_transpose(picture, in_place=True)
            picture = _in_bytes(file, picture, kind)
            if size is not None:
                picture = picture.resize((size[1], size[0]), Image.Resampling.BILINEAR)
            return np.asarray(picture)


class OpenedPicture:
    """An image file whose size is known before its pixels are decoded.

    Args:
        file: Its path.
        opened: As Pillow opened it.

    Attributes:
        height: Pixels, after rotation by its EXIF orientation.
        width: Pixels, after rotation by its EXIF orientation.
    """

    def __init__(self, file: str | PathLike[str], opened: Image.Image) -> None:
        self.file, self._opened = file, opened
        self._known: dict[int, Image.Image] = {}
        self._fits = _fits(file, opened)  # before EXIF is looked for, which decodes a PNG
        readable = self._fits or opened.format != "PNG" or "exif" in opened.info
        turned = readable and opened.getexif().get(_ORIENTATION, 1) in _TURNED
        self.width, self.height = opened.size[::-1] if turned else opened.size

    def decode(self, least: int) -> Image.Image:
        """The pixels, in mode L or RGB, as :func:`read_pictures` makes them.

        Args:
            least: How many pixels the shorter side must keep. A JPEG of at least twice, four or eight times as many is
                decoded at a half, a quarter or an eighth of its size, which is faster.

        Returns:
            The image; the caller must not change it.

        Raises:
            FormatError: If it is corrupt or too large to be safe.
        """  # noqa: DOC502
        scale = min(self.width, self.height) // max(least, 1)
        if self._opened.format in _WITH_DRAFT:
            scale = next((each for each in (8, 4, 2) if scale >= each), 1)
        elif self._fits:
            scale = 1
        if scale not in self._known:
            with _told(self.file):
                if not self._known:
                    self._known[scale] = self._decoded(self._opened, least)
                else:  # it is decoded already, otherwise
                    with Image.open(self.file, formats=_DECODERS) as again:
                        self._known[scale] = self._decoded(again, least)
        return self._known[scale]

    def _decoded(self, opened: Image.Image, least: int) -> Image.Image:
        kind = opened.format
        if self._fits and kind in _WITH_DRAFT:
            opened.draft(None, (least, least))
        picture = _reduced(self.file, opened, least)
        ImageOps.exif_transpose(picture, in_place=True)
        return _in_bytes(self.file, picture, kind)


@contextmanager
def open_picture(file: str | PathLike[str]) -> Iterator[OpenedPicture]:
    """Open an image file, with the care of :func:`read_pictures`, and decode it as small as it is wanted.

    Args:
        file: Its path.

    Yields:
        The image, to be decoded while it is open.

    Raises:
        FormatError: If it is missing, corrupt, of another format or too large to be safe.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with _told(file):
            opened = Image.open(file, formats=_DECODERS)
        with opened:
            with _told(file):
                picture = OpenedPicture(file, opened)
            yield picture


@contextmanager
def _told(file: str | PathLike[str]) -> Iterator[None]:
    try:
        yield
    except FormatError:
        raise
    except OSError as error:
        if error.errno is not None:  # of the system, as where a file was removed; Pillow's own has none
            raise FormatError(file, f"cannot be read: {error.strerror}") from error
        said = str(error).replace(f" {str(file)!r}", "")  # the library names the file again
        raise FormatError(file, f"not an image, truncated or corrupt: {said}") from error
    except Exception as error:  # Pillow's decoders raise a dozen types on corrupt bytes
        raise FormatError(file, f"not an image, truncated or corrupt: {error or type(error).__name__}") from error


def _fits(file: str | PathLike[str], opened: Image.Image) -> bool:
    """Whether all of an image may be decoded."""
    pixels = opened.width * opened.height
    room = _ROOM + 4 * os.stat(file).st_size
    return pixels <= (Image.MAX_IMAGE_PIXELS or _DEFAULT_MAX_PIXELS) and pixels * _bytes_a_pixel(opened) <= room


def _reduced(file: str | PathLike[str], opened: Image.Image, least: int | None) -> Image.Image:
    """An opened image as it is; reduced by a whole factor where all of it would take too much memory."""
    most = Image.MAX_IMAGE_PIXELS or _DEFAULT_MAX_PIXELS
    width, height, octets = *opened.size, os.stat(file).st_size
    pixels, full = width * height, width * height * _bytes_a_pixel(opened)
    if _fits(file, opened):
        return opened
    cure = (
        "make it smaller"
        if least is not None
        else "make it smaller, or resize all, as with image_size=224 (--image-size 224)"
    )
    if pixels > (most if least is None else 2 * most):  # Pillow opens no more than twice its limit
        raise FormatError(file, f"{width} x {height} pixels, and {most} pixels are the limit: {cure}")
    if least is not None:  # on either axis: EXIF may turn the image
        full, reduced = _reduce(opened, least)
        if full <= _ROOM_REDUCED + 4 * octets:
            return reduced()
    raise FormatError(
        file, f"{width} x {height} pixels in {octets} bytes would take {full >> 20} MiB of memory: {cure}"
    )


def _reduce(opened: Image.Image, least: int) -> tuple[int, Callable[[], Image.Image]]:
    """What it takes to decode an image reduced to no fewer pixels than these on a side, and how to do it."""
    pixels = opened.width * opened.height
    if opened.format in _WITH_DRAFT:
        # A progressive file keeps its coefficients, of two bytes each; others are decoded row by row.
        kept = 6 * pixels if "progressive" in opened.info or "progression" in opened.info else 0
        opened.draft(None, (least, least))
        return kept + opened.width * opened.height * _bytes_a_pixel(opened), lambda: opened
    factor = min(opened.size) // least
    if factor < 2 or opened.mode not in _MEMORY_REDUCED or "transparency" in opened.info or opened.format == "WEBP":
        return pixels * _bytes_a_pixel(opened), lambda: opened

    def reduced() -> Image.Image:
        orientation = opened.getexif().get(_ORIENTATION)
        small = opened.reduce(factor)
        if orientation is not None:
            small.getexif()[_ORIENTATION] = orientation
        return small

    return pixels * _MEMORY_REDUCED[opened.mode], reduced


def _bytes_a_pixel(picture: Image.Image) -> int:
    if picture.format == "WEBP":
        return _WEBP_MEMORY
    return _MOST_MEMORY if "transparency" in picture.info else _MEMORY.get(picture.mode, _MOST_MEMORY)


def pixels_of(image: Image.Image) -> NDArray[np.uint8]:
    """Pixels of an image that is in memory, as :func:`read_pictures` makes them of a file.

    Args:
        image: Of any mode but those with 32 bits a channel.

    Returns:
        uint8, ``(H, W)`` of a grey image and ``(H, W, 3)`` of another.

    Raises:
        DataError: If it cannot be decoded, or its pixels have no known range.
    """
    try:
        return np.asarray(_in_bytes(image.filename if hasattr(image, "filename") else "image", image, image.format))
    except FormatError as error:
        raise DataError(str(error)) from error
    except Exception as error:  # Pillow's decoders, which run when the pixels are first wanted, raise a dozen types
        raise DataError(f"the image cannot be decoded: {error or type(error).__name__}") from error


# The same image in mode L or RGB; `kind` is the file format.
def _in_bytes(file: str | PathLike[str], picture: Image.Image, kind: str | None) -> Image.Image:
    mode, clear = picture.mode, picture.info.get("transparency")
    if mode.startswith("I;16") or (mode == "I" and kind in ("PNG", "PPM")):
        deep = np.asarray(picture).astype(np.int32)  # at most 65535, so the products fit
        scaled = ((deep * 255 + 32767) // 65535).clip(0, 255).astype(np.uint8)
        if isinstance(clear, int):
            scaled[deep == clear] = 255
        return Image.fromarray(scaled)
    if mode in ("I", "F"):
        raise FormatError(file, f"32-bit pixels (mode {mode}) have no known range: save it with 8 or 16 bits")
    if clear is not None or mode.endswith("A"):
        solid = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", solid.size, "white"), solid)
    if picture.mode in ("1", "L"):
        return picture.convert("L")
    colour = picture if picture.mode == "RGB" else picture.convert("RGB")
    if mode in ("1", "L", "LA"):
        return colour.getchannel(0)
    if mode in ("P", "PA"):
        red, green, blue = (np.asarray(channel) for channel in colour.split())
        if np.array_equal(red, green) and np.array_equal(red, blue):
            return colour.getchannel(0)
    return colour
