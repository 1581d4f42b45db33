"""The benchmarks on CIFAR-10 in their short forms, and how they read the images of the npm package."""

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


def load(name):
    path = Path(__file__).parents[2] / "benchmarks" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"benchmark_{name}", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def cifar_views():
    return load("cifar_views")


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
    assert np.array_equal(load("cifar").read_images(tmp_path, "some"), images)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # 128 images of noise, one epoch
def test_the_pair_is_trained_and_its_int8_files_are_judged(tmp_path, capsys):
    pair = load("cifar_pair")
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
        assert load("cifar_methods").main(words) == 0
        pages.append([line for line in capsys.readouterr().out.splitlines() if line.startswith("| kd")])
    assert pages[0] == pages[1] and len(pages[0]) == 2
