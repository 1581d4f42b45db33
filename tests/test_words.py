"""The sources and the documentation use the field's words; those that were replaced do not come back."""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

PHRASES = {
    r"[Ww]hat (distillation|training|compression|an export|a recipe|a search) (left|found)": "the result of ...",
    r"[Ww]ho hears|[Hh]ears how it goes|\b[Ww]atchers?\b": "callbacks",
    r"likeliest (\d+ |k )?class(es)?": "top-1 class, top-k classes",
    r"\b[Nn]ats an? (example|frame|row)\b": "nats per example",
    r"\b(examples|images|frames|samples|bytes|numbers|values?|rows|one|columns?|group|file|line|points?|mapping) an? "
    r"(second|epoch|step|example|row|class|layer|frame|stage|member|seed|trial|model|command|line|utterance|pdf|format)"
    r"(?=[,.;:)]|$)": "per ...",
    r"[Ww]hat is taken for what|[Ww]hich class was taken for which": "confusion matrix",
    r"made of low rank|\bbecomes? two (layers|of low rank)|cannot become two": "factorise, factorised",
    r"\b(its|the) first bytes (decide|tell|say)|told by its first bytes": "detected from the magic bytes",
    r"\bdie[sd] of (it|them)\b|\bgiven up\b": "crashed, released",
    r"[Ww]hat the manifest calls it": "encoding name in the manifest",
    r"\b[Ss]cores before (a|the) softmax|(gives|gave|gets) scores ``": "logits",
    r"\b[Pp]ictures? (of|in|on|that|are|is|with|show|and)\b|\bPictures?\b": "image",
    r"[Rr]andom views|random bend|black outside|[Bb]ent digits": "augmentation, elastic deformation, zero padding",
    r"(?<!\bthere )(?<!\bThere )\b(is|are) no (network|file|folder|run|number|array|list|matrix|vector|text|image|size|"
    r"plan|part|object|safetensors|JSON|regular|valid|decimal|class|layer|model|probability|logits)\b": "is not a ...",
    r"\b[Ll]ikewise\b": "say again what is meant",
    r"\bof (the user|a user|one)'s own\b": "a user's, user-defined",
    r"\bmistakes? of ours\b": "fault of Limbeck, internal error",
}
"""Phrases that are not the field's, as patterns, and what is written instead."""

ANY = re.compile("|".join(PHRASES), re.M)

EXCEPTIONS = {
    "docs/architecture.md": "decisions as they were written down",
    "docs/changes.md": "includes the changelog",
}
"""Pages that keep their words, and why."""

PARTS = sorted(path for path in (ROOT / "src" / "limbeck").iterdir() if path.is_dir() and path.name != "__pycache__")


def prose(path: Path) -> Iterator[tuple[int, str]]:
    """Docstrings, comments and messages of a module, or the text of a page outside its code, by line."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".md":
        fenced = False
        for number, line in enumerate(text.splitlines(), 1):
            fenced ^= line.lstrip().startswith("```")
            if not fenced:
                yield number, re.sub(r"`[^`]*`", "", line)
        return
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string
    inside: set[int] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.JoinedStr):
            inside |= {id(part) for part in ast.walk(node)} - {id(node)}
            yield node.lineno, "".join(part.value if isinstance(part, ast.Constant) else "x" for part in node.values)
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value:
            for number, line in enumerate(re.sub(r"``[^`]*``", "", node.value).splitlines()):
                if not line.lstrip().startswith((">>>", "...")):
                    yield node.lineno + number, line


def found(path: Path, root: Path = ROOT) -> Iterator[str]:
    """What is to be replaced in a file, with the place and the cure."""
    if not ANY.search(path.read_text(encoding="utf-8")):
        return  # taking a module apart takes fifty times as long
    for number, line in prose(path):
        for pattern, cure in PHRASES.items():
            if hit := re.search(pattern, line):
                yield f"{path.relative_to(root)}:{number}: {hit[0]!r}: write {cure}: {line.strip()[:120]}"


@pytest.mark.parametrize("part", PARTS, ids=lambda path: path.name)
def test_sources_use_the_words_of_the_field(part):
    wrong = [hit for path in sorted(part.rglob("*.py")) for hit in found(path)]
    assert not wrong, "\n".join(wrong)


def test_pages_and_the_top_of_the_package_use_the_words_of_the_field():
    pages = [path for path in [*ROOT.glob("docs/**/*.md")] if str(path.relative_to(ROOT)) not in EXCEPTIONS]
    paths = sorted([*pages, ROOT / "README.md", *(ROOT / "src" / "limbeck").glob("*.py"), *ROOT.glob("examples/*.py")])
    wrong = [hit for path in paths for hit in found(path)]
    assert len(pages) > 10 and not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    ("text", "cures"),
    [
        ('"""What distillation left."""', ["the result of ..."]),
        ("# The likeliest class wins: 3 bytes a row.", ["top-1 class, top-k classes", "per ..."]),
        ('f"{x} is no network: likewise {y}"', ["is not a ...", "say again what is meant"]),
        ('"""Random views of pictures of digits."""', ["image", "augmentation, elastic deformation, zero padding"]),
        ("x = 'there is no file'  # a file per class; no picture", []),
    ],
)
def test_a_phrase_is_found_in_docstrings_comments_and_messages(tmp_path, text, cures):
    path = tmp_path / "module.py"
    path.write_text(text + "\n")
    assert [cure for cure in PHRASES.values() if any(f"write {cure}" in hit for hit in found(path, tmp_path))] == cures
