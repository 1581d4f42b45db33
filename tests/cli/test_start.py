"""Which modules a command imports before it does anything: times differ between machines, these lists do not."""

import json
import subprocess
import sys

import numpy as np
import pytest

CODE = """
import json, sys
before = set(sys.modules)
from limbeck.cli import main
try:
    main(sys.argv[1:])
except SystemExit:
    pass
print(json.dumps(sorted(set(sys.modules) - before)), file=sys.stderr)
"""
HEAVY = {
    "torch", "numpy", "scipy", "matplotlib", "h5py", "PIL", "accelerate", "jinja2", "rich", "markdown_it", "asyncio",
    "docstring_parser", "pandas", "sklearn", "transformers", "tokenizers", "timm", "optuna",
}  # fmt: skip


def imported(*words):
    done = subprocess.run([sys.executable, "-c", CODE, *words], capture_output=True, text=True)
    return done.stdout, set(json.loads(done.stderr.splitlines()[-1]))


@pytest.mark.parametrize("words", [("--help",), ("--version",), ()], ids=["help", "version", "nothing"])
def test_the_first_page_imports_what_it_prints_and_nothing_else(words):
    shown, modules = imported(*words)
    assert shown
    ours = {name for name in modules if name.startswith("limbeck")}
    assert ours <= {"limbeck", "limbeck.cli", "limbeck.cli.commands", "limbeck.cli.help_text"}
    assert not modules & (HEAVY | {"cyclopts", "attrs", "inspect", "dataclasses", "importlib.metadata", "json.decoder"})
    assert len(modules) < 40


@pytest.mark.parametrize("command", ["distill", "train", "export", "methods"])
def test_help_of_a_command_imports_that_command_alone(command):
    shown, modules = imported(command, "--help")
    assert f"limbeck {command}" in shown
    assert sorted(modules & HEAVY) == []
    commands = {name.removeprefix("limbeck.cli.") for name in modules if name.startswith("limbeck.cli.")}
    others = {"quickstart", "train", "distill", "mutual", "soften", "tune", "compress", "export", "decode"} - {command}
    assert command in commands and not commands & others
    assert not {name for name in modules if name.startswith(("limbeck.runs", "limbeck.data.", "limbeck.report"))}


@pytest.mark.parametrize("words", [("data",), ("train", "--frob"), ("completion", "--help")])
def test_lists_and_refusals_import_nothing_heavy(words):
    assert not imported(*words)[1] & (HEAVY - {"rich", "markdown_it", "asyncio"})


@pytest.mark.slow
def test_a_training_imports_neither_the_compiler_nor_other_libraries(tmp_path):
    """PyTorch's compiler alone takes 2.4 seconds."""
    draw = np.random.default_rng(0)
    np.savez(tmp_path / "small.npz", x=draw.normal(size=(200, 8)).astype("f4"), y=draw.integers(0, 3, 200))
    common = ("--data", tmp_path / "small.npz", "--hidden", 8, "--epochs", 1, "--quiet")
    for words in (
        ("train", *common, "--out", tmp_path / "teacher"),
        ("distill", *common, "--teacher", tmp_path / "teacher", "--out", tmp_path / "student"),
    ):
        _, modules = imported(*map(str, words))
        assert (tmp_path / words[-1] / "report.html").exists()
        kept_out = {"torch._dynamo", "torch._inductor", "sympy", "accelerate", "pandas", "sklearn", "transformers",
                    "scipy.stats", "timm", "onnx", "onnxruntime", "optuna", "matplotlib.pyplot"}  # fmt: skip
        assert sorted(modules & kept_out) == []
