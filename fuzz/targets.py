"""A function a reader: it reads some bytes as that kind of file, to the end."""

__all__ = ["TARGETS"]

import os
import shutil
import signal
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path

import numpy as np

import scenes
from limbeck.cli.settings import read_settings
from limbeck.errors import DataError, LimbeckError
from limbeck.formats._subprocess import limit_memory
from limbeck.formats.idx import read_idx
from limbeck.formats.image_arrays import read_pictures
from limbeck.formats.keras_h5 import read_here
from limbeck.formats.matfile import read_emnist
from limbeck.formats.npz import read_npz
from limbeck.kaldi.formats.nnet1 import read_nnet
from limbeck.kaldi.formats.scp import read_entries, read_scp
from limbeck.kaldi.formats.sniff import identify
from limbeck.kaldi.formats.table import read_ark
from limbeck.kaldi.formats.transition_model import read_alignments, read_transition_model
from limbeck.kaldi.nnet3.computing import Computer
from limbeck.kaldi.nnet3.model import read_nnet3, write_nnet3
from limbeck.kaldi.nnet3.module import Nnet3Module
from limbeck.runs.folder import RunFolder
from limbeck.runs.models import load
from limbeck.softtargets import SoftTargets
from limbeck.softtargets.manifest import Manifest
from limbeck.system.files import read_json
from limbeck.training.checkpoint import load_latest, load_tensors

ROOT = Path(tempfile.mkdtemp(prefix="limbeck-fuzz-", dir="/dev/shm" if os.path.isdir("/dev/shm") else None))
STORE = ROOT / "store"
MODEL = ROOT / "model"


def _put(name: str, data: bytes) -> Path:
    path = ROOT / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def idx(data: bytes) -> None:
    """MNIST's format, gzipped or not."""
    read_idx(_put("a.idx", data))


def mat(data: bytes) -> None:
    """EMNIST's .mat files."""
    read_emnist(_put("a.mat", data))


def npz(data: bytes) -> None:
    """Archives of numpy."""
    read_npz(_put("a.npz", data))


def picture(data: bytes) -> None:
    """A folder of pictures; the first byte says what this one claims to be."""
    endings = (".png", ".jpg", ".gif", ".bmp", ".tif", ".pgm", ".webp")
    folder = ROOT / "pictures"
    shutil.rmtree(folder, ignore_errors=True)
    _put(f"pictures/a/1{endings[data[0] % len(endings)] if data else '.png'}", data[1:])
    read_pictures(folder)


def ark(data: bytes) -> None:
    """Kaldi archives; the first byte says of what."""
    kinds = ("matrix", "vector", "integers", "posterior")
    for _ in read_ark(_put("a.ark", data[1:]), kinds[data[0] % 4 if data else 0]):
        pass


def scp(data: bytes) -> None:
    """Kaldi script files, and what they point at in their own folder."""
    entries = read_scp(_put("scp/a.scp", data), root=ROOT / "scp")
    for _ in read_entries(entries):
        pass


def nnet1(data: bytes) -> None:
    """Kaldi nnet1 networks, text and binary."""
    read_nnet(_put("a.nnet", data))


def nnet3(data: bytes) -> None:
    """Networks of nnet3, raw and in a final.mdl: read, written in both modes, run."""
    model = read_nnet3(_put("a.mdl", data))
    identify(ROOT / "a.mdl")
    for binary in (True, False):
        try:
            write_nnet3(ROOT / "b.mdl", model, binary=binary)
        except DataError:  # text has no infinity, and a tag that is not known stays in its mode
            continue
        read_nnet3(ROOT / "b.mdl")
    module = Nnet3Module(model.nnet)
    if module.dim <= 100 and module.ivector_dim <= 100:
        with np.errstate(all="ignore"):
            Computer(module)(np.ones((20, module.dim), np.float32), np.ones(module.ivector_dim, np.float32)
                             if module.ivector_dim else None)  # fmt: skip


def transitions(data: bytes) -> None:
    """The transition model in Kaldi's final.mdl."""
    read_transition_model(_put("a.mdl", data))


def alignments(data: bytes) -> None:
    """Kaldi's alignments."""
    for _ in read_alignments(_put("ali.1.gz", data)):
        pass


class _Reader:
    """A process that reads HDF5 files one after the other; another takes its place when a file was its end."""

    seconds, files = 2, 1000

    def __init__(self) -> None:
        self.pid = 0
        self.left = 0

    def read(self, path: Path, octets: int) -> None:
        """Have a file read, with as much memory more as is told.

        Raises:
            RuntimeError: If an error that is not ours came out.
        """
        if self.left == 0:
            self.begin()
        self.left -= 1
        os.write(self.ask, f"{path} {octets}\n".encode())
        told = os.read(self.hear, 1)
        if told == b"e":
            raise RuntimeError("an error that is not ours came out of the reader")
        if not told:  # the library hung or crashed, which the reader bears too: it is in a process of its own
            self.left = 0

    def begin(self) -> None:
        """Start a process, and end the one before."""
        if self.pid:
            os.close(self.ask)
            os.close(self.hear)
            os.waitpid(self.pid, 0)
        orders, self.ask = os.pipe()
        self.hear, answers = os.pipe()
        self.left = self.files
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self.ask)
            os.close(self.hear)
            try:
                self.serve(orders, answers)
            finally:
                os._exit(0)
        os.close(orders)
        os.close(answers)

    def serve(self, orders: int, answers: int) -> None:
        """What the process does: a byte for each file."""
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        with os.fdopen(orders) as lines:
            for line in lines:
                path, octets = line.rsplit(" ", 1)
                signal.alarm(self.seconds)
                try:
                    limit_memory(int(octets))
                    read_here(path)
                    told = b"r"
                except (LimbeckError, MemoryError):
                    told = b"r"
                except BaseException:
                    traceback.print_exc()
                    told = b"e"
                signal.alarm(0)
                os.write(answers, told)


_READER = _Reader()


def hdf5(data: bytes) -> None:
    """Dense layers as Keras keeps them, in a child as the reader does it; what the HDF5 library does to it is borne."""
    _READER.read(_put("a.h5", data), (100 << 20) + 4 * len(data))


def checkpoint(data: bytes) -> None:
    """A checkpoint, alone and as the newest of a folder."""
    path = _put("checkpoints/latest.safetensors", data)
    load_latest(path.parent)
    load_tensors(path)


def model_weights(data: bytes) -> None:
    """A model's weights beside a good description."""
    shutil.copyfile(MODEL / "config.json", _put("m1/config.json", b""))
    _put("m1/model.safetensors", data)
    load(ROOT / "m1")


def model_config(data: bytes) -> None:
    """A model's description beside good weights."""
    _put("m2/config.json", data)
    shutil.copyfile(MODEL / "model.safetensors", ROOT / "m2/model.safetensors")
    load(ROOT / "m2")


def ensemble(data: bytes) -> None:
    """The description of an ensemble."""
    load(_put("e/ensemble.json", data).parent)


def toml(data: bytes) -> None:
    """Settings."""
    path = _put("run/config.toml", data)
    read_settings(path)
    RunFolder(path.parent).config()


def json(data: bytes) -> None:
    """Metrics and history."""
    folder = RunFolder(_put("json/metrics.json", data).parent)
    _put("json/history.jsonl", data)
    read_json(folder.path / "metrics.json")
    folder.history()


def _copy_of_store(name: str) -> Path:
    """A store of which one file is always written anew, and the others are good."""
    if not (ROOT / name).exists():
        shutil.copytree(STORE, ROOT / name)
    return ROOT / name


def manifest(data: bytes) -> None:
    """The manifest of a store of soft targets."""
    folder = _copy_of_store("s1")
    (folder / "manifest.json").write_bytes(data)
    Manifest.read(folder)
    SoftTargets.open(folder).verify()


def shard(data: bytes) -> None:
    """A shard of a store of soft targets."""
    folder = _copy_of_store("s2")
    next(folder.glob("*-*.safetensors")).write_bytes(data)
    SoftTargets.open(folder).verify()


def tail(data: bytes) -> None:
    """The profile of the tails that a store of top-k targets has."""
    folder = _copy_of_store("s3")
    (folder / "tail.safetensors").write_bytes(data)
    SoftTargets.open(folder).verify()


def forward(data: bytes) -> None:
    """``limbeck forward``: networks, features, and what is done before and after."""
    scenes.forward(data, ROOT / "forward")


def decode(data: bytes) -> None:
    """``limbeck decode``: a graph, its transition model and words, and log-likelihoods or a network's features."""
    scenes.decode(data, ROOT / "decode")


TARGETS: dict[str, Callable[[bytes], None]] = {
    function.__name__: function
    for function in (
        idx, mat, npz, picture, ark, scp, nnet1, nnet3, transitions, alignments, hdf5, checkpoint, model_weights,
        model_config, ensemble, toml, json, manifest, shard, tail, forward, decode,
    )
}  # fmt: skip
