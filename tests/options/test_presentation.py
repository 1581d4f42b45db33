"""How a model's own configuration says what it sees."""

import json

import pytest

from limbeck.errors import ConfigError
from limbeck.options import ImagePresentation
from limbeck.options.presentation import IMAGENET_MEAN, IMAGENET_STD

HALF = {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}


def test_a_timm_configuration():
    config = {
        "input_size": (3, 288, 256), "mean": (0.5, 0.4, 0.3), "std": (0.2, 0.2, 0.1), "crop_pct": 0.95,
        "interpolation": "bicubic", "crop_mode": "center", "num_classes": 1000, "first_conv": "conv1",
    }  # fmt: skip
    assert ImagePresentation.from_timm(config) == ImagePresentation(
        size=(288, 256), mean=(0.5, 0.4, 0.3), std=(0.2, 0.2, 0.1), crop_pct=0.95, interpolation="bicubic"
    )
    assert ImagePresentation.from_timm({}) == ImagePresentation()
    assert ImagePresentation.from_timm({"crop_mode": "squash"}).squash
    assert ImagePresentation.from_timm({"input_size": (1, 28, 28)}).channels == 1
    with pytest.raises(ConfigError, match="crop_mode must be center or squash"):
        ImagePresentation.from_timm({"crop_mode": "border"})


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        # ViT, ResNet and ConvNext, EfficientNet, CLIP, and CLIP of old.
        ({"size": {"height": 224, "width": 224}, **HALF, "resample": 2}, {"squash": True, "crop_pct": 1.0}),
        ({"size": {"shortest_edge": 224}, "crop_pct": 0.875, "resample": 3}, {"interpolation": "bicubic"}),
        ({"size": {"shortest_edge": 384}, "crop_pct": 0.875}, {"size": 384, "crop_pct": 1.0, "squash": True}),
        ({"size": {"height": 256, "width": 256}, "do_center_crop": True, "crop_size": {"height": 224, "width": 224}},
         {"squash": True, "crop_pct": 0.875}),
        ({"size": {"shortest_edge": 224}, "do_center_crop": True, "crop_size": 224}, {"crop_pct": 1.0}),
        ({"size": 224, "crop_size": 224, "do_center_crop": True}, {"crop_pct": 1.0}),
        ({"size": 224}, {"squash": True, "crop_pct": 1.0}),
        ({"size": {"shortest_edge": 256}, "do_center_crop": False, "crop_size": 224}, {"size": 256, "crop_pct": 1.0}),
    ],
)  # fmt: skip
def test_image_processors_of_hugging_face(config, expected):
    kept = {"mean": (0.5,), "std": (0.5,)} if "image_mean" in config else {"mean": (0.0,), "std": (1.0,)}
    assert ImagePresentation.from_processor(config) == ImagePresentation(**{**kept, **expected})


@pytest.mark.parametrize(
    ("config", "lowest", "highest"),
    [
        ({}, 0, 1),
        ({"do_normalize": False, **HALF}, 0, 1),
        ({"do_rescale": False}, 0, 255),
        ({"rescale_factor": 1 / 127.5, "rescale_offset": True}, -1, 1),
        (HALF, -1, 1),
    ],
)
def test_what_processors_do_to_black_and_white(config, lowest, highest):
    found = ImagePresentation.from_processor({"size": 8, **config})
    assert (0 - found.mean[0]) / found.std[0] == pytest.approx(lowest)
    assert (1 - found.mean[0]) / found.std[0] == pytest.approx(highest)


@pytest.mark.parametrize(
    ("config", "match"),
    [
        ({}, "must resize images to a size"),
        ({"size": 224, "do_resize": False}, "must resize images"),
        ({"size": {"longest_edge": 800}}, "must resize images"),
        ({"size": 8, "do_flip_channel_order": True}, "expects BGR"),
        ({"size": 8, "resample": 17}, "resample must be a Pillow resampling filter"),
    ],
)
def test_processors_that_cannot_be_followed(config, match):
    with pytest.raises(ConfigError, match=match):
        ImagePresentation.from_processor(config)


def test_a_presentation_goes_to_a_file_and_back():
    one = ImagePresentation(size=(3, 5), mean=(0.1, 0.2, 0.3), squash=True)
    assert ImagePresentation.from_dict(json.loads(json.dumps(one.to_dict()))) == one
    assert len({one, ImagePresentation.from_dict(one.to_dict())}) == 1
    for wrong in ({"sizes": 3}, {"size": [1, 2, 3]}, {"size": "large"}, {"mean": ["a"]}, {"std": [0.0]}):
        with pytest.raises(ConfigError):
            ImagePresentation.from_dict(wrong)


def test_channels_get_a_mean_and_a_deviation_each():
    assert ImagePresentation().mean == IMAGENET_MEAN and ImagePresentation().std == IMAGENET_STD
    assert ImagePresentation(channels=1).mean == (pytest.approx(sum(IMAGENET_MEAN) / 3),)
    assert ImagePresentation(mean=(0.5,)).mean == (0.5, 0.5, 0.5)
    for wrong in (
        {"size": 0}, {"size": (1, 2, 3)}, {"size": 9000}, {"mean": (1.0, 2.0)}, {"std": (0.0,)}, {"channels": 2},
        {"crop_pct": 0.0}, {"crop_pct": 1.1}, {"interpolation": "cubic"}, {"std": (float("nan"),)}, {"size": True},
    ):  # fmt: skip
        with pytest.raises(ConfigError):
            ImagePresentation(**wrong)
