"""Flags that take several values and are given none; tables of a command whose output is not a terminal."""

import pytest

from limbeck.cli.application import app
from limbeck.cli.commands import COMMANDS
from limbeck.cli.help import arguments_of, kind_of_values
from limbeck.methods import describe_methods
from limbeck.options.kinds import DATA_KINDS

NAMES = [(command.name,) for commands in COMMANDS.values() for command in commands]


@pytest.mark.parametrize("words", NAMES, ids=" ".join)
def test_a_flag_of_several_values_with_none_is_refused_by_its_name(limbeck, words):
    for argument in arguments_of(app, words):
        if not argument.name.startswith("--") or not kind_of_values(argument.hint).endswith("..."):
            continue
        done = limbeck(*words, argument.name)
        assert done.code == 2
        assert f"{argument.name} takes one value or more (" in done.err
        assert f"none is given: as in {argument.name} " in done.err


def test_a_flag_without_values_before_another_is_refused(limbeck):
    done = limbeck("distill", "--teacher", "runs/none", "--method-options", "--method", "dkd", "--out", "none")
    assert done.code == 2 and done.err.startswith("limbeck: --method-options takes one value or more (TEXT...)")
    assert done.err.endswith("--method-options beta=2\n")


def test_an_empty_list_in_a_settings_file_is_not_refused(limbeck, tmp_path):
    (tmp_path / "linear.toml").write_text("hidden = []\n")
    done = limbeck("train", "--config", tmp_path / "linear.toml", "--data", "none.csv", "--out", tmp_path / "run")
    assert done.code == 2 and done.err.startswith("limbeck: none.csv: there is no such file")


@pytest.mark.parametrize("command", ["data", "methods"])
def test_a_table_is_not_cut_where_the_output_is_no_terminal(limbeck, monkeypatch, command):
    monkeypatch.delenv("COLUMNS", raising=False)
    told = limbeck(command).out
    lines = (
        [what for _, what in DATA_KINDS.values()] if command == "data" else [what for _, what, _ in describe_methods()]
    )
    assert max(map(len, lines)) > 80
    assert all(line in told for line in lines)
