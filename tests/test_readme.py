"""The README and the pages: its Python runs, its commands are understood, its links lead somewhere."""

import re
import shlex
from pathlib import Path

import pytest

import limbeck
from limbeck.cli.application import app

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")])


def blocks(text, *languages):
    return [code for kind, code in re.findall(r"^```(\S*)\n(.*?)^```$", text, re.M | re.S) if kind in languages]


def commands(text):
    lines = "\n".join(blocks(text, "", "sh")).replace("\\\n", " ").splitlines()
    return [line for line in lines if line.startswith("limbeck ")]


def test_the_python_of_the_readme_runs(tmp_path, monkeypatch, capsys):
    """On a few examples, for one epoch, and without figures; nothing else is changed."""
    (code,) = blocks(README, "python")
    whole = limbeck.open_data("mnist", train_examples=200, validation=100)
    few = limbeck.DataSet(whole.name, whole.classes, whole.train, whole.test.take(range(200)), whole.validation)
    monkeypatch.setattr(limbeck, "open_data", lambda name: {"mnist": few}[name])
    monkeypatch.setattr("limbeck.runs.pages.write_report", lambda contents, path: path)
    for name in ("train", "distill"):
        true = getattr(limbeck, name)
        monkeypatch.setattr(limbeck, name, lambda *a, true=true, **k: true(*a, **{**k, "epochs": 1}))
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "README.md", "exec"), {})
    assert "two networks alone" in capsys.readouterr().out
    assert (tmp_path / "runs" / "first" / "metrics.json").exists()


RUN = sorted([*(ROOT / "docs" / "howto").glob("*.md"), ROOT / "docs" / "temperature.md"])


@pytest.mark.filterwarnings("ignore::limbeck.LimbeckWarning")
@pytest.mark.parametrize(
    "page", [page for page in RUN if blocks(page.read_text(), "python")], ids=lambda page: page.stem
)
def test_the_python_of_a_page_runs_as_it_stands(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {"__name__": page.stem}
    for code in blocks(page.read_text(), "python"):
        exec(compile(code, page.name, "exec"), names)


@pytest.mark.parametrize(
    "page",
    [
        "README.md",
        *(f"docs/{name}.md" for name in ("guide", "methods", "tracking", "howto/text", "howto/ensembles")),
        "docs/howto/saved-answers.md",
        "docs/howto/choosing.md",
        "docs/howto/tables.md",
    ],
)
def test_commands_are_understood(page):
    found = commands((ROOT / page).read_text())
    assert found
    for line in found:
        words = shlex.split(line, comments=True)[1:]
        command, *_ = app.parse_args(words, exit_on_error=False, print_error=False)
        assert command.__name__.replace("_", "-") in words[:2]


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_links_lead_to_files_and_headings(page):
    for target in re.findall(r"\]\((?!https?:|mailto:)([^)\s]+)\)", page.read_text()):
        path, _, anchor = target.partition("#")
        place = (page.parent / path) if path else page
        assert place.exists(), f"{page.name} links to {target}"
        if anchor:
            headings = re.findall(r"^#+ (.+)$", place.read_text(), re.M)
            slugs = {re.sub(r"[^\w\- ]", "", each.lower()).replace(" ", "-") for each in headings}
            assert anchor in slugs, f"{page.name} links to {target}"


def test_every_page_is_in_the_contents_of_the_site():
    listed = set(
        re.findall(r"^([\w/-]+)$", "\n".join(blocks((ROOT / "docs" / "index.md").read_text(), "{toctree}")), re.M)
    )
    pages = {str(page.relative_to(ROOT / "docs").with_suffix("")) for page in PAGES if "docs" in page.parts}
    assert pages - {"index"} == listed


def test_the_readme_fits_on_two_screens():
    assert len(README.splitlines()) <= 110
