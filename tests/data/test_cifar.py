"""The benchmarks on CIFAR-10 in their short forms, and how they read the images of the npm package."""

import json
import math
from importlib import import_module

import numpy as np
import pytest
import torch
from PIL import Image


@pytest.fixture
def cifar_views():
    return import_module("cifar_views")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:the teacher")
@pytest.mark.filterwarnings("ignore:the model")
def test_the_short_form_trains_four_arms_and_a_baseline(tmp_path, capsys, cifar_views):
    wanted = ["--quick", "--runs", str(tmp_path / "runs"), "--out", str(tmp_path), "--json", str(tmp_path / "a.json")]
    assert cifar_views.main(wanted) == 0
    found = json.loads((tmp_path / "a.json").read_text())
    assert set(found["errors"]) == {"teacher", "labels", "fixed", "independent", "consistent", "mixup"}
    assert all(0 <= wrong <= found["images"]["test"] for each in found["errors"].values() for wrong in each)
    assert len(found["comparisons"]) == 4 + 3
    for row in found["comparisons"]:
        wrong, other = (found["errors"][row[name]][0] for name in ("student", "other"))
        assert row["estimate"] == pytest.approx((wrong - other) / found["images"]["test"])
    page, printed = (tmp_path / "cifar.md").read_text(), capsys.readouterr().out
    assert page in printed and "min left] mixup 0:" in printed
    assert page.count("\n| ") == 2 + 6 + 7 and (tmp_path / "cifar-accuracy.svg").exists()
    # Each arm's store holds answers to the views of its own arm.
    kept = {
        name: json.loads((tmp_path / "runs" / "answers" / name / "manifest.json").read_text())["plan"]["augmentation"]
        for name in cifar_views.ARMS
    }
    assert kept["fixed"] is None and kept["mixup"]["mixup"] == 1.0
    assert (kept["independent"]["view_seed"], kept["consistent"]["view_seed"]) == (1, 0)


def test_a_sprite_is_a_row_of_pixels_per_image(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (3, 3, 32, 32)).astype(np.uint8)
    Image.fromarray(images.transpose(0, 2, 3, 1).reshape(3, 1024, 3)).save(tmp_path / "some.png")
    assert np.array_equal(import_module("cifar").read_images(tmp_path, "some"), images)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # 128 images of noise, one epoch
def test_the_pair_is_trained_and_its_int8_files_are_judged(tmp_path, capsys):
    pair = import_module("cifar_pair")
    words = ["--quick", "--runs", str(tmp_path / "runs"), "--markdown", str(tmp_path / "pair.md")]
    for name in ("first.json", "again.json"):  # the second time all of it is there
        assert pair.main([*words, "--json", str(tmp_path / name)]) == 0
    found, again = (json.loads((tmp_path / name).read_text()) for name in ("first.json", "again.json"))
    assert {**found, "minutes": 0} == {**again, "minutes": 0}
    assert found["student"]["int8_bytes"] < found["student"]["bytes"] / 2
    assert [each["float32"] for each in found["int8"]] == found["students"]
    page = (tmp_path / "pair.md").read_text()
    assert page in capsys.readouterr().out and page.count("\n| ") == 5


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_the_comparison_of_methods_is_continued(tmp_path, capsys):
    words = ["--quick", "--methods", "kd", "--runs", str(tmp_path)]
    pages = []
    for _ in range(2):
        assert import_module("cifar_methods").main(words) == 0
        pages.append([line for line in capsys.readouterr().out.splitlines() if line.startswith("| kd")])
    assert pages[0] == pages[1] and len(pages[0]) == 2


def test_damages_are_what_they_say(monkeypatch):
    damages = import_module("robustness")
    images = torch.rand(3, 2, 8, 8, generator=torch.Generator().manual_seed(1))
    for turns in (0, 1, 2):
        turned = torch.rot90(images, -turns, (2, 3))
        assert any(torch.allclose(damages.rotate(images, 90 * sign * turns), turned, atol=1e-5) for sign in (1, -1))
    assert torch.equal(damages.shift(images, 2)[..., 2:, 2:], images[..., :-2, :-2])
    assert torch.equal(damages.shift(images, 2)[..., 0, 2:], images[..., 0, :-2])
    flat = torch.full((1, 3, 8, 8), 0.3)
    assert torch.allclose(damages.blur(flat, 1.0), flat)
    point = torch.zeros(1, 1, 9, 9)
    point[..., 4, 4] = 1
    spread = damages.blur(point, 0.7)[0, 0]
    assert spread.sum() == pytest.approx(1) and spread[4, 5] / spread[4, 4] == pytest.approx(math.exp(-1 / 0.98))
    low = damages.contrast(images, 0.5)
    assert torch.allclose(low.mean((1, 2, 3)), images.mean((1, 2, 3))) and low.std() < images.std()
    noisy = damages.noise(torch.zeros(4, 3, 32, 32), 0.1)
    assert noisy.std() == pytest.approx(0.1, rel=0.03) and torch.equal(
        noisy, damages.noise(torch.zeros(4, 3, 32, 32), 0.1)
    )


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_students_and_baselines_are_judged_on_damaged_images(tmp_path, capsys):
    assert import_module("robustness").main(["--quick", "--json", str(tmp_path / "rows.json")]) == 0
    rows = json.loads((tmp_path / "rows.json").read_text())
    assert len(rows) == 11 and all(row["p_value"] <= row["p_adjusted"] <= 1 for row in rows)
    for row in rows:
        difference = (sum(row["student"]["errors"]) - sum(row["baseline"]["errors"])) / 2
        assert row["estimate"] == pytest.approx(difference) and row["low"] <= difference <= row["high"]
    assert capsys.readouterr().out.count("\n| ") == 1 + 11 + 5
