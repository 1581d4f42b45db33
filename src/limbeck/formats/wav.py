"""Sound in RIFF WAV files of 8, 16, 24 or 32-bit PCM, as samples in the 16-bit range."""

__all__ = ["Sound", "read_wav"]

import wave
from os import PathLike
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from limbeck.errors import ConfigError, FormatError
from limbeck.formats._bounded import open_regular

_CURE = "make it 16-bit PCM, such as with  sox IN -b 16 OUT.wav"


class Sound(NamedTuple):
    """Samples of one channel.

    Attributes:
        samples: float32 ``(samples,)``, from -32768 to 32767 as Kaldi has them.
        rate: Samples per second.
    """

    samples: NDArray[np.float32]
    rate: int


def read_wav(path: str | PathLike[str], *, channel: int | None = None) -> Sound:
    r"""Read one channel of a file.

    Args:
        path: The file.
        channel: Which channel, from 0; None: the file must have one only.

    Returns:
        The sound.

    Raises:
        FormatError: If it is not a PCM WAV file, is truncated, or lacks the channel.
        ConfigError: If the channel is negative.

    Example:
        >>> import pathlib, tempfile
        >>> file = pathlib.Path(tempfile.mkdtemp(), "a.wav")
        >>> with wave.open(str(file), "wb") as sound:
        ...     sound.setparams((1, 2, 8000, 0, "NONE", ""))
        ...     sound.writeframes(b"\0\1\2\0")
        >>> read_wav(file)
        Sound(samples=array([256., 2.], dtype=float32), rate=8000)
    """
    if channel is not None and channel < 0:
        raise ConfigError(f"channel counts from 0, and is {channel}")
    with open_regular(path) as (file, size):
        try:
            with wave.open(file, "rb") as sound:
                channels, width, rate = sound.getnchannels(), sound.getsampwidth(), sound.getframerate()
                frames = sound.getnframes()
                needed = frames * channels * width
                if needed > size:  # before so much memory is taken on the word of the header
                    raise FormatError(path, f"truncated: {needed} bytes of sound are promised, and the file has {size}")
                data = sound.readframes(frames)
        except (wave.Error, EOFError, ValueError, RuntimeError, ZeroDivisionError) as error:
            reason = " ".join(str(error).split()) or "the file ends early"
            raise FormatError(path, f"is not a readable WAV file ({reason}): {_CURE}") from error
    if not (1 <= channels <= 64 and 1 <= rate <= 1_000_000 and width in {1, 2, 3, 4}):
        raise FormatError(path, f"has {channels} channels of {width} bytes at {rate} Hz: {_CURE}")
    if len(data) != needed:
        raise FormatError(path, f"truncated: {needed} bytes of sound are promised, and {len(data)} are there")
    if not frames:
        raise FormatError(path, "holds no sound")
    if channel is None and channels > 1:
        raise FormatError(path, f"has {channels} channels: say which with channel (--channel), from 0")
    if (channel or 0) >= channels:
        raise FormatError(path, f"has {channels} channels, and channel {channel} was asked for (they count from 0)")
    values = _samples(data, width).reshape(frames, channels)[:, channel or 0]
    return Sound(np.ascontiguousarray(values), rate)


def _samples(data: bytes, width: int) -> NDArray[np.float32]:
    if width == 1:
        return (np.frombuffer(data, np.uint8).astype(np.float32) - 128) * 256
    if width == 3:
        wide = np.zeros((len(data) // 3, 4), np.uint8)
        wide[:, 1:] = np.frombuffer(data, np.uint8).reshape(-1, 3)
        return (wide.reshape(-1).view("<i4") / 65536.0).astype(np.float32)
    if width == 2:
        return np.frombuffer(data, "<i2").astype(np.float32)
    return (np.frombuffer(data, "<i4") / 65536.0).astype(np.float32)
