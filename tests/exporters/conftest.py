"""Hardly any time for measurements of speed and memory, and no drawing where the page is not what is tested."""

import inspect

import pytest

from limbeck.exporters.parity import judge_file
from limbeck.runs import parity_files


@pytest.fixture(scope="session", autouse=True)
def quick():
    settings = inspect.unwrap(judge_file).__kwdefaults__
    before = dict(settings)
    settings |= {"seconds": 0.001, "memory": False}  # a process of its own takes seconds
    yield
    settings |= before


@pytest.fixture
def no_drawing(monkeypatch):
    monkeypatch.setattr(parity_files, "write_parity_page", lambda contents, path: path.write_text(contents.title))
