"""Kaldi's specifiers, and tables that can be read once: the input stream, pipes, commands."""

import gzip
import io
import os
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from limbeck.errors import ConfigError, FormatError, LimbeckWarning, RunError
from limbeck.kaldi.formats.opened import Table
from limbeck.kaldi.formats.specifiers import Reading, Writing, parse_reading, parse_writing
from limbeck.kaldi.formats.table import read_ark
from limbeck.kaldi.formats.write import ArkWriter, write_ark
from limbeck.kaldi.lowrank import calibration_frames
from limbeck.kaldi.summaries import summarise

KALDI = Path(__file__).parents[2] / "fixtures" / "kaldi"
FEATS = KALDI / "feats.txt.ark"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("ark:a.ark", Reading("ark", "a.ark")),
        ("ark,t:a.ark", Reading("ark", "a.ark")),
        ("t,ark:a.ark", Reading("ark", "a.ark")),
        ("ark,s,cs:-", Reading("ark", "-")),
        ("ark:", Reading("ark", "-")),
        ("scp,p:data/a:b.scp", Reading("scp", "data/a:b.scp", permissive=True)),
        ("p,scp,np:a.scp", Reading("scp", "a.scp")),
        ("scp,np,p:cat a |", Reading("scp", "cat a", is_pipe=True, permissive=True)),
        ("ark:gunzip -c http://a//b |", Reading("ark", "gunzip -c http://a//b", is_pipe=True)),
        ("cat a |", Reading("", "cat a", is_pipe=True)),
        ("-", Reading("", "-")),
        ("ark:/dev/stdin", Reading("ark", "-")),
        ("a.ark", Reading("", "a.ark")),
        ("c:a.ark", Reading("", "c:a.ark")),
        (Path("data/train"), Reading("", "data/train")),
    ],
)
def test_specifiers_of_what_is_read(given, expected):
    assert parse_reading(given) == expected


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("ark:a.ark", Writing("a.ark")),
        ("ark,t:a.ark", Writing("a.ark", text=True)),
        ("t,ark:-", Writing("-", text=True)),
        ("ark,scp:a.ark,b.scp", Writing("a.ark", "b.scp")),
        ("ark,t,scp,f:a.ark, b,c.scp", Writing("a.ark", "b,c.scp", text=True)),
        ("ark:| gzip -c > a", Writing("gzip -c > a", is_pipe=True)),
        ("a.ark", Writing("a.ark")),
        ("/dev/stdout", Writing("-")),
    ],
)
def test_specifiers_of_what_is_written(given, expected):
    assert parse_writing(given) == expected


@pytest.mark.parametrize(
    ("parse", "given", "says"),
    [
        (parse_reading, "ark,scp:a,b", "both ark and scp"),
        (parse_reading, "ark,zz:a", "option 'zz'"),
        (parse_reading, "ark:| cat", "writes to a command"),
        (parse_writing, "scp:a.scp", "ark,scp:ARCHIVE,SCRIPT"),
        (parse_writing, "scp,ark:a,b", "in this order"),
        (parse_writing, "ark,scp:a", "an archive and a script file"),
        (parse_writing, "ark,s:a", "option 's'"),
        (parse_writing, "ark:cat |", "reads from a command"),
        (parse_writing, "ark,scp:| cat,b", "no script file can point into"),
        (parse_writing, "ark,scp:-,b", "no script file can point into"),
        (parse_writing, "ark,scp:a,./a", "one file for both"),
        (parse_writing, "t:a", "neither ark nor scp: give ark,t:a, or ./t:a"),
        (parse_writing, "t,:a", "neither ark nor scp"),
        (parse_writing, ",ark:a", "option ''"),
        (parse_reading, "s,cs:a", "neither ark nor scp"),
        (parse_reading, "--truncate=2", "not a flag of this command"),
    ],
)
def test_specifiers_that_contradict_themselves(parse, given, says):
    with pytest.raises(ConfigError, match=says):
        parse(given)


def test_a_file_with_such_a_name_is_a_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("ark:a").write_text("")
    assert parse_reading("ark:a") == Reading("", "ark:a")


def same(pairs, expected=None):
    expected = dict(read_ark(FEATS)) if expected is None else expected
    found = dict(pairs)
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        np.testing.assert_array_equal(found[key], value)


def through_pipe(data, tmp_path, use):
    """Let a named pipe hold some bytes, in small pieces."""
    path = tmp_path / "pipe"
    os.mkfifo(path)

    def feed():
        with open(path, "wb", buffering=0) as file:
            for start in range(0, len(data), 7):
                file.write(data[start : start + 7])

    writer = threading.Thread(target=feed)
    writer.start()
    try:
        return use(path)
    finally:
        writer.join()


@pytest.mark.parametrize("packed", [False, True])
def test_an_archive_in_a_pipe_is_read_once(packed, tmp_path):
    data = FEATS.read_bytes()

    def use(path):
        table = Table(path)
        assert table.kind == "matrices" and table.path is None
        same(table.read())
        with pytest.raises(RunError, match="can be read once"):
            next(table.read())

    through_pipe(gzip.compress(data) if packed else data, tmp_path, use)


def test_a_truncated_archive_in_a_pipe_is_an_error(tmp_path):
    with pytest.raises(FormatError, match="truncated"):
        through_pipe(FEATS.read_bytes()[:-20], tmp_path, lambda path: list(Table(path).read()))


def test_the_input_stream(monkeypatch):
    class Stream:
        buffer = io.BytesIO(FEATS.read_bytes())

    monkeypatch.setattr(sys, "stdin", Stream)
    same(Table("ark:-").read())


def test_commands_are_run_only_where_that_is_allowed(tmp_path):
    command = f"cat {FEATS}"
    same(Table(f"ark:{command} |", allow_pipes=True).read())
    with pytest.raises(RunError, match="--allow-pipes"):
        Table(f"ark:touch {tmp_path}/made |")
    assert not (tmp_path / "made").exists()
    for failing in ("false", f"{command}; false", "no-such-command-at-all 2> /dev/null"):
        with pytest.raises(FormatError, match="failed with exit status"):
            list(Table(f"ark:{failing} |", allow_pipes=True).read())
    assert summarise(f"{command} |", allow_pipes=True)["entries"] == 3


def test_a_script_file_by_its_specifier(tmp_path):
    write_ark(tmp_path / "raw", read_ark(FEATS), scp=tmp_path / "a.scp")
    same(Table(f"scp:{tmp_path}/a.scp").read())
    same(Table(f"scp:cat {tmp_path}/a.scp |", allow_pipes=True).read())
    (tmp_path / "odd").write_text("utt1 nowhere\n")
    with pytest.raises(FormatError, match="nowhere"):  # and not: a table of words
        list(Table(f"scp:{tmp_path}/odd").read())
    with pytest.raises(FormatError, match="looks like scp"):
        Table(f"ark:{tmp_path}/a.scp")
    (tmp_path / "piped").write_text(f"utt1 cat {FEATS} |\n")
    with pytest.raises(RunError, match="--allow-pipes"):
        Table(f"scp:{tmp_path}/piped")


def test_a_permissive_script_file_leaves_out_what_is_missing_and_nothing_else(tmp_path):
    expected = dict(read_ark(FEATS))
    write_ark(tmp_path / "raw", expected, scp=tmp_path / "a.scp")
    lines = (tmp_path / "a.scp").read_text().splitlines()
    gone = [f"gone1 {tmp_path}/none:5", *lines[:2], f"gone2 {tmp_path}/none:9[0:2]", *lines[2:]]
    (tmp_path / "a.scp").write_text("\n".join(gone))
    for given in (f"scp,p:{tmp_path}/a.scp", f"scp,p:cat {tmp_path}/a.scp |"):
        with pytest.warns(LimbeckWarning, match=r"2 of 5 entries are left out.*none of gone1$") as said:
            table = Table(given, allow_pipes=True)
            same(table.read(), expected)
            same(table.read(), expected)
        assert len(said) == 1  # and not at each reading
        with pytest.warns(LimbeckWarning, match="left out"):
            assert summarise(given, allow_pipes=True)["entries"] == len(expected)
    for given in (f"scp:{tmp_path}/a.scp", f"scp,p,np:{tmp_path}/a.scp", tmp_path / "a.scp"):
        with pytest.raises(FormatError, match="none"):
            list(Table(given).read())
    for line, says in (
        (f"{lines[0]}[0:90]", "asks for rows"),
        (f"utt {tmp_path}/raw:99999999", "points at byte"),
        (f"utt {tmp_path}/raw:3", "raw"),
    ):
        (tmp_path / "a.scp").write_text(line)
        with pytest.raises(FormatError, match=says):
            list(Table(f"scp,p:{tmp_path}/a.scp").read())
    (tmp_path / "a.scp").write_text(gone[0])
    with pytest.raises(FormatError, match="none is there"):
        Table(f"scp,p:{tmp_path}/a.scp")


def test_archives_to_commands_and_pipes(tmp_path):
    with ArkWriter(f"gzip -c > {tmp_path}/a.gz", is_pipe=True) as writer:
        for key, value in read_ark(FEATS):
            writer.write(key, value)
    same(read_ark(tmp_path / "a.gz"))
    with pytest.raises(RunError, match="failed with exit status"), ArkWriter("cat > /dev/null; exit 3", is_pipe=True):
        pass


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("exit 3", "'exit 3' failed with exit status 3"),
        ("head -c 10 > /dev/null", "ended before it had read everything"),
    ],
)
def test_a_command_that_stops_reading_is_named_with_its_exit_status(command, says):
    with pytest.raises(RunError, match=says), ArkWriter(command, is_pipe=True) as writer:
        for number in range(100):
            writer.write(str(number), np.zeros((100, 100), np.float32))


@pytest.mark.parametrize("name", ["stdin", "stdout"])
def test_streams_that_are_closed(name, monkeypatch):
    """Python has None for them, as after ``>&-`` in a shell."""
    monkeypatch.setattr(sys, name, None)
    with pytest.raises((FormatError, RunError), match="put stream.*is closed"):
        Table("ark:-") if name == "stdin" else ArkWriter("-")


def test_calibration_reads_a_specifier():
    from limbeck.kaldi.formats.nnet1 import read_nnet

    nnet = read_nnet(KALDI / "tiny.nnet.bin")
    given = calibration_frames(f"ark:cat {FEATS} |", nnet, allow_pipes=True)
    np.testing.assert_array_equal(given, calibration_frames(FEATS, nnet))
