"""Trials of a grid that are made side by side."""

import pytest
import torch
from tests.tuning.test_tuning import SETTINGS, data, no_drawing, scores, student, teacher, values  # noqa: F401

from limbeck.errors import ConfigError
from limbeck.options.search_space import Search
from limbeck.training import side_by_side
from limbeck.tuning.tuner import tune

FREE = {name: value for name, value in SETTINGS.items() if name != "learning_rate"}
WIDE = Search(grid=True, temperatures=(1.0, 4.0, 40.0), hard_weights=(0.0, 0.5, 1.0), learning_rates=(0.01, 0.02))


def close(one, other):
    beside = {(row["method"], *values(row)): row for row in other}
    assert len(one) == len(other) == len(beside)
    for row in one:
        alone = beside[row["method"], *values(row)]
        for name in ("state", "reports", "best_epoch", "validation_errors"):
            assert row[name] == alone[name], name
        assert row["validation_nll"] == pytest.approx(alone["validation_nll"], rel=1e-4)


def test_a_grid_side_by_side_finds_what_one_after_the_other_finds(teacher, tmp_path, groups):  # noqa: F811
    told = []
    search = Search(**{**vars(WIDE), "temperatures": (1.0, 4.0, 20.0), "baseline": False})
    alone = tune(teacher, student, data(), search=search, side_by_side=False, **FREE)
    assert groups == []
    found = tune(
        teacher, student, data(), search=search, out=tmp_path / "search", progress=lambda *now: told.append(now),
        **FREE,
    )  # fmt: skip
    assert len(alone.trials) == 18 and groups == [(16, 16)], "the two that are left are made one after the other"
    assert told == [(0, 18), (16, 18), (18, 18)]
    close(found.trials, alone.trials)
    assert found.best == alone.best


@pytest.mark.parametrize(
    "other",
    [{"methods": ("kd", "dkd")}, {"temperatures": (1.0, 40.0)}, {"epoch_counts": (2, 3)}],
    ids=lambda other: next(iter(other)),
)
def test_groups_that_would_be_half_empty_are_made_one_after_the_other(teacher, groups, other):  # noqa: F811
    search = Search(**{**vars(WIDE), "temperatures": (1.0, 4.0), "hard_weights": (0.5,), "baseline": False, **other})
    given = {name: value for name, value in FREE.items() if name != "epochs"} if "epoch_counts" in other else FREE
    assert len(tune(teacher, student, data(), search=search, **given).trials) >= 4 and groups == []


def test_the_baselines_rates_are_tried_side_by_side(teacher, groups):  # noqa: F811
    rates = (0.005, 0.01, 0.02, 0.04)
    search = Search(grid=True, temperatures=(2.0,), hard_weights=(0.1,), learning_rates=rates)
    found = tune(teacher, student, data(), search=search, **FREE)
    assert groups == [(4, 4), (4, 4)] and "baseline_learning_rate" in found.best


def test_a_stopped_grid_ends_in_the_same_numbers(teacher, tmp_path, monkeypatch, groups):  # noqa: F811
    search = Search(**{**vars(WIDE), "temperatures": (1.0, 2.0, 4.0, 8.0), "baseline": False})
    whole = tune(teacher, student, data(), search=search, **FREE)

    class Stop(Exception):
        pass

    def stop(done, _):
        if done:
            raise Stop

    out = tmp_path / "search"
    with pytest.raises(Stop):
        tune(teacher, student, data(), search=search, out=out, progress=stop, **FREE)
    # A process that dies within a group leaves all of its trials to be made again.
    original = side_by_side.TrainingRun.end_epoch

    def dies(self, *given):
        if self.state.epoch == 1:
            raise KeyboardInterrupt
        original(self, *given)

    with monkeypatch.context() as patch:
        patch.setattr(side_by_side.TrainingRun, "end_epoch", dies)
        with pytest.raises(KeyboardInterrupt):
            tune(teacher, student, data(), search=search, out=out, resume=True, **FREE)
    again = tune(teacher, student, data(), search=search, out=out, resume=True, **FREE)
    assert scores(again) == scores(whole)
    assert groups == [(16, 16), (8, 8), (16, 16), (8, 8), (8, 8)]


def test_one_that_diverges_is_told_and_the_others_go_on(teacher, groups):  # noqa: F811
    search = Search(
        grid=True, temperatures=(2.0,), hard_weights=(0.1,), learning_rates=(0.01, 0.02, 0.03, 1e30), baseline=False
    )
    found = tune(teacher, student, data(), search=search, optimizer="sgd", **FREE)
    assert [row["state"] for row in found.trials] == ["complete"] * 3 + ["diverged"] and groups == [(4, 4)]


def test_networks_that_do_not_suit_are_tried_one_after_the_other(teacher, groups):  # noqa: F811
    def large(seed):
        torch.manual_seed(seed)
        return torch.nn.Sequential(student(seed), torch.nn.BatchNorm1d(3))

    search = Search(**{**vars(WIDE), "hard_weights": (0.5,), "temperatures": (1.0, 2.0, 4.0), "baseline": False})
    found = tune(teacher, large, data(), search=search, **FREE)
    assert len(found.trials) == 6 and groups == []
    with pytest.raises(ConfigError, match="side_by_side"):
        tune(teacher, student, data(), search=search, side_by_side="no", **FREE)
