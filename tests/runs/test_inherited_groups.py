"""What a student repeats of its teacher's mistakes reaches the metrics and the report, by class and by named group."""

import csv
import json

import numpy as np
import pytest

import limbeck
from limbeck.data.table_files import open_table


@pytest.mark.filterwarnings("ignore")  # a few steps on a few rows
def test_a_table_with_a_column_of_groups_is_counted_group_by_group(tmp_path):
    generator = np.random.default_rng(0)
    for part, count, first in (("train", 300, 0), ("test", 150, 100)):
        with open(tmp_path / f"{part}.csv", "w", newline="") as stream:
            writer = csv.writer(stream)
            writer.writerow(["p", "q", "kind", "shop"])
            for label in generator.integers(0, 3, count):
                values = generator.normal(size=2) + 2 * np.eye(3, 2)[label]
                writer.writerow([*values.round(3), "abc"[label], f"shop {first + generator.integers(0, 5)}"])
    data = open_table(tmp_path / "train.csv", test=tmp_path / "test.csv", label_column="kind", group_column="shop")
    common = {"epochs": 2, "device": "cpu", "precision": "float32"}
    teacher = limbeck.train(limbeck.ModelOptions(hidden=(16,)), data, **common).model
    run = limbeck.distill(teacher, limbeck.ModelOptions(hidden=(2,)), data, seeds=2, out=tmp_path / "run", **common)
    inherited = json.loads((tmp_path / "run" / "metrics.json").read_text())["inherited"]
    assert {row["name"] for row in inherited["by_group"]} <= {f"shop {number}" for number in range(100, 105)}
    for parts in (inherited["by_class"], inherited["by_group"]):
        assert sum(row["mistakes"] for row in parts) == inherited["mistakes"] == run.metrics["teacher"]["test_errors"]
        assert sum(row["student"] for row in parts) == pytest.approx(inherited["student"] * inherited["mistakes"])
    page = run.report().read_text()
    assert "mistakes, class by class" in page and inherited["by_group"][0]["name"] in page
