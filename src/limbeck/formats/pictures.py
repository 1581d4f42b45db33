"""Folders of pictures, one sub-folder a class, read into one array.

Axes: ``N`` pictures, ``C`` channels (1 grey, 3 red-green-blue), ``H`` rows, ``W`` columns.
"""

__all__ = ["EXTENSIONS", "Pictures", "pixels_of", "read_pictures"]

import warnings
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from limbeck.errors import ConfigError, DataError, FormatError

EXTENSIONS = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
# Only these decoders run, whatever a file's first bytes say: others of Pillow's call outside programs.
_DECODERS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
_ROOM = 90 << 20
"""Bytes that decoding a picture may take, beside four times the file's size: a few bytes can claim any size."""
_MEMORY = {"1": 5, "L": 5, "P": 13, "RGB": 13, "CMYK": 15, "RGBA": 18}
_WEBP_MEMORY = 26
_MOST_MEMORY = 24
"""Bytes a pixel while it is decoded, by mode, as measured: 16 bits and transparency go through several copies."""
_DEFAULT_MAX_PIXELS = 89_478_485  # Pillow's own limit, for when a program has switched that off


@dataclass(frozen=True, eq=False)
class Pictures:
    """Pictures with their classes.

    Attributes:
        images: uint8 ``(N, C, H, W)``; C is 1 if all pictures are grey, else 3.
        labels: int64 ``(N,)``, positions in ``classes``.
        classes: Names of the sub-folders, sorted.
        files: The N paths relative to the folder, with ``/`` between the parts.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    classes: tuple[str, ...]
    files: tuple[str, ...]


def read_pictures(folder: str | PathLike[str], *, size: tuple[int, int] | None = None) -> Pictures:
    """Read all pictures of a folder that has one sub-folder a class.

    Pictures come in the order of class and file name, whatever the file system's order. Names that start with
    a dot and files without a picture's extension are passed over. Of an animation the first frame counts.
    Pictures are turned as their EXIF orientation says, transparent parts are laid on white, and 16-bit grey
    is scaled so that 65535 becomes 255. A picture is grey if it is stored as grey, or with a palette of which
    it uses only greys.

    Args:
        folder: The folder, holding sub-folders that hold the pictures themselves.
        size: Height and width in pixels to resize every picture to, by antialiased bilinear interpolation and
            without keeping proportions; None where all have one size.

    Returns:
        The pictures.

    Raises:
        ConfigError: If ``size`` is not two positive whole numbers.
        FormatError: If the folder has no classes, a class no pictures, the sizes differ and ``size`` is None,
            or a picture is corrupt, too large to be safe, or a link that leads outside the folder.

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
    if size is not None and (len(size) != 2 or not all(isinstance(side, int) and side > 0 for side in size)):
        raise ConfigError(f"size must be the height and width in pixels, two positive whole numbers, and is {size}")
    root = Path(folder)
    try:
        classes, files, labels = _listing(root)
    except OSError as error:
        raise FormatError(error.filename or root, f"cannot be read: {error.strerror or error}") from error
    except (RuntimeError, ValueError) as error:  # a loop of links, or a null character in the path
        raise FormatError(root, f"cannot be read: {error}") from error
    pixels: list[NDArray[np.uint8]] = []
    for file in files:
        pixels.append(_decode(file, size))
        if pixels[-1].shape[:2] != pixels[0].shape[:2]:
            (height, width), (first_height, first_width) = pixels[-1].shape[:2], pixels[0].shape[:2]
            raise FormatError(
                file,
                f"it has {height} x {width} pixels (height x width), and {files[0]} has {first_height} x "
                f"{first_width}: give size=(height, width) to resize all",
            )
    grey = all(picture.ndim == 2 for picture in pixels)
    images = np.empty((len(files), 1 if grey else 3, *pixels[0].shape[:2]), np.uint8)
    for image, picture in zip(images, pixels, strict=True):
        image[:] = picture if picture.ndim == 2 else picture.transpose(2, 0, 1)
    names = tuple(file.relative_to(root).as_posix() for file in files)
    return Pictures(images, np.array(labels, np.int64), classes, names)


# The classes; the pictures, sorted; and the class of each.
def _listing(root: Path) -> tuple[tuple[str, ...], list[Path], list[int]]:
    inside = root.resolve(strict=True)
    folders = [entry for entry in _visible(root) if entry.is_dir()]
    if not folders:
        raise FormatError(root, "it has no sub-folders: put the pictures of each class into a sub-folder of that name")
    files: list[Path] = []
    labels: list[int] = []
    for label, folder in enumerate(folders):
        _check_inside(folder, inside)
        entries = _visible(folder)
        found = [entry for entry in entries if entry.suffix.lower() in EXTENSIONS and not entry.is_dir()]
        for entry in entries:
            if entry.is_dir():
                raise FormatError(entry, f"a folder inside the class {folder.name}: pictures lie in {folder} itself")
        if not found:
            others = f"{len(entries)} other file(s)" if entries else "nothing"
            raise FormatError(folder, f"no picture in it, but {others}: known are {' '.join(EXTENSIONS)}")
        for file in found:
            _check_inside(file, inside)
            if not file.is_file():
                raise FormatError(file, "not a regular file")
        files += found
        labels += [label] * len(found)
    return tuple(folder.name for folder in folders), files, labels


def _visible(folder: Path) -> list[Path]:
    return sorted((entry for entry in folder.iterdir() if not entry.name.startswith(".")), key=lambda p: p.name)


def _check_inside(entry: Path, inside: Path) -> None:
    if entry.is_symlink() and not entry.resolve(strict=True).is_relative_to(inside):
        raise FormatError(entry, f"a link that leads outside the folder {inside}: copy what it points to")


# Pixels (H, W) of a grey picture, (H, W, 3) of another.
def _decode(file: Path, size: tuple[int, int] | None) -> NDArray[np.uint8]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            with Image.open(file, formats=_DECODERS) as opened:
                most = Image.MAX_IMAGE_PIXELS or _DEFAULT_MAX_PIXELS
                if opened.width * opened.height > most:
                    raise FormatError(file, f"{opened.width} x {opened.height} pixels, and {most} pixels are the limit")
                octets = file.stat().st_size
                needed = opened.width * opened.height * _bytes_a_pixel(opened)
                if needed > _ROOM + 4 * octets:
                    raise FormatError(
                        file,
                        f"{opened.width} x {opened.height} pixels in {octets} bytes would take {needed >> 20} MiB of "
                        "memory: make it smaller",
                    )
                kind = opened.format
                ImageOps.exif_transpose(opened, in_place=True)
                picture = _in_bytes(file, opened, kind)
            if size is not None:
                picture = picture.resize((size[1], size[0]), Image.Resampling.BILINEAR)
            return np.asarray(picture)
        except FormatError:
            raise
        except Exception as error:  # Pillow's decoders raise a dozen types on corrupt bytes
            raise FormatError(file, f"not a picture, truncated or corrupt: {error or type(error).__name__}") from error


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


def _bytes_a_pixel(picture: Image.Image) -> int:
    if picture.format == "WEBP":
        return _WEBP_MEMORY
    return _MOST_MEMORY if "transparency" in picture.info else _MEMORY.get(picture.mode, _MOST_MEMORY)


# The same picture in mode L or RGB; `kind` is the file format.
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
