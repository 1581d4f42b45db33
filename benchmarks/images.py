"""Image files as a source: memory from 1,000 to 50,000 JPEGs, and throughput against a plain DataLoader loop.

    python benchmarks/images.py [--quick] [--workers 2] [--repeats 5] [--json FILE]

Some hundred distinct JPEGs of 400 pixels are made and hard-linked to as many names as are wanted. For each number of
files a fresh process lists them, opens them as a data set and goes through batches of an augmented epoch; its growth is
that of the peak of the process and of its workers together, counted as proportional set size where the system tells it.

For ResNet-18 at 64 and at 224 pixels, images per second are counted for a training loop over ``Viewing`` and for one
over ``torch.utils.data.DataLoader`` that decodes with Pillow, crops, flips and normalises in its ``Dataset``: the same
files, workers, batches, network and optimiser, in one run, in turns. "inputs" leaves the network out. Listing the files
and making the network are not counted, the workers' start is.
"""

import argparse
import json
import math
import multiprocessing
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

PIXELS, DISTINCT, BATCH = 400, 200, 32
CLASSES = ("cat", "dog", "owl", "yak")


def make_files(folder: Path, count: int, *, pixels: int = PIXELS, distinct: int = DISTINCT) -> Path:
    """A folder of classes with JPEGs, of which some hundred differ."""
    source = folder / "distinct"
    if not source.exists():
        source.mkdir(parents=True)
        draw = np.random.default_rng(0)
        for number in range(distinct):
            coarse = Image.fromarray(draw.integers(0, 256, (12, 12, 3), dtype=np.uint8))
            fine = np.asarray(coarse.resize((pixels, pixels), Image.Resampling.BICUBIC)).astype(np.int16)
            noisy = (fine + draw.integers(-12, 13, fine.shape)).clip(0, 255).astype(np.uint8)
            Image.fromarray(noisy).save(source / f"{number}.jpg", quality=90)
    root = folder / f"files-{count}"
    for number in range(count):
        place = root / "train" / CLASSES[number % len(CLASSES)]
        if number < len(CLASSES):
            place.mkdir(parents=True, exist_ok=True)
        os.link(source / f"{number % distinct}.jpg", place / f"image-{number:07}.jpg")
    return root


def memory(processes: list[int]) -> int:
    """Bytes that processes take together; what they share is counted once."""
    total = 0
    for number in processes:
        try:
            for line in Path(f"/proc/{number}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1]) * 1024
        except OSError:
            continue
    return total


def children() -> list[int]:
    """This process and the workers that it has started."""
    return [os.getpid(), *(process.pid for process in multiprocessing.active_children() if process.pid)]


def measure_memory(root: str, workers: int, batches: int) -> int:
    """The peak of a process, in which files are opened as data and some batches of an epoch are made."""
    import torch

    from limbeck.data.image_folders import open_folder
    from limbeck.data.viewing import Viewing, in_parts
    from limbeck.options import Augmentation, ImagePresentation

    torch.set_num_threads(1)
    data = open_folder(Path(root), presentation=ImagePresentation(size=64))
    assert len(data.train.digest) == 64
    order = torch.randperm(len(data.train), generator=torch.Generator().manual_seed(0))
    viewing = Viewing(data.train, Augmentation(augment="standard"), workers=workers)
    peak = memory(children())
    for number, batch in enumerate(viewing.batches(order, in_parts(len(order), BATCH), view=1)):
        assert batch.inputs is not None
        if number % 10 == 0:
            peak = max(peak, memory(children()))
        if number == batches:
            break
    return peak


Batches = Callable[[], Iterator[Any]]


def photographs(files: Sequence[Path], classes: Sequence[str], size: int) -> Any:
    """A ``Dataset`` that decodes, crops, flips and normalises, as torchvision's transforms do."""
    import torch
    from torch.utils.data import Dataset

    mean, std = (torch.tensor(values).view(3, 1, 1) for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))

    class Photographs(Dataset[Any]):
        """Pixels and class of each file."""

        def __len__(self) -> int:
            return len(files)

        def __getitem__(self, row: int) -> Any:
            image = Image.open(files[row]).convert("RGB")
            top, left, high, wide = crop(image.height, image.width)
            image = image.crop((left, top, left + wide, top + high)).resize((size, size), Image.Resampling.BILINEAR)
            if random.random() < 0.5:
                image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
            pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous().float().div_(255)
            return pixels.sub_(mean).div_(std), classes.index(files[row].parent.name)

    return Photographs()


def plain_batches(root: Path, size: int, workers: int, count: int) -> Batches:
    """Batches of inputs and labels, as a loop of one's own makes them."""
    from torch.utils.data import DataLoader

    data = photographs(sorted((root / "train").glob("*/*.jpg"))[:count], CLASSES, size)
    loader = DataLoader(data, batch_size=BATCH, shuffle=True, num_workers=workers)
    return lambda: iter(loader)


def crop(height: int, width: int) -> tuple[int, int, int, int]:
    """A random resized crop, as torchvision draws it."""
    for _ in range(10):
        area = height * width * random.uniform(0.08, 1)
        aspect = math.exp(random.uniform(math.log(3 / 4), math.log(4 / 3)))
        wide, high = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if wide <= width and high <= height:
            return random.randint(0, height - high), random.randint(0, width - wide), high, wide
    return 0, 0, height, width


def our_batches(root: Path, size: int, workers: int, count: int) -> Batches:
    """Batches of the same from Limbeck's source."""
    import torch

    from limbeck.data.image_folders import open_folder
    from limbeck.data.viewing import Viewing, in_parts
    from limbeck.options import Augmentation, ImagePresentation

    examples = open_folder(root, presentation=ImagePresentation(size=size)).train.take(torch.arange(count))
    viewing = Viewing(examples, Augmentation(augment="standard"), workers=workers)
    assert examples.source  # the digest of the data, once a run

    def batches() -> Iterator[Any]:
        for batch in viewing.batches(torch.randperm(count), in_parts(count, BATCH), view=1):
            yield batch.inputs, batch.labels

    return batches


def rate(batches: Batches, trained: bool) -> float:
    """Images a second, from the first batch asked for to the last step."""
    import torch

    from limbeck.models.timm_models import make_timm

    model = make_timm("timm:resnet18", classes=len(CLASSES)) if trained else None
    optimizer = None if model is None else torch.optim.SGD(model.parameters(), 0.01)
    start, seen = time.perf_counter(), 0
    for inputs, labels in batches():
        seen += len(labels)
        if model is not None and optimizer is not None:
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(inputs), labels).backward()
            optimizer.step()
    return seen / (time.perf_counter() - start)


WAYS: dict[str, Callable[..., Batches]] = {"limbeck": our_batches, "plain": plain_batches}


def throughput(root: Path, size: int, workers: int, repeats: int, count: int, trained: bool) -> dict[str, Any]:
    """Both ways, in turns."""
    found: dict[str, list[float]] = {way: [] for way in WAYS}
    for turn in range(repeats):
        for way in list(WAYS)[:: 1 if turn % 2 == 0 else -1]:
            found[way].append(rate(WAYS[way](root, size, workers, count), trained))
    ratios = [ours / plain for ours, plain in zip(found["limbeck"], found["plain"], strict=True)]
    return {
        "size": size,
        "network": "resnet18" if trained else "inputs",
        "images_per_second": {way: statistics.median(rates) for way, rates in found.items()},
        "limbeck_of_plain": {"min": min(ratios), "median": statistics.median(ratios), "max": max(ratios)},
    }


def main(arguments: list[str] | None = None) -> int:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a few small files, once")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args(arguments)
    counts = (20, 200) if given.quick else (1_000, 10_000, 50_000)
    rates = {64: 48, 224: 48} if given.quick else {64: 3200, 224: 1600}
    workers, repeats = (1, 1) if given.quick else (given.workers, given.repeats)
    result: dict[str, Any] = {"memory": [], "throughput": []}
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        print(f"{'files':>8}{'MB at the peak':>16}{'growth':>9}")
        for count in counts:
            root = make_files(folder, count, distinct=20 if given.quick else DISTINCT)
            peak = in_fresh_process(str(root), workers, 2 if given.quick else 200)
            result["memory"].append({"files": count, "bytes": peak})
            growth = peak - result["memory"][0]["bytes"]
            print(f"{count:>8,}{peak / 1e6:>16.1f}{growth / 1e6:>9.1f}")
        result["growth_bytes"] = result["memory"][-1]["bytes"] - result["memory"][0]["bytes"]
        print(f"\n{'network':<10}{'pixels':>8}{'limbeck/s':>11}{'plain/s':>9}{'ratio':>8}{'min':>7}{'max':>7}")
        for size, count in rates.items():
            for trained in (False, True):
                images = min(count, counts[-1]) // (4 if trained and size == 224 and not given.quick else 1)
                row = throughput(root, size, workers, repeats, images, trained)
                result["throughput"].append(row)
                rate_of, ratio = row["images_per_second"], row["limbeck_of_plain"]
                print(
                    f"{row['network']:<10}{size:>8}{rate_of['limbeck']:>11.1f}{rate_of['plain']:>9.1f}"
                    f"{ratio['median']:>8.3f}{ratio['min']:>7.3f}{ratio['max']:>7.3f}"
                )
    if given.json:
        given.json.write_text(json.dumps(result, indent=2))
    return 0


def in_fresh_process(root: str, workers: int, batches: int) -> int:
    """What :func:`measure_memory` finds in a process that has done nothing before."""
    words = [sys.executable, __file__, "--measure", root, str(workers), str(batches)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr)
    return int(done.stdout)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--measure"]:
        print(measure_memory(sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
    else:
        sys.exit(main())
