"""Stores: round trips, kills, corruption, other tools' view of the files."""

import hashlib
import json
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from scipy.special import log_softmax, rel_entr

from limbeck.errors import ConfigError, DataError, FormatError, MismatchError, RunError
from limbeck.softtargets import Dense, Sampled, Store, TopK, write_arrays
from limbeck.system.locks import hold

CLASSES = tuple("abcdefghijkl")
CODECS = [Dense(), Dense("float32"), TopK(3), TopK(1), Sampled(4, 0.8, seed=2)]


def draw(rows=90, seed=0):
    return (4 * np.random.default_rng(seed).normal(size=(rows, len(CLASSES)))).astype(np.float32)


def write(folder, scores=None, blocks=None, **settings):
    scores = draw() if scores is None else scores
    views = settings.pop("views", 3)
    settings = {"encoding": Dense(), "shard_bytes": 480, "card_rows": None} | settings
    if settings["encoding"].name == "sampled":
        settings["temperature"] = 1.0
    return write_arrays(
        folder,
        [scores] if blocks is None else blocks,
        classes=CLASSES,
        examples=len(scores) // views,
        views=views,
        **settings,
    )


def contents(folder):
    return {path.name: path.read_bytes() for path in sorted(Path(folder).iterdir()) if path.name != ".lock"}


@pytest.mark.parametrize("codec", CODECS, ids=str)
@pytest.mark.parametrize("mapped_bytes", [0, 1 << 30])
def test_rows_come_back_as_they_were_encoded(tmp_path, codec, mapped_bytes):
    scores = draw()
    index = np.random.default_rng(1).permutation(500)[:30]
    write(tmp_path, scores, encoding=codec, index=index, shard_bytes=240)
    store = Store(tmp_path, mapped_bytes=mapped_bytes)
    assert store.plan.shards > 2
    assert store.plan.rows == 90
    rows = np.random.default_rng(2).integers(0, 90, 200)
    assert store.codec == codec
    expected = store.codec.encode(scores, np.tile(index, 3), np.repeat(np.arange(3), 30))
    for name, values in store.rows(rows).items():
        np.testing.assert_array_equal(values, expected[name][rows])
    for name, values in store.span(7, 71).items():
        np.testing.assert_array_equal(values, expected[name][7:71])
    np.testing.assert_array_equal(store.index, index)
    store.verify()


def test_another_library_reads_the_shards(tmp_path):
    scores = draw()
    write(tmp_path, scores, encoding=TopK(3))
    expected = Store(tmp_path).codec.encode(scores, np.arange(90), np.arange(90))
    assert expected["place"].any()
    for name in ("ids", "gaps", "tail", "place"):
        parts = []
        for path in sorted(tmp_path.glob("shard-*.safetensors")):
            with safe_open(path, framework="np") as file:
                parts.append(file.get_tensor(name))
        np.testing.assert_array_equal(np.concatenate(parts), expected[name])


def test_every_row_comes_once_shuffled(tmp_path):
    write(tmp_path)
    store = Store(tmp_path)
    seen, values = [], []
    for numbers, fields in store.batches(8, seed=0):
        seen += numbers.tolist()
        values.append(fields["scores"])
    assert sorted(seen) == list(range(90))
    assert seen != sorted(seen)
    np.testing.assert_array_equal(np.concatenate(values), store.rows(np.array(seen))["scores"])
    with pytest.raises(DataError, match="90"):
        store.rows(np.array([90]))


@pytest.mark.parametrize("codec", CODECS, ids=str)
def test_the_card_agrees_with_a_recomputation(tmp_path, codec):
    scores, labels = draw(), np.random.default_rng(3).integers(0, 12, 30)
    card = write(tmp_path, scores, encoding=codec, labels=labels)
    store = Store(tmp_path)
    assert store.card == card
    assert json.loads((tmp_path / "card.json").read_text()) == card.to_dict()
    shards = [path.stat().st_size - 4096 for path in tmp_path.glob("shard-*")]
    assert card.bytes_per_example == sum(shards) / 90
    assert card.rows_measured == 90
    assert card.teacher_accuracy == pytest.approx(float((scores.argmax(1) == np.tile(labels, 3)).mean()))
    exact = scores.astype(np.float64)
    if codec.name == "sampled":
        assert card.divergence == {}
    else:
        assert set(card.divergence) == {"1", "4", "20"}
    for name, value in card.divergence.items():
        p = np.exp(log_softmax(exact / float(name), -1))
        q = np.exp(store.log_probs(np.arange(90), temperature=float(name)))
        assert value == pytest.approx(float(rel_entr(p, q).sum(-1).mean()), rel=1e-6, abs=1e-12)
    p = np.exp(log_softmax(exact, -1))
    if codec.name == "dense":
        assert card.mass_kept == 1
    elif codec.name == "topk":
        assert card.mass_kept == pytest.approx(np.sort(p, 1)[:, -codec.k :].sum(1).mean(), rel=1e-6)
    else:
        drawn = np.exp(store.log_probs(np.arange(90), temperature=1.0)) > 0
        assert card.mass_kept == pytest.approx((p * drawn).sum(1).mean(), rel=1e-6)
    assert "bytes per example" in str(card)


def test_some_rows_stand_for_all_on_the_card(tmp_path):
    card = write(tmp_path, card_rows=4, shard_bytes=24 * 20)
    assert card.rows_measured == 4 * 4 + 2  # of four shards of 20 rows and one of 10, every fifth
    p = np.exp(log_softmax(draw().astype(np.float64), -1))[::5]
    q = np.exp(Store(tmp_path).log_probs(np.arange(0, 90, 5), temperature=1.0))
    assert card.divergence["1"] == pytest.approx(float(rel_entr(p, q).sum(-1).mean()), rel=1e-6)


@pytest.mark.parametrize("size", [1, 7, 31, 90])
def test_the_size_of_the_blocks_does_not_matter(tmp_path, size):
    scores, memory = draw(), np.empty((size, 12), np.float32)

    def blocks():
        for start in range(0, 90, size):
            part = scores[start : start + size]
            memory[: len(part)] = part  # the memory is used again, as a reader of files would
            yield memory[: len(part)]

    write(tmp_path / "one", scores, encoding=TopK(3))
    write(tmp_path / "many", scores, blocks(), encoding=TopK(3))
    assert contents(tmp_path / "one") == contents(tmp_path / "many")


@pytest.mark.parametrize("codec", [Dense(), Sampled(4, 0.8), TopK(3)], ids=str)
@pytest.mark.parametrize("as_function", [True, False])
@pytest.mark.parametrize("stop", [0, 1, 45, 89])
def test_an_interrupted_write_goes_on_to_the_same_bytes(tmp_path, monkeypatch, codec, as_function, stop):
    monkeypatch.setattr("limbeck.softtargets.tail._SAMPLE_ROWS", 30)
    scores, asked = draw(), []

    def rows(first, last=90):
        asked.append(first)
        for row in range(first, last):
            yield scores[row : row + 1]
        if last < 90:
            raise KeyError("the teacher failed")

    folder = tmp_path / "stopped"
    with pytest.raises(KeyError):
        write(folder, scores, (lambda first: rows(first, stop)) if as_function else rows(0, stop), encoding=codec)
    with pytest.raises(FormatError, match="incomplete"):
        Store(folder)
    write(folder, scores, rows if as_function else rows(0), encoding=codec)
    write(tmp_path / "whole", scores, encoding=codec)
    assert contents(folder) == contents(tmp_path / "whole")
    per_shard = Store(folder).plan.rows_per_shard
    assert asked[-1] == (stop // per_shard * per_shard if as_function else 0)


def test_writing_a_complete_store_again_changes_nothing(tmp_path):
    write(tmp_path)
    before = {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("shard-*")}

    def never(first):
        raise AssertionError("asked again")

    assert write(tmp_path, blocks=never) == Store(tmp_path).card
    assert before == {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("shard-*")}


def test_writing_again_heals_a_damaged_shard(tmp_path):
    write(tmp_path)
    before = contents(tmp_path)
    path = tmp_path / "shard-00002.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\x55")
    with pytest.raises(FormatError, match="shard-00002"):
        Store(tmp_path).verify()
    write(tmp_path)
    assert contents(tmp_path) == before


def test_answers_must_be_as_many_as_announced(tmp_path):
    for count, message in ((89, "end after 89 rows"), (91, "more answers than the 90 rows")):
        with pytest.raises(DataError, match=message):
            write(tmp_path / str(count), blocks=[draw(count)])
    with pytest.raises(MismatchError, match="12 classes"):
        write(tmp_path / "classes", blocks=[draw()[:, :5]])
    with pytest.raises(DataError, match="labels"):
        write(tmp_path / "labels", labels=np.zeros(7, int))


def test_another_store_is_not_overwritten(tmp_path):
    write(tmp_path, encoding=TopK(3))
    before = contents(tmp_path)
    with pytest.raises(MismatchError, match=r'"k": 3.*"k": 2'):
        write(tmp_path, encoding=TopK(2))
    with pytest.raises(MismatchError, match='teacher_digest is null, not "abc"'):
        write(tmp_path, encoding=TopK(3), teacher_digest="abc")
    assert contents(tmp_path) == before
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").write_text("precious")
    with pytest.raises(RunError, match="not soft targets"):
        write(tmp_path / "other")
    with pytest.raises(RunError, match="cannot (write|make)"):
        write(tmp_path / "other" / "thesis.tex")


@pytest.mark.parametrize(
    "settings",
    [
        {"views": 0},
        {"temperature": 0.0},
        {"shard_bytes": 0},
        {"card_rows": 0},
        {"encoding": TopK(3), "temperature": 2.0},
    ],
)
def test_settings_that_contradict_are_refused(tmp_path, settings):
    with pytest.raises(ConfigError):
        write_arrays(tmp_path, [draw()], **({"classes": CLASSES, "examples": 90, "encoding": Dense()} | settings))
    with pytest.raises(ConfigError, match="one temperature"):
        write_arrays(tmp_path, [draw()], classes=CLASSES, examples=90, encoding=Sampled(3))


def test_a_second_writer_is_told_of_the_first(tmp_path):
    with hold(tmp_path), pytest.raises(RunError, match=r"in use by process \d+ on "):
        write(tmp_path)
    write(tmp_path)


def test_one_flipped_byte_anywhere_is_refused_or_harmless(tmp_path):
    write(tmp_path, encoding=TopK(3), index=np.arange(30) + 5, shard_bytes=1500)
    rows, files = np.arange(90), contents(tmp_path)
    truth = Store(tmp_path).rows(rows)
    card = Store(tmp_path).card
    random_places, refused_at_opening, harmless = random.Random(0), 0, 0
    for trial in range(220):
        # Half the trials are spent on the small files, which the big ones would hide.
        name = (
            random_places.choice(sorted(files))
            if trial % 2
            else random_places.choice([name for name in sorted(files) if name.startswith("shard")])
        )
        # A shard's header is mostly padding, so half the places in shards are in its text.
        end = 740 if name.startswith("shard") and random_places.random() < 0.5 else len(files[name])
        place, flip = random_places.randrange(end), random_places.randrange(1, 256)
        damaged = bytearray(files[name])
        damaged[place] ^= flip
        (tmp_path / name).write_bytes(damaged)
        in_header = name in {"manifest.json", "tail.safetensors"} or (name.startswith("shard") and place < 4096)
        try:
            store = Store(tmp_path)
        except FormatError as error:
            assert name in str(error)
            assert in_header
            refused_at_opening += 1
        else:
            assert not in_header
            try:
                store.verify()
            except FormatError as error:
                assert name in str(error)
            else:  # a character of the card's JSON that changes none of its values
                assert name == "card.json"
                harmless += 1
                for field, values in store.rows(rows).items():
                    np.testing.assert_array_equal(values, truth[field])
                assert store.card == card
        (tmp_path / name).write_bytes(files[name])
    assert refused_at_opening > 50
    assert harmless < 20
    Store(tmp_path).verify()


def test_a_damaged_profile_is_refused_and_healed(tmp_path):
    write(tmp_path / "a", encoding=TopK(3))
    write(tmp_path / "b", draw(seed=1), encoding=TopK(3), teacher_digest="other")
    path = tmp_path / "a" / "tail.safetensors"
    whole, before = path.read_bytes(), contents(tmp_path / "a")
    foreign = (tmp_path / "b" / path.name).read_bytes()
    for content in (whole[:-1], whole + b"x", whole[:100], b"", whole[:-1] + b"\x55", foreign, None):
        path.unlink()
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(FormatError, match="tail.safetensors"):
            Store(tmp_path / "a")
    write(tmp_path / "a", encoding=TopK(3))
    assert contents(tmp_path / "a") == before
    # One that was made of other answers, and sealed: the manifest names another.
    settings = {"encoding": TopK(3)}
    write(tmp_path / "c", draw(seed=2), **settings)
    path.write_bytes((tmp_path / "c" / path.name).read_bytes())
    with pytest.raises(FormatError, match=r"tail\.safetensors.*not the one that the manifest names"):
        Store(tmp_path / "a")


def test_a_store_of_an_older_limbeck_says_what_to_do(tmp_path):
    write(tmp_path, encoding=TopK(3))
    path = tmp_path / "manifest.json"
    content = json.loads(path.read_text())
    content["plan"]["encoding"]["tail"] = "spread evenly"
    older = {"format": 1, "plan": content["plan"], "shards": content["shards"], "checksum": "0" * 64}
    blank = json.dumps(older, indent=1, ensure_ascii=False) + "\n"
    older["checksum"] = hashlib.sha256(blank.encode()).hexdigest()
    path.write_text(json.dumps(older, indent=1, ensure_ascii=False) + "\n")
    with pytest.raises(FormatError, match="as an older Limbeck kept them: write the store again"):
        Store(tmp_path)


def test_truncated_swapped_and_missing_files_are_refused(tmp_path):
    write(tmp_path / "a", shard_bytes=480)
    write(tmp_path / "b", draw(seed=1), shard_bytes=480)
    first, second = (tmp_path / "a" / f"shard-0000{number}.safetensors" for number in (0, 1))
    one, two = first.read_bytes(), second.read_bytes()
    foreign = (tmp_path / "b" / first.name).read_bytes()
    for content in (one[:-1], one + b"x", one[:4096], one[:100], b"", two, foreign):
        first.write_bytes(content)
        with pytest.raises(FormatError, match="shard-00000"):
            Store(tmp_path / "a")
    first.unlink()
    with pytest.raises(FormatError, match="shard-00000"):
        Store(tmp_path / "a")
    with pytest.raises(FormatError, match=r"manifest\.json"):
        Store(tmp_path)


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", '{"format": 1}', '{"format": 2, "plan": {}}', "{" * 5000])
def test_a_file_that_is_no_manifest_is_refused(tmp_path, text):
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(FormatError, match=r"manifest\.json"):
        Store(tmp_path)


def test_an_edited_manifest_is_refused(tmp_path):
    write(tmp_path)
    path = tmp_path / "manifest.json"
    content = json.loads(path.read_text())
    content["plan"]["temperature"] = 2.0
    path.write_text(json.dumps(content, indent=1) + "\n")
    with pytest.raises(FormatError, match="damaged or edited"):
        Store(tmp_path)


def test_a_writer_starts_without_torch():
    code = "import sys, limbeck.softtargets as s; s.write_arrays; s.Store; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"


_WRITER = """
import sys, time
import numpy as np
from limbeck.softtargets import TopK, write_arrays

def blocks(first):
    for row in range(first, 6000, 50):
        generator = np.random.default_rng(row)
        if float(sys.argv[2]):
            time.sleep(float(sys.argv[2]))
        yield (4 * generator.normal(size=(50, 12))).astype(np.float32)

print("ready", flush=True)
write_arrays(sys.argv[1], blocks, classes=tuple("abcdefghijkl"), examples=3000, views=2, encoding=TopK(3),
             shard_bytes=50 * 8 * 15, card_rows=None)
"""


def _kills(tmp_path, times, seed):
    """Kill a writer at random moments; after each kill a copy of what it left is finished, and must be the whole."""

    def start(folder, pause):
        arguments = [sys.executable, "-c", _WRITER, str(folder), str(pause)]
        return subprocess.Popen(arguments, stdout=subprocess.PIPE)

    def finish(folder):
        with start(folder, 0) as process:
            assert process.wait() == 0
        return contents(folder)

    whole, chance, killed = finish(tmp_path / "whole"), random.Random(seed), 0
    with start(tmp_path / "timed", 0.002) as process:
        assert process.stdout is not None
        process.stdout.readline()
        began = time.perf_counter()
        assert process.wait() == 0
        took = time.perf_counter() - began
    folder, shards_seen = tmp_path / "killed", set()
    for number in range(times):
        with start(folder, 0.002) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(chance.uniform(0, 0.7 * took))
            process.send_signal(signal.SIGKILL)
            killed += process.wait() == -signal.SIGKILL
        left = contents(folder) if folder.exists() else {}
        shards_seen.add(sum(name.startswith("shard") for name in left))
        for name, octets in left.items():
            if not name.startswith(".") and name not in {"manifest.json", "card.json"}:
                assert octets == whole[name]
        copied = tmp_path / f"copy-{number}"
        if left:
            shutil.copytree(folder, copied)
        assert finish(copied) == whole
        Store(copied).verify()
        if left == whole or chance.random() < 0.5:  # begin another store now and then, so that every stage is hit
            shutil.rmtree(folder, ignore_errors=True)
    return killed, shards_seen


def test_killed_at_any_moment_it_ends_in_the_same_bytes(tmp_path):
    killed, _ = _kills(tmp_path, 3, seed=0)
    assert killed >= 1


@pytest.mark.slow
def test_killed_thirty_times_it_ends_in_the_same_bytes_each_time(tmp_path):
    killed, shards_seen = _kills(tmp_path, 30, seed=1)
    assert killed >= 20
    assert len(shards_seen) > 4


def test_a_full_disk_is_reported_and_leaves_what_was_there(tmp_path):
    code = """
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))
import numpy as np
from limbeck.errors import RunError
from limbeck.softtargets import Dense, write_arrays
try:
    write_arrays(sys.argv[1], [np.zeros((900, 12))], classes="abcdefghijkl", examples=900, encoding=Dense(),
                 shard_bytes=24 * 400)
except RunError as error:
    print(error)
"""
    found = subprocess.run([sys.executable, "-c", code, str(tmp_path / "full")], capture_output=True, text=True)
    assert "cannot write" in found.stdout
    assert "too large" in found.stdout
    assert not list((tmp_path / "full").glob("shard-*"))
    settings = {"classes": "abcdefghijkl", "examples": 900, "encoding": Dense(), "shard_bytes": 24 * 400}
    write_arrays(tmp_path / "full", [np.zeros((900, 12))], **settings)
    Store(tmp_path / "full").verify()


def test_more_shards_than_files_may_be_open(tmp_path, monkeypatch):
    monkeypatch.setattr("limbeck.softtargets.shard_files._OPEN", 3)
    scores = draw()
    write(tmp_path, scores, shard_bytes=24 * 5)
    store = Store(tmp_path, mapped_bytes=0)
    assert store.plan.shards == 18
    expected = Dense().encode(scores, np.arange(90), np.arange(90))["scores"]
    for seed in range(5):
        rows = np.random.default_rng(seed).integers(0, 90, 40)
        np.testing.assert_array_equal(store.rows(rows)["scores"], expected[rows])
        assert len(store.files._handles) <= 3
    assert store.rows(np.array([], np.int64))["scores"].shape == (0, 12)
