"""How fast Kaldi nnet3 files are read and written, beside a plain copy and a scan of the same bytes.

    python benchmarks/nnet3.py [--hidden 1024] [--layers 4] [--inputs 40] [--outputs 2000] [--repeats 3]

It makes a TDNN of that shape in a temporary folder, as Kaldi's text with seven digits: layers of an affine component, a
rectifier and batch norm, which see three frames each (the default is 11.6 million parameters). It prints the best of
some runs, each written with a flush to the disk, or without one where ``--no-flush`` is given. ``--quick`` is a small
network, read and written once.
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import numpy as np

from limbeck.kaldi.nnet3.model import read_nnet3, write_nnet3

QUICK = {"hidden": 32, "layers": 2, "outputs": 50, "repeats": 1}


def write_network(path: Path, inputs: int, hidden: int, layers: int, outputs: int) -> int:
    """Write a TDNN of random weights as Kaldi's own writer would; how many weights and biases it has."""
    generator = np.random.default_rng(0)
    nodes, components, before = [f"input-node name=input dim={inputs}"], [], "input"
    count, width = 0, inputs

    def rows(shape: tuple[int, ...], scale: float) -> str:
        values = generator.normal(0, scale, shape).astype(np.float32)
        if len(shape) == 1:
            return " [ " + "%.7g " * shape[0] % tuple(values.tolist()) + "]\n"
        return " [" + "".join("\n  " + "%.7g " * shape[1] % tuple(row.tolist()) for row in values) + "]\n"

    def affine(name: str, size: int, spliced: int) -> None:
        components.append(
            f"<ComponentName> {name} <NaturalGradientAffineComponent> <LearningRate> 0.001 <LinearParams> "
            + rows((size, spliced), 0.1)
            + "<BiasParams> "
            + rows((size,), 1.0)
            + "<RankIn> 20 <RankOut> 80 <UpdatePeriod> 4 <NumSamplesHistory> 2000 <Alpha> 4 "
            "</NaturalGradientAffineComponent> \n"
        )

    for layer in range(layers):
        name = f"tdnn{layer + 1}"
        seen = f"Append(Offset({before}, -1), {before}, Offset({before}, 1))"
        for part, source in (("affine", seen), ("relu", f"{name}.affine"), ("batchnorm", f"{name}.relu")):
            nodes.append(f"component-node name={name}.{part} component={name}.{part} input={source}")
        affine(f"{name}.affine", hidden, 3 * width)
        components.append(
            f"<ComponentName> {name}.relu <RectifiedLinearComponent> <Dim> {hidden} <ValueAvg>  [ ]\n<DerivAvg>  [ ]\n"
            "<Count> 0 <OderivRms>  [ ]\n<OderivCount> 0 <NumDimsSelfRepaired> 0 <NumDimsProcessed> 0 "
            "<SelfRepairScale> 1e-05 </RectifiedLinearComponent> \n"
        )
        components.append(
            f"<ComponentName> {name}.batchnorm <BatchNormComponent> <Dim> {hidden} <BlockDim> {hidden} <Epsilon> 0.001 "
            "<TargetRms> 1 <TestMode> F <Count> 1000 <StatsMean> " + rows((hidden,), 1.0) + "<StatsVar> "
            " [ " + "1 " * hidden + "]\n</BatchNormComponent> \n"
        )
        count, width, before = count + hidden * (3 * width + 1), hidden, f"{name}.batchnorm"
    nodes.append(f"component-node name=output.affine component=output.affine input={before}")
    nodes.append("output-node name=output input=output.affine objective=linear")
    affine("output.affine", outputs, width)
    with path.open("w", encoding="ascii") as file:
        file.write("<Nnet3> \n" + "\n".join(nodes) + f"\n\n<NumComponents> {len(components)} \n")
        file.writelines([*components, "</Nnet3> "])
    return count + outputs * (width + 1)


def best(repeats: int, action: Callable[[], object]) -> float:
    """Time an action; seconds of the fastest run."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        action()
        times.append(time.perf_counter() - start)
    return min(times)


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    for name, default in {"inputs": 40, "hidden": 1024, "layers": 4, "outputs": 2000, "repeats": 3}.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--no-flush", action="store_true", help="write without fsync")
    parser.add_argument("--quick", action="store_true", help="a small network, once")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    options = parser.parse_args(arguments)
    if options.quick:
        vars(options).update(QUICK)
    found = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        text, binary, copy = folder / "final.txt", folder / "final.raw", folder / "copy"
        count = write_network(text, options.inputs, options.hidden, options.layers, options.outputs)
        write_nnet3(binary, read_nnet3(text), binary=True)
        # The same bytes come back, so that what is timed below is right.
        for file in (text, binary):
            write_nnet3(copy, read_nnet3(file))
            assert copy.read_bytes() == file.read_bytes()
        print(f"{count / 1e6:.2f} M parameters, text {text.stat().st_size / 1e6:.1f} MB, "
              f"binary {binary.stat().st_size / 1e6:.1f} MB; best of {options.repeats}")  # fmt: skip
        flush = mock.patch("os.fsync") if options.no_flush else mock.patch("os.fsync", os.fsync)
        with flush:
            for kind, file in (("text", text), ("binary", binary)):
                rows: dict[str, Callable[[], object]] = {
                    f"copy the {kind} file": lambda file=file: shutil.copyfile(file, copy),
                    f"scan the {kind} for a byte": lambda file=file: file.read_bytes().count(b"]"),
                    f"read {kind}": lambda file=file: read_nnet3(file),
                    f"{kind} to binary": lambda file=file: write_nnet3(copy, read_nnet3(file), binary=True),
                    f"{kind} to text": lambda file=file: write_nnet3(copy, read_nnet3(file), binary=False),
                }
                base = 0.0
                for label, action in rows.items():
                    seconds = best(options.repeats, action)
                    base = base or seconds
                    rate = file.stat().st_size / 1e6 / seconds
                    found.append({"what": label, "seconds": seconds, "times_the_copy": seconds / base})
                    print(f"{label:<28}{seconds:8.3f} s {rate:9.0f} MB/s   {seconds / base:6.1f} x the copy")
    if options.json:
        options.json.write_text(json.dumps({"parameters": count, "rows": found}, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
