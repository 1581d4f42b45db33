"""Kinds of data on disk: one of another package is asked first, and settings of other kinds are refused."""

from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
import torch

import limbeck
from limbeck.data import registry
from limbeck.data.data_set import DataSet
from limbeck.data.examples import Examples
from limbeck.data.registry import kind_of, kinds, own_settings
from limbeck.errors import ConfigError, FormatError
from limbeck.options import DataOptions


class Numbers:
    """A kind of another package: a file of lines, each a number and its class."""

    name = "a file of numbers"
    what = ("FILE.numbers", "a number and a class on each line")
    settings = frozenset()

    def claims(self, path, options):
        return path.suffix == ".numbers"

    def open(self, path, options, progress):
        rows = [line.split() for line in path.read_text().splitlines()]
        inputs = torch.tensor([[float(number)] for number, _ in rows])
        return DataSet(path.stem, ("even", "odd"), Examples.of(inputs, [int(label) for _, label in rows]))

    def open_inputs(self, path, options, like):
        return self.open(path, options, None).train.without_labels()


KIND = Numbers()


@pytest.fixture
def registered(monkeypatch):
    """Entry points as an installed package would have them."""

    def set_to(*points):
        monkeypatch.setattr(registry, "entry_points", lambda *, group: points)
        kinds.cache_clear()

    yield set_to
    kinds.cache_clear()


def test_a_kind_of_another_package_is_one_file(registered, monkeypatch, tmp_path):
    point = EntryPoint("numbers", "nowhere:KIND", "limbeck.sources")
    monkeypatch.setattr(EntryPoint, "load", lambda self: KIND)
    registered(point)
    file = tmp_path / "some.numbers"
    file.write_text("".join(f"{n} {n % 2}\n" for n in range(20)))
    assert kind_of(file) is KIND
    data = limbeck.open_data(DataOptions(data=str(file), validation=4))
    assert len(data.validation) == 4 and data.classes == ("even", "odd")


def test_a_kind_that_cannot_be_loaded_is_named(registered):
    registered(EntryPoint("broken", "no.such.module:KIND", "limbeck.sources"))
    with pytest.raises(ConfigError, match=r"the kind of data broken \(no.such.module:KIND\) cannot be loaded"):
        kind_of("mnist")


@pytest.mark.parametrize(
    ("setting", "value"),
    [("image_size", 8), ("layout", "NCHW"), ("ali", "exp"), ("left", 3), ("label_column", "y"), ("image_column", "p")],
)
def test_settings_of_another_kind_are_refused(setting, value):
    with pytest.raises(ConfigError, match=f"^{setting} is for .*, and mnist is mnist: leave it out"):
        limbeck.open_data(DataOptions(data="mnist", **{setting: value}))
    assert "mnist" not in own_settings()[setting]


def test_what_nobody_claims_is_told(tmp_path):
    with pytest.raises(FormatError, match="there is no such file or folder"):
        kind_of(tmp_path / "nowhere")
    odd = Path(tmp_path) / "odd.xyz"
    odd.write_bytes(b"?")
    with pytest.raises(FormatError, match=r"is not of a known kind: known are .*FILE\.npz"):
        kind_of(odd)
