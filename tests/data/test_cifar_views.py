"""The benchmark on what a teacher should see, in its short form, and how it reads the images of the npm package."""

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def cifar_views():
    path = Path(__file__).parents[2] / "benchmarks" / "cifar_views.py"
    spec = importlib.util.spec_from_file_location("benchmark_cifar_views", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


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


def test_a_sprite_is_a_row_of_pixels_per_image(tmp_path, cifar_views):
    images = np.random.default_rng(0).integers(0, 256, (3, 3, 32, 32)).astype(np.uint8)
    Image.fromarray(images.transpose(0, 2, 3, 1).reshape(3, 1024, 3)).save(tmp_path / "some.png")
    assert np.array_equal(cifar_views.read_images(tmp_path, "some"), images)
