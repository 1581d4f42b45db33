"""Runs opened from their folders: what notebooks show of them, their reports and their networks."""

import html
import re

import pytest
import torch
from torch import nn

import limbeck
from limbeck.errors import ConfigError, FormatError, RunError
from limbeck.report.notebook import run_html


def examples(count, seed):
    inputs = torch.randn(count, 4, generator=torch.Generator().manual_seed(seed))
    return inputs, (inputs[:, 0] > 0).long()


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    torch.manual_seed(0)
    teacher = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    out = tmp_path_factory.mktemp("opened") / "run"
    parts = examples(90, 0), examples(30, 1)
    return limbeck.distill(teacher, nn.Linear(4, 2), *parts, test=examples(50, 2), epochs=2, out=out)


def cells_of(fragment):
    return [html.unescape(cell) for cell in re.findall(r"<t[dh][ >][^>]*>(.*?)</t[dh]>", fragment)]


def test_an_opened_run_is_the_run_that_was_made(run):
    opened = limbeck.open_run(run.folder, model=nn.Linear(4, 2))
    assert opened.metrics == run.metrics
    assert opened.history == run.history
    assert opened.config["epochs"] == 2
    inputs = examples(9, 5)[0]
    with torch.inference_mode():
        assert torch.equal(opened.model(inputs), run.student(inputs))
    assert opened._repr_html_() == run._repr_html_()


def test_a_notebook_shows_models_and_verdict(run):
    shown = run._repr_html_()
    cells = cells_of(shown)
    assert cells[0] == "on the test set"
    place = cells.index("errors")
    wanted = [f"{run.metrics[role]['test_errors']:,}" for role in ("teacher", "baseline", "student")]
    assert cells[place + 1 : place + 4] == wanted
    assert html.escape(run.verdict.sentence) in shown
    assert "<script" not in shown


def test_what_comes_from_a_run_is_escaped():
    shown = run_html(
        {"judged_on": "<i>", "model": {"title": "<script>x</script>", "test_errors": 1}}, ["<b>helped</b>"]
    )
    assert "<script>" not in shown
    assert "<b>" not in shown
    assert "<i>" not in shown


def test_stages_of_a_compression_are_shown_in_order():
    shown = run_html({"stages": {"teacher": {"nll": 0.1}, "svd": {"nll": 0.25}}}, [])
    assert cells_of(shown)[-3:] == ["nll", "0.1000", "0.2500"]


def test_a_report_needs_a_folder(run, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr("limbeck.runs.pages.write_report", lambda contents, path: drawn.append(contents) or path)
    assert run.report() == run.folder / "report.html"
    assert [model.role for model in drawn[0].models] == ["teacher", "baseline", "student"]
    kept_nowhere = limbeck.train(nn.Linear(4, 2), examples(40, 0), epochs=1)
    with pytest.raises(ConfigError, match="out="):
        kept_nowhere.report()


def test_what_is_not_a_finished_run_is_told(run, tmp_path):
    with pytest.raises(FormatError, match=r"config\.toml"):
        limbeck.open_run(tmp_path / "nothing")
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun" / "config.toml").write_text("epochs = 3\n")
    with pytest.raises(RunError, match="not finished"), pytest.warns(limbeck.LimbeckWarning, match="SHA256SUMS"):
        limbeck.open_run(tmp_path / "begun")
