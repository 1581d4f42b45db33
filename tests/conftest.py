"""Shared by all tests: one thread, the same examples each time, and hardly any time spent on measuring speed."""

import copy
import gc
import os

import cyclopts
import pytest

gc.set_threshold(20_000, 50, 100)  # as the command line has it: a tenth of the tests was the search for garbage
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["LIMBECK_CACHE"] = "0"  # what a machine was found to be is measured anew, and nothing is kept of it

import torch  # noqa: E402
from hypothesis import settings  # noqa: E402

from limbeck.exporters.parity import judge_file  # noqa: E402
from limbeck.runs import compress_parity, stages  # noqa: E402
from limbeck.runs.speed import speed_of  # noqa: E402
from limbeck.system.files import replace_text  # noqa: E402

torch.set_num_threads(1)

# Every run measures how fast its models are, for 0.4 seconds twice; tests of that measurement say how long.
assert speed_of.__kwdefaults__ is not None
speed_of.__kwdefaults__["seconds"] = 0.001
assert judge_file.__kwdefaults__ is not None
judge_file.__kwdefaults__["seconds"] = 0.001

# What passes once passes always; `HYPOTHESIS_PROFILE=explore` looks for new examples, as `make test-slow` does.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.register_profile("explore", deadline=None, max_examples=500)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))


def pytest_make_parametrize_id(config, val, argname):
    """Name bytes by their length: some hold the time at which they were made, and processes must agree on names."""
    return f"{argname}-{len(val)}-bytes" if isinstance(val, bytes) else None


@pytest.fixture(scope="session", autouse=True)
def no_parity_page_of_compressions():
    """What it shows is gathered all the same; the test of the page draws it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            compress_parity, "write_parity_page", lambda contents, path: replace_text(path, f"<p>{contents.title}")
        )
        yield


@pytest.fixture(scope="session", autouse=True)
def no_waiting_for_the_disk():
    """Nothing here has to outlive a failure of power; tests of writes and flushes put theirs in its place."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda handle: None)
        yield


@pytest.fixture(scope="session", autouse=True)
def no_seeds_for_devices_that_are_not_here():
    """PyTorch keeps each of them for later, with the lines of code that led there: a millisecond each time."""
    with pytest.MonkeyPatch.context() as patch:
        for device in (torch.cuda, torch.xpu, torch.mtia):
            if not device.is_available():
                patch.setattr(device, "manual_seed_all", lambda seed: None)
        yield


@pytest.fixture(scope="session", autouse=True)
def signatures_read_once():
    """A command's flags are gathered once: cyclopts reads them anew for each of a thousand calls, 0.1 seconds each."""
    read, known = cyclopts.App.assemble_argument_collection, {}

    def assemble(app, **given):
        key = app.default_command, *sorted(given.items())
        if key not in known:
            known[key] = read(app, **given)
        return unused(known[key])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cyclopts.App, "assemble_argument_collection", assemble)
        for name in ("names", "negatives", "_negatives_hint"):
            patch.setattr(cyclopts.Argument, name, found_once(getattr(cyclopts.Argument, name)))
        yield


def found_once(read):
    """A property of a flag that is found once for all its copies: cyclopts finds it anew for each word of a command."""
    found = {}

    def value(argument):
        owners = argument.field_info, argument.parameter
        key = tuple(map(id, owners))
        if key not in found:
            found[key] = read.fget(argument), owners  # held, so that nothing else gets their ids
        return found[key][0]

    return property(value)


def unused(arguments):
    """The same flags as copies that have been given no word yet."""
    copies = {id(argument): copy.copy(argument) for argument in arguments}
    for made in copies.values():
        made.tokens = []
        made.children = type(arguments)(copies[id(child)] for child in made.children)
    return type(arguments)(copies.values())


def pytest_collection_finish():
    """What is imported and collected stays: a search for garbage, 0.3 seconds each time, need not go through it."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def groups(monkeypatch):
    """How many trainings each group had that were made side by side, and its width."""
    seen = []
    original = stages.fit_side_by_side

    def fit(members, *given, width, **named):
        seen.append((len(members), width))
        return original(members, *given, width=width, **named)

    monkeypatch.setattr(stages, "fit_side_by_side", fit)
    return seen
