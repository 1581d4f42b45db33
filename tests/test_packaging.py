"""What a wheel holds, and what stands about the project beside the code."""

import fnmatch
import re
import tomllib
from pathlib import Path

import yaml

from limbeck.errors import MissingExtraError

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_every_file_of_the_package_is_in_the_wheel():
    patterns = PROJECT["tool"]["setuptools"]["package-data"]["limbeck"]
    package = ROOT / "src" / "limbeck"
    for file in package.rglob("*"):
        if file.is_file() and file.suffix not in {".py", ".pyc"}:
            name = file.relative_to(package).as_posix()
            assert any(fnmatch.fnmatch(name, pattern) for pattern in patterns), name


def test_every_extra_that_an_error_names_exists():
    named = set()
    for file in (ROOT / "src").rglob("*.py"):
        text = file.read_text()
        named |= set(re.findall(r"limbeck\[(\w+)\]", text))
        named |= set(re.findall(r'(?:MissingExtraError|load_extra)\([^()]*?, "(\w+)"', text))
    assert len(named) > 4
    assert named <= set(PROJECT["project"]["optional-dependencies"])


def test_pages_and_errors_name_the_same_command_for_an_extra():
    known = PROJECT["project"]["optional-dependencies"]
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "docs").rglob("*.ipynb")]
    sources = (ROOT / "src" / "limbeck" / "cli").glob("*.py")
    found = [each for page in (*pages, *sources) for each in re.findall(r"pip install '[^']*'", page.read_text())]
    assert len(found) > 8
    for command in found:
        named = re.fullmatch(r"pip install '\.\[([\w,]+)\]'", command)
        assert named is not None, f"{command}: the project is installed from a clone"
        for extra in named.group(1).split(","):
            assert extra in known
            said = str(MissingExtraError("something", extra))
            assert f"pip install '.[{extra}]'" in said and f"pip install 'limbeck[{extra}]'" in said


def test_the_version_is_one():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == PROJECT["project"]["version"]
    assert citation["license"] == PROJECT["project"]["license"]


def test_workflows_run_what_the_makefile_has():
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.M))
    found = set()
    for file in (ROOT / ".github").rglob("*.yml"):
        yaml.safe_load(file.read_text())
        found |= set(re.findall(r"run: make ([\w-]+)", file.read_text()))
    assert found == {"test", "docs"}
    assert found <= targets
