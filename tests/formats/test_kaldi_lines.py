"""Kaldi's text tables."""

import pytest

from limbeck.errors import FormatError
from limbeck.formats.kaldi_lines import read_map, read_symbols, read_table, write_table


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
