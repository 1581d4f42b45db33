"""A teacher is worked with where it is, and is afterwards what it was: to the bit, and in every mode."""

from pathlib import Path

import pytest
import torch
from torch import nn

import limbeck
from limbeck.errors import ConfigError
from limbeck.system.callbacks import Callback
from limbeck.teachers import Ensemble, ModelTeacher, as_teacher, lent

X = torch.rand(40, 6, generator=torch.Generator().manual_seed(0))
Y = (X[:, 0] > 0.5).long()
QUICK = {"epochs": 1, "precision": "float32", "baseline": False}


def teacher():
    """In training mode but for its normalisation, with one frozen weight and a hook."""
    torch.manual_seed(1)
    net = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 2))
    net[1].eval()
    net[0].weight.requires_grad_(False)
    net.calls = []
    net[3].register_forward_hook(lambda part, inputs, output: net.calls.append(part.training))
    return net


def student():
    torch.manual_seed(2)
    return nn.Sequential(nn.Linear(6, 2))


def state_of(net):
    tensors = {name: value.clone() for name, value in net.state_dict().items()}
    places = [value.device for value in net.state_dict().values()]
    addresses = [value.data_ptr() for value in net.state_dict().values()]
    modes = [part.training for part in net.modules()]
    return tensors, (places, addresses, modes, [value.requires_grad for value in net.parameters()],
                     [len(part._forward_hooks) for part in net.modules()])  # fmt: skip


def unchanged(net, before):
    tensors, rest = state_of(net)
    assert rest == before[1]
    assert all(torch.equal(value, tensors[name]) for name, value in before[0].items())


class Interrupted(Callback):
    def __init__(self, error):
        self.error = error

    def on_epoch(self, row):
        raise self.error


@pytest.mark.parametrize("make", [lambda net: net, ModelTeacher, lambda net: Ensemble([net, student()])])
@pytest.mark.parametrize("error", [None, KeyboardInterrupt(), RuntimeError("theirs")])
def test_a_teacher_is_left_as_it_was(make, error):
    net = teacher()
    before, given = state_of(net), make(net)
    if error is None:
        limbeck.distill(given, student(), (X, Y), **QUICK)
    else:
        with pytest.raises(type(error)):
            limbeck.distill(given, student(), (X, Y), callbacks=Interrupted(error), **QUICK)
    unchanged(net, before)
    assert net.calls and not any(net.calls), "it is asked in evaluation mode, and its hooks are called"


def test_it_is_left_as_it_was_where_nothing_is_trained_or_other_commands_ask_it():
    net = teacher()
    before = state_of(net)
    with pytest.raises(ConfigError):
        limbeck.distill(net, student(), (X, Y), optimizer=lambda groups: None, **QUICK)
    unchanged(net, before)
    limbeck.tune(net, student(), (X, Y), (X, Y), search=limbeck.Search(grid=True, temperatures=(1.0,)), epochs=1)
    unchanged(net, before)
    limbeck.evaluate(net, limbeck.Examples.of(X, Y), teacher=net)
    unchanged(net, before)
    tuned = {"rule": limbeck.RankRule(rank=(2,)), "finetuning": limbeck.FineTuning(finetune_epochs=1)}
    limbeck.compress(net, (X, Y), (X, Y), **tuned)
    unchanged(net, before)


def test_freezing_is_for_the_time_and_weights_that_were_moved_come_back():
    net = teacher()
    before = state_of(net)
    with pytest.raises(ZeroDivisionError), lent(as_teacher(net)):
        assert not any(value.requires_grad for value in net.parameters())
        assert not any(part.training for part in net.modules())
        net.to("meta")
        net.to_empty(device="cpu")
        net.load_state_dict(before[0])
        raise ZeroDivisionError
    unchanged(net, (before[0], (before[1][0], state_of(net)[1][1], *before[1][2:])))


def test_a_student_made_of_a_part_of_its_teacher_is_trained_and_the_teacher_is_not():
    net = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 2))
    before, body = state_of(net), net[0]
    run = limbeck.distill(net, lambda: nn.Sequential(body, nn.Linear(8, 2)), (X, Y), learning_rate=0.1, **QUICK)
    unchanged(net, before)
    assert not torch.equal(run.student[0].weight, body.weight)


def peak():
    """Bytes of memory that this process had at most since it was last asked."""
    said = Path("/proc/self/status").read_text()
    Path("/proc/self/clear_refs").write_text("5")
    return 1024 * int(said.split("VmHWM:")[1].split()[0])


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="memory is read from /proc")
def test_there_is_no_copy_of_a_large_teacher(tmp_path):
    def run(width, out):
        net = nn.Sequential(nn.Linear(6, width), *[nn.Linear(width, width) for _ in range(6)], nn.Linear(width, 2))
        held = sum(value.nbytes for value in net.parameters())
        peak()
        before = peak()
        limbeck.distill(net, student(), (X, Y), (X, Y), out=out, **QUICK)
        return (peak() - before) / held

    run(8, tmp_path / "small")
    assert run(1448, tmp_path / "large") < 0.25  # six layers of 8 MiB
