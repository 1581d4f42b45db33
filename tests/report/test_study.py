"""Pages and figures of a study: they show the numbers that were given, and nothing in them is taken for markup."""

import numpy as np
import pytest

from limbeck.report import Drawing, Study, Table, write_study
from limbeck.report.figures_study import draw_bars, draw_curves, draw_gallery, draw_heat_map, draw_results, draw_views


def texts(figure):
    from matplotlib.text import Text

    return {text.get_text() for text in figure.findobj(Text)}


def study(**more):
    parts = {
        "name": "some",
        "title": "A <b>title</b>",
        "about": "Why.",
        "answer": "So & so.",
        "command": "limbeck reproduce some",
        "facts": ("today", "here"),
        "tables": (Table("Errors", ("what", "ours"), (("a|b", "<3>"),)),),
        "drawings": (Drawing("bars", "Bars", "Seen.", draw_bars(["x"], {"one": [[1.0]]}, x_label="", y_label="")),),
        "remarks": ("Chosen on validation.",),
    }
    return Study(**(parts | more))


def test_page_and_markdown_show_everything_and_escape_it(tmp_path):
    written = write_study(study(), tmp_path / "page" / "report.html", tmp_path / "docs")
    page, text = (tmp_path / "page" / "report.html").read_text(), written.read_text()
    assert written == tmp_path / "docs" / "some.md"
    for part in ("Why.", "Chosen on validation.", "limbeck reproduce some", "today", "here", "Bars", "Seen."):
        assert part in page and part in text
    assert "&lt;b&gt;" in page and "<b>title" not in page and "&lt;3&gt;" in page and "So &amp; so." in page
    assert "| a\\|b | <3> |" in text
    assert "![Bars](some-bars.svg)" in text and (tmp_path / "docs" / "some-bars.svg").read_text().startswith("<svg")
    assert "data:image/svg+xml;base64," in page


def test_the_same_study_gives_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        write_study(study(), tmp_path / name / "report.html", tmp_path / name)
    for file in ("report.html", "some.md", "some-bars.svg"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_results_have_a_dot_a_seed_and_a_diamond_where_the_paper_has_a_number():
    figure = draw_results(["ours alone", "both"], [[3.0, 5.0], [7.0]], [None, 6.0], "errors")
    (axes,) = figure.axes
    drawn = {(line.get_marker(), tuple(map(float, line.get_xdata()))) for line in axes.lines}
    assert ("o", (3.0, 5.0)) in drawn and ("o", (7.0,)) in drawn and ("D", (6.0,)) in drawn
    assert sum(marker == "D" for marker, _ in drawn) == 1
    assert [label.get_text() for label in axes.get_legend().get_texts()] == ["ours", "paper"]


@pytest.mark.parametrize("log", [False, True])
def test_curves_go_through_the_mean_over_seeds(log):
    curves = {"a": np.array([[1.0, 2.0], [3.0, 6.0]]), "b": np.array([[5.0, 5.0]])}
    figure = draw_curves([1, 10], curves, x_label="x", y_label="y", log_x=log, log_y=log)
    (axes,) = figure.axes
    assert [line.get_ydata().tolist() for line in axes.lines] == [[2.0, 4.0], [5.0, 5.0]]
    assert {"a", "b", "x", "y", "1", "10"} <= texts(figure)


def test_heat_map_shows_every_number_and_the_least_of_each_row_in_bold():
    values = np.array([[100.0, 80.0, 95.5], [70.0, 200.0, 300.0]])
    figure = draw_heat_map(values, ["r", "s"], ["1", "2", "3"], x_label="T", y_label="w", title="errors")
    cells = {text.get_text(): text.get_fontweight() for text in figure.axes[0].texts}
    assert set(cells) == {"100", "80", "95.5", "70", "200", "300"}
    assert {name for name, weight in cells.items() if weight == "bold"} == {"80", "70"}


def test_bars_have_the_heights_given():
    values = {"a": [[1.0], [-2.0]], "b": [[2.0, 4.0], [4.0]]}
    figure = draw_bars(["0", "1"], values, x_label="n", y_label="g", notes=["p", "q"])
    assert sorted(patch.get_height() for patch in figure.axes[0].patches) == [-2.0, 1.0, 3.0, 4.0]
    assert "0\np" in texts(figure)
    (dots,) = figure.axes[0].collections  # of b alone, which has more than one value somewhere
    assert sorted(np.asarray(dots.get_offsets())[:, 1]) == [2.0, 4.0, 4.0]


def test_views_have_a_row_each_and_every_picture_once():
    rows = {"plain": np.arange(3 * 16, dtype=np.uint8).reshape(3, 4, 4), "bent": np.full((3, 4, 4), 9, np.uint8)}
    figure = draw_views(rows)
    shown = [np.asarray(axes.images[0].get_array()) for axes in figure.axes]
    assert len(shown) == 6
    assert all(np.array_equal(a, b) for a, b in zip(shown, [*rows["plain"], *rows["bent"]], strict=True))
    assert [axes.get_ylabel() for axes in figure.axes] == ["plain", "", "", "bent", "", ""]


def test_gallery_has_a_picture_and_a_chart_a_model_for_each_example():
    pictures = np.zeros((3, 8, 8), np.uint8)
    answers = {"before": np.full((3, 4), 0.25), "after": np.eye(4)[:3]}
    figure = draw_gallery(pictures, answers, ["a", "b", "c", "d"])
    assert len(figure.axes) == 9
    heights = [[patch.get_height() for patch in axes.patches] for axes in figure.axes if axes.patches]
    assert heights.count([0.25] * 4) == 3 and [0.0, 1.0, 0.0, 0.0] in heights
