"""Lazy images: decoded from files or taken from memory, augmented, resized, cropped and normalised.

Axes: ``N`` examples, ``C`` channels, ``H`` and ``W`` pixels.
"""

__all__ = ["Held", "ImageArrays", "ImageFiles", "Images", "measured"]

import hashlib
import os
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from limbeck.data.augment_policies import Numbers, draw
from limbeck.data.image_transform import Picture, erase, normalise, room, show
from limbeck.data.row_hashes import bytes_of, hash_rows
from limbeck.data.source import Source
from limbeck.errors import ConfigError, DataError, FormatError, ItemError
from limbeck.formats.image_arrays import open_picture
from limbeck.inputs import Inputs
from limbeck.options import ImagePresentation

if TYPE_CHECKING:
    from limbeck.options import Augmentation

_SAMPLED = 64
"""Files whose bytes count in a digest."""
_MEASURED = 2048
"""Images of which mean and standard deviation are measured."""
_BOUND = 4096
"""Bytes of a path that the system opens at most."""


class Images(Source):
    """Images with a presentation; subclasses define where they come from.

    Args:
        presentation: The default presentation.
    """

    augments = True

    def __init__(self, presentation: ImagePresentation) -> None:
        self.presentation = presentation

    @property
    def shape(self) -> tuple[int, ...]:
        """``(N, C, H, W)`` as presented where nobody says how."""
        return (len(self), self.presentation.channels, *self.presentation.size)

    @abstractmethod
    def picture(self, row: int) -> AbstractContextManager[Picture]:
        """An image, open to be decoded."""

    def opened(
        self, rows: Tensor, keys: Tensor, view: int, augmentation: "Augmentation | None"
    ) -> Iterator[AbstractContextManager[Picture]]:
        """Some images, each open to be decoded; a user's data set draws its random transforms here."""
        return map(self.picture, rows.tolist())

    def fetch(
        self,
        rows: Tensor,
        keys: Tensor,
        *,
        view: int = 0,
        augmentation: "Augmentation | None" = None,
        presentations: Sequence[Any] = (None,),
    ) -> list[Inputs]:
        """Decode some images, and show them as each presentation does.

        Args:
            rows: Places here, int64 ``(n,)``.
            keys: The examples' numbers, int64 ``(n,)``.
            view: Which view.
            augmentation: What is drawn; only its ``augment`` is for images that are read.
            presentations: Each an :class:`~limbeck.options.ImagePresentation`, or None for that of the source.

        Returns:
            float32 ``(n, C, H, W)`` for each presentation, on the CPU.

        Raises:
            ConfigError: If lazily read images are to be shifted, rotated or deformed.
            ItemError: If an image is missing, corrupt or too large to be safe; the message names its file.
        """
        wanted = [self._known(each) for each in presentations]
        drawn = self._drawn(keys, view, augmentation)
        made = [room(len(rows), each.channels, *each.size) for each in wanted]
        for place, image in enumerate(self.opened(rows, keys, view, augmentation)):
            try:
                with image as picture:
                    for values, each in zip(made, wanted, strict=True):
                        pixels = show(picture, each, None if drawn is None else drawn[place], augmentation)
                        normalise(pixels, each, values[place])
            except FormatError as error:
                raise ItemError(str(error)) from error
        if drawn is not None and augmentation is not None and augmentation.erasing:
            for normalised in made:
                erase(normalised, drawn, augmentation.erasing)
        return list(made)

    def with_presentation(self, presentation: Any) -> Self:
        """The same images with another default presentation."""
        found = self.select(torch.arange(len(self)))
        assert isinstance(found, type(self))
        found.presentation = self._known(presentation)
        return found

    def _known(self, presentation: Any) -> ImagePresentation:
        if presentation is None:
            return self.presentation
        if not isinstance(presentation, ImagePresentation):
            raise DataError(
                f"a model wants {type(presentation).__name__}, and these are images: give one that takes images"
            )
        return presentation

    def _drawn(self, keys: Tensor, view: int, augmentation: "Augmentation | None") -> Sequence[Numbers] | None:
        if augmentation is None or not augmentation.alters:
            return None
        if augmentation.distorts:
            raise ConfigError(
                "shift, rotate, scale, shear and elastic are for small images that are held in memory, and these are "
                "read as they are wanted: use augment standard"
            )
        return draw(augmentation, keys.cpu(), view)


class ImageFiles(Images):
    """Image files, decoded lazily; only their paths are held.

    Args:
        root: The folder that the paths are relative to.
        names: The paths; or what another source holds of them.
        presentation: How the images are seen where nobody says.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     Image.new("RGB", (40, 20), "red").save(Path(folder, "red.png"))
        ...     images = ImageFiles(folder, ["red.png"], ImagePresentation.plain(8))
        ...     images.fetch(torch.tensor([0]), torch.tensor([0]))[0][0, :, 0, 0]
        tensor([1., 0., 0.])
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        names: "Sequence[str] | Names",
        presentation: ImagePresentation = ImagePresentation(),  # noqa: B008
    ) -> None:
        super().__init__(presentation)
        self.root = str(root)
        self.names = names if isinstance(names, Names) else Names.of(names)
        self._digests: dict[int, bytes] = {}

    def __len__(self) -> int:
        return len(self.names)

    def path(self, row: int) -> Path:
        """Where an image is."""
        return Path(self.root, self.names[row])

    def picture(self, row: int) -> AbstractContextManager[Picture]:
        """An image file, open to be decoded."""
        return open_picture(os.path.join(self.root, self.names[row]))

    def select(self, rows: Tensor) -> "ImageFiles":
        """Some of the files."""
        found = ImageFiles(self.root, self.names.select(rows.cpu().numpy()), self.presentation)
        found._digests = self._digests
        return found

    def marks(self) -> NDArray[np.int64]:
        """Sizes of the files, which are compared by their bytes where they are the same."""
        try:
            return np.array([os.stat(self.path(row)).st_size for row in range(len(self))], np.int64)
        except (OSError, ValueError):  # told where the image is read
            return np.arange(len(self)) - (1 << 62)

    def exact(self, row: int) -> bytes:
        """SHA-256 of a file's bytes, read once."""
        start = int(self.names.starts[row])
        if start not in self._digests:
            try:
                with open(self.path(row), "rb") as file:
                    self._digests[start] = hashlib.file_digest(file, "sha256").digest()
            except OSError:
                return self.names.raw(row)
        return self._digests[start]

    def content(self) -> Iterator[bytes | memoryview]:
        """Names and sizes of all files, and the bytes of 64 of them, spread evenly.

        A file among others that is exchanged for one of the same size is therefore not always noticed. How the images
        are presented does not count.

        Yields:
            Bytes.

        Raises:
            DataError: If a file cannot be read.
        """
        sizes = np.empty(len(self), np.int64)
        try:
            for row in range(len(self)):
                yield self.names.raw(row)
                sizes[row] = os.stat(self.path(row)).st_size
            yield sizes.data
            for row in np.unique(np.linspace(0, len(self) - 1, min(_SAMPLED, len(self))).round().astype(int)).tolist():
                yield self.path(row).read_bytes()
        except (OSError, ValueError) as error:
            raise DataError(f"{self.path(row)}: cannot be read: {getattr(error, 'strerror', None) or error}") from error


class Names:
    """Texts, held as one array of bytes: a million paths take little memory, which workers share.

    Args:
        letters: All texts in the file system's encoding, uint8.
        starts: Where each begins, int64.
        lengths: Bytes of each, int32.
    """

    def __init__(self, letters: NDArray[np.uint8], starts: NDArray[np.int64], lengths: NDArray[np.int32]) -> None:
        self.letters, self.starts, self.lengths = letters, starts, lengths

    @classmethod
    def of(cls, names: Sequence[str]) -> "Names":
        """Hold some texts."""
        encoded = [os.fsencode(name) for name in names]
        longest = max((len(each) for each in encoded), default=0)
        if longest > _BOUND:
            raise DataError(f"a path of {longest} bytes is longer than {_BOUND}: {os.fsdecode(encoded[0])[:60]}...")
        lengths = np.fromiter((len(each) for each in encoded), np.int32, len(encoded))
        starts = np.cumsum(lengths, dtype=np.int64) - lengths
        return cls(np.frombuffer(b"".join(encoded), np.uint8), starts, lengths)

    def __len__(self) -> int:
        return len(self.starts)

    def raw(self, row: int) -> bytes:
        """A text's bytes."""
        start = int(self.starts[row])
        return self.letters[start : start + int(self.lengths[row])].tobytes()

    def __getitem__(self, row: int) -> str:
        return os.fsdecode(self.raw(row))

    def select(self, rows: NDArray[np.int64]) -> "Names":
        """Some of the texts, in any order."""
        return Names(self.letters, self.starts[rows], self.lengths[rows])


class ImageArrays(Images):
    """Images in memory, handled like files: augmented, resized and normalised one by one.

    Args:
        pixels: uint8 ``(N, C, H, W)``, of 1 or 3 channels, on the CPU.
        presentation: How they are seen where nobody says; None for all pixels on [0, 1].

    Raises:
        DataError: If they are of another type or shape.

    Example:
        >>> images = ImageArrays(torch.full((2, 1, 4, 4), 51, dtype=torch.uint8))
        >>> images.fetch(torch.tensor([1]), torch.tensor([1]))[0].unique()
        tensor([0.2000])
    """

    def __init__(self, pixels: Tensor, presentation: ImagePresentation | None = None) -> None:
        if pixels.dtype != torch.uint8 or pixels.ndim != 4 or pixels.shape[1] not in {1, 3}:
            raise DataError(
                "augment is for uint8 images of 1 or 3 channels, (N, C, H, W), and inputs are "
                f"{pixels.dtype} {tuple(pixels.shape)}: give such images, or leave it out"
            )
        size = (pixels.shape[2], pixels.shape[3])
        super().__init__(presentation or ImagePresentation.plain(size, channels=pixels.shape[1]))
        self.pixels = pixels

    def __len__(self) -> int:
        return len(self.pixels)

    def picture(self, row: int) -> AbstractContextManager[Picture]:
        """An image of the array."""
        return nullcontext(Held(self.pixels[row].numpy()))

    def select(self, rows: Tensor) -> "ImageArrays":
        """Some of the images."""
        return ImageArrays(self.pixels[rows.cpu()], self.presentation)

    def marks(self) -> NDArray[np.int64]:
        """Hashes of the pixels."""
        return hash_rows(bytes_of(self.pixels)).view(np.int64)

    def exact(self, row: int) -> bytes:
        """The pixels."""
        return self.pixels[row].numpy().tobytes()

    def content(self) -> Iterator[bytes | memoryview]:
        """Shape and bytes of all."""
        yield str(tuple(self.pixels.shape)).encode()
        yield self.pixels.contiguous().numpy().reshape(-1).data


class Held:
    """An image in memory.

    Args:
        pixels: uint8 ``(C, H, W)``, of 1 or 3 channels.
    """

    def __init__(self, pixels: NDArray[np.uint8]) -> None:
        self.height, self.width = pixels.shape[1:]
        self._pixels = pixels

    def decode(self, least: int) -> Image.Image:
        """All pixels."""
        grey = len(self._pixels) == 1
        return Image.fromarray(self._pixels[0] if grey else np.ascontiguousarray(self._pixels.transpose(1, 2, 0)))


def measured(images: Images) -> ImagePresentation:
    """The presentation of some images with the mean and standard deviation of their own pixels, by channel.

    Args:
        images: Of which at most 2,048, spread evenly, are looked at.

    Returns:
        Their presentation, of another mean and standard deviation.

    Raises:
        DataError: If an image cannot be read.

    Example:
        >>> images = ImageArrays(torch.tensor([[[[0, 255]]]], dtype=torch.uint8))
        >>> found = measured(images)
        >>> found.mean, found.std
        ((0.5,), (0.5,))
    """  # noqa: DOC502
    channels = images.presentation.channels
    plain = replace(images.presentation, mean=(0.0,) * channels, std=(1.0,) * channels)
    sums, squares, count = torch.zeros(channels, dtype=torch.float64), torch.zeros(channels, dtype=torch.float64), 0
    for row in torch.linspace(0, len(images) - 1, min(_MEASURED, len(images))).round().long():
        (seen,) = images.fetch(row.view(1), row.view(1), presentations=(plain,))
        assert isinstance(seen, Tensor)
        values = seen.double()
        sums += values.sum((0, 2, 3))
        squares += values.square().sum((0, 2, 3))
        count += values[0, 0].numel()
    mean = sums / count
    std = (squares / count - mean.square()).clamp(min=0).sqrt()
    # An image of one colour has no spread to divide by.
    spread = torch.where(std > 1e-3, std, torch.ones_like(std))
    return replace(plain, mean=tuple(mean.tolist()), std=tuple(spread.tolist()))
