"""Decimal text to float32: rounded once, as strtof does, whatever the digits and the cuts between chunks."""

import itertools
import re
import warnings
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from limbeck.kaldi.formats.numbers import parse_float32, parse_int32
from limbeck.kaldi.formats.rows import RowParser


def nearest_float32(token):
    """Round a decimal to float32 by exact comparison with its neighbours: slow and obvious."""
    exact = Fraction(token)
    with np.errstate(over="ignore"):
        guess = np.float32(float(exact))
    if not np.isfinite(guess):
        guess = np.copysign(np.finfo(np.float32).max, guess)
    with np.errstate(over="ignore", under="ignore"):
        near = [np.nextafter(guess, np.float32(-np.inf)), guess, np.nextafter(guess, np.float32(np.inf))]
    finite = [value for value in near if np.isfinite(value)]
    best = min(abs(Fraction(float(value)) - exact) for value in finite)
    ties = [value for value in finite if abs(Fraction(float(value)) - exact) == best]
    even = [value for value in ties if value.view(np.uint32) % 2 == 0]
    return (even if len(ties) > 1 else ties)[0]


def parse(text, dtype=np.float32, cut=None, one_line=False):
    parser = RowParser(dtype, one_line=one_line)
    start = 0
    while start < len(text):
        stop = len(text) if cut is None else min(len(text), start + cut)
        while stop < len(text) and text[stop - 1 : stop] not in (b" ", b"\n"):
            stop += 1
        assert parser.feed(text[start:stop]) is None
        start = stop
    assert parser.finish() is None
    return parser


# Half-way between float32 values, and a hair to either side: rounding to float64 first would lose the hair.
HALF_WAY = [
    "16777217", "16777219", "16777217.0000000001", "16777216.9999999999", "-16777219.000000000000001",
    "1.00000017881393432617187499", "1.00000017881393432617187500", "1.00000017881393432617187501",
    "0.7006492321624085354618e-45", "7.006492321624085e-46", "2.1019476964872256e-45",
    "1.1754942807573642918e-38",
    "3.4028234663852886e+38", "340282356779733661637539395458142568447",
]  # fmt: skip


@pytest.mark.parametrize("token", HALF_WAY)
def test_half_way_points_are_rounded_once(token):
    expected = nearest_float32(token)
    assert parse(token.encode()).values()[0] == expected
    assert parse_float32(token.encode()) == expected


def test_the_half_way_points_tell_one_rounding_from_two():
    assert any(np.float32(float(token)) != nearest_float32(token) for token in HALF_WAY)


@given(st.floats(width=32, allow_nan=False, allow_infinity=False), st.integers(1, 17), st.sampled_from("gef"))
@example(-0.0, 9, "g")
def test_any_format_of_a_float32_is_read_exactly(value, digits, form):
    token = f"{value:.{digits}{form}}"
    if abs(Fraction(token)) > Fraction(float(np.finfo(np.float32).max)):
        return
    expected = nearest_float32(token)
    got = parse(token.encode()).values()[0]
    assert got == expected
    assert np.signbit(got) == token.startswith("-")


@given(
    st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=60),
    st.integers(1, 40),
)
def test_nine_digits_restore_every_bit_whatever_the_cuts(values, cut):
    array = np.array(values, np.float32)
    text = "".join(f"{value:.9g} \n" for value in values).encode()
    parser = parse(text, cut=cut)
    assert parser.values().tobytes() == array.tobytes()
    assert (parser.rows, parser.columns) == (len(values), 1)


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=40))
def test_seventeen_digits_restore_every_bit_of_float64(values):
    text = " ".join(f"{value:.17g}" for value in values).encode()
    assert parse(text, np.float64).values().tobytes() == np.array(values).tobytes()


@given(st.integers(1, 5), st.integers(1, 7), st.integers(1, 30))
def test_rows_are_counted_across_chunks(rows, columns, cut):
    matrix = np.arange(rows * columns, dtype=np.float32).reshape(rows, columns)
    text = "\n\n".join("  ".join(str(value) for value in row) for row in matrix.tolist()).encode()
    parser = parse(text, cut=cut)
    np.testing.assert_array_equal(parser.values().reshape(parser.rows, parser.columns), matrix)


def test_a_ragged_row_is_counted_from_the_start_of_the_matrix():
    parser = RowParser()
    assert parser.feed(b"1 2\n3 4\n5 ") is None
    reason, _ = parser.feed(b"\n7 8\n")
    assert reason.startswith("row 2 ") and "has 1 numbers" in reason


def test_no_nonsense_within_five_characters_is_taken_for_a_number():
    grammar = re.compile(r"-?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?")
    for length in range(1, 6):
        for letters in itertools.product("1.e-+", repeat=length):
            token = "".join(letters)
            # ".5" is a number to strtod and none to Kaldi, which wants a digit or '-' first.
            wanted = bool(grammar.fullmatch(token)) and not token.startswith(".")
            parser = RowParser(np.float64)
            with np.errstate(all="ignore"):
                verdict = feed_quietly(parser, token.encode())
            assert (verdict is None) == (wanted and float(token) < 1e308), token
            if verdict is None:
                assert parser.values().tolist() == [float(token)]


def feed_quietly(parser, text):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return parser.feed(text)


def test_integers():
    assert parse_int32(b" 1 -2\n2147483647 ").tolist() == [1, -2, 2147483647]
    assert parse_int32(b"").size == 0
    for wrong in (b"2147483648", b"1.0", b"--1", b"1-", b"+1", b"1_0", b"x", b"9" * 5000):
        assert parse_int32(wrong) is None


@pytest.mark.parametrize(
    "name", ["tiny.seed.txt", "relu.seed.txt", "relu.seed.svd.txt", "relu.nnet.txt", "raw3.txt.ark"]
)
def test_every_number_of_the_samples_is_the_nearest_float32(name):
    words = (Path(__file__).parents[2] / "fixtures" / "kaldi" / name).read_bytes().split()
    tokens = [word for word in words if re.fullmatch(rb"-?[0-9][0-9.e+-]*", word)]
    assert len(tokens) > 30
    values = parse(b" ".join(tokens), cut=1000).values()
    assert values.tolist() == [float(nearest_float32(token.decode())) for token in tokens]
