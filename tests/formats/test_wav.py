"""Sound: what Python's wave module writes comes back in 16-bit range; damaged headers take no memory."""

import struct
import wave

import numpy as np
import pytest

from limbeck.errors import ConfigError, FormatError
from limbeck.formats.wav import read_wav


def write(path, data, channels=1, width=2, rate=8000):
    with wave.open(str(path), "wb") as sound:
        sound.setparams((channels, width, rate, 0, "NONE", ""))
        sound.writeframes(data)
    return path


VALUES = np.array([-32768, -1, 0, 1, 32767])


@pytest.mark.parametrize(
    "width, data",
    [
        (2, VALUES.astype("<i2").tobytes()),
        (3, b"".join(struct.pack("<i", v * 256)[:3] for v in VALUES)),
        (4, (VALUES * 65536).astype("<i4").tobytes()),
    ],
)
def test_widths(tmp_path, width, data):
    sound = read_wav(write(tmp_path / "a.wav", data, width=width))
    np.testing.assert_array_equal(sound.samples, VALUES)
    assert sound.rate == 8000 and sound.samples.dtype == np.float32


def test_eight_bits(tmp_path):
    assert read_wav(write(tmp_path / "a.wav", bytes([0, 128, 255]), width=1)).samples.tolist() == [-32768, 0, 32512]


def test_channels(tmp_path):
    path = write(tmp_path / "a.wav", np.arange(6, dtype="<i2").tobytes(), channels=2)
    assert read_wav(path, channel=1).samples.tolist() == [1, 3, 5]
    with pytest.raises(FormatError, match=r"2 channels: say which with channel \(--channel\)"):
        read_wav(path)
    with pytest.raises(FormatError, match="channel 2"):
        read_wav(path, channel=2)
    with pytest.raises(ConfigError, match="-1"):
        read_wav(path, channel=-1)


def test_a_file_cut_anywhere(tmp_path):
    whole = write(tmp_path / "a.wav", VALUES.astype("<i2").tobytes()).read_bytes()
    for size in range(len(whole)):
        (tmp_path / "a.wav").write_bytes(whole[:size])
        with pytest.raises(FormatError, match="a.wav"):
            read_wav(tmp_path / "a.wav")


@pytest.mark.parametrize(
    "offset, form, value, says",
    [
        (40, "<I", 0xFFFFFFF0, "promised"),
        (40, "<I", 1000, "promised"),
        (20, "<H", 3, "PCM"),
        (20, "<H", 6, "PCM"),
        (22, "<H", 0, "a.wav"),
        (24, "<I", 0, "a.wav"),
        (34, "<H", 0, "a.wav"),
        (16, "<I", 0xFFFFFFFF, "a.wav"),
        (0, "<I", 0, "a.wav"),
    ],
)
def test_headers_that_lie(tmp_path, offset, form, value, says):
    data = bytearray(write(tmp_path / "a.wav", VALUES.astype("<i2").tobytes()).read_bytes())
    struct.pack_into(form, data, offset, value)
    (tmp_path / "a.wav").write_bytes(data)
    with pytest.raises(FormatError, match=says):
        read_wav(tmp_path / "a.wav")


def test_no_sound(tmp_path):
    with pytest.raises(FormatError, match="no sound"):
        read_wav(write(tmp_path / "a.wav", b""))
    with pytest.raises(FormatError, match="not a regular file"):
        read_wav(tmp_path)
