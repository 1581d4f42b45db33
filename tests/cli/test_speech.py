"""Acoustic models from Kaldi directories to a distilled student, and what is wrong with directories, in one line."""

import json
import shutil
import struct
from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
import torch
from tiny_runs import sealed_again

import limbeck as package
from limbeck.data import open_data
from limbeck.evaluation.prediction import predict
from limbeck.formats.keras_h5 import read_keras_h5
from limbeck.kaldi.decoding.judging import open_sources
from limbeck.kaldi.decoding.options import FeatureOptions, OutputOptions
from limbeck.kaldi.decoding.outputs import AcousticModel
from limbeck.kaldi.figures import draw_heard
from limbeck.kaldi.formats.nnet1 import read_nnet
from limbeck.kaldi.formats.post import dense_posteriors, sparse_posteriors
from limbeck.kaldi.formats.scp import read_entries, read_scp
from limbeck.kaldi.formats.table import read_ark
from limbeck.kaldi.formats.write import write_ark
from limbeck.kaldi.forward import log_priors, propagate, read_pdf_counts
from limbeck.kaldi.options import SpeechOptions
from limbeck.kaldi.posteriors import Posteriors
from limbeck.kaldi.source.phones import phones_of
from limbeck.kaldi.weight_files import nnet_of
from limbeck.models import MLP, MLPConfig
from limbeck.report.figures_style import svg
from limbeck.report.page import render_report
from limbeck.runs.folder import RunFolder
from limbeck.runs.measure import answers_of
from limbeck.runs.models import load, reading_of, save_model
from limbeck.runs.models_for_data import load_teacher
from limbeck.runs.pages import gather
from limbeck.system.files import unseal_files

SO762 = Path(__file__).parent.parent / "fixtures" / "kaldi" / "so762"
TRAIN = ("--data", SO762 / "train", "--ali", SO762 / "ali_train")
VALIDATION = ("--validation-data", SO762 / "dev", "--validation-ali", SO762 / "ali_dev")
TEST = ("--test-data", SO762 / "test", "--test-ali", SO762 / "ali_test")
ALL = (*TRAIN, *VALIDATION, *TEST)
QUICK = ("--batch-size", 512, "--precision", "float32", "--quiet")


@pytest.fixture(scope="module")
def done(limbeck):
    def run(*words):
        outcome = limbeck(*words)
        assert outcome.code == 0, outcome.err
        return outcome

    return run


@pytest.fixture(scope="module")
def teachers(done, tmp_path_factory):
    """Two teachers that see seven frames on each side, with their weights after each epoch."""
    out = tmp_path_factory.mktemp("speech") / "teachers"
    network = ("--left", 7, "--right", 7, "--norm-vars", "--hidden", 24, 24, "--activation", "sigmoid")
    schedule = ("--epochs", 2, "--schedule", "newbob", "--members", 2, "--mean", "geometric", "--save-hdf5")
    done("train", *ALL, *network, *schedule, *QUICK, "--out", out)
    return out


@pytest.fixture(scope="module")
def targets(done, teachers):
    """Their answers, kept and written as an archive."""
    out = teachers.parent / "targets"
    done("soften", *TRAIN, *VALIDATION, "--teacher", teachers, "--write-posteriors", out.with_suffix(".ark"),
         "--encoding", "topk", "--k", 30, "--out", out, "--precision", "float32", "--quiet")  # fmt: skip
    return out


def options(**more):
    given = dict(zip(("data", "ali", "validation_data", "validation_ali"), map(str, (TRAIN + VALIDATION)[1::2])))  # noqa: B905
    return SpeechOptions(**given, norm_vars=True, **more)


def test_a_student_is_distilled_from_teachers_that_see_more(done, teachers, targets):
    live, stored = teachers.parent / "live", teachers.parent / "stored"
    student = ("--left", 2, "--right", 2, "--norm-vars", "--hidden", 16, "--epochs", 1, *QUICK, "--temperature", 1)
    done("distill", *ALL, *student, "--teacher", teachers, "--no-baseline", "--save-hdf5", "--out", live)
    shown = done("distill", *ALL, *student, "--teacher-targets", targets, "--out", stored, "--json")
    metrics = json.loads(shown.out)
    assert metrics["student"]["title"] == metrics["baseline"]["title"] == "mlp 200-16-1000"
    assert metrics["judged_on"] == "test" and metrics["student"]["test_examples"] == 1575
    assert json.loads((live / "metrics.json").read_text())["teacher"]["multiply_adds"] == 2 * (600 + 24 + 1000) * 24
    judged = done("evaluate", live, "--data", SO762 / "test", "--ali", SO762 / "ali_test",
                  "--mdl", SO762 / "ali_train" / "final.mdl", "--json")  # fmt: skip
    again = done("evaluate", live, *ALL, "--json")
    assert json.loads(judged.out)["test_errors"] == json.loads(again.out)["test_errors"]
    assert (
        json.loads(judged.out)["test_errors"]
        == json.loads((live / "metrics.json").read_text())["student"]["test_errors"]
    )
    done("report", live)
    assert reading_of(live).splicing.offsets == (-2, -1, 0, 1, 2)
    assert reading_of(teachers).splicing.offsets == tuple(range(-7, 8))
    counts = read_pdf_counts(live / "model" / "ali_train_pdf.counts")
    assert counts.sum() == 8184 + 500 and len(counts) == 1000


def test_weights_are_left_as_the_older_scripts_left_them(teachers):
    member = teachers / "members" / "1"
    layers = read_keras_h5(member / "final.h5")
    assert [layer.kernel.shape for layer in layers] == [(600, 24), (24, 24), (24, 1000)]
    assert sorted(path.name for path in (member / "epochs").iterdir()) == ["epoch-001.h5", "epoch-002.h5"]
    last = read_keras_h5(member / "epochs" / "epoch-002.h5")
    model = load(member)
    best = json.loads((member / "history.jsonl").read_text().splitlines()[-1])["epoch"]
    if not (member / "last.safetensors").exists():
        assert best == 2 and all(np.array_equal(a.kernel, b.kernel) for a, b in zip(layers, last, strict=True))
    nnet = read_nnet(member / "final.nnet.txt")
    assert [part.tag for part in nnet.components] == [
        "AffineTransform", "Sigmoid", "AffineTransform", "Sigmoid", "AffineTransform", "Softmax",
    ]  # fmt: skip
    examples = open_data(options(left=7, right=7)).validation
    inputs = examples.as_seen(slice(0, 50))
    ours = model(inputs).softmax(-1).detach().numpy()
    np.testing.assert_allclose(propagate(nnet, inputs.flatten(1).numpy()), ours, atol=1e-6)


@pytest.mark.parametrize("activation", ["relu", "tanh", "maxout"])
def test_each_activation_becomes_its_component(activation):
    torch.manual_seed(0)
    config = MLPConfig(
        input_shape=(3, 4), classes=5, hidden=(6, 7), activation=activation, pieces=3, input_mean=2.0, input_std=4.0
    )
    net, inputs = MLP(config), torch.randn(9, 3, 4)
    by_torch = net.eval()(inputs).softmax(-1).detach().numpy()
    np.testing.assert_allclose(propagate(nnet_of(net), inputs.flatten(1).numpy()), by_torch, atol=1e-6)


def test_posteriors_are_written_and_read_again(done, teachers, tmp_path):
    """Of the 500 frames of the development directory: each has a thousand numbers."""
    files = [SO762 / name for name in ("dev", "ali_dev", "test", "ali_test", "ali_train/final.mdl")]
    names = ("data", "ali", "validation_data", "validation_ali", "mdl")
    data = open_data(SpeechOptions(**dict(zip(names, map(str, files), strict=True)), norm_vars=True, left=7, right=7))
    words = [word for name, file in zip(names, files, strict=True) for word in (f"--{name.replace('_', '-')}", file)]
    words += ["--encoding", "topk", "--k", 30, "--precision", "float32", "--quiet"]
    written = tmp_path / "targets"
    done("soften", *words, "--teacher", teachers, "--write-posteriors", written.with_suffix(".ark"), "--out", written)
    archive = dict(read_ark(written.with_suffix(".ark")))
    assert list(archive) == [entry.key for entry in read_scp(written.with_suffix(".scp"))]
    assert list(archive) == list(data.train.inputs.keys)
    expected = predict(package.load(teachers), data.train).exp().numpy()
    np.testing.assert_allclose(np.concatenate(list(archive.values())), expected, atol=1e-6)
    same = package.SoftTargets.open(written, examples=data.train)
    for suffix in (".ark", ".scp"):
        out = tmp_path / f"from{suffix}"
        done("soften", *words, "--posteriors", written.with_suffix(suffix), "--norm-vars", "--out", out)
        again = package.SoftTargets.open(out, examples=data.train)
        batch = data.train.batch(torch.arange(0, 500, 6))
        torch.testing.assert_close(again.log_probs(batch, 2.0), same.log_probs(batch, 2.0), atol=2e-2, rtol=0)


@pytest.mark.slow
def test_sparse_posteriors_teach_what_they_hold(done, refused, teachers, targets, tmp_path):
    sparse = tmp_path / "sparse.ark"
    done("soften", *TRAIN, *VALIDATION, "--teacher", teachers, "--write-posteriors", sparse, "--min-post", 0.01,
         "--encoding", "topk", "--k", 5, "--out", tmp_path / "a", "--precision", "float32", "--quiet")  # fmt: skip
    dense = dict(read_ark(targets.with_suffix(".ark")))
    for key, pairs in read_ark(sparse, "posterior"):
        np.testing.assert_array_equal(pairs, sparse_posteriors(dense[key], least=0.01))
    data = open_data(options(left=7, right=7))
    for given in (sparse, sparse.with_suffix(".scp")):
        found = Posteriors(given, data)
        batch = data.train.batch(torch.arange(0, 8184, 500))
        answers = found.log_probs(batch, 1.0).exp()
        expected = np.concatenate([dense_posteriors(sparse_posteriors(dense[key], least=0.01), 1000) for key in dense])
        torch.testing.assert_close(answers, torch.from_numpy(expected[::500]), atol=1e-6, rtol=0)
    refused(SO762, "--teacher", teachers, "--min-post", 0.1, command="soften", says=["--write-posteriors"])


def seen(place, *words, done, out):
    """What limbeck forward writes of the development directory."""
    done("forward", *words, "--feats", place, "--out", out, "--overwrite", "--quiet")
    return dict(read_ark(out))


def together(archive):
    return np.concatenate(list(archive.values()))


def test_forward_knows_how_a_run_sees_speech(done, teachers, tmp_path):
    out, first, second = tmp_path / "post.ark", teachers / "members" / "1", teachers / "members" / "2"
    data = open_data(options(left=3, right=3))
    found = seen(SO762 / "dev", teachers, done=done, out=out)
    assert list(found) == sorted(data.validation.inputs.keys, key=list(found).index)
    expected = predict(load_teacher([teachers], data=data), data.validation).exp().numpy()
    np.testing.assert_allclose(together(found), expected, atol=2e-6)
    weighted = seen(SO762 / "dev", first, second, "--mean", "arithmetic", "--weights", 3, 1, done=done, out=out)
    guide = load_teacher([first, second], data=data, weights=[3, 1])
    np.testing.assert_allclose(together(weighted), predict(guide, data.validation).exp().numpy(), atol=2e-6)
    logs = seen(SO762 / "dev", teachers, "--no-softmax", done=done, out=out)
    np.testing.assert_allclose(np.exp(together(logs)), expected, atol=2e-6)

    # One member by itself is the file that it was exported to, which has to be told all of it.
    flags = ("--cmvn", "speaker", "--norm-vars", "--left-context", 7, "--right-context", 7)
    by_flags = seen(SO762 / "dev", first / "final.nnet.txt", *flags, done=done, out=out)
    np.testing.assert_allclose(together(seen(SO762 / "dev", first, done=done, out=out)), together(by_flags), atol=1e-6)
    for flag, floor in (("--prior-cutoff", 0.01), ("--prior-floor", 0.01)):
        counts = ("--class-frame-counts", first / "model" / "ali_train_pdf.counts", "--no-softmax")
        floored = seen(SO762 / "dev", first, *counts, flag, floor, done=done, out=out)
        below = read_pdf_counts(counts[1]) / read_pdf_counts(counts[1]).sum() < floor
        assert (together(floored)[:, below] < -1e18).all() and (together(floored)[:, ~below] > -1e3).all()


def test_forward_of_networks_that_do_not_go_together(limbeck, teachers, tmp_path):
    first = teachers / "members" / "1"
    other = Path(shutil.copytree(teachers / "members" / "2", tmp_path / "other"))
    config = json.loads((other / "model" / "config.json").read_text())
    small = tmp_path / "small.nnet"
    small.write_bytes((SO762.parent / "tiny.nnet.bin").read_bytes())
    for change, says in (
        ({"norm_vars": False}, "norm-vars = False"),
        ({"cmvn": "word"}, "cannot be used"),
        ({"offsets": []}, "cannot be used"),
    ):
        changed = {**config, "front_end": {**config["front_end"], **change}}
        (other / "model" / "config.json").write_text(json.dumps(changed))
        sealed_again(other)
        refused_forward(limbeck, first, other, says=says, out=tmp_path / "out.ark")
    refused_forward(limbeck, first, small, says="5 outputs", out=tmp_path / "out.ark")
    refused_forward(limbeck, first, "--mean", "geometric", says="there is one", out=tmp_path / "out.ark")
    refused_forward(limbeck, teachers, "--weights", 1, says="2 networks and 1 weights", out=tmp_path / "out.ark")
    refused_forward(limbeck, teachers, "--weights", 0, 0, says="not all 0", out=tmp_path / "out.ark")
    both = ("--prior-cutoff", 0.1, "--prior-floor", 0.2)
    refused_forward(limbeck, teachers, *both, says="give one of them", out=tmp_path / "out.ark")


def refused_forward(limbeck, *words, says, out):
    done = limbeck("forward", *words, "--feats", SO762 / "dev", "--out", out)
    assert done.code == 2 and done.err.startswith("limbeck: ") and done.err.count("\n") == 1, done.err
    assert says in done.err and not out.exists(), done.err


def test_a_run_is_decoded_with_the_priors_of_its_training(teachers):
    model = AcousticModel(teachers, OutputOptions(no_softmax=True))
    graph = SimpleNamespace(transitions=None)
    sources = open_sources(SO762 / "dev", None, None, model, OutputOptions(), FeatureOptions(), graph)
    counts = read_pdf_counts(teachers / "members" / "1" / "model" / "ali_train_pdf.counts")
    np.testing.assert_array_equal(sources.priors, log_priors(counts))
    assert sources.text is not None and sources.utterances.front.norm_vars


def test_a_report_shows_an_utterance_and_word_errors(done, limbeck, teachers, targets, tmp_path):
    run = teachers.parent / "live"
    if not run.exists():
        test_a_student_is_distilled_from_teachers_that_see_more(done, teachers, targets)
    figures = {"wer": 0.375, "insertions": 1, "deletions": 2, "substitutions": 3, "acoustic_scale": 0.1}
    decoded = tmp_path / "student.json"
    decoded.write_text(json.dumps({**figures, "real_time_factor": 0.25, "model": [str(run)]}))
    contents = gather(RunFolder(run), decoded=[decoded])
    assert [model.scores.get("wer") for model in contents.models] == [None, 0.375]
    heard = contents.heard
    assert set(heard.posteriors) == {"teacher", "student"}
    data = open_data(options(left=2, right=2, test_data=str(SO762 / "test"), test_ali=str(SO762 / "ali_test")))
    one = data.test.take_groups(torch.tensor([data.test.inputs.keys.index(heard.key)]))
    assert len(heard.features) == len(one) == len(heard.truth)
    phones = phones_of(SO762 / "ali_train" / "final.mdl")
    expected = phones.add_up(predict(load(run), one).exp().numpy())
    np.testing.assert_allclose(heard.posteriors["student"], expected, atol=1e-5)
    done("report", run, "--decoded", decoded)
    page = render_report(contents, {"posteriors": svg(draw_heard(contents))})
    for words in (
        "Word error rate",
        "37.50 %",
        "Frame accuracy",
        "Real-time factor",
        "Spectrogram and phone posteriors",
        heard.key,
    ):
        assert words in page
    for content, says in (({"wer": 1}, "has no word error rate"), ({**figures, "model": ["x"]}, "not a model of")):
        decoded.write_text(json.dumps(content))
        refused = limbeck("report", run, "--decoded", decoded)
        assert refused.code == 2 and says in refused.err and refused.err.count("\n") == 1


def test_weights_of_teachers_and_a_transfer_set_without_labels(done, teachers, tmp_path):
    members = [teachers / "members" / "1", teachers / "members" / "2"]
    student = ("--left", 1, "--right", 1, "--norm-vars", "--hidden", 8, "--epochs", 1, *QUICK)
    done("distill", *ALL, *student, "--teacher", *members, "--weights", 3, 1, "--transfer", SO762 / "test",
         "--hard-weight", 0, "--no-baseline", "--out", tmp_path / "out")  # fmt: skip
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    data = open_data(options(left=1, right=1, test_data=str(SO762 / "test"), test_ali=str(SO762 / "ali_test")))
    weighted = load_teacher(members, data=data, weights=[3, 1])
    assert metrics["teacher"]["nll"] == pytest.approx(answers_of(weighted, data.test).true_log_probs.mean() * -1)
    assert metrics["teacher"]["nll"] != pytest.approx(
        answers_of(load_teacher(members, data=data), data.test).true_log_probs.mean() * -1, abs=1e-9
    )


def test_a_run_goes_on_after_a_stop(done, tmp_path):
    settings = ("--hidden", 8, "--batch-size", 512, "--precision", "float32", "--quiet", "--schedule", "newbob")
    done("train", *ALL, *settings, "--epochs", 3, "--out", tmp_path / "whole")
    done("train", *ALL, *settings, "--epochs", 1, "--out", tmp_path / "parts")
    RunFolder(tmp_path / "parts").unseal_stage()
    unseal_files(tmp_path / "parts", ["metrics.json"])  # as a kill before the end leaves it
    done("train", *ALL, *settings, "--epochs", 3, "--in-memory-gb", 0, "--resume", "--out", tmp_path / "parts")
    whole, parts = (load(tmp_path / name).state_dict() for name in ("whole", "parts"))
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


def test_training_from_the_disk_ends_in_the_same_bits(done, tmp_path):
    network = ("--hidden", 8, "--epochs", 2, *QUICK)
    done("train", *ALL, *network, "--out", tmp_path / "memory")
    done("train", *ALL, *network, "--in-memory-gb", 0, "--out", tmp_path / "disk")
    held, read = (load(tmp_path / name).state_dict() for name in ("memory", "disk"))
    assert all(torch.equal(held[name], read[name]) for name in held)


# What is wrong is said in one line, with exit code 2, and leaves nothing behind.


@pytest.fixture
def copy(tmp_path):
    """A copy of the corpus to break."""
    return Path(shutil.copytree(SO762, tmp_path / "corpus"))


@pytest.fixture
def refused(limbeck, tmp_path):
    def check(copy, *flags, says, command="train"):
        out = tmp_path / "out"
        words = ("--data", copy / "train", "--ali", copy / "ali_train")
        rest = ("--epochs", 1, "--hidden", 4, *QUICK) if command == "train" else ()
        done = limbeck(command, *words, *flags, *rest, "--out", out)
        lines = done.err.splitlines()
        assert done.code == 2, done.err
        assert len(lines) == 1 and lines[0].startswith("limbeck: "), done.err
        assert "internal error" not in done.err
        for word in says:
            assert str(word) in lines[0], (word, lines[0])
        assert not out.exists()

    return check


def rewrite(copy, change):
    """Write the training features anew, uncompressed, each changed as wanted."""
    held = dict(read_entries(read_scp(copy / "train" / "feats.scp", root=copy)))
    write_ark(copy / "train" / "new.ark", change(held), scp=copy / "train" / "feats.scp")


def test_a_truncated_archive(refused, copy):
    path = copy / "train" / "feats.ark"
    path.write_bytes(path.read_bytes()[:200_000])
    refused(copy, says=["train/feats.ark", "truncated"])


def test_an_offset_past_the_end(refused, copy):
    scp = copy / "train" / "feats.scp"
    first, *rest = scp.read_text().splitlines()
    scp.write_text("\n".join([first.rpartition(":")[0] + ":99999999", *rest]) + "\n")
    refused(copy, says=["points at byte 99999999", "feats.scp, line 1"])


def test_an_utterance_of_another_dimension(refused, copy):
    def change(held):
        key = list(held)[4]
        held[key] = held[key][:, :39]
        return held

    rewrite(copy, change)
    refused(copy, "--cmvn", "none", says=["has 39 features", "has 40"])
    refused(copy, says=["has 39 features", "has 40"])


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_features_that_are_no_numbers(refused, copy, value):
    def change(held):
        held[list(held)[4]][7, 3] = value
        return held

    rewrite(copy, change)
    refused(copy, says=["frame 7, feature 3", str(value), "new.ark"])


def test_an_absurd_header(refused, copy):
    path = copy / "train" / "feats.ark"
    octets = bytearray(path.read_bytes())
    place = octets.index(b"CM ") + 3 + 8
    octets[place : place + 8] = struct.pack("<ii", 2_000_000_000, 2_000_000_000)
    path.write_bytes(octets)
    refused(copy, says=["feats.ark", "2000000000"])


def test_pipes_are_refused_unless_allowed(refused, limbeck, copy, tmp_path):
    scp = copy / "train" / "feats.scp"
    lines = scp.read_text().splitlines()
    held = dict(read_entries(read_scp(scp, root=copy)[:1]))
    ((key, matrix),) = held.items()
    write_ark(tmp_path / "one.ark", held, scp=tmp_path / "one.scp")
    offset = read_scp(tmp_path / "one.scp")[0].offset
    lines[0] = f"{key} tail -c +{offset + 1} {tmp_path / 'one.ark'} |"
    scp.write_text("\n".join(lines) + "\n")
    refused(copy, says=["--allow-pipes", "line 1"])
    outcome = limbeck("train", "--data", copy / "train", "--ali", copy / "ali_train", "--allow-pipes", "--epochs", 1,
                      "--hidden", 4, *QUICK, "--out", tmp_path / "piped")  # fmt: skip
    assert outcome.code == 0, outcome.err
    assert len(matrix)


def test_a_speaker_without_cmvn(refused, copy):
    path = copy / "train" / "cmvn.scp"
    first, *rest = path.read_text().splitlines()
    path.write_text("\n".join(rest) + "\n")
    refused(copy, says=["cmvn.scp", f"speaker {first.split()[0]}"])
    (copy / "train" / "utt2spk").rename(copy / "utt2spk")
    refused(copy, says=["utt2spk: is missing"])
    (copy / "utt2spk").rename(copy / "train" / "utt2spk")
    path.unlink()
    refused(copy, "--cmvn", "speaker", says=["cmvn.scp", "compute-cmvn-stats"])
    refused(copy, "--norm-vars", says=["--norm-vars"])


def test_an_alignment_of_another_model(refused, copy):
    mdl = SO762.parent / "e2e" / "mono.mdl"
    refused(copy, "--mdl", mdl, says=["ali.1.gz", "another final.mdl"])
    (copy / "ali_train" / "final.mdl").unlink()
    refused(copy, says=["final.mdl", "--mdl"])
    shutil.copy(SO762.parent / "e2e" / "ali.1.gz", copy / "ali_train" / "ali.1.gz")
    refused(copy, "--mdl", SO762 / "ali_train" / "final.mdl", says=["another final.mdl"])


def test_a_pdf_beyond_the_outputs(limbeck, tmp_path):
    net = MLP(MLPConfig(input_shape=(11, 40), classes=10, hidden=()))
    front = open_data(options()).reading
    save_model(tmp_path / "model", net, classes=[str(k) for k in range(10)], reading=front)
    judged = ("evaluate", tmp_path, "--data", SO762 / "train", "--ali", SO762 / "ali_train")
    outcome = limbeck(*judged)
    assert outcome.code == 2 and "10 classes" in outcome.err and "1000" in outcome.err


def test_a_teacher_with_another_front_end(refused, teachers):
    refused(SO762, "--teacher", teachers, "--cmvn", "none", command="soften", says=["cmvn"])


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (("--validation-data", SO762 / "dev"), ["--validation-ali"]),
        (("--test-ali", SO762 / "ali_test"), ["--test-data"]),
        (("--image-size", 8), ["--image-size", "images", "Kaldi directory"]),
        (("--shift", 1), ["images"]),
        (("--schedule", "newbob", "--validation", 0), ["newbob", "validation"]),
        (("--feature-transform", SO762.parent / "e2e" / "final.feature_transform"), ["40 features", "inputs"]),
    ],
)
def test_flags_that_do_not_fit(refused, flags, says):
    refused(SO762, *flags, says=says)


def test_speech_flags_without_speech(limbeck, tiny, tmp_path):
    outcome = limbeck("train", "--data", tiny, "--left", 3, "--out", tmp_path / "out")
    assert outcome.code == 2 and "left" in outcome.err and "Kaldi" in outcome.err
    outcome = limbeck("train", "--data", SO762 / "train", "--out", tmp_path / "out")
    assert outcome.code == 2 and "--ali" in outcome.err


def test_posteriors_that_cannot_be_used(refused, targets, tmp_path):
    held = dict(read_ark(targets.with_suffix(".ark")))
    key, first = next(iter(held.items()))
    for name, change, says in (
        ("short", first[:-1], f"{len(first) - 1} frames"),
        ("narrow", first[:, :9], "9 pdfs"),
        ("logs", np.log(first), "no posteriors"),
    ):
        path = tmp_path / f"{name}.ark"
        write_ark(path, {**held, key: change})
        refused(SO762, *VALIDATION, "--norm-vars", "--posteriors", path, command="soften", says=[key, says])
    write_ark(tmp_path / "few.ark", {key: first})
    refused(SO762, *VALIDATION, "--posteriors", tmp_path / "few.ark", command="soften", says=["29 of 30"])
    refused(SO762, command="soften", says=["--posteriors"])


def test_h5py_reads_what_was_exported(teachers):
    with h5py.File(teachers / "members" / "2" / "final.h5") as file:
        assert file["dense_1"]["kernel"].shape == (600, 24) or "dense_1" in file["dense_1"]
