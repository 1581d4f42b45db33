"""What it costs to train an acoustic model from archives on the disk instead of memory, and how much memory that takes.

    python benchmarks/speech_feed.py [--rounds 5] [--frames 400000] [--json FILE] [--quick]

A corpus is made up: utterances of 400 frames of 40 features, CM-compressed as ``copy-feats --compress=true`` writes
them, with random pdfs as labels. Two tables are printed.

- Epochs of a student of 200,000 parameters (440-128-128-1000, 11 frames of context, batches of 1,024) from memory and
  from the archive, by turns within one process; the ratio is of one round's times. Every epoch from the disk reads and
  decodes the whole archive again.
- Peak memory of processes that open such a corpus and go through an epoch of it from the disk, for a corpus and for
  one ten times as large; nothing but labels and numbers of the frames may grow.
"""

import argparse
import json
import platform
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from limbeck.data import Examples, Feed
from limbeck.kaldi.formats.transition_model import TransitionModel
from limbeck.kaldi.source import FrontEnd, Splicing, open_directory
from limbeck.kaldi.source.alignments import Alignment
from limbeck.kaldi.source.frames import open_frames
from limbeck.models import MLP, MLPConfig
from limbeck.options import Training
from limbeck.system.devices import Device, find_device
from limbeck.training.engine import fit
from limbeck.training.objective import LabelObjective
from memory_use import peak_bytes

LENGTH, FEATURES, PDFS, BATCH = 400, 40, 1000, 1024
CONTEXT = Splicing(tuple(range(-5, 6)))
MOST_FROM_DISK = 1.15
"""How many times as long training from the disk may take."""


def make_corpus(folder: Path, frames: int) -> None:
    """Write an archive and its script file; the same utterance contents come again, each in bytes of its own."""
    random = np.random.default_rng(0)
    marks = np.sort(random.integers(0, 65536, (FEATURES, 4)), 1).astype("<u2")
    codes = random.integers(0, 256, (LENGTH + 97) * FEATURES, np.uint8)
    header = b"\0BCM " + struct.pack("<ffii", -5.0, 20.0, LENGTH, FEATURES) + marks.tobytes()
    with (folder / "feats.ark").open("wb") as archive, (folder / "feats.scp").open("w") as script:
        for number in range(frames // LENGTH):
            key = f"speaker{number // 20:05d}-{number:07d}"
            archive.write(key.encode() + b" ")
            script.write(f"{key} {folder}/feats.ark:{archive.tell()}\n")
            archive.write(header + codes[number % 97 :][: LENGTH * FEATURES].tobytes())


def open_corpus(folder: Path, *, in_memory: bool) -> Examples:
    """Open it with labels that have nothing to do with the features."""
    directory = open_directory(folder)
    random = np.random.default_rng(1)
    pdfs = {entry.key: random.integers(0, PDFS, LENGTH, np.int16) for entry in directory.entries}
    nothing = np.zeros(1, np.int32)
    transitions = TransitionModel(nothing, nothing, PDFS, nothing, nothing.astype(np.uint64))
    examples, _ = open_frames(
        directory,
        FrontEnd(CONTEXT, cmvn="utterance"),
        labels=Alignment(pdfs, PDFS, transitions),
        in_memory_bytes=1e12 if in_memory else 0,
    )
    return examples


def train_epoch(examples: Examples, device: Device) -> float:
    """Seconds of one epoch of the student."""
    torch.manual_seed(0)
    student = MLP(MLPConfig(input_shape=(11, FEATURES), classes=PDFS, hidden=(128, 128)))
    training = Training(epochs=1, batch_size=BATCH, schedule="constant")
    feed = Feed(examples, batch_size=BATCH, seed=0)
    return float(fit(student, LabelObjective(), feed, training, device).timings[0]["seconds"])


def compare(folder: Path, rounds: int) -> dict[str, Any]:
    """Epochs from memory and from the disk by turns."""
    device = find_device("cpu", "auto")
    held, read = (open_corpus(folder, in_memory=in_memory) for in_memory in (True, False))
    train_epoch(held, device)
    times: dict[str, list[float]] = {"memory": [], "disk": []}
    for _ in range(rounds):
        times["memory"].append(train_epoch(held, device))
        times["disk"].append(train_epoch(read, device))
    ratios = [disk / memory for memory, disk in zip(times["memory"], times["disk"], strict=True)]
    return {
        "precision": device.precision,
        "frames": len(held),
        "frames_per_second": {way: len(held) / statistics.median(spent) for way, spent in times.items()},
        "disk_of_memory": {"min": min(ratios), "median": statistics.median(ratios), "max": max(ratios)},
    }


def peak_memory(folder: Path) -> dict[str, float]:
    """Peak memory of a process that reads one epoch from the disk, MB."""
    answer = subprocess.run(
        [sys.executable, __file__, "--one", str(folder)], capture_output=True, text=True, check=True
    )
    found: dict[str, float] = json.loads(answer.stdout)
    return found


def go_through(folder: Path) -> dict[str, float]:
    """Open a corpus and read an epoch of it, in this process."""
    examples = open_corpus(folder, in_memory=False)
    began = time.perf_counter()
    count = sum(len(batch.inputs) for batch in Feed(examples, batch_size=BATCH, seed=0).batches(0))
    seconds = time.perf_counter() - began
    return {"frames": count, "peak_mb": peak_bytes() / 1e6, "frames_per_second": count / seconds}


def main(words: list[str] | None = None) -> int:
    """Run it; 0 where the disk costs no more than it may."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--frames", type=int, default=400_000)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--quick", action="store_true", help="a small corpus: shows that it runs, and no more")
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args(words)
    if given.one is not None:
        print(json.dumps(go_through(given.one)))
        return 0
    if given.quick:
        given.rounds, given.frames = 1, 2000
    with tempfile.TemporaryDirectory() as scratch:
        small, large = Path(scratch, "small"), Path(scratch, "large")
        for folder, frames in ((small, given.frames), (large, 10 * given.frames)):
            folder.mkdir()
            make_corpus(folder, frames)
        found = compare(small, given.rounds)
        memory = [peak_memory(folder) for folder in (small, large)]
    ratio = found["disk_of_memory"]
    print(f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} thread(s), {found['precision']}")
    print("\nEpochs of a student of 200,000 parameters")
    print(f"{'from':10}{'frames/s':>12}")
    for way, rate in found["frames_per_second"].items():
        print(f"{way:10}{rate:12,.0f}")
    print(f"the disk takes {ratio['median']:.3f} times as long ({ratio['min']:.3f} to {ratio['max']:.3f})")
    print("\nPeak memory of an epoch from the disk")
    print(f"{'frames':>12}{'MB':>10}{'frames/s':>12}")
    for row in memory:
        print(f"{row['frames']:12,}{row['peak_mb']:10,.0f}{row['frames_per_second']:12,.0f}")
    more = memory[1]["frames"] - memory[0]["frames"]
    grown = 1e6 * (memory[1]["peak_mb"] - memory[0]["peak_mb"]) / more
    spliced = 4 * FEATURES * len(CONTEXT.offsets)
    print(f"{grown:.1f} bytes for each further frame; its spliced features would be {spliced:,}")
    if given.json is not None:
        given.json.write_text(json.dumps({**found, "memory": memory, "bytes_a_frame": grown}, indent=1))
    return 0 if given.quick or ratio["median"] <= MOST_FROM_DISK else 1


if __name__ == "__main__":
    sys.exit(main())
