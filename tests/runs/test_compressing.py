"""Compression of whole runs: what each stage is, what fits into a size, and what repeats to the bit."""

import dataclasses
import json
import warnings

import pytest
import torch
from torch import nn

from limbeck.data import DataSet, Examples
from limbeck.errors import ConfigError, DataError, LimbeckWarning, MismatchError, RunError
from limbeck.evaluation.prediction import predict
from limbeck.lowrank import RankPlan, parse_bytes
from limbeck.models import MLP, MLPConfig, count_parameters, describe
from limbeck.options import Augmentation, FineTuning, RankRule
from limbeck.report import figures_all, write_report
from limbeck.report.parity import write_parity_page
from limbeck.runs import RunFolder, compress_parity, distill, load, pages, train
from limbeck.runs.compressing import compress
from limbeck.runs.measure import file_bytes, speed_of
from limbeck.runs.pages import gather, report_run
from limbeck.runs.ranks import choose_ranks, read_plan
from limbeck.softtargets import SoftTargets


@pytest.fixture(scope="module", autouse=True)
def quick():
    before = dict(speed_of.__kwdefaults__)
    speed_of.__kwdefaults__["seconds"] = 0.002
    yield
    speed_of.__kwdefaults__.update(before)


@pytest.fixture(scope="module")
def data():
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(4, 40, generator=generator)

    def part(count, start):
        labels = torch.arange(start, start + count) % 4
        return Examples.of(centres[labels] + 1.0 * torch.randn(count, 40, generator=generator), labels)

    return DataSet("clouds", tuple("abcd"), part(600, 0), part(400, 0), part(200, 0))


@pytest.fixture(scope="module")
def net(data):
    torch.manual_seed(0)
    model = MLP(MLPConfig(input_shape=(40,), classes=4, hidden=(60, 50)))
    fitted = train(model, data, epochs=6, precision="float32", device="cpu", batch_size=64).model
    fitted.classes = data.classes
    return fitted


TUNED = FineTuning(finetune_epochs=6, batch_size=64, learning_rate=0.003, precision="float32", device="cpu")
TINY = RankRule(parameters=0.08)


def test_only_a_network_that_should_know_nothing_yet_is_told_that_it_knows_all(data, net):
    seen = "before its first step the model is right on all 32"
    few = DataSet("few", data.classes, data.train.take(torch.arange(32)), data.validation)
    short = {"epochs": 1, "batch_size": 32, "precision": "float32", "device": "cpu"}
    with pytest.warns(LimbeckWarning, match=seen):
        train(net, few, **short)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        tuned = FineTuning(finetune_epochs=1, **{key: value for key, value in short.items() if key != "epochs"})
        compress(net, few, rule=RankRule(energy=1.0), finetuning=tuned)
    assert not any("before its first step" in str(each.message) for each in caught)


def test_the_stages_are_what_their_names_say(data, net, tmp_path, monkeypatch):
    monkeypatch.setattr(pages, "write_report", write_report)
    own = [plate for plate in figures_all.PLATES if plate.name in {"way", "spectrum"}]
    monkeypatch.setattr(figures_all, "PLATES", own)  # a command's test draws all of them
    before = {name: value.clone() for name, value in net.state_dict().items()}
    run = compress(net, data, rule=TINY, finetuning=TUNED, int8=True, out=tmp_path / "run")
    stages = run.metrics["stages"]
    assert list(stages) == ["original", "svd", "svd + fine-tune", "svd + fine-tune + int8"]
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert run.metrics["judged_on"] == "test"
    assert stages["svd"]["parameters"] == stages["svd + fine-tune"]["parameters"] == run.plan.parameters_after
    assert run.plan.parameters_after <= 0.08 * stages["original"]["parameters"] == 0.08 * count_parameters(net)
    # Fine-tuning wins back agreement with the network as it was.
    agrees = [stages[role]["agreement_with_original"] for role in list(stages)[1:]]
    assert agrees[1] > agrees[0] and stages["svd + fine-tune"]["nll"] < stages["svd"]["nll"]
    for role, folder in (("svd", "svd"), ("svd + fine-tune", "svd-fine-tune"), ("svd + fine-tune + int8", ".")):
        stage = load(tmp_path / "run" / folder)
        wrong = int((predict(stage, data.test).argmax(1) != data.test.labels).sum())
        assert wrong == stages[role]["test_errors"], role
        assert file_bytes(stage) == stages[role]["file_bytes"]
        assert (tmp_path / "run" / folder / "model" / "model.safetensors").stat().st_size == file_bytes(stage)
    assert stages["svd + fine-tune + int8"]["file_bytes"] < stages["svd + fine-tune"]["file_bytes"]
    assert stages["svd + fine-tune + int8"]["multiply_adds"] == stages["svd"]["multiply_adds"]
    assert describe(load(tmp_path / "run"))["ranks"] == run.plan.ranks
    contents = gather(RunFolder(tmp_path / "run"), data=data)
    assert contents.way == tuple(stages) and [curve.layer for curve in contents.spectra] == ["1", "3", "5"]
    layers = {model.role: [layer.parameters for layer in model.layers] for model in contents.models}
    ranks = list(run.plan.ranks.values())
    assert layers["svd"] == layers["svd + fine-tune"] == layers["svd + fine-tune + int8"]
    assert layers["svd"][:2] == [40 * ranks[0], 60 * ranks[0] + 60] and layers["original"] == []  # it is in no folder
    assert [len(model.history) for model in contents.models] == [0, 0, 6, 0]
    page = report_run(tmp_path / "run", data=data).read_text()
    assert "Accuracy and file size by stage" in page and "Singular values" in page
    assert {"way.svg", "spectrum.svg"} == {path.name for path in (tmp_path / "run" / "figures").iterdir()}


def test_8_bits_alone(data, net):
    run = compress(net, data, int8=True)
    assert list(run.metrics["stages"]) == ["original", "int8"] and run.plan is None
    first, last = run.metrics["stages"].values()
    assert last["agreement_with_original"] > 0.97 and last["file_bytes"] < 0.4 * first["file_bytes"]


@pytest.mark.parametrize("int8", [False, True])
@pytest.mark.parametrize("size", ["6KB", "5000"])
def test_a_size_is_that_of_the_file(data, net, size, int8):
    run = compress(net, data, rule=RankRule(size=size), int8=int8)
    shipped = list(run.metrics["stages"].values())[-1]["file_bytes"]
    # The next rank of the narrowest layer would cost 54 weights.
    assert parse_bytes(size) - 4 * 54 - 64 < shipped <= parse_bytes(size)
    assert run.plan.rule == f"size {size}"


@pytest.mark.parametrize("by", ["rank", "units"])
@pytest.mark.parametrize("share", [0.5, "0.5"])
def test_a_share_as_a_size_is_one_of_the_file(data, net, share, by):
    before = file_bytes(net)
    after = file_bytes(compress(net, data, rule=RankRule(size=share), by=by).model)
    assert before / 2 - 4 * 100 < after <= before / 2
    with pytest.raises(ConfigError, match=rf"size 0.01 is {before // 100:,} bytes, and the smallest file"):
        compress(net, data, rule=RankRule(size=0.01), by=by)


def test_a_budget_that_the_network_is_within_is_told(data, net):
    with pytest.warns(LimbeckWarning, match=r"no layer was made smaller: .* parameters is within"):
        run = compress(net, data, rule=RankRule(size="10MB"))
    assert run.metrics["warnings"]


@pytest.mark.parametrize("rule", [RankRule(parameters=0.3), RankRule(energy=0.5)])
def test_a_saved_plan_gives_equal_bytes_twice(data, net, tmp_path, rule):
    compress(net, data, rule=rule, out=tmp_path / "first")
    weights = (tmp_path / "first" / "model" / "model.safetensors").read_bytes()
    for name in ("second", "third"):
        compress(net, data, plan=read_plan(tmp_path / "first"), out=tmp_path / name)
        assert (tmp_path / name / "model" / "model.safetensors").read_bytes() == weights
        for file in ("plan.json", "model/config.json"):
            assert (tmp_path / name / file).read_bytes() == (tmp_path / "first" / file).read_bytes()
    other = MLP(net.config)
    with pytest.raises(MismatchError, match="make a plan for it"):
        compress(other, data, plan=read_plan(tmp_path / "first"), out=tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_a_run_goes_on_where_it_was_stopped(data, net, tmp_path, monkeypatch):
    options = {"rule": TINY, "finetuning": TUNED, "int8": True}
    whole = compress(net, data, **options, out=tmp_path / "whole")
    from limbeck.runs import compress_stages

    class StoppedError(Exception):
        pass

    def stop(*_, **__):
        raise StoppedError

    with monkeypatch.context() as patch:
        patch.setattr(compress_stages, "to_int8", stop)
        with pytest.raises(StoppedError):
            compress(net, data, **options, out=tmp_path / "run")
    with pytest.raises(RunError, match="--resume"):
        compress(net, data, **options, out=tmp_path / "run")
    monkeypatch.setattr(compress_stages, "choose_ranks", stop)  # the plan is there already
    again = compress(net, data, **options, out=tmp_path / "run", resume=True)
    for name, value in whole.model.state_dict().items():
        assert torch.equal(again.model.state_dict()[name], value)
    with pytest.raises(RunError, match="was started with parameters"):
        compress(
            net, data, rule=RankRule(parameters=0.1), int8=True, finetuning=TUNED, out=tmp_path / "run", resume=True
        )


def test_stored_answers_teach_as_the_network_does(data, net, tmp_path):
    SoftTargets.write(tmp_path / "targets", net, data.train, classes=data.classes, dtype="float32")
    targets = SoftTargets.open(tmp_path / "targets", examples=data.train)
    live = compress(net, data, rule=TINY, finetuning=TUNED)
    stored = compress(net, data, rule=TINY, finetuning=TUNED, teacher=targets)
    for name, value in live.model.state_dict().items():
        torch.testing.assert_close(stored.model.state_dict()[name], value, rtol=1e-3, atol=1e-4)
    strange = compress(net, data, rule=TINY, finetuning=TUNED, teacher=MLP(net.config))
    assert (
        strange.metrics["stages"]["svd + fine-tune"]["accuracy"] < live.metrics["stages"]["svd + fine-tune"]["accuracy"]
    )
    with pytest.raises(MismatchError):
        compress(net, data, rule=TINY, finetuning=TUNED, teacher=targets, augmentation=Augmentation(shift=1, views=2))


def test_a_compressed_network_is_a_student_and_a_teacher_like_any_other(data, net, tmp_path):
    small = compress(net, data, rule=RankRule(parameters=0.3), out=tmp_path / "svd").model
    settings = {"epochs": 1, "batch_size": 64, "precision": "float32", "device": "cpu"}
    student = distill(net, small, data, **settings, baseline=False, out=tmp_path / "student").student
    assert describe(load(tmp_path / "student"))["ranks"] == describe(small)["ranks"]
    assert torch.equal(predict(load(tmp_path / "student"), data.test), predict(student, data.test))
    rounded = compress(student, data, int8=True, out=tmp_path / "int8").model
    taught = distill(load(tmp_path / "int8"), nn.Linear(40, 4), data, **settings, baseline=False)
    assert taught.metrics["teacher"]["test_errors"] == int(
        (predict(rounded, data.test).argmax(1) != data.test.labels).sum()
    )
    with pytest.raises(DataError, match="8-bit weights already"):
        compress(rounded, data, rule=TINY)


def test_rules_and_metrics(data, net):
    plans = {
        name: choose_ranks(net, data, RankRule(**{name: value}))[0]
        for name, value in {
            "rank": (5,), "energy": 0.5, "singular_share": 0.5, "layer_share": 0.5, "parameters": 0.5, "flops": 0.5,
            "size": "10KB",
        }.items()
    }  # fmt: skip
    assert {name: plan.metric for name, plan in plans.items()} == {
        "rank": "weights", "energy": "weights", "singular_share": "weights", "layer_share": "weights",
        "parameters": "divergence", "flops": "divergence", "size": "divergence",
    }  # fmt: skip
    assert plans["rank"].ranks == {"1": 5, "3": 5}  # of rank 5 the last, 4 x 50, cannot be
    assert choose_ranks(net, data, RankRule(rank=(9, 8, 2)))[0].ranks == {"1": 9, "3": 8, "5": 2}
    assert choose_ranks(net, data, RankRule(parameters=0.5), metric="weights")[0].metric == "weights"
    rows = [
        choose_ranks(net, data, RankRule(parameters=0.5), calibration=50, seed=seed)[1].digest for seed in (0, 0, 1)
    ]
    assert rows[0] == rows[1] != rows[2]


@pytest.mark.parametrize(
    ("options", "kind", "says"),
    [
        ({}, ConfigError, "there is nothing to do"),
        ({"finetuning": TUNED, "int8": True}, ConfigError, "give a rank rule too"),
        ({"rule": RankRule(rank=(5000,))}, ConfigError, "the largest possible of any layer is 50"),
        ({"rule": RankRule(rank=(5, 5))}, ConfigError, "2 numbers, and the network has 3 layers"),
        ({"rule": RankRule(size="100B")}, ConfigError, "smallest"),
        ({"rule": RankRule(size="700B"), "int8": True}, ConfigError, "size 700B is 700 bytes, and the smallest file"),
        ({"rule": RankRule(parameters=0.001)}, ConfigError, "the smallest possible, every layer at rank 1"),
        ({"rule": RankRule(parameters=0.5), "calibration": 0}, ConfigError, "calibration must be at least 1"),
    ],
)
def test_what_cannot_be_is_refused_and_leaves_nothing(data, net, tmp_path, options, kind, says):
    with pytest.raises(kind, match=says):
        compress(net, data, **options, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_bad_networks_are_refused(data, net, tmp_path):
    broken = MLP(net.config)
    with torch.no_grad():
        broken[3].weight[2, 7] = torch.inf
    for options in ({"rule": TINY}, {"int8": True}):
        with pytest.raises(DataError, match="layer 3"):
            compress(broken, data, **options, out=tmp_path / "run")
    with pytest.raises(DataError, match="nothing to make smaller"):
        compress(nn.Sequential(nn.AdaptiveAvgPool1d(4)), data, rule=RankRule(energy=0.5), out=tmp_path / "run")
    with pytest.raises(MismatchError, match="classes"):
        compress(MLP(MLPConfig(input_shape=(40,), classes=3)), data, rule=TINY, out=tmp_path / "run")
    unlabelled = dataclasses.replace(data, train=data.train.without_labels())
    with pytest.raises(ConfigError, match="hard_weight"):
        compress(net, unlabelled, rule=TINY, finetuning=TUNED, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_one_rule_at_most():
    with pytest.raises(ConfigError, match="energy and parameters"):
        RankRule(energy=0.5, parameters=0.5)
    for wrong in ({"energy": 0.0}, {"layer_share": 1.5}, {"parameters": -1.0}, {"rank": (0,)}, {"rank": ()}):
        with pytest.raises(ConfigError):
            RankRule(**wrong)
    for wrong in ({"finetune_epochs": -1}, {"temperature": 0.0}, {"learning_rate": -1.0}, {"batch_size": 0}):
        with pytest.raises(ConfigError):
            FineTuning(**wrong)


def test_the_plan_in_the_folder_is_the_plan(data, net, tmp_path):
    run = compress(net, data, rule=RankRule(flops=0.4), out=tmp_path / "run")
    assert RankPlan.load(tmp_path / "run" / "plan.json") == run.plan
    assert json.loads((tmp_path / "run" / "metrics.json").read_text()) == run.metrics
    assert run.metrics["stages"]["svd"]["multiply_adds"] <= 0.4 * run.metrics["stages"]["original"]["multiply_adds"]
    assert read_plan(tmp_path / "run")[1].digest == run.spectrum.digest
    # A plan that counts weights needs no spectrum beside it.
    compress(net, data, rule=RankRule(layer_share=0.5), out=tmp_path / "plain")
    assert not (tmp_path / "plain" / "spectrum.safetensors").exists()
    assert read_plan(tmp_path / "plain") == (RankPlan.load(tmp_path / "plain" / "plan.json"), None)


def test_the_parity_report_compares_the_last_stage_with_the_network(data, net, tmp_path, monkeypatch):
    monkeypatch.setattr(compress_parity, "write_parity_page", write_parity_page)
    run = compress(net, data, rule=TINY, int8=True, out=tmp_path / "run")
    written = json.loads((tmp_path / "run" / "parity.json").read_text())
    assert written == json.loads(json.dumps(run.parity)) and written["judged_on"] == "test"
    found = written["formats"]["compressed"]
    before, after = predict(net, data.test), predict(run.model, data.test)
    flips = int((before.argmax(1) != after.argmax(1)).sum())
    assert found["flips"]["count"] == flips > 0 and found["refused"] == [] and found["margin"] is None
    assert found["original"]["accuracy"] == run.metrics["stages"]["original"]["accuracy"]
    assert found["exported"]["accuracy"] == run.metrics["stages"]["svd + int8"]["accuracy"]
    divergence = (before.exp() * (before - after)).sum(1).mean().item()
    assert found["divergence"]["mean"] == pytest.approx(divergence, rel=1e-3)
    page = (tmp_path / "run" / "parity.html").read_text()
    assert "compressed" in page and "<img" in page
    assert "Parity: some predictions differ" in page and "all predictions agree" not in page
    assert "parity.json" in (tmp_path / "run" / "SHA256SUMS").read_text()
    assert set(found["batches"]) == {"1", "3", "257"} and found["speed"]["exported"]["p50_ms"] > 0
