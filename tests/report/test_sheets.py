"""Tables of the report: classes that lost or gained, and texts or rows on which the models differ."""

import re

import numpy as np
import pytest

from limbeck.report import Contents, Model
from limbeck.report.figures_search import cells_of, log_ticks
from limbeck.report.page import render_report
from limbeck.report.sheets import sheets_of

LABELS = np.array([0, 1, 2, 0, 1, 2, 0, 1])
NAMES = ("cat", "dog", "<cow>")


def model(role, answers, sure=0.9):
    probs = np.full((len(answers), 3), (1 - sure) / 2)
    probs[np.arange(len(answers)), answers] = sure
    return Model(role, f"mlp {role}", np.log(probs))


def contents(given=None, **more):
    wrong = LABELS.copy()
    wrong[[1, 4]] = 0
    other = LABELS.copy()
    other[2] = 1
    models = model("teacher", LABELS), model("baseline", other), model("student", wrong)
    return Contents("a title", "today", NAMES, models, labels=LABELS, given=given, **more)


def test_texts_on_which_models_differ_are_shown_as_texts_with_each_answer():
    texts = [f"text {number} <b>" for number in range(8)]
    asked = []

    def given(rows):
        asked.append(rows.tolist())
        return [texts[row] for row in rows]

    found = {sheet.title: sheet for sheet in sheets_of(contents(given))}
    lost = found["Baseline right, student wrong"]
    assert lost.heading == ("true class", "teacher", "baseline", "student", "text")
    assert [row[0] for row in lost.rows] == ["dog", "dog"]
    assert [row[-1] for row in lost.rows] == ["text 1 <b>", "text 4 <b>"]
    assert [row[3] for row in lost.rows] == ["cat (90\N{NO-BREAK SPACE}%)"] * 2
    assert "2 of 8 test examples" in lost.words and asked == [[2], [1, 4], [1, 4]]
    (gained,) = found["Student right, baseline wrong"].rows
    assert gained[0] == "<cow>"
    page = render_report(contents(given), {})
    assert "text 4 &lt;b&gt;" in page and "<b>" not in page


def test_rows_of_a_table_have_their_columns_and_very_many_are_counted():
    def given(rows):
        return [{f"c{column}": None if column == 1 else column / 3 for column in range(11)} for _ in rows]

    sheet = sheets_of(contents(given))[0]
    assert sheet.heading[4:] == (*(f"c{column}" for column in range(8)), "3 more columns")
    assert sheet.rows[0][4:] == ("0", "", "0.6667", "1", "1.333", "1.667", "2", "2.333", "...")


def test_long_texts_are_clipped_and_what_is_not_given_is_not_shown():
    sheet = sheets_of(contents(lambda rows: ["word " * 1000 for _ in rows]))[0]
    assert sheet.rows[0][-1].endswith("...") and len(sheet.rows[0][-1]) <= 403
    assert sheets_of(contents()) == [] == sheets_of(contents(lambda rows: None))
    pictures = np.zeros((8, 4, 4), np.uint8)
    assert sheets_of(contents(lambda rows: ["x"] * len(rows), images=pictures)) == []  # they are in a figure


def test_harm_by_class_names_those_that_lost_and_those_that_gained():
    change = {"name": "<cow>", "examples": 120, "errors": 30.0, "before": 12.5, "p_value": 0.0031}
    harm = {"classes": 3, "lost": [change], "gained": [{**change, "name": "cat"}], "sentence": "One lost."}
    (sheet,) = sheets_of(contents(verdict={"sentence": "x", "harm": harm}))
    assert sheet.rows == (
        ("<cow>", "more errors", "120", "12.5", "30", "0.0031"), ("cat", "fewer errors", "120", "12.5", "30", "0.0031"),
    )  # fmt: skip
    (none,) = sheets_of(contents(verdict={"sentence": "x", "harm": {**harm, "lost": [], "gained": []}}))
    assert none.rows == () and "On none of them" in none.words


def test_the_page_can_be_used_by_keyboard_screen_reader_in_the_dark_and_on_paper():
    page = render_report(contents(lambda rows: ["a text"] * len(rows)), {})
    wide = re.findall(r'<div class="wide"([^>]*)>', page)
    assert wide and all('tabindex="0"' in each and 'role="region"' in each and "aria-label=" in each for each in wide)
    assert all("scope=" in each for each in re.findall(r"<th\b[^>]*>", page)) and "<th></th>" not in page
    assert "prefers-color-scheme: dark" in page and "@media print" in page and ":focus-visible" in page
    assert "scrolls sideways" in page


def relative_luminance(colour):
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_letters_stand_out_in_both_schemes(scheme):
    """WCAG's ratio of 4.5 for text."""
    page = render_report(contents(), {})
    first, dark = page.split("prefers-color-scheme: dark", 1)[0], page.split("prefers-color-scheme: dark", 1)[1]
    found = dict(re.findall(r"--([\w-]+): (#\w+)", first)) | (
        dict(re.findall(r"--([\w-]+): (#\w+)", dark.split("figure img", 1)[0])) if scheme == "dark" else {}
    )
    found = {name: "#" + "".join(2 * letter for letter in value[1:]) if len(value) == 4 else value
             for name, value in found.items()}  # fmt: skip
    pairs = [("ink", "card"), ("ink", "page"), ("soft", "card"), ("soft", "page"), ("link", "page")]
    pairs += [(f"{kind}-ink", kind) for kind in ("good", "bad", "open")] + [
        ("ink", kind) for kind in ("good", "bad", "open")
    ]
    for letters, ground in pairs:
        low, high = sorted(relative_luminance(found[name]) for name in (letters, ground))
        assert (high + 0.05) / (low + 0.05) >= 4.5, (scheme, letters, ground)


@pytest.mark.parametrize(("low", "high"), [(1, 20), (1e-4, 0.1), (2.1, 2.9), (0.003, 4.7), (1, 1e6), (3, 10)])
@pytest.mark.parametrize("most", [2, 3, 5, 7, 14])
def test_ticks_of_a_logarithmic_axis_are_few_and_inside(low, high, most):
    ticks = log_ticks(low, high, most)
    assert 1 <= len(ticks) <= most and ticks == sorted(ticks)
    assert low / 1.01 <= ticks[0] and ticks[-1] <= high * 1.01


def inherited_part(name, mistakes, student, baseline, **more):
    return {"name": name, "mistakes": mistakes, "student": student, "baseline": baseline, **more}


def test_mistakes_of_the_teacher_are_listed_by_class_and_by_group():
    by_class = [inherited_part("<cow>", 8, 6.5, 2.0, examples=1200), inherited_part("dog", 2, 1.0, 0.0)]
    by_group = [inherited_part(f"g{number}", 30 - number, 1.0, 0.5, examples=40) for number in range(25)]
    inherited = {"sentence": "s", "by_class": by_class, "by_group": by_group, "groups": 1234}
    seeds = tuple({"seed": number, "student_errors": 2, "baseline_errors": 1} for number in range(2))
    found = {sheet.name: sheet for sheet in sheets_of(contents(inherited=inherited, seeds=seeds))}
    sheet = found["inherited-class"]
    assert sheet.heading == (
        "true class", "examples", "the teacher's mistakes", "the baseline repeats", "the student repeats"
    )  # fmt: skip
    assert sheet.rows[0] == ("<cow>", "1,200", "8", "2 (25\N{NO-BREAK SPACE}%)", "6.5 (81\N{NO-BREAK SPACE}%)")
    assert sheet.rows[1][1] == "–", "a run of earlier times has no number of examples"
    assert "means over 2 seeds" in sheet.words and "with most mistakes" not in sheet.words
    sheet = found["inherited-group"]
    assert len(sheet.rows) == 20 and sheet.rows[19][0] == "g19"
    assert sheet.words.endswith("The 20 of 1,234 groups with most mistakes of the teacher:")
    assert "&lt;cow&gt;" in render_report(contents(inherited=inherited), {})


def test_without_a_baseline_the_student_s_share_stands_alone():
    inherited = {"sentence": "s", "by_class": [inherited_part("dog", 2, 1.0, None, examples=3)]}
    (sheet,) = sheets_of(contents(inherited=inherited))
    assert sheet.heading[-2:] == ("the teacher's mistakes", "the student repeats") and len(sheet.rows[0]) == 4
    assert sheets_of(contents(inherited={"sentence": "s"})) == []


def test_of_cells_with_as_few_errors_the_one_with_the_likeliest_trial_is_framed():
    rows = [
        {"temperature": 1.0, "hard_weight": 0.0, "validation_errors": 9, "validation_nll": 0.137, "state": "complete"},
        {"temperature": 1.0, "hard_weight": 0.5, "validation_errors": 9, "validation_nll": 0.135, "state": "complete"},
        {"temperature": 4.0, "hard_weight": 0.5, "validation_errors": 8, "validation_nll": 0.2, "state": "complete"},
        {"temperature": 4.0, "hard_weight": 0.5, "validation_errors": 12, "validation_nll": 0.1, "state": "complete"},
    ]
    assert cells_of(rows, grid=True).best == (0, 1)
    assert cells_of(rows[:3], grid=True).best == (1, 1)
    assert cells_of([row | {"validation_nll": None} for row in rows[:2]], grid=True).best == (0, 0)
