"""The first inputs of each reader: the fixtures of the tests, and what Limbeck and others write."""

__all__ = ["make_seeds", "standard_graph"]

import gzip
import io
import json
import struct
from pathlib import Path

import numpy as np
import scipy.io
import torch
from PIL import Image

from limbeck.formats.idx import write_idx
from limbeck.formats.keras_h5 import DenseLayer, write_keras_h5
from limbeck.kaldi.formats.cmvn import accumulate_cmvn
from limbeck.kaldi.formats.post import posterior_bytes, sparse_posteriors
from limbeck.kaldi.formats.table import read_ark
from limbeck.kaldi.formats.write import write_ark
from limbeck.models import MLP, MLPConfig
from limbeck.runs.models import save_model
from limbeck.softtargets import Dense, TopK, write_arrays
from limbeck.training.checkpoint import save_tensors
from scenes import pack
from targets import MODEL, ROOT, STORE

FIXTURES = Path(__file__).parent.parent / "tests" / "fixtures" / "kaldi"


def make_seeds(target: str) -> list[bytes]:
    """Good inputs of one reader, small ones; also makes the good files that bad ones are put beside."""
    random = np.random.default_rng(0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = MLP(MLPConfig(input_shape=(3,), classes=2, hidden=(2,)))
    save_model(MODEL, net, classes=["a", "b"], overwrite=True)
    if not STORE.exists():
        scores = random.normal(size=(3, 4)).astype(np.float32)
        write_arrays(STORE, [scores], classes="abcd", examples=3, encoding=TopK(1), labels=np.zeros(3, int))
        write_arrays(ROOT / "dense", [scores], classes="abcd", examples=3, encoding=Dense())
    return _MAKERS[target](random)


def _kaldi(*patterns: str, first: bytes = b"") -> list[bytes]:
    paths = [path for pattern in patterns for path in sorted(FIXTURES.rglob(pattern))]
    return [first + path.read_bytes() for path in paths if path.is_file() and path.stat().st_size < 20_000]


def _idx(random: np.random.Generator) -> list[bytes]:
    write_idx(ROOT / "seed.idx", random.integers(0, 255, (3, 4, 4)).astype(np.uint8))
    plain = (ROOT / "seed.idx").read_bytes()
    return [plain, gzip.compress(plain, mtime=0), b"\0\0\x0d\1\0\0\0\2" + bytes(8)]


def _mat(random: np.random.Generator) -> list[bytes]:
    part = {"images": random.integers(0, 255, (2, 784)).astype(np.uint8), "labels": np.array([[1], [2]], np.uint8)}
    whole = {"train": part, "test": part, "mapping": np.array([[1, 65, 97], [2, 66, 98]], np.uint8)}
    found = []
    for compressed in (True, False):
        buffer = io.BytesIO()
        scipy.io.savemat(buffer, {"dataset": whole}, do_compression=compressed)
        found.append(b"MATLAB 5.0 MAT-file".ljust(116) + buffer.getvalue()[116:])  # without the date
    return found


def _npz(random: np.random.Generator) -> list[bytes]:
    found = []
    for save in (np.savez, np.savez_compressed):
        buffer = io.BytesIO()
        save(buffer, x=random.random((2, 3)), y=np.arange(2), classes=np.array(["a", "b"]))
        found.append(buffer.getvalue())
    return found


def _picture(random: np.random.Generator) -> list[bytes]:
    found = []
    for number, kind in enumerate(("PNG", "JPEG", "GIF", "BMP", "TIFF", "PPM", "WEBP")):
        buffer = io.BytesIO()
        Image.fromarray(random.integers(0, 255, (6, 5)).astype(np.uint8)).convert("RGB").save(buffer, kind)
        found.append(bytes([number]) + buffer.getvalue())
    return found


def _ark(_: np.random.Generator) -> list[bytes]:
    kinds = [_kaldi("*.ark", first=bytes([kind])) for kind in (0, 1)] + [_kaldi("ali*", first=b"\2")]
    pairs = sparse_posteriors(np.array([[0.25, 0.75], [0.5, 0.5]], np.float32), least=0.1)
    posteriors = [b"\3a \0B" + b"".join(posterior_bytes(pairs, binary=True))]
    posteriors += [b"\3a " + b"".join(posterior_bytes(pairs, binary=False))]
    return [content for found in (*kinds, posteriors) for content in found]


def _scp(_: np.random.Generator) -> list[bytes]:
    (ROOT / "scp").mkdir(exist_ok=True)
    (ROOT / "scp" / "feats.ark").write_bytes((FIXTURES / "e2e" / "feats.ark").read_bytes())
    return [b"utt000 feats.ark:7\nutt001 feats.ark:1053\n", b"a feats.ark:7[0:1,0:2]\n", b"a cat x |\n", b"a ../x:1\n"]


def _hdf5(random: np.random.Generator) -> list[bytes]:
    layers = [DenseLayer("one", random.random((3, 2)).astype(np.float32), random.random(2).astype(np.float32))]
    write_keras_h5(ROOT / "seed.h5", layers)
    return [(ROOT / "seed.h5").read_bytes()]


def _checkpoint(_: np.random.Generator) -> list[bytes]:
    save_tensors(ROOT / "seed.safetensors", {"a": torch.ones(2), "b": torch.zeros(1, dtype=torch.int64)}, {"epoch": 1})
    return [(ROOT / "seed.safetensors").read_bytes()]


def _archive(entries: dict[str, np.ndarray], *, text: bool = False) -> bytes:
    write_ark(ROOT / "seed.ark", entries, text=text)
    return (ROOT / "seed.ark").read_bytes()


def _forward(_: np.random.Generator) -> list[bytes]:
    tiny, relu = ((FIXTURES / name).read_bytes() for name in ("tiny.nnet.bin", "relu.nnet.txt"))
    counts, splice = (FIXTURES / "pdf.counts").read_bytes(), (FIXTURES / "splice2.nnet.txt").read_bytes()
    feats, raw = dict(read_ark(FIXTURES / "feats.txt.ark")), dict(read_ark(FIXTURES / "raw3.txt.ark"))
    first = next(iter(feats))
    stats = _archive({"s": accumulate_cmvn(feats[first])})
    speakers = "".join(f"{key} s\n" for key in feats).encode()
    wide = b'{"left_context": 2, "right_context": 2}'
    logs = b'{"apply_log": true, "prior_scale": 0.5}'
    return [
        pack({"net": tiny, "feats.ark": _archive(feats, text=True)}),
        pack({"net": tiny, "net2": tiny, "feats.ark": _archive(feats), "options": b'{"mean": "geometric"}'}),
        pack({"net": tiny, "feats.ark": _archive(feats), "counts": counts, "options": logs}),
        pack({"net": relu, "feats.ark": _archive(raw), "transform": splice, "options": b'{"no_softmax": true}'}),
        pack({"net": relu, "feats.ark": _archive(raw, text=True), "options": wide}),
        pack({"net": tiny, "feats.ark": _archive({first: feats[first]}),
              "feats.scp": f"{first} feats.ark:{len(first) + 1}[0:1,0:2]\n".encode()}),
        pack({"net": tiny, "feats.ark": _archive(feats), "cmvn.ark": stats, "cmvn.scp": b"s cmvn.ark:2\n",
              "utt2spk": speakers, "options": b'{"cmvn": "speaker", "norm_vars": true}'}),
    ]  # fmt: skip


def _decode(random: np.random.Generator) -> list[bytes]:
    place = FIXTURES / "e2e"
    names = {"HCLG.fst": "HCLG.fst", "words.txt": "words.txt", "final.mdl": "mono.mdl"}
    graph = {name: (place / file).read_bytes() for name, file in names.items()}
    feats = dict(read_ark(place / "feats.ark"))
    few = {key: feats[key] for key in list(feats)[:2]}
    scores = {key: random.normal(0, 3, (20, 6)).astype(np.float32) for key in few}
    said = b"".join(line for line in (place / "text").read_bytes().splitlines(True)[:2])
    chosen = [(place / name).read_bytes() for name in ("final.nnet", "final.feature_transform", "ali_train_pdf.counts")]
    network = dict(zip(("net", "transform", "counts"), chosen, strict=True))
    loops = standard_graph([(0.0, [(3, 1, 0.5, 1), (0, 0, 0.25, 0)]), (0.5, [(0, 2, 0.5, 0), (4, 0, 1.0, 1)])])
    scale = b'{"acoustic_scale": 0.2, "beam": 8.0}'
    return [
        pack({**graph, "loglikes.ark": _archive(scores), "text": said, "options": scale}),
        pack({**graph, "loglikes.ark": _archive(scores, text=True), "HCLG.fst": loops}),
        pack({**graph, **network, "feats.ark": _archive(few), "text": said}),
    ]


def standard_graph(states: list[tuple[float, list[tuple[int, int, float, int]]]], start: int = 0) -> bytes:
    """A graph in OpenFst's vector form: for each state its final weight and its arcs (input, output, weight, next)."""
    names = b"".join(struct.pack("<i", len(name)) + name for name in (b"vector", b"standard"))
    arcs = sum(len(found) for _, found in states)
    content = struct.pack("<I", 0x7EB2FDD6) + names + struct.pack("<iiQqqq", 2, 0, 0, start, len(states), arcs)
    for final, found in states:
        content += struct.pack("<fq", final, len(found))
        content += b"".join(struct.pack("<iifi", label, word, cost, to) for label, word, cost, to in found)
    return content


_MAKERS = {
    "idx": _idx,
    "mat": _mat,
    "npz": _npz,
    "picture": _picture,
    "ark": _ark,
    "scp": _scp,
    "nnet1": lambda _: _kaldi("*.nnet*", "*.kaldi.txt", "*.seed*", "nnet1_more/*.bin", "nnet1_more/parallel.txt"),
    "nnet3": lambda _: _kaldi(
        "nnet3/tdnn.bin",
        "nnet3/dropout_affine.bin",
        "nnet3/am.*mdl",
        "nnet3/am.txt",
        "nnet3/misc*.bin",
        "nnet3/ivec.bin",
    ),
    "transitions": lambda _: _kaldi("*.mdl"),
    "alignments": lambda _: _kaldi("ali*.gz", "ali.txt"),
    "hdf5": _hdf5,
    "checkpoint": _checkpoint,
    "model_weights": lambda _: [(MODEL / "model.safetensors").read_bytes()],
    "model_config": lambda _: [(MODEL / "config.json").read_bytes()],
    "ensemble": lambda _: [json.dumps({"members": 2, "mean": "geometric"}).encode()],
    "toml": lambda _: [b'epochs = 3\nhidden = [8, 9]\ndata = "a.npz"\nx = 1979-05-27T07:32:00Z\n'],
    "json": lambda _: [b'{"epoch": 1, "loss": [0.5, null, "\\u00e9"]}\n{"epoch": 2}\n', b"{}"],
    "manifest": lambda _: [(folder / "manifest.json").read_bytes() for folder in (STORE, ROOT / "dense")],
    "shard": lambda _: [path.read_bytes() for path in STORE.glob("*-*.safetensors")],
    "tail": lambda _: [(STORE / "tail.safetensors").read_bytes()],
    "forward": _forward,
    "decode": _decode,
}
