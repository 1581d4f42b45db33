"""Images as sources: what is decoded, shown and drawn, against slow obvious versions and identities."""

import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
from image_makers import put, scene
from PIL import Image

from limbeck.data import Examples
from limbeck.data.augment_policies import crop_box, draw
from limbeck.data.images import ImageArrays, ImageFiles, measured
from limbeck.data.viewing import Viewing, in_parts
from limbeck.errors import ConfigError, DataError, FormatError
from limbeck.formats.image_arrays import open_picture
from limbeck.options import Augmentation, ImagePresentation

BOTH = (ImagePresentation(size=16), ImagePresentation(size=24, mean=(0.5,), std=(0.5,), crop_pct=1.0))
POLICY = Augmentation(augment="trivial", erasing=0.5, view_seed=3)


@pytest.fixture
def files(tmp_path):
    names = [f"{number}.{kind}" for number, kind in enumerate(["jpg", "png", "webp", "jpg", "png", "jpg", "png"])]
    for number, name in enumerate(names):
        put(tmp_path, name, scene(40 + 7 * number, 60 - 3 * number, number, grey=number == 4))
    return ImageFiles(tmp_path, names, BOTH[0])


def everything(source, **how):
    rows = torch.arange(len(source))
    return source.fetch(rows, rows + 100, **how)


@pytest.mark.parametrize("size", [(30, 50), (50, 30), (31, 31), (8, 90)])
@pytest.mark.parametrize("wanted", [16, (12, 20)])
@pytest.mark.parametrize("crop_pct", [1.0, 0.875])
def test_the_middle_is_shown_without_squashing(tmp_path, size, wanted, crop_pct):
    """The colours of an image tell the place of each pixel, red from the left and green from the top."""
    down, right = np.meshgrid(np.arange(size[0]) + 0.5, np.arange(size[1]) + 0.5, indexing="ij")
    image = np.stack((right, down, right), -1) * 2.5
    put(tmp_path, "x.png", Image.fromarray(image.round().astype(np.uint8)))
    presentation = ImagePresentation(size=wanted, crop_pct=crop_pct, mean=(0.0,), std=(1.0,))
    (seen,) = ImageFiles(tmp_path, ["x.png"], presentation).fetch(torch.tensor([0]), torch.tensor([0]))
    high, wide = presentation.size
    factor = max(high / crop_pct / size[0], wide / crop_pct / size[1])
    expected_right = (np.arange(wide) + 0.5 - wide / 2) / factor + size[1] / 2
    expected_down = (np.arange(high) + 0.5 - high / 2) / factor + size[0] / 2
    assert seen.shape == (1, 3, high, wide)
    pixel = max(1.0, 1 / factor)  # sides are whole pixels, of the file or of what is resized
    inside = slice(1, -1)  # at the edges there are no neighbours to interpolate with
    found = seen[0].numpy() * 255 / 2.5
    assert np.abs(found[0] - expected_right)[:, inside].max() < pixel
    assert np.abs(found[1] - expected_down[:, None])[inside].max() < pixel


@pytest.mark.parametrize("size", [(30, 50), (61, 40)])
def test_square_presentations_are_torchvisions_resize_and_centre_crop(tmp_path, size):
    image = scene(*size)
    put(tmp_path, "x.png", image)
    presentation = ImagePresentation(size=21, mean=(0.0,), std=(1.0,), interpolation="bicubic")
    (seen,) = ImageFiles(tmp_path, ["x.png"], presentation).fetch(torch.tensor([0]), torch.tensor([0]))
    short, (height, width) = 24, size
    new = (short, int(short * width / height)) if height < width else (int(short * height / width), short)
    top, left = (int(round((side - 21) / 2)) for side in new)  # noqa: RUF046
    whole = np.asarray(image.resize(new[::-1], Image.Resampling.BICUBIC))
    assert np.array_equal((seen[0] * 255).round().permute(1, 2, 0).numpy(), whole[top : top + 21, left : left + 21])


def test_a_circle_stays_a_circle(tmp_path):
    from PIL import ImageDraw

    image = Image.new("L", (120, 60))
    ImageDraw.Draw(image).ellipse((40, 10, 80, 50), fill=255)
    put(tmp_path, "x.png", image)
    presentation = ImagePresentation.plain(30, channels=1)
    (seen,) = ImageFiles(tmp_path, ["x.png"], presentation).fetch(torch.tensor([0]), torch.tensor([0]))
    assert seen[0, 0, 15].sum() == pytest.approx(float(seen[0, 0, :, 15].sum()), abs=1) == pytest.approx(20, abs=1)


@pytest.mark.parametrize("augmentation", [None, POLICY, Augmentation(augment="rand"), Augmentation(augment="standard")])
@pytest.mark.parametrize("workers", [0, 2])
def test_batches_order_workers_and_other_presentations_change_nothing(files, augmentation, workers):
    examples = Examples.of(files, [0, 1, 0, 1, 0, 1, 0])
    order = torch.tensor([3, 1, 6, 0, 5, 2, 4])
    viewing = Viewing(examples, augmentation, workers=workers, presentations=[BOTH[1]])
    drawn = {"view": 2, "augmentation": augmentation}
    alone = [
        [files.fetch(row.view(1), row.view(1), presentations=[each], **drawn)[0] for each in BOTH] for row in order
    ]
    for size in (2, 7):
        made = list(viewing.batches(order, in_parts(7, size), view=2))
        own = torch.cat([batch.inputs for batch in made])
        other = torch.cat([batch.seen_as(BOTH[1]) for batch in made])
        assert torch.equal(own, torch.cat([first for first, _ in alone]))
        assert torch.equal(other, torch.cat([second for _, second in alone]))


def test_views_differ_by_view_example_and_seed(files):
    first = everything(files, view=1, augmentation=POLICY)[0]
    assert torch.equal(first, everything(files, view=1, augmentation=POLICY)[0])
    assert not torch.equal(first, everything(files, view=2, augmentation=POLICY)[0])
    other = Augmentation(augment="trivial", erasing=0.5, view_seed=4)
    assert not torch.equal(first, everything(files, view=1, augmentation=other)[0])
    rows = torch.arange(len(files))
    assert not torch.equal(first, files.fetch(rows, rows + 200, view=1, augmentation=POLICY)[0])


def test_all_presentations_show_the_same_crop(tmp_path):
    """A ramp from left to right tells where a crop lies."""
    ramp = np.broadcast_to(np.arange(0, 256, dtype=np.uint8), (256, 256))
    put(tmp_path, "x.png", Image.fromarray(ramp))
    source = ImageFiles(tmp_path, ["x.png"])
    sizes = [ImagePresentation.plain(size, channels=1) for size in (16, 64)]
    zero = torch.tensor([0])
    edges = []
    for view in range(20):
        drawn = Augmentation(augment="standard")
        small, large = source.fetch(zero, zero, view=view, augmentation=drawn, presentations=sizes)
        assert small.mean() == pytest.approx(float(large.mean()), abs=0.01)
        assert (small[0, 0, 0, 0] > small[0, 0, 0, -1]) == (large[0, 0, 0, 0] > large[0, 0, 0, -1])
        edges.append(float(large.mean()))
    assert np.std(edges) > 0.05


def test_a_jpeg_decoded_at_a_fraction_is_nearly_the_same(tmp_path):
    image = scene(800, 1200)
    put(tmp_path, "x.jpg", image, quality=95)
    put(tmp_path, "x.png", Image.open(tmp_path / "x.jpg"))
    source = ImageFiles(tmp_path, ["x.jpg", "x.png"], ImagePresentation.plain(64))
    for augmentation in (None, Augmentation(augment="standard")):
        for view in range(5):
            jpeg, png = source.fetch(
                torch.arange(2), torch.zeros(2, dtype=torch.int64), view=view, augmentation=augmentation
            )[0]
            assert (jpeg - png).abs().max() < 0.03
            assert augmentation is not None or not torch.equal(jpeg, png)  # a fraction it was


@pytest.mark.parametrize("sizes", [(16, 300), (300, 16)])
def test_a_jpeg_is_decoded_again_for_a_larger_presentation(tmp_path, sizes):
    put(tmp_path, "x.jpg", scene(700, 900))
    source, zero = ImageFiles(tmp_path, ["x.jpg"]), torch.tensor([0])
    wanted = [ImagePresentation(size=size) for size in sizes]
    both = source.fetch(zero, zero, presentations=wanted)
    alone = [source.fetch(zero, zero, presentations=[each])[0] for each in wanted]
    assert all(torch.equal(one, other) for one, other in zip(both, alone, strict=True))


def test_phone_photographs_are_turned_before_they_are_cropped(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    image = scene(60, 30)
    put(tmp_path, "turned.png", image.transpose(Image.Transpose.ROTATE_90), exif=exif)
    put(tmp_path, "plain.png", image)
    seen = ImageFiles(tmp_path, ["turned.png", "plain.png"], ImagePresentation(size=16))
    one, other = everything(seen)[0]
    assert torch.equal(one, other)
    same = torch.zeros(2, dtype=torch.int64)
    one, other = seen.fetch(torch.arange(2), same, augmentation=Augmentation(augment="standard"))[0]
    assert torch.equal(one, other)


def test_a_plain_presentation_is_what_images_in_memory_are_seen_as(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (3, 3, 10, 14), dtype=np.uint8)
    for number, each in enumerate(pixels):
        put(tmp_path, f"{number}.png", Image.fromarray(each.transpose(1, 2, 0)))
    files = ImageFiles(tmp_path, [f"{number}.png" for number in range(3)], ImagePresentation.plain((10, 14)))
    held = ImageArrays(torch.from_numpy(pixels))
    expected = Examples.of(pixels).as_seen(slice(0, 3))
    assert torch.equal(everything(files)[0], expected) and torch.equal(everything(held)[0], expected)
    drawn = {"augmentation": POLICY, "view": 4}
    assert torch.equal(everything(files, **drawn)[0], everything(held, **drawn)[0])


def test_augment_works_on_images_in_memory(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (5, 3, 8, 8), dtype=np.uint8)
    examples = Examples.of(pixels)
    batch = Viewing(examples, POLICY, workers=0).batch(torch.tensor([4, 1]), view=3)
    expected = ImageArrays(torch.from_numpy(pixels)).fetch(
        torch.tensor([4, 1]), torch.tensor([4, 1]), view=3, augmentation=POLICY
    )[0]
    assert torch.equal(batch.inputs, expected) and batch.source == examples.source
    with pytest.raises(DataError, match="augment is for uint8 images"):
        Viewing(Examples.of(np.zeros((5, 3, 8, 8), np.float32)), POLICY)


def test_images_in_memory_are_seen_as_each_model_sees_them():
    """Whichever way a batch comes: a model with a size and normalisation of its own is never shown bare pixels."""
    pixels = np.random.default_rng(0).integers(0, 256, (5, 3, 20, 20), dtype=np.uint8)
    examples, rows = Examples.of(pixels, [0, 1, 0, 1, 0]), torch.tensor([4, 1])
    expected = ImageArrays(torch.from_numpy(pixels)).fetch(rows, rows, presentations=BOTH)
    assert expected[0].shape == (2, 3, 16, 16)
    for number, presentation in enumerate(BOTH):
        shown = examples.with_presentation(presentation)
        assert shown.source == examples.source and shown.shape == (3, *presentation.size)
        assert torch.equal(shown.as_seen(rows), expected[number])
        assert torch.equal(examples.as_seen(rows, presentation), expected[number])
        assert torch.equal(examples.batch(rows).seen_as(presentation), expected[number])
    batch = Viewing(examples, workers=0, presentations=BOTH).batch(rows)
    assert torch.equal(batch.inputs, examples.as_seen(rows))
    assert all(torch.equal(batch.seen_as(each), made) for each, made in zip(BOTH, expected, strict=True))


def test_erased_parts_are_the_mean_and_as_often_as_asked(files):
    rows = torch.zeros(400, dtype=torch.int64)
    erased = Augmentation(augment="standard", erasing=0.25)
    whole = files.fetch(rows, torch.arange(400), augmentation=Augmentation(augment="standard"))[0]
    parts = files.fetch(rows, torch.arange(400), augmentation=erased)[0]
    changed = (whole != parts).any(1)
    assert (parts[changed.unsqueeze(1).expand_as(parts)] == 0).all()
    share = changed.flatten(1).any(1).double().mean()
    assert float(share) == pytest.approx(0.25, abs=4 * (0.25 * 0.75 / 400) ** 0.5)
    areas = changed[changed.flatten(1).any(1)].double().mean((1, 2))
    assert 0.01 < areas.min() and areas.max() < 0.4


@pytest.mark.parametrize("size", [(100, 130), (40, 400), (400, 40), (1, 1), (3, 2)])
def test_crops_have_the_areas_and_aspects_of_their_definition(size):
    numbers = draw(Augmentation(augment="standard"), torch.arange(500), 0)
    boxes = [crop_box(each, *size, least=0.25) for each in numbers]
    for box in boxes:
        assert 0 <= box.top <= size[0] - box.height and 0 <= box.left <= size[1] - box.width
        assert box.height > 0 and box.width > 0
    if size == (100, 130):
        areas = np.array([box.height * box.width for box in boxes]) / (size[0] * size[1])
        aspects = np.array([box.width / box.height for box in boxes])
        assert 0.24 < areas.min() and areas.max() <= 1 and 0.74 < aspects.min() and aspects.max() < 1.35
        # Up to half of the image every aspect fits, so areas there are even, and aspects about 1.
        assert np.median(np.log(aspects[areas < 0.5])) == pytest.approx(0, abs=0.05)
        lower, upper = (((low < areas) & (areas < low + 0.125)).sum() for low in (0.25, 0.375))
        assert abs(lower - upper) < 4 * (lower + upper) ** 0.5 and lower + upper > 100


def test_a_corrupt_file_is_named_once(files, tmp_path):
    path = tmp_path / "3.jpg"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(DataError, match=r"3\.jpg: not an image, truncated or corrupt") as caught:
        everything(files)
    assert str(caught.value).count("3.jpg") == 1 and "\n" not in str(caught.value)
    examples = Examples.of(files)
    with pytest.raises(DataError, match=r"3\.jpg: not an image, truncated or corrupt"):
        list(Viewing(examples, workers=2).batches(torch.arange(7), in_parts(7, 2)))
    path.unlink()
    with pytest.raises(DataError, match=r"3\.jpg: .*No such file"):
        everything(files)


def test_the_digest_is_of_names_sizes_and_bytes(files, tmp_path):
    digest = Examples.of(files).source
    assert Examples.of(files.with_presentation(BOTH[1])).source == digest
    assert Examples.of(files.select(torch.tensor([1, 0, 2, 3, 4, 5, 6]))).source != digest
    assert Examples.of(files).take(torch.tensor([1, 2])).source == digest
    content = bytearray((tmp_path / "2.webp").read_bytes())
    content[-1] ^= 1
    (tmp_path / "2.webp").write_bytes(content)
    assert Examples.of(files).source != digest


def test_paths_are_held_compactly_and_travel(tmp_path):
    names = [f"classes/n{number % 1000:08}/é{number:07}.jpg" for number in range(10_000)]
    files = ImageFiles(tmp_path, names)
    assert str(files.path(4321)) == str(tmp_path / names[4321])
    assert len(pickle.dumps(files)) < 60 * len(names)
    part = pickle.loads(pickle.dumps(files.select(torch.tensor([9, 3]))))
    assert [part.names[0], part.names[1]] == [names[9], names[3]] and len(part) == 2


def test_mean_and_deviation_are_measured_by_channel(files):
    found = measured(files)
    plain = everything(files, presentations=[ImagePresentation(size=16, mean=(0.0,), std=(1.0,))])[0].double()
    assert found.mean == pytest.approx(plain.mean((0, 2, 3)).tolist(), abs=1e-6)
    assert found.std == pytest.approx(plain.std((0, 2, 3), correction=0).tolist(), abs=1e-6)
    seen = everything(files.with_presentation(found))[0].double()
    assert seen.mean((0, 2, 3)).abs().max() < 1e-5


def test_what_cannot_be(files):
    with pytest.raises(ConfigError, match="use augment standard"):
        everything(files, augmentation=Augmentation(shift=2))
    with pytest.raises(DataError, match="a model wants str"):
        everything(files, presentations=["words"])
    for wrong, match in (
        ({"augment": "standard", "shift": 1}, "excludes shift"),
        ({"augment": "bent"}, "one of none, standard"),
        ({"erasing": 0.5}, "give augment"),
        ({"augment": "rand", "erasing": 2}, "erasing must be in"),
        ({"augment": "rand", "crop_area": 0}, "crop_area must be in"),
    ):
        with pytest.raises(ConfigError, match=match):
            Augmentation(**wrong)


def test_no_warning_of_torch_is_shown(tmp_path):
    """Torch warns once in a program of memory that must not be written to: a fresh one tells."""
    put(tmp_path, "x.png", scene(20, 20))
    code = (
        "import torch; from limbeck.data.images import ImageFiles, ImageArrays; zero = torch.tensor([0]);"
        f"ImageFiles({str(tmp_path)!r}, ['x.png']).fetch(zero, zero);"
        "ImageArrays(torch.zeros(1, 1, 4, 4, dtype=torch.uint8)).fetch(zero, zero)"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_an_image_that_cannot_be_read_is_named_once(tmp_path):
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    with pytest.raises(FormatError) as refused, open_picture(tmp_path / "broken.png"):
        pass
    assert str(refused.value).count("broken.png") == 1
