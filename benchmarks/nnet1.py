"""How fast Kaldi nnet1 files are read and written, beside a plain copy and a scan of the same bytes.

    python benchmarks/nnet1.py [--hidden 1024] [--layers 4] [--inputs 440] [--outputs 2000] [--repeats 3]

It makes a network of that shape in a temporary folder, as Kaldi text with seven digits (the default is 5.65
million parameters in 63 MB), and prints the best of some runs for text to binary and binary to binary. The
output is written with a flush to the disk, and without one where ``--no-flush`` is given.
"""

import argparse
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import numpy as np

from limbeck.kaldi.formats.nnet1 import Nnet, read_nnet, write_nnet
from limbeck.kaldi.formats.nnet1_components import AffineTransform, Component, Sigmoid, Softmax
from memory_use import peak_bytes


def make_network(inputs: int, hidden: int, layers: int, outputs: int) -> Nnet:
    """Draw a network of sigmoid layers with weights of the usual size."""
    generator = np.random.default_rng(0)
    sizes = [inputs, *[hidden] * layers, outputs]
    components: list[Component] = []
    for columns, rows in zip(sizes, sizes[1:], strict=False):
        weight = generator.normal(0, 0.1, (rows, columns)).astype(np.float32)
        bias = generator.normal(0, 1, rows).astype(np.float32)
        components += [AffineTransform(weight, bias), Sigmoid(rows)]
    return Nnet((*components[:-1], Softmax(outputs)))


def write_seven_digits(path: Path, nnet: Nnet) -> None:
    """Write text with the seven digits of Kaldi's own writer."""
    with path.open("w", encoding="ascii") as file:
        file.write("<Nnet> \n")
        for part in nnet.components:
            file.write(f"<{part.tag}> {part.output_dim} {part.input_dim} \n")
            if isinstance(part, AffineTransform):
                file.write("<LearnRateCoef> 1 <BiasLearnRateCoef> 1 <MaxNorm> 0 \n [")
                for row in part.weight:
                    file.write("\n  " + "%.7g " * len(row) % tuple(row.tolist()))
                file.write("]\n [ " + "%.7g " * len(part.bias) % tuple(part.bias.tolist()) + "]\n")
            file.write("<!EndOfComponent> \n")
        file.write("</Nnet> \n")


def best(repeats: int, action: Callable[[], object]) -> float:
    """Time an action; seconds of the fastest run."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        action()
        times.append(time.perf_counter() - start)
    return min(times)


def main() -> None:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    for name, default in (
        ("inputs", 440),
        ("hidden", 1024),
        ("layers", 4),
        ("outputs", 2000),
        ("repeats", 3),
    ):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--no-flush", action="store_true", help="write without fsync")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        text, binary, copy = folder / "final.txt", folder / "final.nnet", folder / "copy"
        nnet = make_network(options.inputs, options.hidden, options.layers, options.outputs)
        write_seven_digits(text, nnet)
        write_nnet(binary, nnet)
        before = peak_bytes()
        megabytes = text.stat().st_size / 1e6
        print(f"{nnet.parameter_count / 1e6:.2f} M parameters, text {megabytes:.1f} MB, "
              f"binary {binary.stat().st_size / 1e6:.1f} MB; best of {options.repeats}")  # fmt: skip
        del nnet

        flush = mock.patch("os.fsync") if options.no_flush else mock.patch("os.fsync", os.fsync)
        with flush:
            rows = {
                "copy the text file": (text, lambda: shutil.copyfile(text, copy)),
                "scan the text for a byte": (text, lambda: text.read_bytes().count(b"]")),
                "read text": (text, lambda: read_nnet(text)),
                "text to binary": (text, lambda: write_nnet(copy, read_nnet(text))),
                "read binary": (binary, lambda: read_nnet(binary)),
                "binary to binary": (binary, lambda: write_nnet(copy, read_nnet(binary))),
                "text to text, nine digits": (
                    text,
                    lambda: write_nnet(copy, read_nnet(text), dialect="text"),
                ),
            }
            base = 0.0
            for label, (source, action) in rows.items():
                seconds = best(options.repeats, action)
                base = base or seconds
                rate = source.stat().st_size / 1e6 / seconds
                print(f"{label:<28}{seconds:8.3f} s {rate:9.0f} MB/s   {seconds / base:6.1f} x the copy")
        assert binary.read_bytes()[:2] == b"\0B"
        peak = (peak_bytes() - before) / 1e6
        print(f"memory above what making the network took: {max(0.0, peak):.0f} MB")


if __name__ == "__main__":
    main()
