"""Descriptions of Debian packages as numbers, with their sections as many classes: data for the recipe ``specialists``.

    python benchmarks/sections.py sections.npz
    limbeck reproduce specialists --data sections.npz --seeds 8

The texts are the descriptions that ``apt-cache dumpavail`` prints on a Debian machine; the classes are the sections
with 60 or more of them. Each text is the counts of its words and of pairs of neighbours, weighted by how rare they are
(TF-IDF), and of these the 300 directions in which the training texts differ most (latent semantic analysis), scaled to
a standard deviation of one. Packages of one source package stay together: a fifth of these are for the test, an eighth
of the others for validation. ``--quick`` makes texts up.
"""

import argparse
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.model_selection import StratifiedGroupKFold

import text_pair

FEWEST = 60
"""Texts of a section that is a class."""
_NUMBERS = 300


def parts(labels: NDArray[np.int64], sources: NDArray[np.str_]) -> dict[str, NDArray[np.int64]]:
    """Rows for training, validation and the test; those of one source package are in one part."""
    rest, test = next(StratifiedGroupKFold(5, shuffle=True, random_state=0).split(labels, labels, sources))
    kept = StratifiedGroupKFold(8, shuffle=True, random_state=0).split(labels[rest], labels[rest], sources[rest])
    train, validation = next(kept)
    return {"train": rest[train], "val": rest[validation], "test": test}


def numbers(texts: NDArray[np.object_], train: NDArray[np.int64], count: int) -> NDArray[np.float32]:
    """Each text as some numbers; what they are is learnt from the training texts alone."""
    counted = TfidfVectorizer(ngram_range=(1, 2), min_df=3, max_features=100_000, sublinear_tf=True)
    counted.fit(texts[train])
    words = counted.transform(texts)
    found = TruncatedSVD(count, random_state=0).fit(words[train]).transform(words)
    return np.asarray(found / found[train].std(0), np.float32)


def arrays(rows: list[dict[str, str]], count: int) -> dict[str, NDArray[Any]]:
    """What ``limbeck`` reads: ``x_train``, ``y_train``, and so on, and names of the classes."""
    classes = sorted({row["label"] for row in rows})
    labels = np.array([classes.index(row["label"]) for row in rows])
    cut = parts(labels, np.array([row["source"] for row in rows]))
    x = numbers(np.array([row["text"] for row in rows], object), cut["train"], count)
    found: dict[str, NDArray[Any]] = {"classes": np.array(classes)}
    for name, chosen in cut.items():
        found |= {f"x_{name}": x[chosen], f"y_{name}": labels[chosen]}
    return found


def main() -> None:
    """Write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="the file to write, .npz")
    parser.add_argument("--quick", action="store_true", help="made-up texts, to see that it works")
    options = parser.parse_args()
    if options.quick:
        printed = text_pair.made_up(1200)
    else:
        printed = subprocess.run(["apt-cache", "dumpavail"], check=True, capture_output=True, text=True).stdout
    found = arrays(text_pair.packages(printed, fewest=FEWEST), 8 if options.quick else _NUMBERS)
    np.savez(options.out, allow_pickle=False, **found)
    sizes = ", ".join(f"{name[2:]} {len(values):,}" for name, values in found.items() if name.startswith("y_"))
    print(f"{options.out}: {len(found['classes'])} sections; {sizes}")


if __name__ == "__main__":
    main()
