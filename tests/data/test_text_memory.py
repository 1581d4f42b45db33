"""Texts of a Hugging Face data set stay on the disk: memory does not grow with their number."""

import subprocess
import sys

import pytest

CHILD = """
import sys
from pathlib import Path

import datasets
import torch

from limbeck.data import text
from limbeck.data.conversion import as_examples
from limbeck.options import TextPresentation


def own():
    # Pages of the table that are mapped belong to the system, which takes them back as it needs.
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))


text._KEPT_TOKENS = 0  # as where there are too many to hold: those of a batch are made when it is wanted
examples = as_examples(datasets.load_from_disk(sys.argv[1]))
most = own()
assert len(examples.digest) == 64 and len(examples.labels) == int(sys.argv[3])
most = max(most, own())
rows = torch.randperm(len(examples), generator=torch.Generator().manual_seed(0))
part = examples.take(rows[: len(rows) // 2]).with_presentation(TextPresentation(sys.argv[2], 16))
for batch in torch.arange(len(part)).split(50)[:20]:
    assert part.as_seen(batch)["input_ids"].shape == (50, 16)
    most = max(most, own())
print(most)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_memory_is_flat_from_2_000_to_50_000_texts_of_2_kb(tmp_path):
    datasets = pytest.importorskip("datasets")
    from journey_data import word_tokenizer

    word_tokenizer(tmp_path / "tokenizer")

    def rows(count):
        for number in range(count):
            yield {"text": f"w{number % 60} " * 500, "label": number % 2}

    peaks = []
    for count in (2_000, 50_000):
        folder = tmp_path / str(count)
        made = datasets.Dataset.from_generator(rows, gen_kwargs={"count": count}, cache_dir=str(tmp_path / "cache"))
        made.save_to_disk(folder)
        words = [sys.executable, "-c", CHILD, str(folder), str(tmp_path / "tokenizer"), str(count)]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        peaks.append(int(done.stdout))
    # The larger table holds 94 MB more of text; places, lengths and labels of its rows are a few bytes each.
    assert peaks[1] - peaks[0] < 30e6, f"{peaks[0] / 1e6:.0f} and {peaks[1] / 1e6:.0f} MB"
    print(f"{peaks[0] / 1e6:.0f} and {peaks[1] / 1e6:.0f} MB")  # noqa: T201
