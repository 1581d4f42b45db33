"""How the code is divided: no function is too long to be read at once, and speech is in one package."""

import ast
import re
from pathlib import Path

import pytest

import limbeck

SOURCE = Path(limbeck.__file__).parent
LONGEST = 60
"""Lines of a function's body: from its first statement to its last, comments and blank lines among them. Signature and
docstring are not counted: those of public functions are long because their arguments are many and each is described."""
SPEECH = re.compile(r"kaldi|phone|pdf|utterance|spectrogram|alignment|cmvn|nnet1", re.IGNORECASE)


Function = ast.FunctionDef | ast.AsyncFunctionDef


@pytest.fixture(scope="module")
def nodes():
    """All nodes of each file by its path from the package, parsed and walked once."""
    files = sorted(SOURCE.rglob("*.py"))
    return {str(file.relative_to(SOURCE)): list(ast.walk(ast.parse(file.read_bytes()))) for file in files}


def body_lines(function: Function) -> int:
    """Lines from the first statement after the docstring to the last."""
    body = function.body[1:] if ast.get_docstring(function, clean=False) is not None else function.body
    return 0 if not body else (body[-1].end_lineno or 0) - body[0].lineno + 1


def functions(text: str) -> list[Function]:
    return [node for node in ast.walk(ast.parse(text)) if isinstance(node, Function)]


def test_lines_of_a_body_are_counted_as_is_said():
    text = '''
def outer(
    first,
    second,
):
    """Two lines

    of words."""
    # a comment before the first statement is no part of it
    value = 1

    def inner():
        # but one within is
        return value

    return inner
'''
    assert {each.name: body_lines(each) for each in functions(text)} == {"outer": 7, "inner": 1}
    assert body_lines(functions('def nothing():\n    """Words."""')[0]) == 0


def test_no_function_is_longer_than_a_screen(nodes):
    longer = {
        f"{path}: {node.name}": body_lines(node)
        for path, found in nodes.items()
        for node in found
        if isinstance(node, Function) and body_lines(node) > LONGEST
    }
    assert not longer, f"bodies of more than {LONGEST} lines: divide them by what they do"


def imported(found: list[ast.AST]) -> set[str]:
    """Names of modules, and of what is taken out of them, that a file imports."""
    names = {alias.name for node in found if isinstance(node, ast.Import) for alias in node.names}
    taken = [node for node in found if isinstance(node, ast.ImportFrom)]
    return names | {f"{node.module}.{alias.name}" for node in taken for alias in node.names}


def test_speech_is_imported_by_its_own_package_by_commands_and_by_recipes_alone(nodes):
    met = {
        path
        for path, found in nodes.items()
        if Path(path).parts[0] not in {"kaldi", "cli", "recipes"}
        and any(SPEECH.search(name) for name in imported(found))
    }
    assert not met, "move speech into limbeck.kaldi"


def test_names_of_speech_are_no_names_elsewhere(nodes):
    """Arguments, attributes and functions; words in comments and docstrings may give examples."""
    of_speech = re.compile(r"(ali|mdl|cmvn|utterances?|phones?|pdfs?|front_?ends?|splic\w*)", re.IGNORECASE)
    met = {
        f"{path}: {name}"
        for path, found in nodes.items()
        if Path(path).parts[0] not in {"kaldi", "cli", "recipes", "report", "formats"}
        for node in found
        for name in (getattr(node, "arg", None), getattr(node, "attr", None), getattr(node, "name", None))
        if isinstance(name, str) and of_speech.fullmatch(name)
    }
    assert not met
