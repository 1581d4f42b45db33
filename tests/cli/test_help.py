"""What ``--help`` begins with, and what it keeps for last."""

import re

import pytest

from limbeck.cli import _COMMANDS, app


def groups_of(text):
    return re.findall(r"^╭─ (.+?) ─+╮", text, re.M)


def test_commands_are_grouped_by_what_they_are_for(limbeck):
    shown = limbeck("--help").out
    assert groups_of(shown) == [*_COMMANDS, "Flags"]
    for command in (command for commands in _COMMANDS.values() for command in commands):
        assert re.search(rf"^│ {command.__name__.replace('_', '-')} ", shown, re.M)


@pytest.mark.parametrize("command", ["train", "distill", "tune", "soften"])
def test_what_few_people_need_comes_last(limbeck, command):
    shown = limbeck(command, "--help").out
    groups = groups_of(shown)
    assert "Data" in groups[:2]
    assert groups[-2:] == ["Files of rows: texts, tables, lists of images", "Kaldi directories"]
    shown = shown[shown.index("╭─") :]
    kaldi = shown[shown.index("─ Kaldi directories") :]
    for flag in ("--ali", "--cmvn", "--deltas", "--allow-pipes"):
        assert flag in kaldi
        assert f" {flag} " not in shown[: -len(kaldi)]
    assert "--label-column " in shown[shown.index("─ Files of rows") : -len(kaldi)]


def test_each_command_shows_how_it_is_used(limbeck):
    for command in (command for commands in _COMMANDS.values() for command in commands):
        name = command.__name__.replace("_", "-")
        assert f" limbeck {name}" in limbeck(name, "--help").out
    assert "limbeck quickstart" in (app.help or "")
