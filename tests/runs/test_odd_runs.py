"""Runs whose files are whole and hold something else: each odd value is told in a line, never as a internal error."""

import copy
import json
import random
import shutil
import tomllib

import numpy as np
import pytest
import tomli_w
from tiny_runs import FAST, run_here, sealed_again, tiny_arrays

ODD = [None, [], {}, "", -1, 1e308, [[[[[]]]]], "x" * 5000, True, {"a": [1]}, [None], 10**30]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("odd")
    x, y = tiny_arrays(60)
    np.savez(folder / "tiny.npz", x=x, y=y)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("limbeck.runs.pages.write_report", lambda contents, path: path)
        words = ("--data", folder / "tiny.npz", *FAST, "--quiet")
        assert run_here("train", *words, "--out", folder / "run").code == 0
        assert run_here("distill", *words, "--teacher", folder / "run", "--out", folder / "student").code == 0
        assert run_here("compress", folder / "run", "--rank", 2, "--out", folder / "small").code == 0
        yield folder


def paths(value, before=()):
    yield before
    inside = value.items() if isinstance(value, dict) else enumerate(value[:2]) if isinstance(value, list) else ()
    for key, part in inside:
        yield from paths(part, (*before, key))


def changed(value, path, odd):
    if not path:
        return odd
    value = copy.deepcopy(value)
    place = value
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = odd
    return value


def spoil(path, chance):
    text = path.read_text()
    if path.suffix == ".toml":
        found = tomllib.loads(text)
        keys = [keys for keys in paths(found) if keys]
        odd = [value for value in ODD if value is not None and value != [None] and value != 10**30]
        path.write_text(tomli_w.dumps(changed(found, chance.choice(keys), chance.choice(odd))))
    elif path.suffix == ".jsonl":
        rows = [json.loads(line) for line in text.splitlines()]
        keys = [keys for keys in paths(rows) if keys]
        path.write_text(
            "".join(json.dumps(row) + "\n" for row in changed(rows, chance.choice(keys), chance.choice(ODD)))
        )
    else:
        found = json.loads(text)
        path.write_text(json.dumps(changed(found, chance.choice(list(paths(found))), chance.choice(ODD))))


def judged(done):
    assert done.code in (0, 2) and "internal error" not in done.err and "Traceback" not in done.err, done.err
    if done.code == 2:
        assert sum(line.startswith("limbeck: ") for line in done.err.splitlines()) == 1, done.err


CASES = [
    ("run", "metrics.json", "report"),
    ("student", "metrics.json", "report"),
    ("small", "metrics.json", "report"),
    ("run", "history.jsonl", "report"),
    ("student", "config.toml", "report"),
    ("run", "model/config.json", "evaluate"),
    ("run", "model/config.json", "info"),
    ("run", "config.toml", "compress"),
    ("student", "config.toml", "compress"),
    ("small", "plan.json", "resume"),
    ("run", "identity.json", "resume"),
]


@pytest.mark.parametrize("rounds", [3, pytest.param(60, marks=pytest.mark.slow)])
@pytest.mark.parametrize("run, name, command", CASES)
def test_odd_values_are_told(place, tmp_path, run, name, command, rounds):
    chance = random.Random(f"{run} {name} {command}")
    for number in range(rounds):
        copied = shutil.copytree(place / run, tmp_path / f"copy-{number}")
        spoil(copied / name, chance)
        sealed_again(copied)
        data = ("--data", place / "tiny.npz")
        words = {
            "report": ("report", copied),
            "evaluate": ("evaluate", copied, *data),
            "info": ("info", copied),
            "compress": ("compress", copied, "--rank", 2, "--out", tmp_path / f"out-{number}"),
            "resume": ("train", *data, *FAST, "--quiet", "--resume", "--out", copied)
            if run == "run"
            else ("compress", place / "run", "--rank", 2, "--resume", "--out", copied),
        }[command]
        judged(run_here(*words))


@pytest.mark.parametrize(
    "run, name, text, says",
    [
        ("run", "metrics.json", '{"judged_on": "test"}', "no model, student or stages"),
        ("student", "metrics.json", '{"judged_on": []}', "judged_on"),
        ("student", "metrics.json", '{"judged_on": "test", "student": []}', "metrics.json"),
        ("run", "model/config.json", '{"model_type": []}', "config.json"),
        ("run", "model/config.json", '{"model_type": {}}', "config.json"),
        ("run", "model/config.json", "[" * 100_000, "config.json"),
    ],
)
def test_what_is_missing_is_named(place, tmp_path, run, name, text, says):
    copied = shutil.copytree(place / run, tmp_path / "copy")
    (copied / name).write_text(text)
    sealed_again(copied)
    words = ("report", copied) if name == "metrics.json" else ("evaluate", copied, "--data", place / "tiny.npz")
    done = run_here(*words)
    judged(done)
    assert done.code == 2 and says in done.err, done.err
