"""Compression by taking units out: within each budget, fine-tuned, rounded, saved, resumed, and refused in a line."""

import json

import pytest
import torch
from torch import nn

from limbeck.data import DataSet, Examples
from limbeck.errors import ConfigError, MismatchError
from limbeck.models import MLP, MLPConfig, count_parameters
from limbeck.options import FineTuning, RankRule
from limbeck.pruning import PrunePlan
from limbeck.runs import load, train, units
from limbeck.runs.compressing import compress
from limbeck.runs.measure import file_bytes, speed_of
from limbeck.runs.ranks import read_plan

TUNED = FineTuning(finetune_epochs=4, batch_size=64, learning_rate=0.003, precision="float32", device="cpu")


@pytest.fixture(scope="module", autouse=True)
def quick():
    before = dict(speed_of.__kwdefaults__)
    speed_of.__kwdefaults__["seconds"] = 0.002
    yield
    speed_of.__kwdefaults__.update(before)


@pytest.fixture(scope="module")
def data():
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(4, 20, generator=generator)

    def part(count):
        labels = torch.arange(count) % 4
        return Examples.of(centres[labels] + torch.randn(count, 20, generator=generator), labels)

    return DataSet("clouds", tuple("abcd"), part(400), part(200), part(200))


@pytest.fixture(scope="module")
def net(data):
    torch.manual_seed(0)
    model = MLP(MLPConfig(input_shape=(20,), classes=4, hidden=(40, 30)))
    return train(model, data, epochs=4, precision="float32", device="cpu", batch_size=64).model


def test_the_stages_are_pruned_fine_tuned_and_rounded_and_lie_in_the_folder(data, net, tmp_path):
    run = compress(
        net, data, rule=RankRule(parameters=0.1), by="units", finetuning=TUNED, int8=True, out=tmp_path / "run"
    )
    stages = run.metrics["stages"]
    assert list(stages) == ["original", "pruned", "pruned + fine-tune", "pruned + fine-tune + int8"]
    assert stages["pruned"]["parameters"] == run.plan.parameters_after <= 0.1 * stages["original"]["parameters"]
    assert stages["pruned + fine-tune"]["nll"] < stages["pruned"]["nll"]
    for role, folder in (("pruned", "pruned"), ("pruned + fine-tune", "pruned-fine-tune")):
        stage = load(tmp_path / "run" / folder)
        assert type(stage) is MLP and count_parameters(stage) == stages[role]["parameters"]
        assert file_bytes(stage) == stages[role]["file_bytes"]
    assert run.parity["formats"]["compressed"]["examples"] == 200
    kept, _ = read_plan(tmp_path / "run")
    assert kept == run.plan and json.loads((tmp_path / "run" / "metrics.json").read_text())["plan"]["units"]
    again = compress(net, data, plan=kept)
    for one, two in zip(again.model.parameters(), load(tmp_path / "run" / "pruned").parameters(), strict=True):
        assert torch.equal(one, two)
    with pytest.raises(MismatchError, match="the plan is for the network"):
        compress(MLP(net.config), data, plan=kept)


@pytest.mark.parametrize(("int8", "most"), [(False, 5000), (True, 3200)])
def test_a_size_is_that_of_the_file(data, net, int8, most):
    run = compress(net, data, rule=RankRule(size=str(most)), by="units", int8=int8)
    assert 0.6 * most < file_bytes(run.model) <= most and run.plan.kept
    whole = compress(net, data, rule=RankRule(size="1MB"), by="units")
    assert whole.plan.kept == {} and whole.plan.loss == 0 and count_parameters(whole.model) == count_parameters(net)


def test_a_latency_is_measured_and_what_is_chosen_was_quick_enough_twice(data, net, monkeypatch):
    asked = []

    def clock(model, inputs):
        asked.append(sum(value.numel() for value in model.parameters()))
        return 1e-6 * asked[-1] * (1.05 if asked.count(asked[-1]) > 1 else 1.0)  # slower when it is asked again

    monkeypatch.setattr(units, "latency_of", clock)
    run = compress(net, data, rule=RankRule(latency="1ms"), by="units")
    assert run.plan.rule.startswith("latency 1ms (measured") and 1.05 * run.plan.parameters_after <= 1000
    assert 700 < run.plan.parameters_after
    for wanted, message in (
        ("900ms", "there is nothing to compress"),
        ("1us", "the smallest network, one unit in each"),
    ):
        with pytest.raises(ConfigError, match=message):
            compress(net, data, rule=RankRule(latency=wanted), by="units")


def test_multiply_adds_are_those_of_the_network(data, net):
    run = compress(net, data, rule=RankRule(flops=0.4), by="units")
    stages = run.metrics["stages"]
    assert stages["pruned"]["multiply_adds"] <= 0.4 * stages["original"]["multiply_adds"]


def test_what_cannot_be_is_refused(data, net, tmp_path):
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(20, 8), nn.Linear(8, 4)

        def forward(self, x):
            return self.b(self.a(x).sort(-1).values)

    for options, message in (
        ({"rule": RankRule(rank=(3,))}, "units are pruned within a budget: give parameters, flops, size or latency"),
        ({"rule": RankRule(parameters=0.5), "metric": "weights"}, "units are chosen by the divergence"),
        ({"rule": RankRule(parameters=0.0001)}, "one unit in each group"),
        ({"rule": RankRule(size="300B")}, "the smallest file, one unit in each group"),
        ({"rule": RankRule(parameters=0.5), "model": Odd()}, "no unit can be pruned from Odd .*sort"),
        ({"rule": RankRule(parameters=0.5), "role": "pruned"}, "which is what a compressed network is called"),
        ({"rule": RankRule(parameters=0.5), "calibration": 0}, "calibration must be at least 1"),
    ):
        model = options.pop("model", net)
        with pytest.raises(ConfigError, match=message):
            compress(model, data, by="units", out=tmp_path / "out", **options)
    assert not list(tmp_path.iterdir())
    assert PrunePlan.stage == "pruned"
