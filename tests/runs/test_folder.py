"""Run folders: who may take them, what stays after a failure, and what is read back."""

import fcntl
import math
import os
import threading

import pytest
import torch

from limbeck.cli.settings import read_settings
from limbeck.errors import FormatError, InterruptedRun, NonFiniteError, RunError
from limbeck.runs.folder import RunFolder

SETTINGS = {"epochs": 3, "hidden": (8, 9), "data": 'a "quoted" näme.npz', "patience": None, "rate": 0.1}


def begin(folder: RunFolder) -> None:
    """Do as training does: a checkpoint, then more."""
    folder.checkpoints.mkdir(exist_ok=True)
    (folder.checkpoints / "latest.safetensors").write_bytes(b"state")


def test_settings_come_back(tmp_path):
    with RunFolder(tmp_path / "run").open("train", SETTINGS, resume=False) as folder:
        begin(folder)
    expected = {"epochs": 3, "hidden": [8, 9], "data": SETTINGS["data"], "rate": 0.1}
    assert RunFolder(tmp_path / "run").config() == expected
    assert "limbeck train --config" in (tmp_path / "run" / "config.toml").read_text().splitlines()[0]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, RunError])
def test_nothing_stays_of_a_run_that_failed_at_once(tmp_path, error):
    path = tmp_path / "a" / "b"
    with pytest.raises(error), RunFolder(path).open("train", SETTINGS, resume=False) as folder:
        folder.sub("members/1")
        raise error("no")
    assert [*tmp_path.iterdir()] == []
    path.mkdir(parents=True)
    with pytest.raises(error), RunFolder(path).open("train", SETTINGS, resume=False):
        raise error("no")
    assert [*path.iterdir()] == []


def test_a_checkpoint_is_kept(tmp_path):
    path = tmp_path / "run"
    with pytest.raises(InterruptedRun), RunFolder(path).open("train", SETTINGS, resume=False) as folder:
        begin(folder)
        raise InterruptedRun("stopped", 2)
    assert {entry.name for entry in path.iterdir()} == {".lock", "checkpoints", "config.toml", "SHA256SUMS"}
    with pytest.raises(RunError), RunFolder(path).open("train", SETTINGS, resume=True):
        raise RunError("again")
    assert (path / "checkpoints" / "latest.safetensors").read_bytes() == b"state"


def test_a_failed_resume_removes_nothing(tmp_path):
    path = tmp_path / "run"
    with RunFolder(path).open("train", SETTINGS, resume=False):
        (path / "notes.txt").write_text("mine")
    with pytest.raises(ValueError), RunFolder(path).open("train", SETTINGS, resume=True):
        raise ValueError
    assert (path / "notes.txt").read_text() == "mine" and (path / "config.toml").exists()


def test_one_run_at_a_time(tmp_path):
    path = tmp_path / "run"
    with RunFolder(path).open("train", SETTINGS, resume=False) as folder:
        begin(folder)
        for resume in (True, False):
            with pytest.raises(RunError), RunFolder(path).open("train", SETTINGS, resume=resume):
                pytest.fail("two runs in one folder")
        assert (path / "config.toml").exists()
    with RunFolder(path).open("train", SETTINGS, resume=True):
        pass


def test_a_holder_loses_nothing_to_one_who_failed_to_get_it(tmp_path):
    (tmp_path / "run").mkdir()
    holder = os.open(tmp_path / "run" / ".lock", os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(holder, fcntl.LOCK_EX)
        with pytest.raises(RunError, match="in use"), RunFolder(tmp_path / "run").open("train", {}, resume=False):
            pytest.fail("it is held")
        assert (tmp_path / "run" / ".lock").exists()
    finally:
        os.close(holder)


def test_many_at_once_get_one_folder_each_time(tmp_path):
    """Threads race for a folder that failing runs remove: never are two inside at once."""
    inside, most, got = [0], [0], [0]
    guard = threading.Lock()

    def race() -> None:
        for _ in range(30):
            try:
                with RunFolder(tmp_path / "run").open("train", {}, resume=False):
                    with guard:
                        inside[0] += 1
                        got[0] += 1
                        most[0] = max(most[0], inside[0])
                    with guard:
                        inside[0] -= 1
                    raise ValueError
            except (RunError, ValueError):
                pass

    threads = [threading.Thread(target=race) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most[0] == 1 and got[0] >= 1
    # A run that found the folder there leaves it there: an empty one may remain, and is free for the next.
    assert {path.name for path in tmp_path.glob("run/*")} <= {".lock"}
    with RunFolder(tmp_path / "run").open("train", {}, resume=False) as folder:
        assert folder.path.is_dir()


@pytest.mark.parametrize("change", [{"hidden": (8,)}, {"rate": 0.2}, {"rate": None}, {"new": 1}])
def test_other_settings_are_refused_by_name(tmp_path, change):
    with RunFolder(tmp_path / "run").open("train", SETTINGS, resume=False) as folder:
        begin(folder)
    (name,) = change
    before = (tmp_path / "run" / "config.toml").read_bytes()
    with (
        pytest.raises(RunError, match=name),
        RunFolder(tmp_path / "run").open("train", {**SETTINGS, **change}, resume=True),
    ):
        pytest.fail("these are other settings")
    assert (tmp_path / "run" / "config.toml").read_bytes() == before


def test_a_run_of_before_an_option_existed_had_its_default(tmp_path):
    with RunFolder(tmp_path / "run").open("train", SETTINGS, resume=False) as folder:
        begin(folder)
    with (
        pytest.raises(RunError, match=r"was started with elastic = 0\.0, and now it is 3\.0"),
        RunFolder(tmp_path / "run").open("train", {**SETTINGS, "elastic": 3.0}, resume=True),
    ):
        pytest.fail("these are other settings")
    with RunFolder(tmp_path / "run").open("train", {**SETTINGS, "elastic": 0.0, "keep": "best"}, resume=True) as folder:
        assert folder.config()["keep"] == "best"


def test_more_epochs_are_no_other_settings(tmp_path):
    with RunFolder(tmp_path / "run").open("train", SETTINGS, resume=False) as folder:
        begin(folder)
    with RunFolder(tmp_path / "run").open("train", {**SETTINGS, "epochs": 9, "patience": 2}, resume=True) as folder:
        assert folder.config()["epochs"] == 9


def test_a_precision_that_was_measured_stays(tmp_path):
    folder = RunFolder(tmp_path / "run")
    assert folder.settled("precision", "auto") == "auto"
    with folder.open("train", {"precision": "bf16"}, resume=False):
        begin(folder)
    assert folder.settled("precision", "auto") == "bf16"


def test_history_and_timings_meet_by_epoch(tmp_path):
    folder = RunFolder(tmp_path)
    folder.write_rows("history.jsonl", [{"epoch": 1, "loss": 0.5}, {"epoch": 2, "loss": 0.25}])
    folder.write_rows("timings.jsonl", [{"epoch": 2, "seconds": 7}])
    assert folder.history() == [{"epoch": 1, "loss": 0.5}, {"epoch": 2, "loss": 0.25, "seconds": 7}]


@pytest.mark.parametrize("text, line", [('{"epoch": 1}\n{', 2), ("[1]\n", 1), ("[" * 100_000, 1), ("\ufffd", 1)])
def test_damaged_rows(tmp_path, text, line):
    (tmp_path / "history.jsonl").write_text(text)
    with pytest.raises(FormatError, match=f"line {line}"):
        RunFolder(tmp_path).history()


@pytest.mark.parametrize("text", ["", "[]", "{", "[" * 100_000])
def test_damaged_metrics(tmp_path, text):
    (tmp_path / "metrics.json").write_text(text)
    with pytest.raises(FormatError, match=r"metrics\.json"):
        RunFolder(tmp_path).metrics()


def test_metrics_that_are_no_numbers(tmp_path):
    RunFolder(tmp_path).write_metrics({"nll": 1.0})
    with pytest.raises(NonFiniteError, match=r"metrics\.json"):
        RunFolder(tmp_path).write_metrics({"nll": math.inf})
    assert RunFolder(tmp_path).metrics() == {"nll": 1.0}


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "members").write_text("a file")
    with pytest.raises(RunError, match="members"):
        RunFolder(tmp_path).sub("members/1")


def test_the_precision_of_a_run_outlives_a_new_measurement(tmp_path, monkeypatch):
    """A run that chose bf16 by measurement goes on in bf16, even where a busy machine now measures otherwise."""
    from limbeck import train
    from limbeck.system import devices

    x = torch.randn(60, 4, generator=torch.Generator().manual_seed(0))
    words = {"epochs": 2, "batch_size": 16, "out": tmp_path / "run"}
    measured = {"bf16": 9.0, "float32": 1.0}
    monkeypatch.setattr(devices, "measure_precisions", lambda device: measured)
    first = train(torch.nn.Linear(4, 2), (x, (x[:, 0] > 0).long()), **words)
    assert RunFolder(first.folder).config()["precision"] == "bf16"
    measured["bf16"] = 0.5
    again = train(torch.nn.Linear(4, 2), (x, (x[:, 0] > 0).long()), **{**words, "epochs": 2}, resume=True)
    assert RunFolder(again.folder).config()["precision"] == "bf16"


def test_what_a_run_leaves_that_is_killed_before_its_settings_is_taken_up(tmp_path):
    """An empty list of digests, and files that were being written; anything else is somebody's."""
    out = tmp_path / "run"
    out.mkdir()
    for name in (".SHA256SUMS.abc.partial", "SHA256SUMS", ".config.toml.x1.partial"):
        (out / name).write_text("")
    with RunFolder(out).open("train", {"epochs": 1}, resume=True):
        assert sorted(path.name for path in out.iterdir() if path.name != ".lock") == ["SHA256SUMS", "config.toml"]
        (out / "a.safetensors").write_text("")
    other = tmp_path / "other"
    other.mkdir()
    (other / "SHA256SUMS").write_text(f"{'0' * 64}  theirs\n")
    with pytest.raises(RunError, match="is not empty and not a run"):
        with RunFolder(other).open("train", {}, resume=True):
            pytest.fail("it is somebody's")


def test_a_setting_that_was_renamed_is_the_same_one(tmp_path):
    before = {**SETTINGS, "export": True}
    with RunFolder(tmp_path / "run").open("train", before, resume=False):
        pass
    with RunFolder(tmp_path / "run").open("train", {**SETTINGS, "save_hdf5": True}, resume=True):
        pass
    with pytest.raises(RunError, match="started with save_hdf5 = True"):
        with RunFolder(tmp_path / "run").open("train", {**SETTINGS, "save_hdf5": False}, resume=True):
            pass
    assert read_settings(tmp_path / "run" / "config.toml")["save-hdf5"] is True


def test_settings_of_another_kind_of_data_may_be_named_or_not(tmp_path):
    """Runs of earlier versions name those of speech whatever their data are."""
    run = RunFolder(tmp_path)
    plain = {"data": "mnist", "epochs": 3}
    (tmp_path / "config.toml").write_text('data = "mnist"\nepochs = 3\ncmvn = "auto"\ndeltas = 0\nin_memory_gb = 9.0\n')
    run.agree(plain)
    run.agree({**plain, "cmvn": "auto", "every": 1})
    for changed in ({"cmvn": "speaker"}, {"every": 2}, {"ali": "exp"}):
        with pytest.raises(RunError, match=f"was started with(out)? {next(iter(changed))}\\b"):
            run.agree({**plain, **changed})
    (tmp_path / "config.toml").write_text('data = "mnist"\nepochs = 3\ncmvn = "speaker"\n')
    with pytest.raises(RunError, match="was started with cmvn = 'speaker', and now it is 'auto'"):
        run.agree(plain)
