"""What a wheel holds, and what stands about the project beside the code."""

import fnmatch
import re
import tomllib
from pathlib import Path

import yaml

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
        named |= set(re.findall(r"limbeck\[(\w+)\]", file.read_text()))
    assert named
    assert named <= set(PROJECT["project"]["optional-dependencies"])


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
