"""``limbeck compress``: runs and nnet1 files, and what it refuses."""

import json
import re
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch
from nnet1_generator import SIZES, write_relu_network
from safetensors.torch import load_file, save_file
from tiny_runs import FAST, sealed_again

import limbeck as package
from limbeck.kaldi.formats.nnet1 import dialect_of, read_nnet
from limbeck.kaldi.formats.table import read_ark
from limbeck.kaldi.forward import forward
from limbeck.report import write_report
from limbeck.runs import pages
from limbeck.system.files import seal_files

KALDI = Path(__file__).parent.parent / "fixtures" / "kaldi"
WIDE = ("--epochs", 2, "--hidden", 40, "--batch-size", 32, "--precision", "float32", "--learning-rate", 0.02)
BRIEF = ("--finetune-epochs", 2, "--batch-size", 32, "--precision", "float32")


@pytest.fixture
def good(limbeck):
    def run(*words):
        done = limbeck(*words)
        assert done.code == 0, done.err
        return done

    return run


@pytest.fixture
def refused(limbeck, tmp_path):
    """A user's mistake: one line, exit code 2, and nothing is written."""

    def check(*words, says):
        before = sorted(path for path in tmp_path.rglob("*") if not path.name.startswith(".lock"))
        done = limbeck(*words)
        lines = done.err.splitlines()
        assert done.code == 2 and len(lines) == 1 and lines[0].startswith("limbeck: "), done.err
        assert says in lines[0] and done.out == "", lines[0]
        assert sorted(path for path in tmp_path.rglob("*") if not path.name.startswith(".lock")) == before
        return lines[0]

    return check


@pytest.fixture(scope="module")
def student(limbeck, tiny, teacher, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "student"
    done = limbeck("distill", "--data", tiny, "--teacher", teacher, *WIDE, "--no-baseline", "--out", out)
    assert done.code == 0, done.err
    return out


def weights(run):
    return (run / "model" / "model.safetensors").read_bytes()


def test_the_whole_way_of_a_student(good, tiny, student, tmp_path, monkeypatch):
    out = tmp_path / "small"
    with monkeypatch.context() as patch:
        patch.setattr(pages, "write_report", write_report)
        done = good("compress", student, "--parameters", 0.4, *BRIEF, "--int8", "--out", out)
    metrics = json.loads((out / "metrics.json").read_text())
    stages = metrics["stages"]
    assert list(stages) == ["teacher", "student", "svd", "svd + fine-tune", "svd + fine-tune + int8"]
    for scores in stages.values():
        assert {"parameters", "file_bytes", "multiply_adds", "latency_ms", "accuracy"} <= set(scores)
    assert re.search(r"layer +shape +rank +kept +weights +after", done.out) and "40 x 64" in done.out
    assert "errors" in done.out and "report.html" in done.err
    page = (out / "report.html").read_text()
    assert "Accuracy and file size by stage" in page and "Singular values" in page and "smaller file than" in page
    # Like any other run it is evaluated, asked for soft targets, distilled from, and drawn again.
    told = json.loads(good("evaluate", out, "--data", tiny, "--json").out)
    last = stages["svd + fine-tune + int8"]
    assert {name: told[name] for name in ("test_errors", "nll", "parameters", "file_bytes", "multiply_adds")} == {
        name: last[name] for name in ("test_errors", "nll", "parameters", "file_bytes", "multiply_adds")
    }
    assert told["title"] == "mlp 64-40-3, low rank, int8"
    good("soften", "--data", tiny, "--teacher", out, "--out", tmp_path / "targets")
    good("distill", "--data", tiny, "--teacher", out, *FAST, "--no-baseline", "--out", tmp_path / "taught")
    assert json.loads((tmp_path / "taught" / "metrics.json").read_text())["teacher"]["nll"] == pytest.approx(
        told["nll"]
    )
    good("report", out)
    again = json.loads(good("evaluate", out / "svd", "--data", tiny, "--json").out)
    assert again["test_errors"] == stages["svd"]["test_errors"]


def test_a_config_and_a_plan_give_the_same_bytes(good, refused, tiny, teacher, student, tmp_path):
    first = tmp_path / "first"
    good("compress", teacher, "--flops", 0.6, *BRIEF, "--seed", 3, "--hard-weight", 0.3, "--out", first)
    config = tomllib.loads((first / "config.toml").read_text())
    assert config["source"] == str(teacher) and config["flops"] == 0.6 and config["data"] == str(tiny)
    good("compress", "--config", first / "config.toml", "--out", tmp_path / "again")
    good("compress", teacher, "--plan", first / "plan.json", *BRIEF, "--seed", 3, "--hard-weight", 0.3,
         "--out", tmp_path / "planned")  # fmt: skip
    assert weights(first) == weights(tmp_path / "again") == weights(tmp_path / "planned")
    plans = [(tmp_path / name / "plan.json").read_bytes() for name in ("first", "again", "planned")]
    assert plans[0] == plans[1] == plans[2]
    good("compress", teacher, "--flops", 0.6, *BRIEF, "--seed", 3, "--hard-weight", 0.3, "--out", first, "--resume")
    assert weights(first) == weights(tmp_path / "again")
    refused(
        "compress", student, "--plan", first / "plan.json", "--out", tmp_path / "x", says="the plan is for the network"
    )


def test_units_go_within_a_budget_and_the_run_is_like_any_other(good, tiny, teacher, tmp_path):
    out = tmp_path / "narrow"
    done = good("compress", teacher, "--by", "units", "--parameters", 0.5, *BRIEF, "--out", out)
    stages = json.loads((out / "metrics.json").read_text())["stages"]
    assert list(stages) == ["original", "pruned", "pruned + fine-tune"]
    assert (
        re.search(r"layer +units +kept +loss alone", done.out)
        and "measured divergence of the pruned network" in done.out
    )
    told = json.loads(good("evaluate", out, "--data", tiny, "--json").out)
    assert told["parameters"] == stages["pruned"]["parameters"] <= 0.5 * stages["original"]["parameters"]
    again = json.loads(good("evaluate", out / "pruned", "--data", tiny, "--json").out)
    assert again["test_errors"] == stages["pruned"]["test_errors"]
    good("compress", teacher, "--plan", out / "plan.json", "--out", tmp_path / "again")
    assert weights(tmp_path / "again") == weights(out / "pruned")


def test_stored_targets_and_8_bits_alone(good, refused, tiny, teacher, student, tmp_path):
    good("soften", "--data", tiny, "--teacher", teacher, "--out", tmp_path / "targets")
    words = ("compress", student, "--rank", 4, "--teacher-targets", tmp_path / "targets")
    good(*words, *BRIEF, "--out", tmp_path / "taught")
    good("compress", student, "--rank", 4, *BRIEF, "--out", tmp_path / "plain")
    assert weights(tmp_path / "taught") != weights(tmp_path / "plain")
    refused(*words, "--out", tmp_path / "x", says="give --finetune-epochs too")
    good("compress", student, "--int8", "--out", tmp_path / "int8", "--json")
    told = json.loads((tmp_path / "int8" / "metrics.json").read_text())
    assert list(told["stages"]) == ["teacher", "student", "int8"] and "plan" not in told
    kinds = {value.dtype for value in load_file(tmp_path / "int8" / "model" / "model.safetensors").values()}
    assert kinds == {torch.int8, torch.float32}
    # Low rank first, 8 bits later.
    good("compress", tmp_path / "plain", "--int8", "--data", tiny, "--out", tmp_path / "later")
    assert package.load(tmp_path / "later")(torch.zeros(1, 1, 8, 8)).shape == (1, 3)


def test_a_network_of_ones_own(good, refused, tiny, own_module, tmp_path):
    own = f"{own_module}:net"
    good("train", "--data", tiny, "--model", own, "--epochs", 1, "--precision", "float32", "--out", tmp_path / "own")
    words = ("compress", tmp_path / "own", "--rank", 2, "--int8", "--out", tmp_path / "small")
    refused(*words, says="--model")
    good(*words, "--model", own)
    told = json.loads((tmp_path / "small" / "metrics.json").read_text())["stages"]["svd + int8"]
    found = json.loads(good("evaluate", tmp_path / "small", "--data", tiny, "--model", own, "--json").out)
    assert found["nll"] == told["nll"] and found["parameters"] == told["parameters"] == 128 + 12 + 6 + 21


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((), "there is nothing to do: give one rank rule"),
        (("--energy", 0.5, "--size", "20KB"), "energy and size"),
        (("--energy", 1.5), "energy must be in (0, 1], and is 1.5"),
        (("--rank", 0), "rank must be at least 1"),
        (("--rank", 5000), "rank 5000 is impossible"),
        (("--rank", 2, 2, 2), "rank has 3 numbers, and the network has 2 layers"),
        (("--parameters", 0.001), "smallest possible"),
        (("--size", "many"), "--size must be above 0, such as 200KB, 1.5MB or 1MiB, and is 'many'"),
        (("--size", "-5KB"), "--size must be above 0, such as 200KB, 1.5MB or 1MiB, and is '-5KB'"),
        (("--latency", "-.5ms"), "--latency must be a time above 0, such as 2ms, 350us or 0.1s, and is '-.5ms'"),
        (("--size", "300B"), "size 300B is 300 bytes, and the smallest file"),
        (("--energy", 0.5, "--calibration", 0), "calibration must be at least 1"),
        (("--int8", "--finetune-epochs", 2), "give a rank rule too"),
        (("--energy", 0.5, "--dialect", "text"), "is for nnet1 files only"),
        (("--energy", 0.5, "--plan", "plan.json"), "leave --energy out"),
        (("--by", "units", "--energy", 0.5), "units are pruned within a budget"),
        (("--by", "units", "--parameters", 0.001), "one unit in each group"),
        (("--plan", "nowhere.json"), "nowhere.json"),
        (("--energy", 0.5, "--data", "nowhere.npz"), "nowhere.npz"),
    ],
)
def test_what_cannot_be_asked_of_a_run(refused, teacher, tmp_path, words, says):
    refused("compress", teacher, *words, "--out", tmp_path / "out", says=says)


def test_bad_runs(refused, limbeck, tiny, teacher, tmp_path):
    refused("compress", teacher, "--energy", 0.5, says="--out FOLDER")
    refused("compress", teacher, tmp_path / "out", "--energy", 0.5, says="--out FOLDER")
    refused("compress", tmp_path / "none", "--energy", 0.5, "--out", tmp_path / "out", says="none is not there: give")
    refused(
        "compress", tiny, "--energy", 0.5, "--out", tmp_path / "out", says="tiny.npz is a file: give a run's folder"
    )
    refused(
        "compress", tmp_path, "--energy", 0.5, "--out", tmp_path / "out", says=f"{tmp_path} is not a run: it has no"
    )
    broken = tmp_path / "broken"
    (broken / "model").mkdir(parents=True)
    for name in ("config.json", "model.safetensors"):
        (broken / "model" / name).write_bytes((teacher / "model" / name).read_bytes())
    seal_files(broken / "model", ("config.json", "model.safetensors"))
    refused("compress", broken, "--energy", 0.5, "--out", tmp_path / "out", says="give --data")
    tensors = load_file(broken / "model" / "model.safetensors")
    name = next(name for name in tensors if name.endswith("weight"))
    for value, says in ((torch.nan, f"model.safetensors: has NaN in {name}"), (torch.inf, "NaN or infinite weights")):
        tensors[name][0, 0] = value
        save_file(tensors, broken / "model" / "model.safetensors")
        sealed_again(broken)
        for words in (("--energy", 0.5), ("--int8",)):
            refused("compress", broken, "--data", tiny, *words, "--out", tmp_path / "out", says=says)
    done = limbeck("compress", teacher, "--rank", 2, "--out", teacher)
    assert done.code == 2 and "exists already" in done.err


def test_an_ensemble_has_to_be_distilled_first(good, refused, tiny, tmp_path):
    good("train", "--data", tiny, *FAST, "--members", 2, "--out", tmp_path / "two")
    refused(
        "compress", tmp_path / "two", "--rank", 2, "--out", tmp_path / "out", says="distil it into one network first"
    )
    good("compress", tmp_path / "two" / "members" / "1", "--rank", 2, "--data", tiny, "--out", tmp_path / "out")


def test_the_older_script_with_one_command(good, refused, tmp_path):
    source, target = tmp_path / "am.txt", tmp_path / "small.txt"
    write_relu_network(source)
    done = good("compress", source, target, "--rank", 112, 117, 124, 232)
    assert "951,441 -> 623,273" in done.out and dialect_of(target) == "legacy"
    matrices = [part.weight for part in read_nnet(target).components if hasattr(part, "weight")]
    assert sum(matrix.size for matrix in matrices) == 621_080 and len(matrices) == 2 * (len(SIZES) - 1)
    assert target.with_name("small.txt.svg").read_text().startswith("<svg")
    before = target.read_bytes()
    again = ("compress", source, target, "--plan", tmp_path / "small.txt.plan.json")
    refused(*again, says="small.txt exists already: choose another name, or give --overwrite")
    good(*again, "--overwrite")
    assert target.read_bytes() == before
    good("compress", source, tmp_path / "out.nnet", "--energy", 0.9, "--dialect", "binary")
    tags = [part.tag for part in read_nnet(tmp_path / "out.nnet").components]
    assert dialect_of(tmp_path / "out.nnet") == "binary" and tags.count("ParametricRelu") == 3 and "Relu" not in tags
    refused("compress", KALDI / "tiny.nnet.bin", target, "--plan", tmp_path / "small.txt.plan.json", "--overwrite",
            says="the plan is for the network")  # fmt: skip


def test_a_kaldi_network_with_features(good, tmp_path):
    source, transform = KALDI / "e2e/final.nnet", KALDI / "e2e/final.feature_transform"
    errors = {}
    words = ("compress", source, tmp_path / "out.nnet", "--parameters", 0.45)
    features = ("--features", KALDI / "e2e/feats.ark", "--feature-transform", transform)
    for name, more in (("weights", ()), ("features", (*features, "--overwrite"))):
        plan = json.loads(good(*words, *more, "--json").out)
        small = read_nnet(tmp_path / "out.nnet")
        assert plan["parameters_after"] == small.parameter_count <= 0.45 * read_nnet(source).parameter_count
        assert dialect_of(tmp_path / "out.nnet") == "binary"
        lost = []
        for _, frames in list(read_ark(KALDI / "e2e/feats.ark"))[:10]:
            old, new = (
                forward(net, frames, feature_transform=read_nnet(transform), apply_log=True)
                for net in (read_nnet(source), small)
            )
            lost.append(float((np.exp(old) * (old - new)).sum(1).mean()))
        errors[name] = float(np.mean(lost))
    assert errors["features"] < 0.5 * errors["weights"]
    assert (tmp_path / "out.nnet.spectrum.safetensors").exists()
    before = (tmp_path / "out.nnet").read_bytes()
    again = ("compress", source, tmp_path / "again.nnet", "--plan", tmp_path / "out.nnet.plan.json")
    good(*again)
    assert (tmp_path / "again.nnet").read_bytes() == before


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("final.nnet", "out.nnet"), "there is nothing to do"),
        (("final.nnet", "--rank", 2), "give the file to write"),
        (("final.nnet", "final.nnet", "--rank", 2), "is the network to read"),
        (("final.nnet", "out.nnet", "--rank", 99), "rank 99 is impossible"),
        (("final.nnet", "out.nnet", "--parameters", 0.01), "smallest possible"),
        (("final.nnet", "out.nnet", "--rank", 2, "--int8"), "--int8: "),
        (("final.nnet", "out.nnet", "--rank", 2, "--out", "folder"), "--out: "),
        (("final.nnet", "out.nnet", "--rank", 2, "--feature-transform", "final.nnet"), "give --features too"),
        (("final.nnet", "out.nnet", "--parameters", 0.5, "--metric", "divergence"), "give frames with --features"),
        (("final.nnet", "out.nnet", "--rank", 2, "--features", "final.nnet"), "final.nnet"),
        (("final.nnet", "missing/out.nnet", "--rank", 2), "missing/out.nnet"),
        (("empty.nnet", "out.nnet", "--rank", 2), "an empty file"),
        (("bare.nnet", "out.nnet", "--rank", 2), "nothing to make smaller"),
        (("infinite.nnet", "out.nnet", "--rank", 2), "infinite.nnet"),
        (("maxout.nnet", "out.nnet", "--rank", 2, "--dialect", "text"), "no maxout"),
        (("none.nnet", "out.nnet", "--rank", 2), "none.nnet"),
        (("final.nnet", "taken.nnet", "--rank", 2), "taken.nnet exists already"),
        (("final.nnet", "mine", "--rank", 2), "mine.svg exists already"),
    ],
)
def test_what_cannot_be_asked_of_a_file(refused, tmp_path, monkeypatch, words, says):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "final.nnet").write_bytes((KALDI / "e2e/final.nnet").read_bytes())
    (tmp_path / "taken.nnet").write_bytes(b"mine")
    (tmp_path / "mine.svg").write_bytes(b"mine")
    (tmp_path / "empty.nnet").write_bytes(b"")
    (tmp_path / "bare.nnet").write_bytes(b"<relu> 4 4\n<softmax> 4 4\n")
    (tmp_path / "infinite.nnet").write_bytes(b"<affinetransform> 2 2\n[\n1 inf\n2 3\n]\n[ 1 2 ]\n")
    rows = b"\n".join(b"1 2 3 4 5 6 7 %d" % number for number in range(8))
    (tmp_path / "maxout.nnet").write_bytes(
        b"<affinetransform> 8 8\n[\n" + rows + b"\n]\n[ 1 2 3 4 5 6 7 8 ]\n<maxout> 4 8\n"
    )
    refused("compress", *words, says=says)


def test_help(good):
    shown = good("compress", "--help-all").out
    assert "limbeck compress runs/cnn --size 200KB" in shown and "--singular-share" in shown
