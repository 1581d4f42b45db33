"""Messages that Python can raise name its arguments beside the flags of the command line."""

import ast
import re
from pathlib import Path

import pytest

from limbeck.cli.flag_names import in_flags

SOURCE = Path(__file__).parents[1] / "src" / "limbeck"
COMMAND_ONLY = ("cli", "kaldi", "recipes", "options/kinds.py", "report/tuning_page.py", "system/processes.py")
"""Texts of the command line alone: its tables and pages, and flags of ``accelerate launch``."""
CALLED = {"test-data": "test", "validation-data": "validation"}
"""Arguments that Python calls by another name."""
FLAG = re.compile(r"(?<![\w-])--([a-z][a-z-]*)")


def texts(file):
    """The strings of a module that are not docstrings, with their lines; what is put in is left out."""
    tree = ast.parse(file.read_text())
    inside = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    plain = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield (
                node.lineno,
                "".join(str(part.value) if isinstance(part, ast.Constant) else "_" for part in node.values),
            )
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inside | plain:
            yield node.lineno, node.value


def flags_alone(text):
    """The flags in a text that do not stand beside the argument's name in Python."""
    if re.search(r"\blimbeck [a-z_-]+ ", text):
        return []  # a command to type
    bare = FLAG.sub("", text)
    names = {flag: CALLED.get(flag, flag.replace("-", "_")) for flag in FLAG.findall(text)}
    return [flag for flag, name in names.items() if not re.search(rf"\b{name}(?:=| \()", bare)]


def test_messages_outside_the_command_line_name_arguments_beside_flags():
    found = [
        f"{file.relative_to(SOURCE)}:{line}: {text}"
        for file in sorted(SOURCE.rglob("*.py"))
        if not str(file.relative_to(SOURCE)).startswith(COMMAND_ONLY)
        for line, text in texts(file)
        if flags_alone(text)
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("text", "alone"),
    [
        ("resume it with --resume", ["resume"]),
        ("resume it with resume=True (--resume)", []),
        ("choose another folder, out (--out)", []),
        ("as limbeck export --to browser writes", []),
    ],
)
def test_what_counts_as_named(text, alone):
    assert flags_alone(text) == alone


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("go on with resume=True (--resume)", "go on with --resume"),
        ("all, as with image_size=224 (--image-size 224)", "all, as with --image-size 224"),
        ("choose another out (--out)", "choose another --out"),
        ("give test=, or --test-data", "give test=, or --test-data"),
    ],
)
def test_on_the_command_line_the_flags_stay(said, told):
    flags = {"resume": "--resume", "image_size": "--image-size", "out": "--out", "test_data": "--test-data"}
    assert in_flags(said, flags) == told
