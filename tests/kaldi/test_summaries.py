"""Every file that Kaldi's tools wrote is told by its content, reads, and says what is known of it."""

from pathlib import Path

import numpy as np
import pandas
import pytest

from limbeck.data.table_encoding import NumberColumn, TableEncoding
from limbeck.data.table_files import examples_of_frame
from limbeck.errors import FormatError
from limbeck.kaldi.convert import read_network, write_network
from limbeck.kaldi.formats.sniff import identify
from limbeck.kaldi.formats.write import write_ark
from limbeck.kaldi.summaries import summarise
from limbeck.models import MLP, MLPConfig
from limbeck.runs import save_model
from limbeck.softtargets import SoftTargets

KALDI = Path(__file__).parent.parent / "fixtures" / "kaldi"
OURS = {
    "README.md",
    "num_jobs",
    "edge_results.txt",
    "raw3.npz",
    "relu_reference.npz",
    "tiny_reference.npz",
}  # notes and arrays, not Kaldi's
FILES = sorted(path for path in KALDI.rglob("*") if path.is_file() and path.name not in OURS)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(KALDI)))
def test_every_sample_reads(path):
    found = summarise(path)
    assert found["kind"] == identify(path) and len(found) > 1


@pytest.mark.parametrize(
    "name, known",
    [
        ("tiny.nnet.bin", {"kind": "nnet1 binary", "inputs": 3, "outputs": 5, "parameters": 41}),
        ("tiny.seed.txt", {"kind": "nnet1 legacy", "parameters": 41}),
        ("tiny.kaldi.txt", {"kind": "nnet1 text", "parameters": 41}),
        ("e2e/feats.scp", {"kind": "scp", "entries": 80, "rows": 3900, "columns": 4}),
        ("e2e/feats.cm.ark", {"kind": "matrices", "entries": 80, "rows": 3900, "columns": 4}),
        ("e2e/ali.1.gz", {"kind": "integers", "entries": 80, "rows": 3900, "largest": 12.0}),
        ("e2e/mono.mdl", {"kind": "transition model", "pdfs": 6, "transition_ids": 12, "phones": 3}),
        ("e2e/mono.tree", {"kind": "tree", "context_width": 1, "central_position": 0}),
        ("e2e/topo", {"kind": "topology", "phones": 3}),
        ("e2e/HCLG.fst", {"kind": "fst", "states": 11, "arcs": 23}),
        ("e2e/cmvn-g.stats", {"kind": "matrix", "rows": 2, "columns": 21}),
        ("e2e/text", {"kind": "words", "lines": 80, "words": 280}),
        ("e2e/ali_train_pdf.counts", {"kind": "counts", "pdfs": 6, "frames": 3903.0}),
        ("hmm/train.fsts", {"kind": "graphs", "graphs": 3}),
        ("hmm/feats.ark.txt", {"kind": "matrices", "rows": 85}),
        ("llk.kaldi.txt.ark", {"kind": "matrices", "entries": 3}),
    ],
)
def test_what_is_known_of_them(name, known):
    assert summarise(KALDI / name).items() >= known.items()


def test_a_network_of_rows_and_a_store_are_described(tmp_path):
    net = MLP(MLPConfig(input_shape=(3,), classes=2, hidden=(4,)))
    net.presentation = TableEncoding(tuple(NumberColumn(name, 0.0, 1.0, 0.0, False) for name in "abc"))
    save_model(tmp_path / "net", net, classes=["no", "yes"])
    found = summarise(tmp_path / "net")
    assert found["parameters"] == 3 * 4 + 4 + 4 * 2 + 2 and "'presentation'" in found["note"]
    rows = examples_of_frame(pandas.DataFrame(np.eye(7, 3), columns=list("abc")))
    SoftTargets.write(tmp_path / "store", net, rows, classes=["no", "yes"])
    found = summarise(tmp_path / "store")
    known = {"examples": 7, "views": 1, "classes (count)": 2, "encoding": "dense dtype=float16", "temperature": "any"}
    assert found.items() >= known.items()


def test_networks_of_all_formats_have_the_same_components(tmp_path):
    nnet = read_network(KALDI / "tiny.nnet.bin").nnet
    tags = [row["component"] for row in summarise(KALDI / "tiny.nnet.bin")["components"]]
    assert tags == ["AffineTransform", "Sigmoid", "AffineTransform", "Softmax"]
    for name, form in (("a.h5", "hdf5"), ("a.safetensors", "safetensors"), ("run", "run")):
        write_network(tmp_path / name, nnet, form)
        assert [row["component"] for row in summarise(tmp_path / name)["components"]] == tags


def test_values_that_are_not_finite_are_counted(tmp_path):
    (tmp_path / "a.ark").write_bytes(b"utt1 \0BFM \4\1\0\0\0\4\3\0\0\0" + np.float32([1, np.nan, np.inf]).tobytes())
    assert summarise(tmp_path / "a.ark").items() >= {"not_finite": 2, "largest": 1.0}.items()


@pytest.mark.parametrize("content", [b"", b"\0", b"PK\3\4", b"\xff" * 40, b"<html>\n", b"[1,2]\n", b"{}"])
def test_what_limbeck_does_not_know(tmp_path, content):
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(FormatError, match="x"):
        summarise(tmp_path / "x")
    with pytest.raises(FormatError, match="cannot be read"):
        summarise(tmp_path / "missing")


def test_a_range_that_does_not_fit_is_told_as_such(tmp_path):
    write_ark(tmp_path / "a.ark", {"utt": np.zeros((61, 2), np.float32)})
    (tmp_path / "a.scp").write_text(f"utt {tmp_path / 'a.ark'}:4[0:64]\n")
    with pytest.raises(FormatError, match=r"asks for rows 0 to 64 of an object of shape \(61, 2\)"):
        summarise(tmp_path / "a.scp")
