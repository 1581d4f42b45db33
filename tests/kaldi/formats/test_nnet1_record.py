"""nnet1 networks in safetensors: every bit comes back, and damaged files are refused in one way."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from limbeck.errors import DataError, FormatError
from limbeck.kaldi.formats import nnet1_components as nc
from limbeck.kaldi.formats.nnet1 import Nnet, read_nnet
from limbeck.kaldi.formats.nnet1_record import (
    arrays_of,
    nnet_from_records,
    read_nnet_safetensors,
    records_of,
    write_nnet_safetensors,
)

KALDI = Path(__file__).parents[2] / "fixtures" / "kaldi"


@pytest.mark.parametrize("name", ["tiny.nnet.bin", "relu.seed.svd.txt", "e2e/final.feature_transform"])
def test_files_of_kaldi_come_back(name, tmp_path):
    nnet = read_nnet(KALDI / name)
    write_nnet_safetensors(tmp_path / "a", nnet)
    assert read_nnet_safetensors(tmp_path / "a") == nnet


@pytest.mark.parametrize(
    "change, says",
    [
        (lambda records, arrays: arrays.pop("0.bias"), "lacks its array 0.bias"),
        (lambda records, arrays: arrays.update({"9.weight": arrays["0.weight"]}), "9.weight belongs to no component"),
        (lambda records, arrays: records[0].update(tag="Lstm"), "unknown tag 'Lstm'"),
        (lambda records, arrays: records[0].update(colour=1), "no number 'colour'"),
        (lambda records, arrays: records[1].pop("dim"), "cannot be made"),
        (lambda records, arrays: records[1].update(dim=9), "outputs"),
        (lambda records, arrays: records[1].update(dim=4.0), "no such number"),
        (lambda records, arrays: records[0].update(learn_rate="x"), "no such number"),
        (lambda records, arrays: records[0].update(learn_rate=float("nan")), "no such number"),
        (lambda records, arrays: arrays.update({"0.bias": arrays["0.bias"][:2]}), "shape"),
        (lambda records, arrays: arrays.update({"0.bias": arrays["0.bias"] * np.float32(np.nan)}), "NaN"),
        (lambda records, arrays: arrays.update({"0.bias": arrays["0.bias"].astype("f8")}), "float32"),
    ],
)
def test_records_and_arrays_that_do_not_fit(change, says, tmp_path):
    nnet = read_nnet(KALDI / "tiny.nnet.bin")
    records, arrays = records_of(nnet), arrays_of(nnet)
    change(records, arrays)
    with pytest.raises(DataError, match=says):
        nnet_from_records(records, arrays)
    (tmp_path / "a").write_bytes(save(arrays, {"nnet1": json.dumps(records)}))
    with pytest.raises(FormatError, match=says):
        read_nnet_safetensors(tmp_path / "a")


def test_a_file_cut_anywhere_is_refused(tmp_path):
    write_nnet_safetensors(tmp_path / "a", Nnet((nc.AddShift(np.ones(2, np.float32)),)))
    whole = (tmp_path / "a").read_bytes()
    for size in range(len(whole)):
        (tmp_path / "a").write_bytes(whole[:size])
        with pytest.raises(FormatError):
            read_nnet_safetensors(tmp_path / "a")


@pytest.mark.parametrize("metadata", [{}, {"nnet1": "["}, {"nnet1": "{}"}, {"nnet1": "[3]"}, {"nnet1": "[" * 100_000}])
def test_other_descriptions(tmp_path, metadata):
    (tmp_path / "a").write_bytes(save({"0.values": np.ones(2, np.float32)}, metadata))
    with pytest.raises(FormatError):
        read_nnet_safetensors(tmp_path / "a")
