"""A budget of time: what is chosen on a clock that is known, and what the real one measures."""

import pytest
import torch
from torch import nn

from limbeck.data import DataSet, Examples
from limbeck.errors import ConfigError
from limbeck.lowrank import apply, look
from limbeck.options import RankRule
from limbeck.runs import compress, latency
from limbeck.runs.latency import fit_latency, latency_of, parse_seconds
from limbeck.runs.measure import multiply_adds


def made():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Conv2d(8, 16, 3), nn.ReLU(), nn.Flatten(), nn.Linear(1024, 40), nn.ReLU(),
        nn.Linear(40, 3),
    ).eval()  # fmt: skip


X = torch.rand(60, 1, 12, 12, generator=torch.Generator().manual_seed(0))


def products(model):
    return multiply_adds(model, Examples.of(X[:1]))


def clock(model, inputs, *, seconds=0.0):
    """A machine on which a multiply-add takes 10 nanoseconds, and a layer 20 microseconds."""
    return 1e-8 * products(model) + 2e-5 * sum(not list(part.children()) for part in model.modules())


@pytest.mark.parametrize("wanted", [0.001, 0.0006])
def test_the_plan_that_loses_least_is_taken_among_those_that_are_quick_enough(monkeypatch, wanted):
    monkeypatch.setattr(latency, "latency_of", clock)
    net = made()
    spectrum = look(net, X, spatial=True)
    plan = fit_latency(net, spectrum, f"{1000 * wanted:g}ms", X[:1])
    took = clock(apply(plan, net, spectrum), X)
    assert took <= wanted and f"measured {1000 * took:.3g} ms" in plan.rule
    # All plans of a fine grid: none that is quick enough loses less, but for the steps of the search.
    within = []
    for place in range(30):
        other = latency._plan(spectrum, place / 29, "input")
        if clock(apply(other, net, spectrum), X) <= wanted:
            within.append(other.loss)
    assert plan.loss <= 1.15 * min(within)


def test_what_is_quick_enough_or_never_will_be_is_told(monkeypatch):
    monkeypatch.setattr(latency, "latency_of", clock)
    net = made()
    spectrum = look(net, X)
    with pytest.raises(ConfigError, match=r"latency 1s: the network already takes only"):
        fit_latency(net, spectrum, "1s", X[:1])
    with pytest.raises(ConfigError, match="latency 20us: the smallest network, every layer at rank 1, takes"):
        fit_latency(net, spectrum, "20us", X[:1])
    for wrong in ("2", "0ms", "fast", "-1ms", "2 KB"):
        with pytest.raises(ConfigError, match="must be a time above 0"):
            parse_seconds(wrong)


def test_one_example_is_timed_with_one_thread_and_nothing_is_left_changed():
    class Watching(nn.Module):
        def __init__(self):
            super().__init__()
            self.seen = []

        def forward(self, x):
            self.seen.append((len(x), torch.get_num_threads(), self.training))
            return x.flatten(1)[:, :2]

    net, before = Watching().train(), torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert 0 < latency_of(net, X, seconds=0.002) < 1
        assert torch.get_num_threads() == 2 and net.training
    finally:
        torch.set_num_threads(before)
    assert set(net.seen) == {(1, 1, False)} and 10 <= len(net.seen) <= 403


def test_a_run_is_compressed_to_a_latency(monkeypatch, tmp_path):
    monkeypatch.setattr(latency, "latency_of", clock)
    labels = torch.arange(60) % 3
    data = DataSet("noise", tuple("abc"), Examples.of(X, labels), Examples.of(1 - X, labels))
    run = compress(made(), data, rule=RankRule(latency="1ms"), int8=True, out=tmp_path / "run")
    assert run.plan.rule.startswith("latency 1ms (measured")
    stages = run.metrics["stages"]
    assert stages["svd"]["multiply_adds"] < stages["original"]["multiply_adds"]
    again = compress(made(), data, plan=run.plan if run.plan.spectrum_digest is None else (run.plan, run.spectrum))
    assert again.metrics["stages"]["svd"]["parameters"] == stages["svd"]["parameters"]
