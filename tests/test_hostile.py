"""Every reader, on damaged and hostile files: only our own errors come out, within four times the size and 100 MB.

The readers and their good files are those of ``fuzz/``, where a guided search looks further.
"""

import gzip
import json
import resource
import struct
import time
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from limbeck.data import Examples, Feed
from limbeck.errors import FormatError, LimbeckError, RunError
from limbeck.options import Training
from limbeck.system.devices import Device
from limbeck.training.checkpoint import load_tensors, save_tensors
from limbeck.training.engine import fit
from limbeck.training.objective import LabelObjective
from seeds import make_seeds
from structured import make
from targets import ROOT, TARGETS

_SEEDS: dict[str, list[bytes]] = {}
# Lengths and counts that people who write hostile files like.
_NUMBERS = [struct.pack("<I", n) for n in (0, 1, 0x7FFFFFFF, 0xFFFFFFFF)] + [
    struct.pack("<Q", 1 << n) for n in (40, 62)
]
_WORDS = [
    b"\0" * 9,
    b"[" * 3000,
    b'"' * 9,
    b"../" * 9,
    b"-1",
    b"1e999",
    b"99999999999999999999",
    b"\xff\xfe",
    b"\n" * 99,
    b"nan",
]


def good(target: str) -> list[bytes]:
    if target not in _SEEDS:
        _SEEDS[target] = make_seeds(target)
    return _SEEDS[target]


@st.composite
def damaged(draw, target: str) -> bytes:
    """A good file with a few bytes replaced, put in, taken out, doubled or cut off."""
    content = bytearray(draw(st.sampled_from(good(target))))
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, max(0, len(content) - 1)))
        piece = draw(st.one_of(st.binary(min_size=1, max_size=4), st.sampled_from(_NUMBERS), st.sampled_from(_WORDS)))
        match draw(st.sampled_from(["replace", "insert", "remove", "double", "cut"])):
            case "replace":
                content[place : place + len(piece)] = piece
            case "insert":
                content[place:place] = piece
            case "remove":
                del content[place : place + draw(st.integers(1, 64))]
            case "double":
                content[place:place] = content[place : place + 256]
            case "cut":
                del content[place:]
    return bytes(content)


def peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def attempt(target: str, content: bytes) -> bool:
    """Whether the file was read; anything but an error of ours fails the test, and so does too much memory or time."""
    before, began = peak(), time.monotonic()
    try:
        TARGETS[target](content)
        read = True
    except LimbeckError as error:
        assert "\n" not in str(error).strip() or target == "scp"
        read = False
    assert peak() - before <= 4 * len(content) + (100 << 20), f"{target}: {len(content)} bytes took {peak() - before}"
    assert time.monotonic() - began < 20
    return read


@pytest.mark.parametrize("target", [*TARGETS])
def test_good_files_are_read(target):
    """Otherwise the search below would start nowhere."""
    found = [attempt(target, content) for content in good(target)]
    assert any(found) or target == "ensemble"  # an ensemble's members are not beside it


@pytest.mark.parametrize("target", [*TARGETS])
def test_damaged_files_are_read_or_refused(target):
    quick = {"max_examples": 12 if target in {"hdf5", "manifest", "shard", "tail"} else 30}
    busy = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example]

    @settings(suppress_health_check=busy, **(quick if settings().derandomize else {}))
    @given(damaged(target))
    def search(content: bytes) -> None:
        attempt(target, content)

    search()


def safetensors_of(header: bytes, data: bytes = b"") -> bytes:
    return struct.pack("<Q", len(header)) + header + data


HUGE = json.dumps({"a": {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 1 << 42]}}).encode()
PROMISES = {
    "checkpoint": [
        struct.pack("<Q", 1 << 40),
        safetensors_of(HUGE),
        safetensors_of(b'{"a":{"dtype":"F32","shape":[1099511627776,0],"data_offsets":[0,0]}}'),
        safetensors_of(b'{"__metadata__":{"state":"' + b"[" * 100_000 + b'","sha256":"0"}}'),
    ],
    "model_weights": [safetensors_of(HUGE)],
    "model_config": [
        b'{"model_type":"limbeck-mlp","input_shape":[1000000000],"classes":1000000,"hidden":[1000000]}',
        b'{"model_type":"own","source":"os:getcwd"}',
        b"[" * 200_000,
    ],
    "ensemble": [b'{"members": 1e30, "mean": "geometric"}', b'{"members": 1000000000, "mean": "geometric"}'],
    "toml": [b"a = " + b"[" * 100_000, b"[a." + b"b." * 50_000 + b"c]", b"a = " + b"9" * 60_000, b"#" * 70_000],
    "json": [b"[" * 200_000, b'{"a":' * 100_000, b"1" * 1_000_000],
    "ark": [
        b"\0a \0BFM \4" + struct.pack("<i", 1 << 30) + b"\4" + struct.pack("<i", 1 << 30),
        b"\3a \0B\4" + struct.pack("<i", 1 << 26) + b"\4" + struct.pack("<i", (1 << 31) - 1),
    ],
    "alignments": [gzip.compress(b"a \0B\4" + struct.pack("<i", 1 << 30) + b"\0" * (64 << 20))],
    "idx": [
        b"\0\0\x08\3" + struct.pack(">III", 1 << 31, 1 << 31, 1 << 31),
        gzip.compress(b"\0\0\x08\1\x40" + bytes(64 << 20)),
    ],
    "nnet1": [b"\0B<AffineTransform> \4" + struct.pack("<i", 1 << 30) + b"\4" + struct.pack("<i", 1 << 30)],
    "nnet3": [
        b"\0B<Nnet3> \n\n<NumComponents> \4" + struct.pack("<i", (1 << 31) - 1),
        b"\0B<Nnet3> \n\n<NumComponents> \4\1\0\0\0<ComponentName> a <AffineComponent> <LinearParams> FM \4"
        + struct.pack("<i", 1 << 30)
        + b"\4"
        + struct.pack("<i", 1 << 30),
        b"<Nnet3> \ninput-node name=input dim=1\noutput-node name=output input=" + b"Sum(" * 3000,
    ],
    "scp": [
        b"a ../../../etc/hostname:0\n",
        b"a /dev/zero\n",
        b"a /dev/stdin:0\n",
        b"a rm -rf / |\n",
        b"a feats.ark:99999999999999999999\n",
        b"a feats.ark:7[0:999999999999]\n",
    ],
    "transitions": [b"\0B<TransitionModel> <Topology> \4" + struct.pack("<i", 0x7FFFFFFF)],
}


@pytest.mark.parametrize(("target", "content"), [(name, file) for name, files in PROMISES.items() for file in files])
def test_files_that_promise_terabytes_or_lead_elsewhere_are_refused(target, content):
    assert not attempt(target, content)


_HOLES = ["fingerprint", "epoch", "step", "seconds", "schedule", "best_score", "best_epoch", "history", "timings"]
_HOLES += ["random", "sums", "model.weight", "optimizer.0.exp_avg"]


@pytest.mark.parametrize("hole", _HOLES)
@pytest.mark.parametrize("value", ["gone", [], {}, -1, "text"])
def test_a_checkpoint_with_a_good_checksum_and_a_bad_state(tmp_path, hole, value):
    """Anybody can make a checksum: what was read is believed no more than the file was."""
    x = torch.rand(16, 3, generator=torch.Generator().manual_seed(0))
    feed = Feed(Examples.of(x, (x[:, 0] > 0.5).long()), batch_size=4, seed=0)
    place = Device(torch.device("cpu"), "float32")

    def go(epochs, resume):
        torch.manual_seed(0)
        training = Training(epochs=epochs, batch_size=4)
        fit(torch.nn.Linear(3, 2), LabelObjective(), feed, training, place, folder=tmp_path, resume=resume)

    go(1, False)
    path = tmp_path / "latest.safetensors"
    tensors, state = load_tensors(path)
    (tmp_path / "previous.safetensors").unlink(missing_ok=True)
    if hole in tensors:
        if isinstance(value, list):
            tensors[hole] = torch.zeros(1)
        else:
            del tensors[hole]
    elif value == "gone":
        del state[hole]
    else:
        state[hole] = value
    save_tensors(path, tensors, state)
    harmless = (hole, value) in [("best_epoch", -1), ("seconds", -1)]
    try:
        go(2, True)
        assert harmless
    except (RunError, FormatError) as error:
        assert str(tmp_path) in str(error)


FOUND = sorted((Path(__file__).parent / "fixtures" / "hostile").glob("*-*"))


@pytest.mark.parametrize("path", FOUND, ids=lambda path: path.name)
def test_what_was_found_before_is_refused(path):
    """Inputs that hung, crashed or warned: a file's name is its target and what was wrong with it."""
    target = path.name.split("-")[0]
    good(target)
    assert not attempt(target, path.read_bytes())


@pytest.mark.parametrize("target", [*TARGETS])
def test_structured_damage_is_read_or_refused(target):
    """The first few of the inputs that ``fuzz/structured.py`` tries by the thousand."""
    for number in range(4 if target == "hdf5" else 12):
        attempt(target, make(target, seed=20, number=number))


def test_structured_damage_is_a_function_of_its_seed_and_number():
    for target in ("decode", "npz", "model_config"):
        first = [make(target, seed=1, number=number) for number in range(30)]
        assert first == [make(target, seed=1, number=number) for number in range(30)]
        assert len(set(first)) > 20 and first != [make(target, seed=2, number=number) for number in range(30)]


def test_a_store_cannot_lead_out_of_its_folder(tmp_path):
    """Names of shards come from their numbers, and never out of the manifest."""
    manifest, _ = make_seeds("manifest")
    text = manifest.decode()
    assert "safetensors" not in text and "/" not in json.dumps(json.loads(text).get("seals", ""))
    assert ROOT.is_dir()
