"""Components of nnet1 beyond plain ones: Kaldi's files byte for byte, and what nnet-forward makes of them."""

from pathlib import Path

import numpy as np
import pytest

from limbeck.errors import DataError, FormatError
from limbeck.kaldi.convert import read_network, write_network
from limbeck.kaldi.decoding.options import OutputOptions
from limbeck.kaldi.decoding.outputs import AcousticModel
from limbeck.kaldi.decoding.utterances import Utterances
from limbeck.kaldi.formats import nnet1_components as nc
from limbeck.kaldi.formats import nnet1_more as nm
from limbeck.kaldi.formats.nnet1 import Nnet, read_nnet, read_nnet_bytes, write_nnet
from limbeck.kaldi.formats.sniff import identify
from limbeck.kaldi.formats.table import read_ark
from limbeck.kaldi.forward import needs_utterances, propagate
from limbeck.kaldi.lowrank import as_module, choose_ranks, compress_nnet
from limbeck.kaldi.summaries import summarise
from limbeck.options import RankRule

MORE = Path(__file__).parents[2] / "fixtures" / "kaldi" / "nnet1_more"
NAMES = sorted(path.stem for path in MORE.glob("*.bin") if path.stem != "lstm")


def frames_of(nnet):
    return dict(read_ark(MORE / f"feats.d{nnet.input_dim}.bin.ark"))


def test_the_fixtures_are_there():
    assert len(NAMES) == 14


@pytest.mark.parametrize("name", NAMES)
def test_files_are_written_again_byte_for_byte_and_text_gives_the_same(name, tmp_path):
    binary = (MORE / f"{name}.bin").read_bytes()
    for suffix in (".bin", ".txt"):
        write_nnet(tmp_path / "a", read_nnet(MORE / f"{name}{suffix}"))
        assert (tmp_path / "a").read_bytes() == binary
        assert identify(MORE / f"{name}{suffix}") == ("nnet1 binary" if suffix == ".bin" else "nnet1 text")
    write_nnet(tmp_path / "t", read_nnet(tmp_path / "a"), dialect="text")
    assert read_nnet(tmp_path / "t") == read_nnet(tmp_path / "a")
    tags = [[line.split() for line in text.splitlines() if line.startswith("<") and "[" not in line]
            for text in ((tmp_path / "t").read_text(), (MORE / f"{name}.txt").read_text())]  # fmt: skip
    assert tags[0] == tags[1]


@pytest.mark.parametrize("name", NAMES)
def test_equal_to_nnet_forward(name):
    nnet = read_nnet(MORE / f"{name}.bin")
    expected = dict(read_ark(MORE / f"{name}.out.bin.ark"))
    for key, frames in frames_of(nnet).items():
        np.testing.assert_allclose(propagate(nnet, frames), expected.pop(key), rtol=0, atol=2e-5)
    assert not expected


def test_older_names_of_an_lstm():
    nnet = read_nnet(MORE / "lstm_oldnames.txt")
    assert nnet.components[0].grad_clip == 250 and nnet == read_nnet(MORE / "lstm.bin")


@pytest.mark.parametrize("name", ["lstm_clip", "parallel", "simple_avg_shrink", "multibasis"])
def test_utterances_do_not_see_each_other(name):
    path = MORE / f"{name}.bin"
    assert needs_utterances(read_nnet(path)) and not needs_utterances(read_nnet(MORE / "klhmm.bin"))
    network = AcousticModel(path, OutputOptions())
    expected = dict(read_ark(MORE / f"{name}.out.bin.ark"))
    found = dict(network.run(Utterances(MORE / f"feats.d{read_nnet(path).input_dim}.bin.ark")))
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        np.testing.assert_allclose(found[key], value, rtol=0, atol=2e-5)


def test_a_blstm_of_a_turned_utterance_is_turned():
    """Its halves are one LSTM each, the later of which reads from the end."""
    nnet = read_nnet(MORE / "blstm.bin")
    part = nnet.components[0]
    names = [name for _, name in nm.LSTM_ARRAYS]
    numbers = {"inputs": 10, "outputs": 4, "cells": part.cells}
    halves = [
        nm.LstmProjected(**numbers, **{name: getattr(part, name + suffix) for name in names})
        for suffix in ("", "_late")
    ]
    frames = frames_of(nnet)["utt_b"]
    over, back = (propagate(Nnet((half,)), given) for half, given in zip(halves, (frames, frames[::-1]), strict=True))
    np.testing.assert_array_equal(propagate(nnet, frames), np.concatenate([over, back[::-1]], 1))


def test_low_rank_of_the_matrices_that_allow_it():
    nnet = read_nnet(MORE / "lstm_clip.bin")
    plan, spectrum = choose_ranks(as_module(nnet), RankRule(rank=(2,)))
    small = compress_nnet(nnet, plan, spectrum)
    assert [part.tag for part in small.components] == [
        "LstmProjected", "LstmProjected", "LinearTransform", "AffineTransform", "Softmax",
    ]  # fmt: skip
    frames = frames_of(nnet)["utt_b"]
    lstms = propagate(Nnet(nnet.components[:2]), frames)
    np.testing.assert_array_equal(propagate(Nnet(small.components[:2]), frames), lstms)


def test_info_and_what_other_formats_cannot_hold(tmp_path):
    found = summarise(MORE / "parallel.bin")
    assert [row["component"] for row in found["components"]][0] == "ParallelComponent"
    assert found["components"][0]["parameters"] == sum(
        array.size for array in read_nnet(MORE / "parallel.bin").components[0].arrays()
    )
    assert summarise(MORE / "lstm_clip.bin")["components"][0]["settings"]["cells"] == 7
    for form in ("safetensors", "run", "hdf5", "legacy"):
        for name in ("parallel", "lstm_clip", "klhmm"):
            with pytest.raises(DataError, match="<(ParallelComponent|LstmProjected|KlHmm)>"):
                write_network(tmp_path / form, read_network(MORE / f"{name}.bin").nnet, form)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["conv_max", "multibasis", "parallel", "frame_pooling", "klhmm"])
def test_truncation_is_one_clear_error(name):
    data = (MORE / f"{name}.bin").read_bytes()
    for length in range(3, len(data) - 1, 7):
        with pytest.raises(FormatError):
            read_nnet_bytes(data[:length])


@pytest.mark.parametrize(
    ("name", "old", "new", "says"),
    [
        ("conv_max", "<PatchDim> 3", "<PatchDim> 7", "patches of 7 in 6 of 18 inputs"),
        ("conv_max", "<PatchStride> 6", "<PatchStride> 0", "patches of 3 in 0 of 18 inputs"),
        ("conv_max", "<PatchDim> 3", "", "lacks its patch dim"),
        ("conv_max", "<PatchStep> 1", "<PatchStep> 2147483647", "do not fill the stride"),
        ("conv_max", "<PoolStep> 1", "<PoolStep> 0", "must be positive"),
        ("conv_max", "<PoolSize> 2", "<PoolSize> 200", "do not fill the patches"),
        (
            "conv_max",
            "<ConvolutionalComponent> 20",
            "<ConvolutionalComponent> 21",
            "21 outputs and 18 inputs",
        ),
        ("frame_pooling", "[ 0 4 3 ]", "[ 0 5 3 ]", "reaches beyond the frames"),
        ("frame_pooling", "<Normalize> F", "<Normalize> X", "should be T or F"),
        ("rbm_gauss_bern", "gauss bern", "gauss gamma", "units are bern or gauss"),
        ("parallel", "<NestedNnetCount> 3", "<NestedNnetCount> 1000000000", "<NestedNnetCount> of"),
        ("parallel", "<NestedNnet> 2", "<NestedNnet> 7", "<NestedNnet> 7 where 2 should be"),
        ("multibasis", "<NumBasis> 3", "<NumBasis> 2", "the selector has not one output for each basis"),
        ("recurrent", "<RecurrentComponent> 6", "<RecurrentComponent> 5", "5 outputs"),
    ],
)
def test_what_is_wrong_is_named(name, old, new, says):
    text = (MORE / f"{name}.txt").read_text()
    assert old in text
    with pytest.raises(FormatError) as raised:
        read_nnet_bytes(text.replace(old, new, 1).encode())
    assert says in str(raised.value)


def test_networks_inside_networks_end_somewhere():
    deep = "<SentenceAveragingComponent> 2 2 <Nnet> " * 3000
    with pytest.raises(FormatError, match="more than 8 deep"):
        read_nnet_bytes(f"<Nnet> {deep}".encode())


def test_every_component_but_the_two_dimensional_ones_is_read():
    assert set(nc.NOT_RUN.values()) == {
        "Convolutional2DComponent", "MaxPooling2DComponent", "AveragePooling2DComponent",
    }  # fmt: skip
    assert not nc.NOT_RUN.keys() & nm.ALL_TAGS.keys()
