"""Runs beside each other: what is shown of their networks, and which runs may be compared at all."""

import numpy as np
import pytest
import torch
from tiny_runs import run_here
from torch import nn

import limbeck
from limbeck.errors import ConfigError, DataError, MismatchError, RunError
from limbeck.evaluation.paired_intervals import tango_interval
from limbeck.evaluation.statistics import holm, mcnemar
from limbeck.runs.comparing import _names
from limbeck.runs.folder import RunFolder
from limbeck.runs.pages import gather


def examples(count, seed):
    inputs = torch.randn(count, 6, generator=torch.Generator().manual_seed(seed))
    return inputs, (inputs[:, :3].sum(1) > 0).long() + 2 * (inputs[:, 3] > 0).long()


@pytest.fixture(scope="module")
def data():
    named = ("a", "b", "c", "d")
    train, validation, test = (limbeck.Examples.of(*examples(n, s)) for n, s in ((300, 0), (80, 1), (400, 2)))
    return limbeck.DataSet("some", named, train, test, validation)


def trained(data, out, width, seed=0, **more):
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Linear(6, width), nn.ReLU(), nn.Linear(width, 4))
    return limbeck.train(net, data, epochs=6, learning_rate=0.02, out=out, **more)


@pytest.fixture(scope="module")
def runs(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    return [trained(data, folder / name, width, width) for name, width in (("wide", 16), ("narrow", 1), ("middle", 2))]


def test_differences_are_those_of_tango_and_mcnemar_with_holms_correction(data, runs):
    found = limbeck.compare(*runs, data=data)
    labels = data.test.labels.numpy()
    with torch.inference_mode():
        wrong = [(run.model(data.test.inputs).argmax(-1).numpy() != labels) for run in runs]
    raw = [mcnemar(each, wrong[0]).p_value for each in wrong[1:]]
    for row, each, adjusted in zip(found.runs[1:], wrong[1:], holm(raw), strict=True):
        right = tango_interval(int((each & ~wrong[0]).sum()), int((~each & wrong[0]).sum()), len(labels))
        assert (row.difference.low, row.difference.high) == pytest.approx((right.low, right.high))
        assert row.p_value == pytest.approx(adjusted)
        assert row.scores["test_errors"] == int(each.sum())
    assert [row.name for row in found.runs] == ["wide", "narrow", "middle"]
    assert found.runs[1].shown == "more"
    assert "narrow makes more errors than wide" in str(found)
    assert "adjusted for 2 comparisons" in str(found)


@pytest.mark.slow
def test_the_page_shows_every_run_and_what_is_shown_of_it(data, runs, tmp_path):
    page = limbeck.compare(*runs, data=data, out=tmp_path / "page").page.read_text()
    assert "narrow makes more errors" in page
    assert all(name in page for name in ("wide", "narrow", "middle"))
    assert limbeck.compare(*runs, data=data, out=tmp_path / "page").page.read_text() == page


def test_a_page_is_written_over_an_earlier_one_alone(data, runs, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "report.html").write_text("")
    (tmp_path / "mine" / "notes.txt").write_text("")
    (tmp_path / "file").write_text("")
    for out in (runs[0].folder, tmp_path / "mine", tmp_path / "file"):
        files = sorted(out.rglob("*"))
        with pytest.raises(RunError, match="give a folder" if out.is_file() else r"no comparison.*\(--out\)"):
            limbeck.compare(*runs, data=data, out=out)
        assert sorted(out.rglob("*")) == files


def test_equal_networks_show_no_difference(data, runs, tmp_path):
    again = trained(data, tmp_path / "again", 16, 16)
    found = limbeck.compare(runs[0], again, data=data)
    assert found.runs[1].difference.estimate == 0
    assert found.sentences[0].startswith("No difference between")
    assert found.page is None


def test_a_distilled_student_is_what_its_run_is_about(data, runs, tmp_path):
    torch.manual_seed(3)
    run = limbeck.distill(runs[0].model, nn.Linear(6, 4), data, epochs=2, out=tmp_path / "student")
    found = limbeck.compare(runs[1].folder, run, data=data)
    assert found.runs[1].scores["test_errors"] == run.metrics["student"]["test_errors"]
    assert not any("first seed" in sentence for sentence in found.sentences)


def test_of_a_run_of_several_seeds_the_first_is_compared_and_that_is_said(data, runs, tmp_path):
    run = limbeck.distill(
        runs[0].model, lambda seed: nn.Linear(6, 4), data, epochs=1, seeds=2, baseline=False, out=tmp_path / "student"
    )
    found = limbeck.compare(runs[1].folder, run, data=data)
    assert found.runs[1].scores["test_errors"] == run.metrics["seeds"][0]["student_errors"]
    assert "Of student the network of the first seed is compared, and no other." in found.sentences


def test_runs_that_cannot_be_compared_are_refused(data, runs, tmp_path):
    with pytest.raises(ConfigError, match="at least two"):
        limbeck.compare(runs[0], data=data)
    with pytest.raises(ConfigError, match="given twice"):
        limbeck.compare(runs[0].folder, runs[0].folder / ".", data=data)
    with pytest.raises(ConfigError, match="out="):
        limbeck.compare(runs[0], trained(data, None, 1), data=data)
    with pytest.raises(DataError) as caught:
        limbeck.compare(runs[0].folder, runs[1].folder)
    said = str(caught.value)
    assert said.startswith(
        f"the examples that {runs[0].folder} was evaluated on cannot be loaded again (it was made in"
    )
    assert "limbeck.compare(a, b, data=data_set)" in said and "--data" in said


def test_runs_in_memory_bring_their_data(data, runs):
    given = limbeck.compare(*runs, data=data)
    assert limbeck.compare(*runs).to_dict() == given.to_dict()
    assert limbeck.compare(runs[0].folder, *runs[1:]).to_dict() == given.to_dict()


def test_the_data_are_those_of_the_first_run_that_names_them(data, runs, tmp_path, monkeypatch):
    named = trained(data, tmp_path / "named", 2, settings={"data": "some.npz"})
    opened = []
    monkeypatch.setattr("limbeck.runs.pages.open_data", lambda options, **_: opened.append(options.data) or data)
    assert limbeck.compare(runs[0].folder, named.folder).runs[1].name == "named"
    assert opened == ["some.npz"]


def test_the_command_says_how_the_data_are_given(runs):
    done = run_here("compare", runs[0].folder, runs[1].folder)
    assert done.code == 2 and "--data and the file or folder that holds it" in done.err


def test_runs_of_other_test_examples_are_refused_though_the_labels_agree(data, runs, tmp_path):
    moved = limbeck.Examples.of(data.test.inputs + 1, data.test.labels)
    other = limbeck.DataSet("some", data.classes, data.train, moved, data.validation)
    run = trained(other, tmp_path / "other", 16)
    assert np.array_equal(gather(RunFolder(run.folder), data=data).truth, data.test.labels.numpy())
    with pytest.raises(MismatchError, match="different examples"):
        limbeck.compare(runs[0], run, data=data)


def test_names_are_as_long_as_they_must_be(tmp_path):
    assert _names([tmp_path / "a" / "run", tmp_path / "b" / "run"]) == ["a/run", "b/run"]
    assert _names([tmp_path / "a", tmp_path / "b"]) == ["a", "b"]
