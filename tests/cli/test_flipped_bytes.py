"""A flipped byte in any file that a run lists makes the command that reads it say so, in one line, and end with 2."""

import random
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_runs import FAST, sealed_again

from limbeck.system.checksums import read_sums

EVALUATED = {"config.json", "model.safetensors", "trained_rows.safetensors", "SHA256SUMS"}
RESUMED = {"identity.json"}


@pytest.fixture(scope="module")
def run(limbeck, teacher, tiny, tmp_path_factory):
    """A finished distillation with a baseline, and the command that made it."""
    out = tmp_path_factory.mktemp("flipped") / "run"
    words = ("distill", "--data", tiny, "--teacher", teacher, *FAST, "--out", out)
    assert limbeck(*words).code == 0
    return words, out


def test_a_flipped_byte_in_any_file_that_is_listed_is_told_by_the_command_that_reads_it(limbeck, run, tiny):
    words, out = run
    chance, seen = random.Random(0), set()
    for part in ("", "model", "baseline", "baseline/model"):
        for name in read_sums(out / part) or {}:
            path = out / part / name
            if part.startswith("baseline") or name in RESUMED:
                command = (*words, "--resume")
            elif path.name in EVALUATED:
                command = ("evaluate", out, "--data", tiny)
            else:
                command = ("report", out)
            whole, place = path.read_bytes(), chance.randrange(path.stat().st_size)
            others = {other: other.read_bytes() for other in out.rglob("*") if other.is_file() and other != path}
            try:
                path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << chance.randrange(7)]) + whole[place + 1 :])
                done = limbeck(*command)
                line = done.err.splitlines()[-1]
                assert done.code == 2 and line.startswith("limbeck: ") and done.err.count("limbeck: ") == 1, (
                    path,
                    line,
                )
                assert str(path) in line and "does not match its digest" in line, (path, line)
                assert all(other.read_bytes() == kept for other, kept in others.items()), (
                    path
                )  # nothing is half-written
            finally:
                path.write_bytes(whole)
            seen.add(str(path.relative_to(out)))
    wanted = {"config.toml", "identity.json", "history.jsonl", "timings.jsonl", "answers.safetensors", "metrics.json"}
    wanted |= {f"{part}model/{name}" for part in ("", "baseline/") for name in EVALUATED}
    assert seen >= wanted | {"baseline/history.jsonl", "baseline/timings.jsonl"}


def test_a_nan_weight_in_a_model_that_was_sealed_again_is_refused_by_name(limbeck, run, tiny, tmp_path):
    out = shutil.copytree(run[1], tmp_path / "run")
    path = out / "model" / "model.safetensors"
    weights = load_file(path)
    name = next(name for name, value in weights.items() if value.ndim == 2)
    weights[name][1, 2] = torch.nan
    save_file(weights, path)
    sealed_again(out)
    for command in (("evaluate", out, "--data", tiny), ("distill", "--data", tiny, "--teacher", out, *FAST, "--out",
                    tmp_path / "x"), ("compress", out, "--rank", 2, "--out", tmp_path / "y")):  # fmt: skip
        done = limbeck(*command)
        assert done.code == 2 and len(done.err.splitlines()) == 1, done.err
        assert str(path) in done.err and name in done.err and "NaN" in done.err, done.err
        assert not (tmp_path / "x").exists() and not (tmp_path / "y").exists()
