"""What ``--help`` begins with, what it keeps for ``--help-all``, and that its texts fit their functions."""

import inspect
import re
import subprocess

import pytest

from limbeck.cli.application import app
from limbeck.cli.commands import COMMANDS
from limbeck.cli.help import arguments_of, command_help, flag_docs
from limbeck.cli.help_text import front_page, terminal_width, two_columns, wrapped

NAMES = [command.name for commands in COMMANDS.values() for command in commands if command.name != "kaldi"]
OF_KALDI = ["add-deltas", "apply-cmvn-sliding", "nnet3-copy", "nnet3-finetune"]


def headings(text):
    return re.findall(r"^([A-Z8][^\n]*)\n  (?=[-A-Z])", text, re.M)


def flags(text):
    return re.findall(r"^  (--[a-z0-9-]+)", text, re.M)


def test_the_first_page_has_each_command_on_a_line_and_fits_on_a_screen(limbeck):
    shown = limbeck("--help").out
    assert shown == front_page() == limbeck().out == limbeck("--help-all").out
    lines = shown.splitlines()
    assert len(lines) <= 48 and max(map(len, lines)) <= 88
    for title, commands in COMMANDS.items():
        assert title in lines
        for command in commands:
            assert f"  {command.name:<17}{command.summary}" in lines


@pytest.mark.parametrize("command", ["train", "distill", "tune", "soften"])
def test_help_begins_with_what_most_people_need(limbeck, command):
    brief, whole = limbeck(command, "--help").out, limbeck(command, "--help-all").out
    assert len(flags(brief)) < 40 and len(flags(whole)) > 60
    assert set(flags(brief)) < set(flags(whole))
    hidden = int(re.search(r"(\d+) more flags", brief).group(1))
    assert len(flags(whole)) - len(flags(brief)) == hidden and "more flags" not in whole
    assert {"--out", "--data", "--label-column", "--test-data"} <= set(flags(brief))
    groups = headings(whole)
    assert groups[0] == "Data" and groups[-2:] == [
        "CSV, JSON lines and parquet: texts, tables, lists of images", "Kaldi directories",
    ]  # fmt: skip
    kaldi = whole[whole.index("\nKaldi directories") :]
    for flag in ("--ali", "--cmvn", "--deltas", "--allow-pipes"):
        assert flag in kaldi and flag not in flags(brief)


@pytest.mark.parametrize("command", NAMES)
def test_each_command_begins_with_its_examples(limbeck, command):
    shown = limbeck(command, "--help").out
    examples = re.findall(r"^  (limbeck .*)$", shown, re.M)
    assert 2 <= len(examples) <= 3 and any(line.startswith(f"limbeck {command}") for line in examples)
    assert shown.index(examples[0]) < shown.index("\n  --")


@pytest.mark.parametrize("words", [[name] for name in NAMES] + [["kaldi", name] for name in OF_KALDI])
def test_every_flag_is_explained(words):
    _, apps, _ = app.parse_commands(words)
    arguments = arguments_of(app, words)
    docs = flag_docs(apps[-1].default_command)
    assert arguments or words == ["methods"]
    for one in arguments:
        assert one.parameter.help or docs.get(one.field_info.name), one.name


def test_flags_say_what_they_take_their_choices_and_defaults(limbeck):
    shown = " ".join(limbeck("distill", "--help-all").out.split())
    assert "--temperature NUMBER Temperature T of the softmax for soft targets; above 0. [default: 4.0]" in shown
    assert "--mean CHOICE" in shown and "[choices: arithmetic, geometric] [default: arithmetic]" in shown
    assert "--teacher PATH..." in shown and "--baseline, --no-baseline" in shown
    assert "--empty" not in shown and "[default: False]" not in shown
    assert shown.startswith("Usage: limbeck distill --out PATH [OPTIONS]")
    assert limbeck("predict", "--help").out.startswith("Usage: limbeck predict RUN DATA")


def test_a_group_of_commands_is_listed_with_and_without_help(limbeck):
    shown = limbeck("kaldi", "--help").out
    assert shown == limbeck("kaldi").out
    for name in OF_KALDI:
        assert f"  {name} " in shown
    assert "--edits" in limbeck("kaldi", "nnet3-copy", "--help").out


def test_help_is_as_wide_as_the_terminal(monkeypatch):
    for width in (40, 72, 100):
        monkeypatch.setenv("COLUMNS", str(width))
        assert terminal_width() == width
        text = command_help(app, ["report"], every=True, width=width)
        lines = [line for line in text.splitlines() if not line.startswith("  limbeck")]
        assert max(map(len, lines)) <= max(width, 62)


def test_columns_and_paragraphs():
    assert wrapped("a  b\n c", 10) == "a b c"
    assert two_columns([("--x", ""), ("--long-name", "m")], 30, left=6) == "  --x\n  --long-name\n        m"


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["distill", "--temprature", "3"], ["--temprature", "Did you mean --temperature?"]),
        (["train", "--epoch", "3"], ["--epoch", "Did you mean --epochs?"]),
        (["train", "--out", "x", "--hiden", "3"], ["--hiden", "Did you mean --hidden?"]),
        (["distil", "--teacher", "x"], ["there is no command distil: did you mean distill?"]),
        (["train", "--schedule", "cosin", "--out", "x"], ['"cosin"', 'Did you mean "cosine"?']),
        (["train", "--epochs", "3"], ["limbeck train needs --out"]),
        (["--frob", "train"], ["a command is needed before --frob"]),
        (["kaldi", "nnet-copy"], ["nnet-copy", "nnet3-copy"]),
    ],
)  # fmt: skip
def test_a_wrong_word_suggests_the_right_one(limbeck, words, parts):
    done = limbeck(*words)
    assert done.code == 2 and done.out == "" and len(done.err.strip().splitlines()) == 1
    for part in parts:
        assert part in done.err


@pytest.mark.slow
def test_bash_completes_commands_flags_and_choices(limbeck, tmp_path, monkeypatch):
    script = limbeck("completion", "bash").out
    (tmp_path / "script").write_text(script)
    ask = (
        "source ./script; try() { COMP_WORDS=(\"$@\"); COMP_CWORD=$(($# - 1)); COMPREPLY=(); _limbeck; "
        "echo \"${COMPREPLY[@]}\"; }; try limbeck dist; try limbeck distill --temp; try limbeck distill --schedule c"
    )  # fmt: skip
    done = subprocess.run(["bash", "-c", ask], capture_output=True, text=True, cwd=tmp_path)
    assert done.stdout.split("\n")[:3] == ["distill", "--temperature", "cosine constant"], done.stderr
    assert (
        "-l temperature" in limbeck("completion", "fish").out and "#compdef limbeck" in limbeck("completion", "zsh").out
    )
    monkeypatch.setenv("HOME", str(tmp_path))
    done = limbeck("completion", "fish", "--install")
    assert done.code == 0 and str(tmp_path) in done.err and list(tmp_path.rglob("*.fish"))


def test_docstrings_of_commands_have_the_template():
    for name in NAMES:
        doc = inspect.getdoc(app[name].default_command)
        assert doc and "```\nlimbeck " in doc
