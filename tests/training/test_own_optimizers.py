"""A user's own optimiser: its groups, its learning rates, its state to the last bit, and what is refused."""

import json

import numpy as np
import pytest
import torch
from tiny_runs import FAST, run_here, tiny_arrays
from torch import nn

import limbeck
from limbeck.data import Examples, Feed
from limbeck.errors import ConfigError, RunError, UserCodeError
from limbeck.options import OwnOptimizer, Training
from limbeck.system.devices import Device
from limbeck.training.engine import fit
from limbeck.training.objective import LabelObjective
from limbeck.training.optimizer_state import pack, unpack

CPU = Device(torch.device("cpu"), "float32")


class Odd(torch.optim.Optimizer):
    """Sign descent that keeps all sorts of things: a float64 average, a count, a text, a setting that changes."""

    def __init__(self, groups, lr, pace=0.9):
        super().__init__(groups, {"lr": lr, "pace": pace, "weight_decay": 0.0, "best": float("inf"), "seen": 0})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            group["seen"] += 1
            for weight in group["params"]:
                state = self.state[weight]
                if not state:
                    state.update(average=torch.zeros_like(weight, dtype=torch.float64), count=0, pair=(1, [0.5]))
                state["count"] += 1
                state["average"].mul_(group["pace"]).add_(weight.grad.double() / 3)
                group["best"] = min(group["best"], float(state["average"].abs().max()))
                weight.mul_(1 - group["lr"] * group["weight_decay"])
                weight.sub_(group["lr"] * (state["average"] + group["seen"] * 1e-3).sign().float())


def odd(groups):
    groups[-1]["lr"] = 0.002
    return Odd(groups, lr=0.01)


def data(count=60):
    x = torch.rand(count, 5, generator=torch.Generator().manual_seed(0))
    return Examples.of(x, (x[:, 0] > 0.5).long())


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 2))


def bits(model):
    return torch.cat([value.flatten() for value in model.state_dict().values()])


def run(optimizer=odd, epochs=3, model=None, **more):
    model = model or net()
    settings = {name: more.pop(name) for name in ("weight_decay", "schedule") if name in more}
    training = Training(epochs=epochs, batch_size=16, optimizer=optimizer, **settings)
    return model, fit(model, LabelObjective(), Feed(data(), batch_size=16, seed=0), training, CPU, **more)


def test_it_is_the_bare_loop_with_each_groups_own_rate_times_the_schedule():
    model, fitted = run(weight_decay=0.1)
    bare, feed = net(), Feed(data(), batch_size=16, seed=0)
    matrices = [value for value in bare.parameters() if value.ndim > 1]
    vectors = [value for value in bare.parameters() if value.ndim < 2]
    steps = odd([{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}])
    for epoch in range(3):
        for step, batch in enumerate(feed.batches(epoch)):
            factor = (1 + torch.cos(torch.tensor((epoch * 4 + step) / 12, dtype=torch.float64) * torch.pi)) / 2
            steps.param_groups[0]["lr"], steps.param_groups[1]["lr"] = 0.01 * float(factor), 0.002 * float(factor)
            nn.functional.cross_entropy(bare(batch.inputs), batch.labels).backward()
            steps.step()
            steps.zero_grad()
    assert torch.allclose(bits(model), bits(bare), atol=1e-7)
    assert fitted.history[0]["learning_rate"] == pytest.approx(0.01 * (1 + 2**-0.5) / 2, rel=1e-6)


def test_a_run_that_resumes_ends_in_the_same_bits(tmp_path):
    whole, fitted = run()
    run(epochs=2, schedule="constant", folder=tmp_path)
    first, second = (run(epochs=4, schedule="constant", **more) for more in ({}, {"folder": tmp_path, "resume": True}))
    assert torch.equal(bits(first[0]), bits(second[0])) and first[1].history == second[1].history
    assert not torch.equal(bits(whole), bits(first[0])) and len(fitted.history) == 3


def test_all_of_a_state_comes_back():
    model, other = net(), net()
    one, two = odd([{"params": list(model.parameters())}]), odd([{"params": list(other.parameters())}])
    for _ in range(3):
        model(data().inputs).square().sum().backward()
        one.step()
    tensors, plain = pack(one)
    unpack(two, tensors, json.loads(json.dumps(plain, allow_nan=False)), torch.device("cpu"))
    assert two.param_groups[0]["seen"] == 3 and two.param_groups[0]["best"] == one.param_groups[0]["best"]
    for mine, theirs in zip(model.parameters(), other.parameters(), strict=True):
        assert one.state[mine].keys() == two.state[theirs].keys()
        assert two.state[theirs]["average"].dtype == torch.float64
        assert torch.equal(one.state[mine]["average"], two.state[theirs]["average"])
        assert two.state[theirs]["pair"] == (1, [0.5]) and two.state[theirs]["count"] == 3


def test_what_no_checkpoint_can_hold_is_told(tmp_path):
    class Keeps(Odd):
        def step(self, closure=None):
            super().step()
            self.state[self.param_groups[0]["params"][0]]["thing"] = object()

    with pytest.raises(ConfigError, match=r"Keeps keeps a object in state\.0\.thing, which no checkpoint"):
        run(lambda groups: Keeps(groups, lr=0.01), folder=tmp_path)


def test_other_settings_of_the_same_function_are_another_run(tmp_path):
    rate = 0.01

    def mine(groups):
        return torch.optim.Adagrad(groups, lr=rate)

    run(mine, epochs=1, folder=tmp_path)
    rate = 0.02
    with pytest.raises(RunError, match="optimizer settings"):
        run(mine, epochs=2, folder=tmp_path, resume=True)


@pytest.mark.parametrize(
    "function, told",
    [
        (lambda groups: torch.optim.LBFGS(groups[0]["params"]), "gives LBFGS, whose step.*closure"),
        (lambda groups: None, "returned None, and a torch.optim.Optimizer is needed"),
        (lambda groups: torch.optim.SGD(groups[0]["params"][:1], lr=0.1), "leaves out 0.bias"),
        (lambda groups: torch.optim.SGD(net().parameters(), lr=0.1), "leaves out 0.weight"),
        (lambda groups: torch.optim.SGD(groups, lr=0.0), "SGD with a group whose lr is 0.0"),
    ],
)
def test_what_cannot_be_trained_with_is_refused(function, told):
    with pytest.raises(ConfigError, match=told):
        run(function)


def test_errors_and_contradictions_are_told():
    with pytest.raises(UserCodeError, match="optimizer .*<lambda> raised ZeroDivisionError on 1 parameter groups"):
        run(lambda groups: 1 / 0)
    with pytest.raises(ConfigError, match="learning_rate belongs to optimizer sgd and adamw, and optimizer is .*:odd"):
        Training(optimizer=odd, learning_rate=0.1)
    with pytest.raises(ConfigError, match="momentum and nesterov belong to optimizer sgd"):
        Training(optimizer="mine:odd", momentum=0.5)
    with pytest.raises(ConfigError, match="optimizer must be sgd, adamw or package.module:function, and is lion"):
        Training(optimizer="lion")
    with pytest.raises(ConfigError, match="optimizer nowhere.at_all:f: the module nowhere.at_all cannot be imported"):
        run("nowhere.at_all:f")


def test_steps_that_are_not_finite_are_kept_from_it():
    x = data().inputs.clone()
    x[7] = 1e30
    examples = Examples.of(x, data().labels)
    model = nn.Sequential(nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 2))
    with torch.no_grad():
        model[2].weight.mul_(1e15)
    training = Training(epochs=1, batch_size=1, optimizer=odd, skip_nonfinite=True)
    fitted = fit(model, LabelObjective(), Feed(examples, batch_size=1, seed=0), training, CPU)
    assert fitted.history[0]["skipped_steps"] >= 1 and bool(bits(model).isfinite().all())


def test_distilling_with_it_writes_its_name_and_resumes(tmp_path):
    examples = data()
    pair = (examples.inputs, examples.labels)
    settings = {"epochs": 2, "precision": "float32", "optimizer": odd, "out": tmp_path / "run"}
    found = limbeck.distill(net(), net(), pair, pair, **settings)
    config = (tmp_path / "run" / "config.toml").read_text()
    assert f'optimizer = "{__name__}:odd"' in config and str(OwnOptimizer.of(odd)) == f"{__name__}:odd"
    again = limbeck.distill(net(), net(), pair, pair, resume=True, **settings)
    assert again.metrics["student"]["nll"] == found.metrics["student"]["nll"]


def test_the_command_line_takes_one_by_the_name_of_its_module(tmp_path, monkeypatch):
    (tmp_path / "lions.py").write_text(
        "import torch\n\n\ndef slow(groups):\n    return torch.optim.Adagrad(groups, lr=0.03)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    x, y = tiny_arrays(60)
    np.savez(tmp_path / "data.npz", x=x, y=y)
    words = [word for word in FAST if word not in {"--learning-rate", 0.02}]
    done = run_here(
        "train", "--data", tmp_path / "data.npz", *words, "--optimizer", "lions:slow", "--out", tmp_path / "a"
    )
    assert done.code == 0, done.err
    assert json.loads((tmp_path / "a" / "history.jsonl").read_text().splitlines()[0])["learning_rate"] < 0.03
    done = run_here("train", "--config", tmp_path / "a" / "config.toml", "--out", tmp_path / "b")
    assert done.code == 2 and "names code to import, optimizer = 'lions:slow'" in done.err
    done = run_here("train", "--data", tmp_path / "data.npz", "--optimizer", "lions:fast", "--out", tmp_path / "b")
    assert done.code == 2 and "optimizer lions:fast: lions has no fast" in done.err and not (tmp_path / "b").exists()
