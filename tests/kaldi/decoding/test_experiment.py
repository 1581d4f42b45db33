"""What Kaldi's scripts read out of an experiment's folder, and networks that are run as it says."""

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
from tiny_runs import run_here

from limbeck.errors import ConfigError, FormatError
from limbeck.kaldi.decoding.fronts import completed, settled
from limbeck.kaldi.decoding.options import FeatureOptions, OutputOptions
from limbeck.kaldi.decoding.outputs import AcousticModel
from limbeck.kaldi.experiment import Experiment, read_experiment
from limbeck.kaldi.formats.cmvn import accumulate_cmvn
from limbeck.kaldi.formats.nnet1 import Nnet, read_nnet, write_nnet
from limbeck.kaldi.formats.nnet1_components import AffineTransform, Softmax
from limbeck.kaldi.formats.table import read_ark
from limbeck.kaldi.formats.write import write_ark
from limbeck.kaldi.nnet3.acoustic import Nnet3Acoustic
from limbeck.kaldi.nnet3.options import Nnet3Options

KALDI = Path(__file__).parents[2] / "fixtures" / "kaldi"
E2E = KALDI / "e2e"


@pytest.fixture
def exp(tmp_path):
    """Writes an experiment's folder."""

    def write(**files):
        folder = tmp_path / "exp"
        folder.mkdir(exist_ok=True)
        for name, text in files.items():
            (folder / name.replace("__", ".")).write_text(text)
        return folder

    return write


@pytest.mark.parametrize(
    ("files", "fields"),
    [
        ({}, {}),
        ({"cmvn_opts": "--norm-means=true --norm-vars=true\n"}, {"cmvn": "speaker", "norm_vars": True}),
        ({"cmvn_opts": "--norm_vars"}, {"cmvn": "speaker", "norm_vars": True}),
        ({"cmvn_opts": "--norm-vars=true --norm-vars=false"}, {"cmvn": "speaker"}),
        ({"cmvn_opts": "--norm-means=false --norm-vars=false"}, {}),
        ({"cmvn_opts": "\n"}, {}),
        ({"norm_vars": "false\n"}, {"cmvn": "speaker"}),
        ({"norm_vars": "true\n"}, {"cmvn": "speaker", "norm_vars": True}),
        ({"norm_vars": "true", "cmvn_opts": "--norm-vars=true"}, {"cmvn": "speaker", "norm_vars": True}),
        ({"delta_order": "2\n"}, {"deltas": 2}),
        ({"delta_opts": "--delta-order=1"}, {"deltas": 1}),
        ({"delta_opts": "--delta-window=2"}, {"deltas": 2}),
        ({"delta_opts": "", "delta_order": "1"}, {"deltas": 1}),
        ({"splice_opts": "--left-context=3 --right-context=2"}, {"context": (3, 2)}),
        ({"splice_opts": "--left-context=3"}, {"context": (3, 4)}),
        ({"delta_opts": "--delta-window=3"}, {"deltas": 2, "delta_window": 3}),
        ({"ivector_dim": "100\n"}, {"ivector_dim": 100}),
        ({"online_cmvn_opts": "\n"}, {}),
    ],
)
def test_files_are_read_as_kaldis_scripts_read_them(exp, files, fields):
    assert read_experiment(exp(**files)) == Experiment(**fields)


def test_the_transform_has_the_splice_and_prior_counts_come_first(exp):
    folder = exp(final__feature_transform="", splice_opts="--left-context=1", final__mat="")
    (folder / "ali_train_pdf.counts").write_text("")
    assert read_experiment(folder) == Experiment(
        feature_transform=folder / "final.feature_transform", class_frame_counts=folder / "ali_train_pdf.counts"
    )
    (folder / "prior_counts").write_text("")
    assert read_experiment(folder).class_frame_counts == folder / "prior_counts"


def test_the_matrix_of_lda_is_for_spliced_frames_without_deltas(exp):
    folder = exp(final__mat="", delta_opts="--delta-order=2")
    assert read_experiment(folder) == Experiment(context=(4, 4), feature_transform=folder / "final.mat")
    (folder / "splice_opts").write_text("--left-context=3 --right-context=3")
    assert read_experiment(folder).context == (3, 3)


@pytest.mark.parametrize(
    ("files", "fields"),
    [
        ({"cmvn_opts": ""}, {"cmvn": "speaker"}),
        (
            {"cmvn_opts": "--norm-means=false --norm-vars=false", "splice_opts": "--left-context=1", "final__mat": ""},
            {},
        ),
        ({"frame_subsampling_factor": "3\n"}, {"frame_subsampling_factor": 3}),
    ],
)
def test_the_script_of_nnet3_reads_less(exp, files, fields):
    assert read_experiment(exp(**files), nnet3=True) == Experiment(**fields)


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({"norm_vars": "true", "cmvn_opts": "--norm-vars=false"}, "norm-vars = False, and .*norm_vars says True"),
        ({"delta_order": "1", "delta_opts": "--delta-order=2"}, "delta-order = 2, and .*delta_order says 1"),
        ({"cmvn_opts": "--norm-means=false --norm-vars=true"}, "norm-vars without norm-means"),
        ({"cmvn_opts": "--norm-vars=yes"}, "'yes', which is neither true nor false"),
        ({"cmvn_opts": "--norm-var=true"}, "may have --norm-means=..., --norm-vars="),
        ({"cmvn_opts": "--skip-dims=1:2"}, "--skip-dims"),
        ({"cmvn_opts": "'"}, "cannot be read as options"),
        ({"cmvn_opts": "é"}, "cannot be read as options"),
        ({"cmvn_opts": " " * 5000}, "more than 4096 bytes"),
        ({"delta_order": "two"}, "whole number from 0 to 4"),
        ({"delta_opts": "--delta-window=0"}, "--deltas and --delta-window"),
        ({"delta_opts": "--truncate=1"}, "cuts features before their deltas"),
        ({"splice_opts": "--left-context=-1"}, "left-context = '-1'"),
        ({"online_cmvn_opts": "--norm-vars=false"}, "write them with limbeck kaldi apply-cmvn-online"),
        ({"ivector_dim": "many"}, "ivector_dim = 'many'"),
    ],
)
def test_contradictions_and_other_tools_are_named(exp, files, says):
    with pytest.raises((ConfigError, FormatError), match=says):
        read_experiment(exp(**files))


def test_online_cmvn_of_the_script_of_nnet3_is_named(exp):
    """Its file is empty: that it is there is what it says."""
    with pytest.raises(ConfigError, match="online_cmvn says that features go through apply-cmvn-online"):
        read_experiment(exp(online_cmvn="", cmvn_opts="--norm-means=true"), nnet3=True)


def test_flags_win(exp):
    folder = exp(cmvn_opts="--norm-vars=true", delta_order="2", splice_opts="--left-context=3 --right-context=3")
    whole = FeatureOptions(cmvn="speaker", norm_vars=True, deltas=2, delta_window=2, left_context=3, right_context=3)
    assert completed(FeatureOptions(exp=folder)) == whole
    for flags in ({"norm_vars": False}, {"deltas": 0}, {"cmvn": "utterance"}):
        assert completed(FeatureOptions(exp=folder, **flags)) == dataclasses.replace(whole, **flags)
    assert completed(FeatureOptions(exp=folder, cmvn="none")).norm_vars is False
    assert completed(FeatureOptions(exp=folder, left_context=1)) == dataclasses.replace(
        whole, left_context=1, right_context=None
    )
    shutil.rmtree(folder)
    with pytest.raises(ConfigError, match="exp is .* and there is no such folder"):
        completed(FeatureOptions(exp=folder))
    with pytest.raises(ConfigError, match="norm_vars belongs to cmvn"):
        settled(FeatureOptions(exp=exp(delta_order="1"), norm_vars=True), None)


def test_a_network_is_run_as_its_folder_says(exp, tmp_path):
    """The same bytes as with all flags given; and they change with each file."""
    data, features = tmp_path / "data", dict(list(read_ark(E2E / "feats.ark"))[:3])
    data.mkdir()
    write_ark(data / "feats.ark", features, scp=data / "feats.scp")
    stats = sum(accumulate_cmvn(frames) for frames in features.values())
    write_ark(data / "cmvn.ark", {"ann": stats}, scp=data / "cmvn.scp")
    (data / "utt2spk").write_text("".join(f"{key} ann\n" for key in features))
    random = np.random.default_rng(0)
    weight = random.normal(size=(6, 4 * 3 * 4)).astype(np.float32)
    write_nnet(tmp_path / "final.nnet", Nnet((AffineTransform(weight, np.zeros(6, np.float32)), Softmax(6))))
    files = {"cmvn_opts": "--norm-vars=true", "delta_order": "2", "splice_opts": "--left-context=2 --right-context=1"}
    flags = ("--cmvn", "speaker", "--norm-vars", "--deltas", 2, "--left-context", 2, "--right-context", 1)
    made = {}
    for name, words in {"exp": ("--exp", exp(**files)), "flags": flags}.items():
        out = tmp_path / f"{name}.ark"
        done = run_here("forward", tmp_path / "final.nnet", *words, "--feats", data, "--out", out, "--quiet")
        assert done.code == 0, done.err
        made[name] = out.read_bytes()
    assert made["exp"] == made["flags"]
    exp(cmvn_opts="--norm-vars=false")
    out = tmp_path / "means.ark"
    run_here("forward", tmp_path / "final.nnet", "--exp", tmp_path / "exp", "--feats", data, "--out", out, "--quiet")
    assert out.read_bytes() != made["exp"] and len(out.read_bytes()) == len(made["exp"])


def test_words_are_found_with_the_folder_alone(tmp_path):
    folder = tmp_path / "exp"
    folder.mkdir()
    for name in ("final.nnet", "final.feature_transform", "ali_train_pdf.counts"):
        shutil.copy(E2E / name, folder)
    network = AcousticModel(folder / "final.nnet", OutputOptions(), features=FeatureOptions(exp=folder))
    assert network.stored_counts == folder / "ali_train_pdf.counts"
    assert network.front.transform.components == read_nnet(E2E / "final.feature_transform").components
    words = ("--graph", E2E, "--mdl", E2E / "mono.mdl", "--text", E2E / "text", "--out", tmp_path / "hyp")
    done = run_here("decode", "--model", folder / "final.nnet", "--exp", folder, "--feats", E2E / "feats.scp", *words)
    assert done.code == 0, done.err
    assert (tmp_path / "hyp").read_text() == (E2E / "text").read_text()
    refused = run_here("decode", "--loglikes", "x", "--exp", folder, "--overwrite", *words)
    assert refused.code == 2 and "--loglikes needs none" in refused.err


def test_where_it_does_not_belong(exp, tmp_path):
    with pytest.raises(ConfigError, match="a run's folder knows"):
        settled(FeatureOptions(exp=exp()), settled(FeatureOptions(), None))
    model = KALDI / "nnet3" / "tdnnf.bin"
    with pytest.raises(ConfigError, match="give --frame-subsampling-factor 3"):
        Nnet3Acoustic(model, Nnet3Options(), FeatureOptions(exp=exp(frame_subsampling_factor="3")))
    folder = exp(cmvn_opts="--norm-means=true")
    network = Nnet3Acoustic(model, Nnet3Options(frame_subsampling_factor=3), FeatureOptions(exp=folder))
    assert network.front.cmvn == "speaker" and not network.front.norm_vars
