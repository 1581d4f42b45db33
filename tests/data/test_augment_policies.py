"""TrivialAugment and RandAugment against torchvision's own operations, and how often each is drawn."""

import importlib.util

import numpy as np
import pytest
import torch
from image_makers import scene

from limbeck.data import augment_policies
from limbeck.data.augment_policies import OPERATIONS, draw, flipped, operated
from limbeck.options import Augmentation

NAMES = {
    "identity": "Identity", "shear x": "ShearX", "shear y": "ShearY", "translate x": "TranslateX",
    "translate y": "TranslateY", "rotate": "Rotate", "brightness": "Brightness", "colour": "Color",
    "contrast": "Contrast", "sharpness": "Sharpness", "posterize": "Posterize", "solarize": "Solarize",
    "autocontrast": "AutoContrast", "equalize": "Equalize",
}  # fmt: skip


@pytest.fixture(scope="module")
def oracle():
    if importlib.util.find_spec("torchvision") is None or importlib.util.find_spec("timm") is None:
        pytest.skip("torchvision is not installed")
    from limbeck.models.timm_models import import_timm

    import_timm()  # torchvision's transforms can be imported afterwards, whatever its build
    from torchvision.transforms import autoaugment

    return autoaugment


@pytest.mark.parametrize("policy", ["trivial", "rand"])
@pytest.mark.parametrize("name", NAMES)
def test_operations_are_torchvisions(oracle, policy, name):
    image = scene(224, 224, 3)
    if policy == "trivial":
        space, bins = oracle.TrivialAugmentWide()._augmentation_space(31), (0, 7, 20, 30)
    else:
        space, bins = oracle.RandAugment()._augmentation_space(31, (224, 224)), (9,)
    magnitudes, signed = space[NAMES[name]]
    ranges = augment_policies._WIDE if policy == "trivial" else augment_policies._NARROW
    for place in bins:
        for sign in (1, -1) if signed else (1,):
            magnitude = float(magnitudes[place]) if magnitudes.ndim > 0 else 0.0
            theirs = oracle._apply_op(
                image, NAMES[name], sign * magnitude, interpolation=oracle.InterpolationMode.NEAREST, fill=None
            )
            ours = OPERATIONS[name](image, sign * place / 30 * ranges.get(name, 0.0))
            apart = np.abs(np.asarray(ours).astype(int) - np.asarray(theirs))
            if name.startswith(("shear", "rotate")):
                # A pixel's centre may fall to the other side of an edge, where the angle is rounded otherwise.
                assert apart.any(-1).mean() < 0.02
            else:
                assert apart.max() <= 1  # amounts are float32 there


@pytest.mark.parametrize("policy", ["trivial", "rand"])
def test_operations_are_drawn_evenly(monkeypatch, policy):
    seen = []
    for name in OPERATIONS:
        monkeypatch.setitem(OPERATIONS, name, lambda image, amount, name=name: seen.append((name, amount)) or image)
    numbers = draw(Augmentation(augment=policy), torch.arange(2000), 5)
    for each in numbers:
        operated(scene(4, 4), each, policy)
    steps = 1 if policy == "trivial" else 2
    assert len(seen) == 2000 * steps
    expected = len(seen) / len(OPERATIONS)
    for name in OPERATIONS:
        amounts = np.array([amount for found, amount in seen if found == name])
        assert abs(len(amounts) - expected) < 4 * expected**0.5
        if name == "rotate":
            signs = (amounts > 0).sum() - (amounts < 0).sum()
            assert abs(signs) < 4 * len(amounts) ** 0.5
            assert set(np.abs(amounts).round(6)) <= (
                {9.0} if policy == "rand" else {round(place * 4.5, 6) for place in range(31)}
            )


def test_every_second_view_is_flipped_whatever_else_is_drawn():
    numbers = draw(Augmentation(augment="standard"), torch.arange(1000), 0)
    assert abs(sum(map(flipped, numbers)) - 500) < 4 * 250**0.5
    image = scene(5, 5)
    assert operated(image, numbers[0], "standard") is image


def test_what_is_drawn_for_one_thing_tells_nothing_of_another():
    drawn = np.array(draw(Augmentation(augment="rand"), torch.arange(3000), 1)).reshape(3000, -1)
    correlation = np.corrcoef(drawn.T) - np.eye(drawn.shape[1])
    assert np.abs(correlation).max() < 5 / 3000**0.5
