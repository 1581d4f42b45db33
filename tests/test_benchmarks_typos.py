"""Typing errors are what they say, and networks are judged on texts that hold them."""

import json
import string
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

import typos
from limbeck.data import Examples
from limbeck.data.text import Text

FOLDER = Path(__file__).parents[1] / "benchmarks"
TEXT = "A small Editor for 2 files, written in C; it knows Unicode (déjà vu)."


def random():
    return np.random.default_rng(3)


def test_keys_touch_each_other():
    touching = {letter: set(typos.neighbours(letter)) for letter in string.ascii_lowercase}
    assert all(a in touching[b] for a in touching for b in touching[a]) and all(a not in touching[a] for a in touching)
    assert touching["a"] == set("qwsz") and touching["p"] == set("ol") and touching["g"] == set("fhtyvb")


def test_a_share_of_the_letters_is_hit_and_nothing_else():
    letters = sum(each in string.ascii_letters for each in TEXT)
    for change in (typos.dropped, typos.doubled, typos.swapped, typos.mistyped, typos.shortened):
        assert change(TEXT, 0.0, random()) == TEXT
    others = "".join(each for each in TEXT if each not in string.ascii_letters)
    assert typos.dropped(TEXT, 1.0, random()) == others
    assert typos.doubled("aB1 c", 1.0, random()) == "aaBB1 cc"
    assert typos.swapped("abcde1", 1.0, random()) == "badc1e"
    long = TEXT * 200
    lost = len(long) - len(typos.dropped(long, 0.05, random()))
    assert lost == pytest.approx(0.05 * 200 * letters, rel=0.1)
    assert len(typos.doubled(long, 0.05, random())) - len(long) == lost, "the same letters are hit"


def test_swapped_characters_are_all_still_there_and_moved_by_one():
    long = TEXT * 50
    swapped = typos.swapped(long, 0.05, random())
    assert Counter(swapped) == Counter(long) and swapped != long
    place = 0
    while place < len(long):
        if swapped[place] == long[place]:
            place += 1
        else:
            assert swapped[place : place + 2] == long[place : place + 2][::-1] and long[place] in string.ascii_letters
            place += 2


def test_a_mistyped_letter_is_a_neighbour_of_its_own_case():
    typed = typos.mistyped(TEXT, 1.0, random())
    assert len(typed) == len(TEXT)
    for new, old in zip(typed, TEXT, strict=True):
        if old in string.ascii_letters:
            assert new.lower() in typos.neighbours(old.lower()) and new.isupper() == old.isupper()
        else:
            assert new == old


def test_words_are_left_out_in_order_and_one_stays():
    words = TEXT.split(" ")
    kept = typos.shortened(TEXT, 0.5, random()).split(" ")
    left = iter(words)
    assert all(word in left for word in kept) and 0 < len(kept) < len(words)
    assert typos.shortened(TEXT, 1.0, random()) in words


def test_damage_is_the_same_for_whoever_asks():
    test = Examples.of(Text([TEXT] * 20, groups=[number // 2 for number in range(20)]), [0, 1] * 10)
    one, again = (typos.damaged(test, *typos.DAMAGES["5 % swapped"]) for _ in range(2))
    assert list(one.inputs.texts) == list(again.inputs.texts) and len(set(one.inputs.texts)) > 10
    assert one.labels.tolist() == test.labels.tolist() and one.groups().tolist() == test.groups().tolist()
    assert list(typos.damaged(test, *typos.DAMAGES["as they are"]).inputs.texts) == [TEXT] * 20


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # 900 made-up texts, one epoch
def test_students_and_baselines_are_judged_on_texts_with_typing_errors(tmp_path, capsys):
    words = ["--quick", "--runs", str(tmp_path / "runs"), "--markdown", str(tmp_path / "page.md")]
    words += ["--figure", str(tmp_path / "differences.svg")]
    found = []
    for name in ("first.json", "again.json"):  # the second time nothing is trained
        assert typos.main([*words, "--json", str(tmp_path / name)]) == 0
        found.append(json.loads((tmp_path / name).read_text()))
    assert found[0] == found[1]
    rows = found[0]["rows"]
    assert [row["damage"] for row in rows] == list(typos.DAMAGES)
    for row in rows:
        difference = row["student"]["errors"][0] - row["baseline"]["errors"][0]
        assert row["estimate"] == pytest.approx(difference) and row["low"] <= difference <= row["high"]
        assert row["p_value"] <= row["p_adjusted"] <= 1
    assert found[0]["changed_by_case"] == 0 and found[0]["texts"] * 3 == found[0]["answers"]
    assert (tmp_path / "differences.svg").read_text().startswith("<svg")
    page = (tmp_path / "page.md").read_text()
    assert page in capsys.readouterr().out and page.count("\n| ") == 1 + len(rows)
