"""Folders that others use too, file systems that refuse, systems without fcntl, terminals, and strangers' files."""

import errno
import json
import os
import shlex
import stat
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_runs import FAST, run_here, sealed_again, tiny_arrays

import limbeck
from limbeck.cli.console import clean
from limbeck.errors import LimbeckWarning, RunError
from limbeck.formats.keras_h5 import DenseLayer, write_keras_h5
from limbeck.kaldi.formats.write import write_ark
from limbeck.runs.folder import RunFolder
from limbeck.system import files, locks
from limbeck.system.locks import hold
from limbeck.training import checkpoint

SETTINGS = {"seed": 0}


@pytest.fixture(scope="module", autouse=True)
def quick():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("limbeck.runs.pages.write_report", lambda contents, path: path)
        yield


def trained(place: Path, *words: object) -> Path:
    x, y = tiny_arrays(90)
    np.savez(place / "tiny.npz", x=x, y=y)
    done = run_here("train", "--data", place / "tiny.npz", *FAST, "--quiet", "--out", place / "run", *words)
    assert done.code == 0, done.err
    return place / "run"


def one_line(done, *says):
    assert done.code == 2 and len(done.err.splitlines()) == 1 and "internal error" not in done.err, done.err
    assert all(str(word) in done.err for word in says), done.err


# Failed runs


def test_a_failed_run_removes_what_it_made_and_nothing_else(tmp_path):
    out = tmp_path / "new" / "run"
    with pytest.raises(ZeroDivisionError), RunFolder(out).open("train", SETTINGS, resume=False) as run:
        run.sub("members/1").checkpoints.mkdir()
        files.replace_text(run.sub("members/1").path / "history.jsonl", "")
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


def test_what_others_put_into_a_run_that_fails_stays(tmp_path):
    out, elsewhere = tmp_path / "run", tmp_path / "thesis.txt"
    elsewhere.write_text("years of work")
    with pytest.raises(ZeroDivisionError), RunFolder(out).open("train", SETTINGS, resume=False) as run:
        mine = dict.fromkeys(("notes.txt", "baseline/notes.txt", "mine/config.toml", "model/.x.partial"), "mine")
        run.sub("baseline")
        (out / "mine").mkdir()
        (out / "model").mkdir()
        for name, text in mine.items():
            (out / name).write_text(text)
        (out / "empty").mkdir()
        (out / "history.jsonl").symlink_to(elsewhere)
        raise ZeroDivisionError
    assert {name: (out / name).read_text() for name in mine} == mine
    assert (
        (out / "empty").is_dir() and elsewhere.read_text() == "years of work" and (out / "history.jsonl").is_symlink()
    )
    assert not (out / "config.toml").exists() and not (out / "SHA256SUMS").exists()


def test_an_empty_folder_of_the_users_stays(tmp_path):
    (tmp_path / "run").mkdir()
    with pytest.raises(ZeroDivisionError), RunFolder(tmp_path / "run").open("train", SETTINGS, resume=False):
        raise ZeroDivisionError
    assert list(tmp_path.rglob("*")) == [tmp_path / "run"]


def test_a_store_removes_no_file_of_another(tmp_path):
    (tmp_path / ".mine.partial").write_text("mine")
    with pytest.raises(RunError, match="not soft targets"):
        limbeck.softtargets.write_arrays(
            tmp_path, [np.zeros((1, 2), np.float32)], classes="ab", examples=1, encoding=limbeck.softtargets.Dense()
        )
    assert (tmp_path / ".mine.partial").read_text() == "mine"


# Overlapping folders


def test_folders_that_lie_in_each_other_are_one_place(tmp_path):
    run = RunFolder(tmp_path / "run")
    with run.open("train", SETTINGS, resume=False):
        inside = run.sub("members/1").path
        for below in (inside, inside / "deeper" / "run"):
            with (
                pytest.raises(RunError, match="lies in .* in use by process"),
                RunFolder(below).open("train", SETTINGS, resume=False),
            ):
                pass
        assert not (inside / ".lock").exists() and not (inside / "deeper").exists()
        with pytest.raises(RunError, match="in use by process"), hold(files.make_folder(run.path / "targets")):
            pass
        raised = pytest.raises(RunError, match="lies in .* is in use by process")
        with raised, hold(tmp_path):
            pass
        assert not (tmp_path / ".lock").exists()
        with RunFolder(tmp_path / "beside").open("train", SETTINGS, resume=False):
            pass  # a folder beside it is another place
    with RunFolder(inside / "deeper").open("train", SETTINGS, resume=False):
        pass  # it has ended


# File systems that refuse


def refusing(number):
    def refuse(*_, **__):
        raise OSError(number, os.strerror(number))

    return refuse


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_run_where_nothing_can_be_locked_flushed_or_given_permissions(tmp_path, monkeypatch, number):
    import fcntl

    flush = os.fsync
    monkeypatch.setattr(fcntl, "flock", refusing(number))
    monkeypatch.setattr(os, "chmod", refusing(number))
    monkeypatch.setattr(os, "link", refusing(number))
    monkeypatch.setattr(
        os,
        "fsync",
        lambda file: refusing(errno.EINVAL)() if stat.S_ISDIR(os.fstat(file).st_mode) else flush(file),
    )
    with (
        pytest.warns(LimbeckWarning, match="without locks"),
        RunFolder(tmp_path / "run").open("train", {}, resume=False),
    ):
        files.replace_text(tmp_path / "run" / "a.txt", "whole")
        files.replace_text(tmp_path / "run" / "a.txt", "again")
    assert (tmp_path / "run" / "a.txt").read_text() == "again"
    from limbeck.tuning.study import address_of, connect

    connect(address_of(tmp_path / "study.db"), shared=False).engine.dispose()
    assert (tmp_path / "study.db").stat().st_size > 0 and not list(tmp_path.glob(".study*"))


@pytest.mark.parametrize("failing", ["write", "flush", "folder"])
def test_a_full_disk_is_told_and_what_was_there_stays(tmp_path, monkeypatch, failing):
    checkpoint.save_tensors(tmp_path / "a.safetensors", {"x": torch.ones(3)})
    before, flush = (tmp_path / "a.safetensors").read_bytes(), os.fsync

    class Full:
        def __init__(self, file):
            self.file = file

        def __getattr__(self, name):
            return refusing(errno.ENOSPC) if name == "write" else getattr(self.file, name)

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.file.close()

    if failing == "write":
        opened = os.fdopen
        monkeypatch.setattr(os, "fdopen", lambda *words, **more: Full(opened(*words, **more)))
    else:
        folders = failing == "folder"
        monkeypatch.setattr(
            os, "fsync", lambda handle: refusing(errno.ENOSPC)() if stat.S_ISDIR(os.fstat(handle).st_mode) == folders
            else flush(handle),
        )  # fmt: skip
    with pytest.raises(RunError, match="make room on the disk"):
        checkpoint.save_tensors(tmp_path / "a.safetensors", {"x": torch.zeros(3)})
    if failing != "folder":  # else the new file is there, whole
        assert (tmp_path / "a.safetensors").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["a.safetensors"]


def test_no_memory_to_save_with_is_told_and_what_was_there_stays(tmp_path, monkeypatch):
    checkpoint.save_rotating(tmp_path, {"x": torch.ones(3)}, 1)

    def hungry(*_, **__):
        raise MemoryError

    monkeypatch.setattr(checkpoint, "save", hungry)
    with pytest.raises(RunError, match="out of memory"):
        checkpoint.save_rotating(tmp_path, {"x": torch.zeros(3)}, 2)
    found = checkpoint.load_latest(tmp_path)
    assert found is not None and found[1] == 1


@pytest.mark.parametrize("mask", [0o077, 0o027, 0o002])
def test_files_have_the_permissions_that_the_umask_leaves(tmp_path, mask):
    before = os.umask(mask)
    try:
        files.replace_text(tmp_path / "a.txt", "")
        write_keras_h5(tmp_path / "a.h5", [DenseLayer("dense", np.ones((2, 2), np.float32), None)])
        write_ark(tmp_path / "a.ark", [("a", np.ones((1, 2), np.float32))])
        files.make_beside(tmp_path / "folder")
    finally:
        os.umask(before)
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert len(modes) == 4 and all(mode == (0o777 if path.is_dir() else 0o666) & ~mask for path, mode in modes.items())


def test_a_file_that_is_replaced_keeps_its_permissions(tmp_path):
    files.replace_text(tmp_path / "a.txt", "one")
    (tmp_path / "a.txt").chmod(0o640)
    files.replace_text(tmp_path / "a.txt", "two")
    assert stat.S_IMODE((tmp_path / "a.txt").stat().st_mode) == 0o640


# Systems without fcntl


WITHOUT = """
import sys
for name in ("fcntl", "resource", "termios", "pwd", "grp"):
    sys.modules[name] = None
import os
for name in ("pread", "pwrite", "fork", "sched_getaffinity", "geteuid", "getuid"):
    if hasattr(os, name):
        delattr(os, name)
import importlib, pkgutil, warnings
import limbeck
for found in pkgutil.walk_packages(limbeck.__path__, "limbeck."):
    importlib.import_module(found.name)
import torch
x = torch.randn(60, 4, generator=torch.Generator().manual_seed(0))
y = (x[:, 0] > 0).long()
warnings.simplefilter("ignore")
limbeck.train(torch.nn.Linear(4, 2), (x, y), (x, y), epochs=1, batch_size=16, precision="float32", out=sys.argv[1])
from limbeck.data.examples import Examples
store = limbeck.SoftTargets.write(sys.argv[1] + "-store", torch.nn.Linear(4, 2), Examples.of(x, y), classes="ab")
limbeck.SoftTargets.open(sys.argv[1] + "-store").verify()
print("done")
"""


@pytest.mark.slow
def test_every_module_and_a_training_without_what_windows_lacks(tmp_path):
    said = subprocess.run(
        [sys.executable, "-c", WITHOUT, tmp_path / "run"], capture_output=True, text=True, timeout=300, check=False
    )
    assert said.stdout == "done\n", said.stderr[-2000:]
    assert (tmp_path / "run" / "metrics.json").exists()


# Terminals


def test_nothing_of_a_strangers_reaches_the_terminal_raw(tmp_path):
    evil = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202egnp.exe"
    x, y = tiny_arrays(90)
    np.savez(tmp_path / "tiny.npz", x=x, y=y, classes=np.array([evil, "b", "c"]))
    np.savez(tmp_path / "other.npz", x=x, y=y, classes=np.array(["a", "b", evil]))
    words = ("train", "--data", tmp_path / "tiny.npz", *FAST, "--out", tmp_path / "run")
    outcomes = [run_here(*words), run_here("evaluate", tmp_path / "run", "--data", tmp_path / "other.npz")]
    outcomes += [
        run_here("evaluate", tmp_path / "run", "--data", tmp_path / "tiny.npz", *more) for more in ([], ["--json"])
    ]
    outcomes += [run_here("info", tmp_path / evil), run_here("data", tmp_path / "tiny.npz")]
    outcomes += [run_here("info", tmp_path / "run", "--json")]
    assert any(done.code == 2 for done in outcomes) and outcomes[0].code == 0, outcomes
    for done in outcomes:
        for sign in "\x1b\x07\x9b\u202e":
            assert sign not in done.out + done.err
    assert json.loads(outcomes[3].out)


def test_signs_that_are_shown_as_escapes():
    assert clean("a\x1b[0m\x7f\x85\u2028\udcff\u2067é日\n\t") == "a\\x1b[0m\\x7f\\x85\\u2028\\udcff\\u2067é日\n\t"


# Strangers' files


@pytest.fixture(scope="module")
def strangers(tmp_path_factory):
    """A run on speech whose settings allow pipes, with data whose lines are commands that would make a file."""
    place = tmp_path_factory.mktemp("strangers")
    run, owned = trained(place), place / "owned"
    directory = place / "speech"
    directory.mkdir()
    command = f"touch {shlex.quote(str(owned))}; cat /dev/null |"
    for name in ("feats.scp", "cmvn.scp"):
        (directory / name).write_text(f"one {command}\n")
    (directory / "utt2spk").write_text("one one\n")
    config = run / "config.toml"
    kept = [line for line in config.read_text().splitlines() if line.split(" =")[0] not in {"data", "allow_pipes"}]
    lines = [*kept, f"data = {json.dumps(str(directory))}", "allow_pipes = true", f'ali = "{directory}"']
    config.write_text("\n".join(lines) + "\n")
    (place / "evil_module.py").write_text(f"open({str(owned)!r}, 'w')\ndef net(*_): raise SystemExit(3)\n")
    sealed_again(run)
    return place


@pytest.mark.parametrize(
    "words",
    [
        ("report", "RUN"),
        ("compress", "RUN", "--rank", 2, "--out", "OUT"),
        ("compress", "RUN", "--rank", 2, "--data", "DATA", "--out", "OUT"),
        ("evaluate", "RUN", "--data", "SPEECH"),
        ("evaluate", "RUN", "--data", "DATA"),
        ("distill", "--teacher", "RUN", "--data", "SPEECH", "--out", "OUT"),
        ("distill", "--config", "CONFIG", "--teacher", "RUN", "--out", "OUT"),
        ("train", "--config", "CONFIG", "--out", "OUT"),
        ("soften", "--teacher", "RUN", "--data", "SPEECH", "--out", "OUT"),
        ("tune", "--teacher", "RUN", "--data", "SPEECH", "--out", "OUT"),
        ("info", "SPEECH/feats.scp"),
        ("info", "RUN"),
    ],
)
def test_nothing_is_executed_because_a_file_says_so(strangers, tmp_path, words):
    names = {"RUN": strangers / "run", "OUT": tmp_path / "out", "SPEECH": strangers / "speech",
             "DATA": strangers / "tiny.npz", "CONFIG": strangers / "run" / "config.toml"}  # fmt: skip
    filled = []
    for word in map(str, words):
        for name, path in names.items():
            word = word.replace(name, str(path))
        filled.append(word)
    done = run_here(*filled)
    assert not (strangers / "owned").exists()
    assert done.code in (0, 2) and "internal error" not in done.err and len(done.err.splitlines()) <= 3, done.err
    if "--config" in words:
        one_line(done, "--allow-pipes", "executes no code")


@pytest.mark.parametrize("name", ["model", "student", "teacher_model"])
def test_code_that_a_file_names_is_not_imported(strangers, tmp_path, monkeypatch, name):
    monkeypatch.syspath_prepend(str(strangers))
    (tmp_path / "settings.toml").write_text(f'{name} = "evil_module:net"\ndata = "{strangers / "tiny.npz"}"\n')
    command = "train" if name == "model" else "distill"
    more = () if name == "model" else ("--teacher", strangers / "run")
    done = run_here(command, "--config", tmp_path / "settings.toml", *more, "--out", tmp_path / "out")
    one_line(done, "evil_module:net", "executes no code")
    assert not (strangers / "owned").exists() and "evil_module" not in sys.modules


def test_the_teacher_of_a_strangers_student_is_not_imported(strangers, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(strangers))
    student = tmp_path / "student"
    words = ("distill", "--teacher", strangers / "run", "--data", strangers / "tiny.npz", *FAST, "--out", student)
    assert run_here(*words).code == 0
    config = student / "config.toml"
    config.write_text(config.read_text() + 'teacher_model = "evil_module:net"\n')
    own = json.dumps({"model_type": "own", "source": "evil_module:net", "class": "Net"})
    files.replace_text(strangers / "run" / "model" / "config.json", own)
    sealed_again(student)
    sealed_again(strangers)
    done = run_here("compress", student, "--rank", 2, "--out", tmp_path / "small")
    assert done.code == 0, done.err
    assert not (strangers / "owned").exists() and "evil_module" not in sys.modules


def test_warnings_of_locks_come_once_and_name_the_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(locks, "_module", lambda name: None)  # a system with neither kind of lock
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        with hold(tmp_path):
            pass
    assert len(heard) == 1 and str(tmp_path) in str(heard[0].message)
