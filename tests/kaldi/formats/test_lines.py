"""Kaldi's text tables."""

import gzip

import pytest

from limbeck.errors import FormatError
from limbeck.kaldi.formats.lines import read_map, read_symbols, read_table, write_table
from limbeck.kaldi.formats.nnet1 import read_nnet
from limbeck.kaldi.formats.scp import ScpEntry, read_entry, read_scp
from limbeck.kaldi.formats.sniff import identify
from limbeck.kaldi.formats.table import read_ark
from limbeck.system.files import read_json, read_toml


def test_round_trip_in_the_order_of_bytes(tmp_path):
    write_table(tmp_path / "text", {"b": ["ONE", "TWO"], "a": [], "B": ["\u00e9"], "\u00e9": ["X"]})
    assert (tmp_path / "text").read_text("utf-8") == "B \u00e9\na\nb ONE TWO\n\u00e9 X\n"
    assert read_table(tmp_path / "text") == {"B": ["\u00e9"], "a": [], "b": ["ONE", "TWO"], "\u00e9": ["X"]}


@pytest.mark.parametrize(
    "content, says",
    [
        (b"a b\n\nc d\n", "line 2"),
        (b"a b\na c\n", "line 2 has the key 'a' a second"),
        (b"\xff\n", "UTF-8"),
        (b"a \0b\n", "line 1"),
        (b"a" * 2_000_000, "1048576"),
    ],
)
def test_other_text(tmp_path, content, says):
    (tmp_path / "text").write_bytes(content)
    with pytest.raises(FormatError, match=says):
        read_table(tmp_path / "text")


def test_maps_and_symbols(tmp_path):
    path = tmp_path / "words.txt"
    path.write_text("<eps> 0\nA 1\n")
    assert read_map(path) == {"<eps>": "0", "A": "1"} and read_symbols(path) == {0: "<eps>", 1: "A"}
    for wrong in ("A\n", "A B\n", "A -1\n", "A 1\nB 1\n", "A 99999999999\n", "A 1 2\n", "A \u0661\n"):
        path.write_text(wrong)
        with pytest.raises(FormatError, match="words.txt"):
            read_symbols(path)


MARK = b"\xef\xbb\xbf"


def test_a_byte_order_mark_and_line_ends_of_windows_are_no_part_of_text(tmp_path):
    """Editors put them there; a key or a number that began with the mark would match nothing."""
    path = tmp_path / "file"

    def put(text: bytes):
        path.write_bytes(MARK + text.replace(b"\n", b"\r\n"))
        return path

    assert read_table(put(b"utt1 spk1\nutt2 spk2\n")) == {"utt1": ["spk1"], "utt2": ["spk2"]}
    assert read_symbols(put(b"<eps> 0\nA 1\n")) == {0: "<eps>", 1: "A"}
    (entry,) = read_scp(put(b"utt1 raw.ark:5\n"))
    assert (entry.key, entry.offset) == ("utt1", 5)
    (ranged,) = read_scp(put(b"utt1 raw.ark:5[0:3]\n"))
    assert ranged.rows == (0, 3)
    assert {key: value.tolist() for key, value in read_ark(put(b"utt1 5 5 7\nutt2 \n"), "integers")} == {
        "utt1": [5, 5, 7],
        "utt2": [],
    }
    matrix = b" [\n  1 2\n  3 4 ]\n"
    assert [(key, value.tolist()) for key, value in read_ark(put(b"utt1 " + matrix))] == [("utt1", [[1, 2], [3, 4]])]
    path.write_bytes(gzip.compress(MARK + b"utt1 " + matrix))
    assert [key for key, _ in read_ark(path)] == ["utt1"]
    alone = ScpEntry("utt1", str(put(matrix)), None)
    assert read_entry(alone).tolist() == [[1, 2], [3, 4]]
    assert identify(put(b"utt1 raw.ark:5\n")) == "scp" and identify(put(b"utt1 5 5 7\n")) == "integers"
    put(b"<Nnet> \n<Sigmoid> 2 2 \n</Nnet> \n")
    assert identify(path) == "nnet1 text" and len(read_nnet(path).components) == 1
    assert read_json(put(b'{"a": 1}\n')) == {"a": 1} and read_toml(put(b"a = 1\nb = 2\n")) == {"a": 1, "b": 2}


@pytest.mark.parametrize(
    "line",
    [
        "utt feats.ark:10[0:10]",
        "utt feats[0:10]",
        "utt feats.ark:10[0:10,0:3]",
        "utt feats[:,0:3]",
        "utt\tfeats.ark:10[]",
        "utt feats.ark:10[0:",
        "utt feats.ark:10[0-9]",
        "utt here",
        "utt zcat a b |",
    ],
)
def test_a_script_file_is_told_from_a_table_of_words(line, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here").write_bytes(b"[ 1 ]\n")
    (tmp_path / "a").write_text(line + "\n")
    assert identify("a") == identify(tmp_path / "a") == "scp"
    for words in ("utt gone", "utt here there", "utt gone [noise] there"):
        (tmp_path / "a").write_text(words + "\n")
        assert identify("a") == "words"


def test_text_of_16_bits_is_refused(tmp_path):
    path = tmp_path / "file"
    path.write_text("utt1 spk1\n", "utf-16")
    for read in (read_table, read_scp, read_json, read_toml, identify):
        with pytest.raises(FormatError, match="file"):
            read(path)
