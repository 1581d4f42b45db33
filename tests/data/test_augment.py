"""Augmentation: the same on any batch size and in any order; their geometry against scipy and against plain shifts."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from limbeck.data import Examples, Feed, Views
from limbeck.data.augment import affine_matrices, bend_weights, draw_anew
from limbeck.errors import ConfigError, DataError
from limbeck.keyed import uniform
from limbeck.options import Augmentation

KINDS = [
    Augmentation(shift=2),
    Augmentation(shift=1.5),
    Augmentation(rotate=15),
    Augmentation(shift=2, rotate=10, scale=0.15, shear=0.2),
    Augmentation(elastic=3),
    Augmentation(shift=2, rotate=10, elastic=2.7),
]


def pictures(count=50, size=12, channels=1):
    generator = torch.Generator().manual_seed(1)
    return Examples.of(torch.randint(0, 256, (count, channels, size, size), generator=generator, dtype=torch.uint8))


@pytest.mark.parametrize("augmentation", KINDS, ids=str)
@pytest.mark.parametrize("channels", [1, 3])
def test_a_view_belongs_to_the_example_not_to_the_batch(augmentation, channels):
    examples = pictures(channels=channels)
    views = Views(examples, augmentation)
    views.prepare(3)
    whole = views.take(torch.arange(50))
    views.prepare(4)
    assert not torch.equal(whole, views.take(torch.arange(50)))
    views.prepare(3)
    shuffled = torch.randperm(50)
    assert torch.equal(views.take(shuffled), whole[shuffled])
    for size in (1, 3, 17):
        pieces = [views.take(rows) for rows in torch.arange(50).split(size)]
        assert torch.equal(torch.cat(pieces), whole)
    # Among other examples, the same number gives the same view.
    few = Views(examples.take(torch.tensor([40, 2])), augmentation)
    few.prepare(3)
    assert torch.equal(few.take(torch.tensor([0, 1])), whole[[40, 2]])
    other = Views(examples, replace(augmentation, view_seed=8))
    other.prepare(3)
    assert not torch.equal(other.take(torch.arange(50)), whole)


@pytest.mark.parametrize("augmentation", KINDS, ids=str)
def test_a_view_is_the_same_where_bf16_is_asked_for(augmentation):
    views = Views(pictures(), augmentation)
    views.prepare(3)
    rows = torch.arange(50)
    with torch.autocast("cpu", torch.bfloat16):
        found = views.take(rows)
    assert torch.equal(found, views.take(rows))


@pytest.mark.parametrize("augmentation", KINDS, ids=str)
def test_batches_of_any_size_show_the_same_pictures(augmentation):
    examples = pictures()
    seen = []
    for batch_size in (7, 50):
        feed = Feed(examples, batch_size=batch_size, augmentation=augmentation, seed=5)
        batches = list(feed.batches(2))
        index = torch.cat([batch.index for batch in batches])
        assert torch.equal(index.sort().values, torch.arange(50))
        seen.append((index, torch.cat([batch.inputs for batch in batches])))
        late = list(feed.batches(2, start=1))
        assert torch.equal(torch.cat([batch.inputs for batch in late]), seen[-1][1][batch_size:]) if late else True
    assert torch.equal(seen[0][0], seen[1][0])
    assert torch.equal(seen[0][1], seen[1][1])


def test_whole_pixel_shifts_are_shifts_and_all_of_them_come():
    examples = pictures(count=2000, size=8)
    views = Views(examples, Augmentation(shift=2))
    views.prepare(0)
    found = views.take(torch.arange(2000))
    padded = np.pad(examples.inputs.numpy()[:, 0], ((0, 0), (2, 2), (2, 2)))
    places = []
    for number in range(2000):
        wanted = (found[number, 0].numpy() * 255).round().astype(np.uint8)
        fits = [
            (y, x) for y in range(5) for x in range(5) if np.array_equal(padded[number, y : y + 8, x : x + 8], wanted)
        ]
        assert len(fits) == 1
        places.append(fits[0])
    counts = np.unique(places, axis=0, return_counts=True)[1]
    assert len(counts) == 25
    # Chi-squared with 24 degrees of freedom is above 62 once in 40,000 times.
    assert ((counts - 80) ** 2 / 80).sum() < 62


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(0, 50), st.booleans())
def test_affine_views_agree_with_scipy(number, view, oblong):
    height, width = (14, 20) if oblong else (16, 16)
    augmentation = Augmentation(shift=3, rotate=25, scale=0.3, shear=0.3, view_seed=2)
    index = torch.tensor([number])
    matrix = affine_matrices(index, augmentation, view=view, size=(height, width))
    smooth = ndimage.gaussian_filter(np.random.default_rng(number).random((height, width)), 1.0)
    found = draw_anew(torch.tensor(smooth, dtype=torch.float32)[None, None], matrix)[0, 0].numpy()
    # From grid coordinates (x, y in [-1, 1]) to pixels (row, column) about the centre.
    m = matrix[0].double().numpy()
    half = np.array([height / 2, width / 2])
    swap = m[:, [1, 0]][[1, 0]]
    linear = half[:, None] * swap / half[None, :]
    offset = half * m[[1, 0], 2] + (half - 0.5) - linear @ (half - 0.5)
    expected = ndimage.affine_transform(smooth, linear, offset, order=1, mode="grid-constant", cval=0.0)
    assert np.abs(found - expected).max() < 1e-3


@given(st.integers(0, 100_000))
def test_distortions_stay_within_what_was_asked(number):
    only = affine_matrices(torch.tensor([number]), Augmentation(rotate=30), view=0, size=(10, 10))[0]
    only = only.double().numpy()
    angle = np.degrees(np.arctan2(-only[1, 0], only[0, 0]))
    assert abs(angle) <= 30 + 1e-4
    assert np.linalg.det(only[:, :2]) == pytest.approx(1, abs=1e-5)
    scaled = affine_matrices(torch.tensor([number]), Augmentation(scale=0.25), view=0, size=(10, 10))[0]
    assert 1 / 1.25 - 1e-5 <= 1 / scaled[0, 0] <= 1.25 + 1e-5
    moved = affine_matrices(torch.tensor([number]), Augmentation(shift=2.5), view=0, size=(10, 20))[0]
    assert abs(moved[0, 2]) <= 2.5 * 2 / 20 + 1e-6
    assert abs(moved[1, 2]) <= 2.5 * 2 / 10 + 1e-6


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.booleans())
def test_a_bend_is_a_spline_and_agrees_with_scipy(number, oblong):
    height, width = (14, 20) if oblong else (16, 16)
    smooth = ndimage.gaussian_filter(np.random.default_rng(number).random((height, width)), 1.0)
    examples = Examples.of(torch.tensor(smooth, dtype=torch.float32)[None, None])
    views = Views(examples, Augmentation(elastic=2.5, view_seed=number))
    views.prepare(number % 7)
    (moved,) = views.bent(torch.tensor([0])).double().numpy()
    assert np.abs(moved).max() <= 2.5 * 1.01
    points = (views.bends[0].double().numpy().reshape(2, 7, 7) - 511.5) / 512
    # scipy's own cubic spline, from the same control points: pixel centres in units of a span, one point before them.
    places = np.meshgrid(*((np.arange(n) + 0.5) * 4 / n + 1 for n in (height, width)), indexing="ij")
    for found, side in zip(moved, points, strict=True):
        spline = ndimage.map_coordinates(side, places, order=3, prefilter=False, mode="nearest")
        assert np.abs(found - 2.5 * spline).max() < 0.02
    rows, columns = np.meshgrid(np.arange(height), np.arange(width), indexing="ij")
    wanted = ndimage.map_coordinates(
        smooth, (rows + moved[0], columns + moved[1]), order=1, mode="grid-constant", cval=0.0
    )
    assert np.abs(views.take(torch.tensor([0]))[0, 0].numpy() - wanted).max() < 1e-5


def test_bends_are_as_strong_as_simards():
    """alpha 34 and sigma 4 move a pixel by about 1.4 pixels, drawn here as there: noise smoothed by a Gaussian."""
    views = Views(pictures(count=400, size=28), Augmentation(elastic=5))
    views.prepare(0)
    ours = views.bent(torch.arange(400)).numpy()
    noise = np.random.default_rng(0).uniform(-1, 1, (400, 60, 60))
    theirs = 34 * ndimage.gaussian_filter(noise, (0, 4, 4))[:, 16:44, 16:44]
    assert ours.std() == pytest.approx(theirs.std(), rel=0.05)
    # As smooth, too: how much two pixels 7 apart have in common.
    like = [np.mean(field[..., 7:] * field[..., :-7]) / field.var() for field in (ours, theirs)]
    assert like[0] == pytest.approx(like[1], abs=0.07)
    assert abs(ours.mean()) < 0.05


def test_bends_and_shifts_are_drawn_apart():
    count = 4000
    views = Views(pictures(count=count, size=8), Augmentation(shift=2, rotate=20, scale=0.2, shear=0.2, elastic=3))
    views.prepare(1)
    drawn = torch.cat([views.matrices.flatten(1), views.bends.float()], 1).double()
    affine, bends = 6, 98
    assert drawn.shape[1] == affine + bends
    corr = torch.corrcoef(drawn.T)[:, affine:]
    corr[affine:].fill_diagonal_(0)
    # Of 10,000 correlations of independent numbers the largest is about 4 / sqrt(count).
    assert float(corr.abs().max()) < 5.5 / count**0.5


def test_weights_of_a_bend_are_exact_in_float32():
    weights = bend_weights(28, 28)
    assert torch.equal((weights * 2048).round(), weights * 2048)
    assert float(weights.max()) < 0.5
    assert float((weights.sum(0) - 1).abs().max()) < 0.01


def test_views_come_round():
    feed = Feed(pictures(), batch_size=50, augmentation=Augmentation(shift=2, views=3), seed=0)

    def shown(epoch):
        (batch,) = feed.batches(epoch)
        return batch.view, batch.inputs[batch.index.argsort()]

    first, fourth, second = shown(0), shown(3), shown(1)
    assert first[0] == fourth[0] == 0
    assert torch.equal(first[1], fourth[1])
    assert not torch.equal(first[1], second[1])


def test_only_pictures_have_views():
    with pytest.raises(DataError, match="only images"):
        Views(Examples.of(torch.zeros(3, 5)), Augmentation(shift=1))
    with pytest.raises(ConfigError, match="views must be at least 1"):
        Augmentation(shift=1, views=0)


@given(st.integers(0, 100_000), st.integers(0, 50))
def test_an_image_is_scaled_then_turned_then_sheared_then_shifted(number, view):
    """The matrix is the inverse of that map, each factor of which is written out here from the amounts drawn."""
    augmentation = Augmentation(shift=3, rotate=25, scale=0.3, shear=0.4, view_seed=2)
    height, width = 14, 20
    index = torch.tensor([number])
    drawn = [uniform(index, seed=2, view=view, draw=draw)[0].double().numpy() * 2 - 1 for draw in (0, 1)]
    (down, right, turn, size), slant = drawn[0], drawn[1][0] * 0.4
    angle = np.radians(25 * turn)
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    forward = np.array([[1, slant], [0, 1]]) @ rotation * 1.3**size  # of (x, y) in pixels about the centre
    inverse = np.linalg.inv(forward)
    half = np.array([width / 2, height / 2])
    found = affine_matrices(index, augmentation, view=view, size=(height, width))[0].double().numpy()
    np.testing.assert_allclose(found[:, :2], inverse * half[None, :] / half[:, None], atol=1e-5)
    np.testing.assert_allclose(found[:, 2], -inverse @ np.array([3 * right, 3 * down]) / half, atol=1e-5)


def test_whole_pixels_are_shifted_by_the_amounts_drawn():
    examples = pictures(count=20, size=8)
    views = Views(examples, Augmentation(shift=2, view_seed=7))
    views.prepare(3)
    found = views.take(torch.arange(20))
    drawn = (uniform(torch.arange(20), seed=7, view=3)[:, :2] * 5).long().tolist()
    padded = np.pad(examples.inputs.numpy()[:, 0], ((0, 0), (2, 2), (2, 2)))
    for number, (row, column) in enumerate(drawn):
        window = padded[number, row : row + 8, column : column + 8]
        assert np.array_equal((found[number, 0] * 255).round().numpy(), window)


def test_views_that_stored_answers_depend_on():
    """Numbers written down when stores were made of these views: other ones would be other images."""
    counted = Examples.of(torch.arange(60, dtype=torch.uint8).reshape(2, 1, 6, 5))
    views = Views(counted, Augmentation(shift=2, view_seed=4))
    views.prepare(5)
    assert (views.take(torch.tensor([1])) * 255).round().int().flatten().view(6, 5).tolist() == [
        [0, 0, 0, 0, 0],
        [0, 0, 0, 0, 0],
        [0, 30, 31, 32, 33],
        [0, 35, 36, 37, 38],
        [0, 40, 41, 42, 43],
        [0, 45, 46, 47, 48],
    ]
    every = Augmentation(shift=2, rotate=10, scale=0.15, shear=0.2, view_seed=4)
    wanted = [[[1.1053555, 0.2239520, -0.1156685], [-0.2174351, 1.0886757, 0.2281895]],
              [[1.0656742, 0.0786673, -0.2201130], [-0.0040609, 1.0653843, 0.1075121]]]  # fmt: skip
    torch.testing.assert_close(
        affine_matrices(torch.tensor([3, 1000]), every, view=5, size=(8, 10)), torch.tensor(wanted), atol=1e-6, rtol=0
    )
    views = Views(counted, Augmentation(elastic=3, view_seed=4))
    views.prepare(5)
    bent = views.bent(torch.tensor([1]))[0, :, ::3, ::2]
    wanted = [[[-0.29886532, 0.03933764, -1.44751453], [-0.59647465, 0.13594007, 0.56284332]],
              [[-0.76455975, -0.74040556, -1.36295414], [1.58414841, 1.20811701, 0.48055458]]]  # fmt: skip
    torch.testing.assert_close(bent, torch.tensor(wanted), atol=1e-6, rtol=0)
