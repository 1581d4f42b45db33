"""Kinds of data on disk: one of another package is asked first, and settings of other kinds are refused."""

import dataclasses
import gzip
import subprocess
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
import torch

import limbeck
from limbeck.data import registry
from limbeck.data.data_set import DataSet
from limbeck.data.examples import Examples
from limbeck.data.registry import claimed, kind_of, kinds, own_settings
from limbeck.errors import ConfigError, FormatError, LimbeckWarning
from limbeck.kaldi.options import SpeechOptions
from limbeck.options import DataOptions
from limbeck.options import kinds as option_kinds
from limbeck.options.kinds import every_option, option_classes


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


@dataclasses.dataclass(frozen=True, kw_only=True)
class NumberOptions(DataOptions):
    """A file of numbers.

    Attributes:
        base: What numbers are divided by.
    """

    base: int = 1


class Based(Numbers):
    """A kind with a setting of its own."""

    options = NumberOptions

    def open(self, path, options, progress):
        assert type(options) is NumberOptions
        read = super().open(path, options, progress)
        return dataclasses.replace(read, train=Examples.of(read.train.inputs / options.base, read.train.labels))


@pytest.fixture
def based(registered, monkeypatch, tmp_path):
    """A kind of another package with settings of its own, and a file for it."""
    found = {"KIND": Based(), "NumberOptions": NumberOptions}
    monkeypatch.setattr(EntryPoint, "load", lambda self: found[self.attr])
    point = EntryPoint("numbers", "nowhere:NumberOptions", "limbeck.source_options")
    monkeypatch.setattr(option_kinds, "entry_points", lambda *, group: (point,))
    registered(EntryPoint("numbers", "nowhere:KIND", "limbeck.sources"))
    for cached in (every_option, option_classes):
        cached.cache_clear()
    file = tmp_path / "some.numbers"
    file.write_text("".join(f"{n} {n % 2}\n" for n in range(20)))
    yield file
    for cached in (every_option, option_classes):
        cached.cache_clear()


def test_a_kind_owns_its_settings(based):
    every = every_option()
    assert "base" in {field.name for field in dataclasses.fields(every)}
    for options in (every(data=str(based), base=2, validation=0), NumberOptions(data=str(based), base=2, validation=0)):
        assert limbeck.open_data(options).train.inputs.max() == 19 / 2
    assert own_settings()["base"] == ["a file of numbers"]
    with pytest.raises(ConfigError, match="^base is for a file of numbers, and mnist is mnist: leave it out"):
        limbeck.open_data(NumberOptions(data="mnist", base=2))
    with pytest.raises(ConfigError, match="^ali is for a Kaldi directory"):
        limbeck.open_data(every(data=str(based), ali="exp"))
    assert dataclasses.asdict(claimed(based, every(data=str(based), base=3))[1]).keys() == {
        field.name for field in dataclasses.fields(NumberOptions)
    }


@pytest.mark.usefixtures("based")
def test_settings_that_cannot_be_used_are_left_out_and_told(monkeypatch):
    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Taken(DataOptions):
        ali: str = ""

    for given, reason in ((Taken, "ali is a setting of limbeck.kaldi.options already"), (int, "it is not a dataclass")):
        option_classes.cache_clear()
        monkeypatch.setattr(EntryPoint, "load", lambda self, given=given: given)
        with pytest.warns(LimbeckWarning, match=rf"\(nowhere:NumberOptions\) are left out: {reason}"):
            assert [kind.__name__ for kind in option_classes()] == ["SpeechOptions"]


def test_settings_of_speech_are_settings_of_kaldi_directories_alone():
    speech = {field.name for field in dataclasses.fields(SpeechOptions)}
    plain = {field.name for field in dataclasses.fields(DataOptions)}
    assert plain < speech and {"ali", "cmvn", "left", "mdl", "in_memory_gb"} <= speech - plain
    assert all(own_settings()[name] == ["a Kaldi directory"] for name in speech - plain)


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
        limbeck.open_data(every_option()(data="mnist", **{setting: value}))
    assert "mnist" not in own_settings()[setting]


def test_what_nobody_claims_is_told(tmp_path):
    with pytest.raises(FormatError, match="there is no such file or folder"):
        kind_of(tmp_path / "nowhere")
    odd = Path(tmp_path) / "odd.xyz"
    odd.write_bytes(b"?")
    with pytest.raises(FormatError, match=r"is not of a known kind: known are .*FILE\.npz") as caught:
        kind_of(odd)
    listed = str(caught.value).partition("known are ")[2].split("; ")
    assert len(listed) == len(set(listed)) > 5


@pytest.mark.parametrize(
    ("name", "cure"),
    [
        ("sheet.xlsx", "save the sheet as CSV (UTF-8)"),
        ("SHEET.ODS", "save the sheet as CSV (UTF-8)"),
        ("rows.jsonl", "say what its rows are: text_column (--text-column)"),
        ("story.txt", "write texts as rows of a .csv or .jsonl file"),
    ],
)
def test_a_file_of_another_kind_has_its_cure(tmp_path, name, cure):
    (tmp_path / name).write_bytes(b"PK")
    with pytest.raises(FormatError) as caught:
        kind_of(tmp_path / name)
    assert f"{name}: is not of a known kind: {cure}" in str(caught.value)


LATIN = {
    "texts.csv": ("text,label\nplain,a\ncaf\xe9,b\n", {"text_column": "text"}),
    "texts.tsv": ("text\tlabel\nplain\ta\ncaf\xe9\tb\n", {"text_column": "text"}),
    "texts.jsonl": ('{"text": "plain", "label": "a"}\n\n{"text": "caf\xe9", "label": "b"}\n', {"text_column": "text"}),
    "images.csv": ("path,label\na.png,a\ncaf\xe9.png,b\n", {"image_column": "path"}),
    "table.csv": ("x,label\n1,plain\n2,caf\xe9\n", {}),
    "table.csv.gz": ("x,label\n1,plain\n2,caf\xe9\n", {}),
    "words.conll": ("a O\n\ncaf\xe9 O\n", {}),
}


@pytest.mark.parametrize("name", LATIN)
def test_a_file_that_is_not_utf8_is_told_by_line_and_offset_with_the_command_that_converts_it(tmp_path, name):
    text, settings = LATIN[name]
    file, content = tmp_path / name, text.encode("latin-1")
    file.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    with pytest.raises(FormatError) as caught:
        limbeck.open_data(file, **settings)
    said = str(caught.value)
    assert said.startswith(f"{file} at byte {content.index(0xE9)}: is not UTF-8 in line 3 (byte 0xe9): ")
    plain = tmp_path / name.removesuffix(".gz")
    plain.write_bytes(content)
    command = said.partition("as with  ")[2].partition("  where it is Latin-1")[0]
    subprocess.run(command, shell=True, check=True)
    made = plain.with_name(f"{plain.stem}.utf8{plain.suffix}")
    assert made.read_text(encoding="utf-8") == text
