"""Kaldi archives and script files: Kaldi's own files, every truncation, lengths that lie, pipes."""

import gzip
import io
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from limbeck.errors import ConfigError, DataError, FormatError, LimbeckWarning, RunError
from limbeck.kaldi.formats.scp import read_entries, read_entry, read_scp
from limbeck.kaldi.formats.stream import KaldiStream
from limbeck.kaldi.formats.table import read_ark, read_object
from limbeck.kaldi.formats.write import ArkWriter, write_ark

KALDI = Path(__file__).parents[2] / "fixtures" / "kaldi"


def compressed(kind, values, low=-1.0, span=2.0, marks=None):
    rows, columns = values.shape
    head = kind + b" " + struct.pack("<ffii", low, span, rows, columns)
    if kind == b"CM":
        return head + np.asarray(marks, "<u2").tobytes() + values.T.astype(np.uint8).tobytes()
    return head + values.astype("<u2" if kind == b"CM2" else np.uint8).tobytes()


def slow_byte(code, p0, p25, p75, p100):
    if code <= 64:
        return p0 + (p25 - p0) * code / 64
    if code <= 192:
        return p25 + (p75 - p25) * (code - 64) / 128
    return p75 + (p100 - p75) * (code - 192) / 63


def test_binary_and_text_of_kaldi_agree():
    binary, text = dict(read_ark(KALDI / "post.kaldi.bin.ark")), dict(read_ark(KALDI / "post.kaldi.txt.ark"))
    assert list(binary) == list(text) == ["utt1", "utt2", "utt3"]
    for key, value in binary.items():
        np.testing.assert_allclose(value, text[key], rtol=1e-6)


def test_text_of_a_matrix_is_that_of_the_numpy_file():
    reference = np.load(KALDI / "raw3.npz")
    for key, value in read_ark(KALDI / "raw3.txt.ark"):
        np.testing.assert_array_equal(value, reference[key])


@pytest.mark.parametrize(("name", "text"), [("post.kaldi.bin.ark", False), ("feats.txt.ark", True)])
def test_what_kaldi_wrote_is_written_again_byte_for_byte(name, text, tmp_path):
    assert write_ark(tmp_path / "out", read_ark(KALDI / name), text=text) == 3
    assert (tmp_path / "out").read_bytes() == (KALDI / name).read_bytes()


def test_compressed_features_are_near_the_exact_ones_and_kaldis_formula():
    exact, near = dict(read_ark(KALDI / "e2e/feats.ark")), dict(read_ark(KALDI / "e2e/feats.cm.ark"))
    assert exact.keys() == near.keys()
    for key, value in exact.items():
        spread = value.max() - value.min()
        assert np.abs(value - near[key]).max() < spread / 100


@given(hnp.arrays(np.uint8, st.tuples(st.integers(1, 12), st.integers(1, 300))), st.integers(0, 2**32 - 1))
def test_one_byte_codes_against_the_slow_formula(codes, seed):
    marks = np.sort(np.random.default_rng(seed).integers(0, 65536, (codes.shape[1], 4)), axis=1)
    data = b"\0B" + compressed(b"CM", codes, marks=marks)
    value = read_object(KaldiStream(io.BytesIO(data), "x", end=len(data)), "matrix")
    for row, column in ((0, 0), (-1, -1), (0, -1)):
        points = -1 + 2 * marks[column] / 65535
        assert value[row, column] == pytest.approx(slow_byte(int(codes[row, column]), *points), abs=1e-6)


def test_one_byte_codes_to_the_last_bit():
    """Every code between every kind of percentiles, with the roundings that C++ makes in the same expression."""
    random = np.random.default_rng(0)
    marks = np.sort(random.integers(0, 65536, (400, 4)), axis=1)
    codes = np.broadcast_to(np.arange(256, dtype=np.uint8)[:, None], (256, 400))
    data = b"\0B" + compressed(b"CM", codes, marks=marks)
    value = read_object(KaldiStream(io.BytesIO(data), "x", end=len(data)), "matrix")
    single = np.float32
    for column in range(400):
        points = [single(-1) + single(2) * single(1.52590218966964e-05) * single(mark) for mark in marks[column]]
        for code, found in enumerate(value[:, column]):
            pieces = ((0, 0, 64), (1, 64, 128), (2, 192, 63))
            piece, begin, size = next(piece for piece in pieces if code <= piece[1] + piece[2])
            scaled = (points[piece + 1] - points[piece]) * single(code - begin)
            assert found == single(float(points[piece]) + float(scaled) * (1 / size))


def test_two_and_one_byte_codes(tmp_path):
    steps = np.array([[0, 65535], [13107, 52428]])
    (tmp_path / "a").write_bytes(b"two \0B" + compressed(b"CM2", steps) + b"one \0B" + compressed(b"CM3", steps // 257))
    for _, value in read_ark(tmp_path / "a"):
        np.testing.assert_allclose(value, [[-1, 1], [-0.6, 0.6]], atol=1e-6)


@pytest.mark.parametrize("text", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_round_trip_of_matrices_and_vectors(text, dtype, tmp_path):
    floats = np.random.default_rng(0).standard_normal
    entries = {
        "a": floats((70, 3)).astype(dtype),
        "b": floats((1, 1)).astype(dtype),
        "é": floats((2, 9)).astype(dtype),
    }
    write_ark(tmp_path / "m", entries, text=text)
    back = dict(read_ark(tmp_path / "m", dtype=dtype))
    assert back.keys() == entries.keys()
    assert all(back[key].tobytes() == value.tobytes() and back[key].dtype == dtype for key, value in entries.items())
    vectors = {"a": entries["a"].ravel(), "empty": np.empty(0, dtype)}
    write_ark(tmp_path / "v", vectors, text=text)
    back = dict(read_ark(tmp_path / "v", "vector", dtype=dtype))
    assert all(back[key].tobytes() == value.tobytes() for key, value in vectors.items())


@pytest.mark.parametrize("text", [False, True])
@pytest.mark.parametrize("zipped", [False, True])
def test_round_trip_of_integers(text, zipped, tmp_path):
    entries = {
        "a": np.int32([5, -7, 2**31 - 1]),
        "empty": np.empty(0, np.int32),
        "b": np.arange(20_000, dtype=np.int32),
    }
    write_ark(tmp_path / "ali", entries, text=text)
    if zipped:
        (tmp_path / "ali").write_bytes(gzip.compress((tmp_path / "ali").read_bytes()))
    back = dict(read_ark(tmp_path / "ali", "integers"))
    assert back.keys() == entries.keys()
    assert all(np.array_equal(back[key], value) for key, value in entries.items())


def test_text_and_binary_entries_may_alternate(tmp_path):
    (tmp_path / "a").write_bytes(
        b"x  [\n 1 2\n 3 4 ]\ny \0BFM " + struct.pack("<BiBi2f", 4, 1, 4, 2, 5, 6) + b"z [ 7 8 ]\r\n"
    )
    assert [value.tolist() for _, value in read_ark(tmp_path / "a")] == [[[1, 2], [3, 4]], [[5, 6]], [[7, 8]]]


@pytest.mark.parametrize("name", ["post.kaldi.bin.ark", "feats.txt.ark", "hmm/ali.txt", "hmm/ali.1.gz"])
def test_truncation_at_every_byte_is_refused_or_gives_a_shorter_list(name, tmp_path):
    data = (KALDI / name).read_bytes()
    kind = "integers" if "ali" in name else "matrix"
    whole = [(key, value.tobytes()) for key, value in read_ark(KALDI / name, kind)]
    for length in range(len(data) - 1):
        (tmp_path / "cut").write_bytes(data[:length])
        got = []
        try:
            for key, value in read_ark(tmp_path / "cut", kind):
                got.append((key, value.tobytes()))
        except FormatError as error:
            assert str(tmp_path / "cut") in str(error)
        else:
            assert len(got) < len(whole) or name == "feats.txt.ark"  # cut between entries, or in the last line's end
        assert got == whole[: len(got)]


@given(
    st.sampled_from(["post.kaldi.bin.ark", "feats.txt.ark", "hmm/ali.txt", "hmm/ali.1.gz", "e2e/feats.cm.ark"]),
    st.integers(0, 10**6),
    st.integers(0, 255),
)
def test_a_changed_byte_is_read_or_refused(name, place, byte):
    import tempfile

    data = bytearray((KALDI / name).read_bytes())
    data[place % len(data)] = byte
    with tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        try:
            for _ in read_ark(file.name, "integers" if "ali" in name else "matrix"):
                pass
        except FormatError as error:
            assert "\n" not in str(error)


@pytest.mark.parametrize(
    ("data", "kind", "reason"),
    [
        (b"a \0BFM " + struct.pack("<BiBi", 4, 2**31 - 1, 4, 2**31 - 1), "matrix", "truncated"),
        (b"a \0BFM " + struct.pack("<BiBi", 4, -1, 4, 2), "matrix", "impossible shape"),
        (b"a \0BFM " + struct.pack("<BiBi", 4, 0, 4, 2), "matrix", "impossible shape"),
        (b"a \0BCM " + struct.pack("<ffii", 0, 1, 0, 0) + b"\0" * 4, "matrix", "empty compressed"),
        (b"a \0BCM " + struct.pack("<ffii", 0, 1, 1, 2**31 - 1), "matrix", "truncated"),
        (b"a \0BCM2 " + struct.pack("<ffii", 0, np.inf, 1, 1) + b"\0\0", "matrix", "not finite"),
        (b"a \0BFV " + struct.pack("<Bif", 4, 2, 1), "vector", "truncated"),
        (b"a \0BFV " + struct.pack("<Bi", 4, -2), "vector", "negative"),
        (b"a \0BFV " + struct.pack("<Bif", 4, 1, 1), "matrix", "no matrix here"),
        (b"a \0BFM " + struct.pack("<BiBif", 4, 1, 4, 1, 1), "vector", "no vector here"),
        (b"a \0B" + struct.pack("<BiBiBi", 4, 2, 4, 7, 8, 7), "integers", "element 1"),
        (b"a \0B" + struct.pack("<Bi", 4, 2**31 - 1), "integers", "truncated"),
        (b"a \0B" + struct.pack("<Bi", 4, -1), "integers", "negative"),
        (b"a \0BDM " + struct.pack("<BiBid", 4, 1, 4, 1, 1e300), "matrix", "too large for float32"),
        (b"a \0C", "matrix", "'B'"),
        (b"a", "matrix", "directly after the key"),
        (b"a 1 2.5\n", "integers", "integers"),
        (b"a  [ 1 2 ] 3\n", "vector", "where the line should end"),
        (b"a  [\n 1 nan ]\n", "matrix", "finite"),
        (b"\xff\xfe \0B", "matrix", "no key"),
        (b"k" * 5000, "matrix", "no key ends"),
    ],
)
def test_bad_entries_are_refused(data, kind, reason, tmp_path):
    (tmp_path / "a").write_bytes(data)
    with pytest.raises(FormatError, match=reason):
        list(read_ark(tmp_path / "a", kind))


def test_a_small_gzip_that_unpacks_to_gigabytes_is_refused(tmp_path):
    import tracemalloc

    count = (1 << 28) // 5 + 1
    (tmp_path / "bomb.gz").write_bytes(gzip.compress(b"a \0B" + struct.pack("<Bi", 4, count) + b"\4\0\0\0\0" * 1000))
    tracemalloc.start()
    with pytest.raises(FormatError, match="at most"):
        list(read_ark(tmp_path / "bomb.gz", "integers"))
    assert tracemalloc.get_traced_memory()[1] < 1 << 22
    tracemalloc.stop()


def test_memory_holds_one_entry_at_a_time(tmp_path):
    import tracemalloc

    entry = np.ones((250, 1000), np.float32)
    write_ark(tmp_path / "a", ((f"u{number}", entry) for number in range(30)))
    tracemalloc.start()
    assert sum(1 for _ in read_ark(tmp_path / "a")) == 30
    assert tracemalloc.get_traced_memory()[1] < 5 * entry.nbytes
    tracemalloc.stop()


def test_script_file_of_kaldi(tmp_path, monkeypatch):
    expected = dict(read_ark(KALDI / "e2e/feats.ark"))
    for place in (
        tmp_path,
        KALDI / "e2e",
        KALDI,
    ):  # paths relative to the script file and to the working folder
        monkeypatch.chdir(place)
        entries = read_scp(KALDI / "e2e/feats.scp")
        got = dict(read_entries(entries))
        assert list(got) == [entry.key for entry in entries] == list(expected)
        assert all(np.array_equal(got[key], value) for key, value in expected.items())
    np.testing.assert_array_equal(read_entry(entries[7]), expected[entries[7].key])


def test_written_script_file_points_at_the_objects(tmp_path):
    entries = {"a": np.eye(3, dtype=np.float32), "b": np.ones((2, 3), np.float32)}
    for text in (False, True):
        write_ark(tmp_path / "x.ark", entries, scp=tmp_path / "x.scp", text=text)
        back = dict(read_entries(reversed(read_scp(tmp_path / "x.scp"))))
        assert list(back) == ["b", "a"]
        assert all(np.array_equal(back[key], value) for key, value in entries.items())


def test_paths_are_searched_in_order_and_root_is_alone(tmp_path, monkeypatch):
    (tmp_path / "data" / "train").mkdir(parents=True)
    scp = tmp_path / "data" / "train" / "feats.scp"
    write_ark(tmp_path / "data" / "up.ark", {"a": np.eye(1, dtype=np.float32)})
    scp.write_text("a up.ark:2\n")
    monkeypatch.chdir(tmp_path)
    assert read_entry(read_scp(scp)[0]).item() == 1
    with pytest.raises(FormatError, match="nowhere"):
        read_entry(read_scp(scp, root="nowhere")[0])


@pytest.mark.parametrize(
    ("range_", "expected"),
    [
        ("[1:2]", np.s_[1:3]),
        ("[0:0,1:2]", np.s_[0:1, 1:3]),
        ("[:,2:2]", np.s_[:, 2:3]),
        ("[2:3,:]", np.s_[2:4]),
        ("[]", np.s_[:]),
    ],
)
def test_ranges_include_both_ends(range_, expected, tmp_path):
    matrix = np.arange(12, dtype=np.float32).reshape(4, 3)
    write_ark(tmp_path / "a.ark", {"a": matrix})
    (tmp_path / "a.scp").write_text(f"a {tmp_path}/a.ark:2{range_}\n")
    np.testing.assert_array_equal(read_entry(read_scp(tmp_path / "a.scp")[0]), matrix[expected])


def test_a_range_up_to_three_rows_too_long_is_cut(tmp_path):
    matrix = np.arange(61, dtype=np.float32).reshape(61, 1)
    write_ark(tmp_path / "a.ark", {"a": matrix})

    def read(range_):
        (tmp_path / "a.scp").write_text(f"a {tmp_path}/a.ark:2{range_}\n")
        return read_entry(read_scp(tmp_path / "a.scp")[0])

    for last in (61, 62, 63):
        with pytest.warns(LimbeckWarning, match=f"rows 5 to {last} of an object of 61 rows: cut"):
            np.testing.assert_array_equal(read(f"[5:{last}]"), matrix[5:])
    for range_ in ("[0:64]", "[61:62]", "[0:60,0:1]"):
        with pytest.raises(FormatError, match="asks for"):
            read(range_)
    matrix = np.zeros((3, 3), np.float32)
    write_ark(tmp_path / "a.ark", {"a": matrix})
    with pytest.raises(FormatError, match="asks for columns 0 to 3"):  # of columns none too many
        read("[0:2,0:3]")


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("a a.ark:99999", "points at byte 99999"),
        ("a a.ark:3", "."),
        ("a missing.ark:2", "missing.ark"),
        ("a a.ark:2[0:9]", "asks for rows 0 to 9"),
        ("a a.ark:2[0:0,0:9]", "asks for columns 0 to 9"),
        ("a a.ark:2[3:1]", "first is above its last"),
        ("a a.ark:2[x]", "range"),
        ("a a.ark:2[0:1,0:1,0:1]", "range"),
        ("a", "a space and path"),
        ("", "a space and path"),
        ("a a.ark:2\na a.ark:2", "second time"),
        ("a -", "only files"),
        ("a | cat", "only files"),
        ("a a.ark", "."),
        ("a \0", "zero byte"),
        ("a " + "x" * 20000, "more than"),
    ],
)
def test_bad_script_lines_are_refused(line, reason, tmp_path):
    write_ark(tmp_path / "a.ark", {"a": np.eye(2, dtype=np.float32)})
    (tmp_path / "a.scp").write_text(line + "\n")
    with pytest.raises(FormatError, match=reason):
        read_entry(read_scp(tmp_path / "a.scp", root=tmp_path)[0])


def test_a_name_that_no_disk_can_have_is_refused_when_it_is_read(tmp_path):
    (tmp_path / "a.scp").write_text("u " + "[" * 5000 + "\n")
    (entry,) = read_scp(tmp_path / "a.scp", root=tmp_path)
    with pytest.raises(FormatError, match="too long"):
        read_entry(entry)


def test_pipes_are_refused_and_nothing_runs(tmp_path):
    (tmp_path / "a.scp").write_text(f"a touch {tmp_path}/ran; cat {tmp_path}/a.mat |\n")
    with pytest.raises(RunError, match="--allow-pipes"):
        read_scp(tmp_path / "a.scp")
    entry = read_scp(tmp_path / "a.scp", allow_pipes=True)[0]
    with pytest.raises(RunError, match="--allow-pipes"):
        read_entry(entry)
    assert not (tmp_path / "ran").exists()
    write_ark(tmp_path / "k.ark", {"a": np.eye(2, dtype=np.float32)})
    (tmp_path / "a.mat").write_bytes((tmp_path / "k.ark").read_bytes()[2:])
    np.testing.assert_array_equal(read_entry(entry, allow_pipes=True), np.eye(2))
    assert (tmp_path / "ran").exists()


def test_a_failing_or_talkative_command_is_an_error(tmp_path):
    write_ark(tmp_path / "k.ark", {"a": np.eye(2, dtype=np.float32)})
    for command, reason in (
        (f"tail -c +3 {tmp_path}/k.ark; exit 3 |", "exit status 3"),
        (f"tail -c +3 {tmp_path}/k.ark; echo more |", "bytes follow"),
        ("true |", "truncated"),
    ):
        (tmp_path / "a.scp").write_text(f"a {command}\n")
        with pytest.raises(FormatError, match=reason):
            read_entry(read_scp(tmp_path / "a.scp", allow_pipes=True)[0], allow_pipes=True)


def test_writer_refuses_what_cannot_be_read_back_and_leaves_nothing(tmp_path):
    good = np.eye(2, dtype=np.float32)
    for key, value in (
        ("a b", good),
        ("", good),
        ("a", good.astype(int)),
        ("a", good[None]),
        ("a", good.astype(np.float16)),
    ):
        with pytest.raises(DataError):
            write_ark(tmp_path / "a.ark", {key: value}, scp=tmp_path / "a.scp")
    with pytest.raises(DataError, match="NaN"):
        write_ark(tmp_path / "a.ark", {"a": good * np.nan}, text=True)
    with pytest.raises(DataError, match="before"):
        write_ark(tmp_path / "a.ark", [("a", good), ("a", good)])
    with pytest.raises(KeyError), ArkWriter(tmp_path / "a.ark", scp=tmp_path / "a.scp") as writer:
        writer.write("a", good)
        raise KeyError
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(RunError, match="missing"):
        write_ark(tmp_path / "missing" / "a.ark", {"a": good})
    with pytest.raises(ConfigError, match="kind"):
        list(read_ark(tmp_path / "a.ark", "tensor"))


def test_entries_that_go_from_one_archive_to_another_and_back(tmp_path):
    values = {f"u{number}": np.full((2, 3), number, np.float32) for number in range(4)}
    for name, keys in (("a", ("u0", "u2")), ("b", ("u1", "u3"))):
        write_ark(tmp_path / f"{name}.ark", {key: values[key] for key in keys}, scp=tmp_path / f"{name}.scp")
    lines = sorted(line for name in "ab" for line in (tmp_path / f"{name}.scp").read_text().splitlines())
    (tmp_path / "all.scp").write_text("\n".join(lines) + "\n")
    found = list(read_entries(read_scp(tmp_path / "all.scp")))
    assert [key for key, _ in found] == ["u0", "u1", "u2", "u3"]
    for key, value in found:
        np.testing.assert_array_equal(value, values[key])
