"""The figures of docs/howto/choosing.md are those of the pages, and the test of its advice chooses on validation."""

import json
import re
from pathlib import Path

import pytest

import advice
import advice_pairs
import temperatures

ROOT = Path(__file__).parents[1]


def cells(page, first, start=""):
    """The cells of the row of a page's table that begins with this, after a heading."""
    text = (ROOT / "docs" / "results" / page).read_text()
    text = text[text.index(start) :]
    row = next(line for line in text.splitlines() if line.startswith(f"| {first} |"))
    return [each.strip().strip("*") for each in row.strip("|").split("|")][1:]


def test_the_errors_by_temperature_are_those_of_the_pages():
    kept = {each.pair: each for each in temperatures.KEPT}
    for width in (30, 100, 300, 800):
        (found,) = (each for name, each in kept.items() if f"2x{width}," in name)
        means = [
            sum(map(int, cell.split(", "))) / 3 for cell in cells(found.page, f"2x{width}", "## Test errors, seed")
        ]
        assert list(found.errors.values()) == pytest.approx(means, abs=1e-3) and len(means) == 7
    patient = kept["letters, 512, 1/8: 10 epochs"]
    for temperature, error in patient.errors.items():
        accuracy = cells(patient.page, f"T = {temperature:g}")[1]
        assert 100 - error == pytest.approx(float(accuracy.removesuffix(" %")))
    short = kept["letters, 512, 1/8: 5 epochs"]
    for temperature, error in short.errors.items():
        assert error == float(cells(short.page, f"T = {temperature:g}")[1].replace(",", ""))
    stored = kept["letters, 512, 1/8: 5 epochs, no labels"]
    row = cells(stored.page, "dense, 52 bytes per example")
    assert list(stored.errors.values()) == [float(cell.split(" ")[0].replace(",", "")) for cell in row]


def test_the_page_says_what_each_temperature_costs_at_worst(tmp_path, capsys):
    assert temperatures.main(["--figure", str(tmp_path / "t.svg")]) == 0
    assert (tmp_path / "t.svg").read_text().startswith("<svg")
    worst = dict(re.findall(r"T = ([\d.]+) +at most +([\d.]+) %", capsys.readouterr().out))
    page = (ROOT / "docs" / "howto" / "choosing.md").read_text()
    told = " ".join(page.split())
    cost = {temperature: f"{float(value):.0f}" for temperature, value in worst.items()}
    assert f"they cost {cost['2']} and {cost['4']} % more errors than the best of a pair" in told
    assert f"T = 1 costs {cost['1']} % and T = 8 {cost['8']} %" in told


def test_the_rule_is_the_one_that_was_predicted_with():
    assert advice.advised(2.0) == (2.0, 0.1) and advice.advised(1.99) == advice.advised(-1) == (2.0, 0.5)


def trial(number, errors, nll, rate, temperature=2.0, state="complete"):
    return {
        "trial": number, "validation_errors": errors, "validation_nll": nll, "learning_rate": rate,
        "temperature": temperature, "hard_weight": 0.1, "state": state,
    }  # fmt: skip


def test_the_best_trial_is_taken_within_a_setting():
    trials = [
        trial(0, 9, 0.3, 0.1), trial(1, 8, 0.4, 0.2), trial(2, 8, 0.3, 0.3), trial(3, 1, 0.1, 0.4, state="diverged"),
        trial(4, 5, 0.1, 0.1, temperature=4.0),
    ]  # fmt: skip
    assert advice.best_of(trials)["trial"] == 4
    assert advice.best_of(trials, temperature=2.0, hard_weight=0.1)["trial"] == 2


def outcome(lead, labels, advised, searched, *, p=0.001, high=0.0):
    return {
        "pair": "p", "lead": lead, "examples": {"test": 1000},
        "errors": {"teacher": [50], "labels": labels, "advised": advised, "searched": searched},
        "against": {"labels": {"p_value": p}, "searched": {"high": high}},
    }  # fmt: skip


def test_predictions_are_held_to_what_they_said():
    (row,) = advice.told([outcome(3.0, [100, 102], [80, 82], [80, 80], high=0.005)])
    assert row["helped"] and row["as_good"] and row["as_good_shown"] and row["closed"] == pytest.approx(20 / 51)
    assert row["over_search"] == pytest.approx(1 / 80) and row["most_over_search"] == pytest.approx(0.005 * 1000 / 80)
    (row,) = advice.told([outcome(3.0, [100], [95], [80], high=0.02)])
    assert not row["helped"], "less than a quarter of the gap"
    assert not row["as_good"] and not row["as_good_shown"]
    (row,) = advice.told([outcome(3.0, [100], [80], [80], p=0.06)])
    assert not row["helped"], "not shown, and the teacher is 3 points better"
    (row,) = advice.told([outcome(1.0, [100], [99], [99], p=0.9)])
    assert row["helped"], "fewer errors are enough where the teacher has little to give"
    (row,) = advice.told([outcome(1.0, [40], [41], [41])])
    assert not row["helped"] and row["closed"] is None
    first, second = advice.told([outcome(3.0, [100], [80], [80], p=0.02), outcome(3.0, [100], [80], [80], p=0.03)])
    assert first["p_adjusted"] == pytest.approx(0.04) == second["p_adjusted"]


def test_a_language_is_a_tag_that_stands_alone():
    assert advice_pairs.language({"Tag": "devel::library, implemented-in::perl, role::shared-lib"}) == "perl"
    assert advice_pairs.language({"Tag": "implemented-in::c++"}) == "c++"
    for tags in ("role::program", "implemented-in::c, implemented-in::c++", "implemented-in::{c,perl}, role::program"):
        assert advice_pairs.language({"Tag": tags}) is None
    assert advice_pairs.language({}) is None


def test_texts_of_a_source_package_are_in_one_part():
    rows = [{"text": f"t{n}", "label": "ab"[n % 2], "source": f"s{n // 3}"} for n in range(300)]
    data = advice_pairs.text_data([*rows, rows[0]])
    parts = {name: set(part.inputs.group_names()) for name, part in data.parts().items()}
    assert sum(map(len, parts.values())) == 100 and sum(len(part) for part in data.parts().values()) == 300
    assert len(parts["train"]) > len(parts["test"]) > len(parts["validation"])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # 525 rows, two epochs
def test_the_advice_is_tried_and_continued(tmp_path, capsys):
    words = ["--quick", "--runs", str(tmp_path / "runs"), "--markdown", str(tmp_path / "page.md")]
    found = []
    for name in ("first.json", "again.json"):
        assert advice.main([*words, "--json", str(tmp_path / name)]) == 0
        found.append({**json.loads((tmp_path / name).read_text())[0], "minutes": 0})
    assert found[0] == found[1]
    assert {name: len(some) for name, some in found[0]["errors"].items()} == {
        "teacher": 1, "labels": 2, "advised": 2, "searched": 2
    }  # fmt: skip
    chosen = found[0]["chosen"]
    assert (chosen["advised"]["temperature"], chosen["advised"]["hard_weight"]) == advice.advised(found[0]["lead"])
    assert chosen["searched"]["validation_errors"] <= chosen["advised"]["validation_errors"]
    assert (tmp_path / "page.md").read_text() in capsys.readouterr().out
