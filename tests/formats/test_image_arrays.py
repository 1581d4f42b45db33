"""Folders of pictures: Pillow writes them, and known pixel values are the oracle."""

import io
import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from limbeck.errors import ConfigError, FormatError
from limbeck.formats.image_arrays import _bytes_a_pixel, _reduce, read_pictures, read_unlabelled
from limbeck.formats.image_files import EXTENSIONS

FORMATS = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".bmp": "BMP",
    ".gif": "GIF",
    ".webp": "WEBP",
    ".tif": "TIFF",
    ".ppm": "PPM",
}
LOSSLESS = [".png", ".bmp", ".gif", ".tif", ".ppm"]


def encoded(picture: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def put(root: Path, name: str, content: bytes | Image.Image) -> Path:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        content.save(path)
    return path


def grey(height: int = 5, width: int = 7, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width), np.uint8)


def one(root: Path, content: bytes | Image.Image, name: str = "x.png") -> np.ndarray:
    put(root, f"a/{name}", content)
    return read_pictures(root).images[0]


@pytest.mark.parametrize("extension", LOSSLESS)
def test_grey_and_colour_pixels_come_back(tmp_path, extension):
    colour = np.random.default_rng(1).integers(0, 256, (5, 7, 3), np.uint8) // 64 * 64
    put(tmp_path, f"a/1{extension}", Image.fromarray(grey()))
    assert read_pictures(tmp_path).images.shape == (1, 1, 5, 7)
    np.testing.assert_array_equal(read_pictures(tmp_path).images[0, 0], grey())
    put(tmp_path, f"b/2{extension}", Image.fromarray(colour))
    pictures = read_pictures(tmp_path)
    assert pictures.images.shape == (2, 3, 5, 7) and pictures.images.dtype == np.uint8
    np.testing.assert_array_equal(pictures.images[0], np.stack([grey()] * 3))
    np.testing.assert_array_equal(pictures.images[1], colour.transpose(2, 0, 1))


def test_order_labels_and_what_is_passed_over(tmp_path):
    for at, name in enumerate(["b/10.PNG", "b/9.png", "a/z.Jpeg", "a/y.PGM", "c d/1.tiff"]):
        kind = {"jpeg": "JPEG", "pgm": "PPM", "tiff": "TIFF"}.get(name.lower().split(".")[1], "PNG")
        put(tmp_path, name, encoded(Image.new("L", (3, 2), at), kind))
    for name in ("a/notes.txt", "a/.hidden.png", ".git/x.png", "top.png", "a/none"):
        put(tmp_path, name, b"not a picture")
    pictures = read_pictures(str(tmp_path))
    assert pictures.classes == ("a", "b", "c d")
    assert pictures.files == ("a/y.PGM", "a/z.Jpeg", "b/10.PNG", "b/9.png", "c d/1.tiff")
    assert pictures.labels.tolist() == [0, 0, 1, 1, 2] and pictures.labels.dtype == np.int64
    assert pictures.images[:, 0, 0, 0].tolist() == [3, 2, 0, 1, 4]


def test_sixteen_bit_grey_is_scaled(tmp_path):
    deep = np.array([[0, 128, 129, 257, 32768, 65278, 65407, 65535]], np.uint16)
    want = np.rint(deep / 257).astype(np.uint8)
    for name in ("x.png", "x.tif", "x.pgm"):
        np.testing.assert_array_equal(one(tmp_path / name, Image.fromarray(deep), name)[0], want)


def test_other_grey_modes(tmp_path):
    bits = np.array([[0, 1, 1, 0]], bool)
    np.testing.assert_array_equal(one(tmp_path / "1", Image.fromarray(bits))[0], bits * 255)
    np.testing.assert_array_equal(one(tmp_path / "2", b"P2 3 1 15 0 5 15\n", "x.pgm")[0], [[0, 85, 255]])
    for mode in ("I", "F"):
        with pytest.raises(FormatError, match="32-bit pixels"):
            one(tmp_path / mode, Image.new(mode, (2, 2)), "x.tif")


def test_transparency_is_laid_on_white(tmp_path):
    pixels = np.array([[[0, 255], [0, 0], [100, 128]]], np.uint8)
    values = one(tmp_path / "la", Image.fromarray(pixels))
    assert values.shape == (1, 1, 3)
    np.testing.assert_allclose(values[0, 0], [0, 255, 100 * 128 / 255 + 255 * 127 / 255], atol=1)
    pixels = np.array([[[255, 0, 0, 255], [9, 9, 9, 0]]], np.uint8)
    assert one(tmp_path / "rgba", Image.fromarray(pixels)).tolist() == [[[255, 255]], [[0, 255]], [[0, 255]]]
    one_clear = encoded(Image.fromarray(np.array([[5, 6]], np.uint8)), "PNG", transparency=6)
    assert one(tmp_path / "l", one_clear).tolist() == [[[5, 255]]]
    deep_clear = encoded(Image.fromarray(np.array([[257, 514]], np.uint16)), "PNG", transparency=514)
    assert one(tmp_path / "i16", deep_clear).tolist() == [[[1, 255]]]


def test_palettes(tmp_path):
    indexed = Image.fromarray(np.array([[0, 1, 2]], np.uint8))
    indexed = indexed.convert("P")
    indexed.putpalette([10, 10, 10, 200, 200, 200, 1, 2, 3])
    assert one(tmp_path / "colour", indexed).tolist() == [[[10, 200, 1]], [[10, 200, 2]], [[10, 200, 3]]]
    assert one(tmp_path / "grey", indexed.crop((0, 0, 2, 1))).tolist() == [[[10, 200]]]
    clear = encoded(indexed, "PNG", transparency=1)
    assert one(tmp_path / "clear", clear)[:, 0, 1].tolist() == [255, 255, 255]


def test_exif_orientation_and_first_frame(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned a quarter clockwise
    picture = Image.fromarray(grey(2, 3))
    turned = one(tmp_path / "exif", encoded(picture, "PNG", exif=exif))
    np.testing.assert_array_equal(turned[0], np.rot90(grey(2, 3), -1))
    frames = [Image.new("L", (2, 2), value) for value in (30, 90)]
    moving = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert one(tmp_path / "gif", moving, "x.gif").tolist() == [[[30, 30], [30, 30]]]


def test_sizes_that_differ(tmp_path):
    put(tmp_path, "a/1.png", Image.fromarray(grey(4, 6)))
    put(tmp_path, "b/2.png", Image.fromarray(grey(8, 6)))
    with pytest.raises(FormatError, match=r"b/2.png: it has 8 x 6 .*a/1.png has 4 x 6: resize all, as with"):
        read_pictures(tmp_path)
    images = read_pictures(tmp_path, size=(4, 6)).images
    np.testing.assert_array_equal(images[0, 0], grey(4, 6))
    assert images.shape == (2, 1, 4, 6)


def test_resizing_is_antialiased(tmp_path):
    board = np.indices((64, 64)).sum(0) % 2 * 255
    put(tmp_path, "a/1.png", Image.fromarray(board.astype(np.uint8)))
    small = read_pictures(tmp_path, size=(8, 16)).images
    assert small.shape == (1, 1, 8, 16)
    assert abs(small.astype(int) - 128).max() <= 2


@pytest.mark.parametrize("size", [(0, 4), (4,), (4, -1), (2.5, 3), (4, 4, 4)])
def test_sizes_that_cannot_be(tmp_path, size):
    with pytest.raises(ConfigError, match="height and width"):
        read_pictures(tmp_path, size=size)


def test_folders_without_pictures(tmp_path):
    with pytest.raises(FormatError, match="no sub-folders"):
        read_pictures(tmp_path)
    put(tmp_path, "x.png", Image.new("L", (2, 2)))
    with pytest.raises(FormatError, match="no sub-folders"):
        read_pictures(tmp_path)
    put(tmp_path, "a/x.png", Image.new("L", (2, 2)))
    (tmp_path / "empty").mkdir()
    with pytest.raises(FormatError, match="empty: no image in it, but nothing"):
        read_pictures(tmp_path)
    put(tmp_path, "empty/readme.txt", b"")
    with pytest.raises(FormatError, match="empty: no image in it, but 1 other file.*known are .bmp"):
        read_pictures(tmp_path)
    put(tmp_path, "empty/deeper/x.png", Image.new("L", (2, 2)))
    with pytest.raises(FormatError, match="deeper: a folder inside the class empty"):
        read_pictures(tmp_path)
    for path in (tmp_path / "missing", tmp_path / "x.png", "a\0b"):
        with pytest.raises(FormatError, match="cannot be read"):
            read_pictures(path)


def test_links(tmp_path):
    outside = put(tmp_path, "outside/secret.png", Image.new("L", (2, 2)))
    root = tmp_path / "root"
    inside = put(root, "a/x.png", Image.new("L", (2, 2), 7))
    (root / "a" / "again.png").symlink_to(inside)
    (tmp_path / "door").symlink_to(root)
    assert read_pictures(tmp_path / "door").files == ("a/again.png", "a/x.png")
    for name, target in (("a/out.png", outside), ("b", outside.parent), ("a/gone.png", root / "nothing.png")):
        (root / name).symlink_to(target)
        with pytest.raises(FormatError, match=f"{name}: (a link that leads outside|cannot be read)|nothing.png"):
            read_pictures(root)
        (root / name).unlink()
    (root / "a" / "loop.png").symlink_to(root / "a" / "loop.png")
    with pytest.raises(FormatError):
        read_pictures(root)
    (root / "a" / "loop.png").unlink()
    os.mkfifo(root / "a" / "pipe.png")
    with pytest.raises(FormatError, match="pipe.png: not a regular file"):
        read_pictures(root)


@pytest.mark.parametrize("extension", FORMATS)
def test_truncation_at_every_byte(tmp_path, extension):
    content = encoded(Image.fromarray(grey(3, 4)), FORMATS[extension])
    path = put(tmp_path, f"a/x{extension}", content)
    failures = 0
    for length in reversed(range(len(content))):
        os.truncate(path, length)
        try:
            read_pictures(tmp_path)
        except FormatError as error:
            failures += 1
            assert str(path) in str(error)
    assert failures > len(content) / 2


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@pytest.mark.parametrize("extension", FORMATS)
@given(data=st.data())
def test_corruption_gives_a_format_error_or_pictures(tmp_path, extension, data):
    content = bytearray(encoded(Image.fromarray(grey(3, 4)), FORMATS[extension]))
    content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = put(tmp_path, f"a/x{extension}", bytes(content))
    try:
        assert read_pictures(tmp_path).images.dtype == np.uint8
    except FormatError as error:
        assert str(path) in str(error)


def bomb(width: int, height: int) -> bytes:
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(9))) + chunk(b"IEND", b"")


@pytest.mark.parametrize("side", [10_000, 15_000, 100_000])
@pytest.mark.parametrize("limit", [None, Image.MAX_IMAGE_PIXELS])
def test_pictures_too_large_to_be_safe(tmp_path, monkeypatch, side, limit):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    path = put(tmp_path, "a/x.png", bomb(side, side))
    with pytest.raises(FormatError, match="truncated" if side == 10_000 else "pixels") as caught:
        read_pictures(tmp_path, size=(28, 28))
    cure = "pixels.*or resize all, as with image_size=224 .--image-size 224.$" if side == 10_000 else "pixels"
    with pytest.raises(FormatError, match=cure):
        read_pictures(tmp_path)
    assert caught.value.path == str(path)


@pytest.mark.parametrize("kind", ["EPS", "PCX"])
def test_only_known_decoders_run(tmp_path, kind):
    content = encoded(Image.new("L", (2, 2)), kind)
    assert Image.open(io.BytesIO(content)).format == kind
    with pytest.raises(FormatError, match="not an image"):
        one(tmp_path, content)


def test_every_extension_is_read(tmp_path):
    kinds = {".jpeg": "JPEG", ".pgm": "PPM", ".tiff": "TIFF", **FORMATS}
    for extension in EXTENSIONS:
        put(tmp_path, f"a/x{extension.upper()}", encoded(Image.new("L", (2, 2)), kinds[extension]))
    assert len(read_pictures(tmp_path).files) == len(EXTENSIONS) == len(kinds)


@pytest.mark.parametrize("mode", ["P", "RGB", "L", "RGBA", "LA", "1"])
def test_a_few_bytes_that_claim_a_huge_picture_take_no_memory(tmp_path, mode):
    """Found by fuzzing: 164 bytes of GIF made the process 464 MiB larger."""
    image = Image.new(mode, (9000, 7800))
    (tmp_path / "a").mkdir()
    image.save(tmp_path / "a" / "1.png", compress_level=1)  # a second less for 280 MB of zeros
    del image
    code = f"""
import resource
from limbeck.errors import FormatError
from limbeck.formats.image_arrays import read_pictures
import numpy, PIL.Image, PIL.PngImagePlugin
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
before = peak()
try:
    read_pictures({str(tmp_path)!r})
except FormatError as error:
    assert "of memory: make it smaller" in str(error)
assert peak() - before <= (100 << 20) + 4 * {(tmp_path / "a" / "1.png").stat().st_size}, (peak() - before) >> 20
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="measures memory as Linux has it")
@pytest.mark.parametrize(
    ("mode", "kind", "more"),
    [
        ("1", "png", {}),
        ("L", "gif", {}),
        ("L", "png", {}),
        ("L", "png", {"transparency": 3}),
        ("P", "png", {}),
        ("P", "gif", {}),
        ("P", "png", {"transparency": 3}),
        ("RGB", "jpg", {}),
        ("RGB", "webp", {}),
        ("RGB", "png", {"transparency": (1, 2, 3)}),
        ("RGBA", "tif", {}),
        ("RGBA", "webp", {}),
        ("LA", "png", {}),
        ("CMYK", "jpg", {}),
        ("I;16", "png", {}),
        ("I;16", "pgm", {}),
    ],
)
def test_decoding_takes_no_more_memory_than_the_header_was_found_to_ask_for(tmp_path, mode, kind, more):
    """In a process of its own; what is worked out decides which pictures are refused."""
    side, slack = 2500, 16 << 20  # pages of the interpreter that the child touches
    (tmp_path / "a").mkdir()
    path = tmp_path / "a" / f"1.{kind}"
    picture = Image.fromarray(np.zeros((side, side), np.uint16)) if mode == "I;16" else Image.new(mode, (side, side))
    if mode == "P":
        picture.putpalette([k % 256 for k in range(768)])
    picture.save(path, **more)
    del picture
    with Image.open(path) as opened:
        allowed = _bytes_a_pixel(opened)
    code = f"""
import os
from pathlib import Path
from limbeck.formats import image_arrays
image_arrays._ROOM = 1 << 40  # else the larger ones would be refused
image_arrays.Image.init()
before = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")
Path("/proc/self/clear_refs").write_text("5")
image_arrays.read_pictures(Path({str(tmp_path)!r}))
line = next(line for line in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in line)
print(int(line.split()[1]) * 1024 - before)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    taken = int(done.stdout)
    assert 0.4 * allowed * side**2 <= taken <= allowed * side**2 + slack


@pytest.mark.parametrize(
    ("mode", "name", "more"),
    [
        ("RGB", "1.jpg", {}),
        ("RGB", "1.jpg", {"progressive": True}),
        ("L", "1.jpg", {}),
        ("RGB", "1.png", {}),
        ("RGBA", "1.png", {}),
        ("RGB", "1.tif", {}),
        ("P", "1.png", {}),
        ("I;16", "1.png", {}),
    ],
)
def test_ordinary_photographs_are_read_where_a_size_is_given(tmp_path, mode, name, more):
    """Twelve megapixels of few bytes, which are refused without a size; a gradient, turned by EXIF, is the oracle."""
    down = np.linspace(0, 255, 3000).astype(np.uint8)
    pixels = np.broadcast_to(down[:, None], (3000, 4000))
    if mode == "I;16":
        picture = Image.fromarray(pixels.astype(np.uint16) * 257)
    elif mode == "P":
        picture = Image.fromarray(np.ascontiguousarray(pixels))
        picture = picture.convert("P")
    else:
        picture = Image.fromarray(np.ascontiguousarray(pixels)).convert(mode)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned a quarter clockwise
    put(tmp_path, f"a/{name}", b"")
    picture.save(tmp_path / "a" / name, exif=exif, **more)
    if mode not in ("L", "RGB", "RGBA") or name == "1.png":
        with pytest.raises(FormatError, match="resize all, as with image_size=224 .--image-size 224.$"):
            read_pictures(tmp_path)
    found = read_pictures(tmp_path, size=(32, 32)).images[0, 0]
    small = Image.fromarray(np.ascontiguousarray(np.rot90(pixels, -1))).resize((32, 32), Image.Resampling.BILINEAR)
    assert np.abs(found.astype(int) - np.asarray(small)).max() <= 3


@pytest.mark.slow
def test_a_photograph_of_a_hundred_megapixels(tmp_path):
    put(tmp_path, "a/1.jpg", b"")
    Image.new("RGB", (12_000, 9_000), (200, 100, 50)).save(tmp_path / "a" / "1.jpg", quality=95)
    with pytest.raises(FormatError, match="89478485 pixels are the limit.*--image-size"):
        read_pictures(tmp_path)
    code = f"""
import resource
from limbeck.formats.image_arrays import read_pictures
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
before = peak()
found = read_pictures({str(tmp_path)!r}, size=(64, 64)).images
assert abs(found[0].astype(int) - [[[200]], [[100]], [[50]]]).max() <= 3
assert peak() - before <= 400 << 20, (peak() - before) >> 20
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mode", "kind", "more"),
    [
        ("RGB", "png", {}),
        ("RGBA", "png", {}),
        ("L", "png", {}),
        ("RGB", "tif", {}),
        ("CMYK", "tif", {}),
        ("RGB", "jpg", {"progressive": True, "subsampling": 0}),
    ],
)
def test_reducing_takes_no_more_memory_than_was_found(tmp_path, mode, kind, more):
    """As below, for what is reduced while it is decoded."""
    side, slack = 4000, 24 << 20
    put(tmp_path, f"a/1.{kind}", b"")
    Image.new(mode, (side, side)).save(tmp_path / "a" / f"1.{kind}", **more)
    with Image.open(tmp_path / "a" / f"1.{kind}") as opened:
        allowed, _ = _reduce(opened, 64)
    code = f"""
import os
from pathlib import Path
from limbeck.formats import image_arrays
image_arrays._ROOM, image_arrays._ROOM_REDUCED = 0, 1 << 40  # so that it is reduced, and not refused
image_arrays.Image.init()
before = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")
Path("/proc/self/clear_refs").write_text("5")
image_arrays.read_pictures(Path({str(tmp_path)!r}), size=(32, 32))
line = next(line for line in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in line)
print(int(line.split()[1]) * 1024 - before)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) <= allowed + slack, (int(done.stdout) / side**2, allowed / side**2)


def test_images_without_classes(tmp_path):
    for name in ("b.png", "deep/er/a.png", "deep/c.png"):
        put(tmp_path, name, Image.new("L", (2, 2), len(name)))
    for name in (".DS_Store", "Thumbs.db", "__MACOSX/x.png", "notes.txt"):
        put(tmp_path, name, b"")
    found = read_unlabelled(tmp_path)
    assert found.files == ("b.png", "deep/c.png", "deep/er/a.png") and found.classes == () and len(found.labels) == 0
    assert found.images[:, 0, 0, 0].tolist() == [5, 10, 13]
    assert found.notes == (f"1 other files were skipped, such as {tmp_path / 'notes.txt'}",)
    with pytest.raises(FormatError, match="no image in it, but nothing"):
        read_unlabelled(put(tmp_path, "none/.x", b"").parent)


def test_folders_nested_without_end(tmp_path):
    here = os.getcwd()
    try:
        os.chdir(tmp_path)
        for _ in range(200):
            os.mkdir("a")
            os.chdir("a")
    finally:
        os.chdir(here)
    with pytest.raises(FormatError, match="nested more than 32 deep"):
        read_unlabelled(tmp_path)
    with pytest.raises(FormatError, match="a folder inside the class a"):
        read_pictures(tmp_path)
    subprocess.run(["rm", "-rf", str(tmp_path / "a")], check=True)  # shutil.rmtree recurses
