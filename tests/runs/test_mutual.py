"""Deep mutual learning: a plain loop as the oracle, both orders, resuming to the same bits, and what is refused."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn

import limbeck
from limbeck.data import Examples, Feed
from limbeck.errors import ConfigError, SelfCheckError
from limbeck.models.dropout import Dropout
from limbeck.options import Training
from limbeck.system.callbacks import Callback
from limbeck.system.devices import Device
from limbeck.training.cohort import Cohort, MutualObjective
from limbeck.training.engine import fit
from limbeck.training.schedules import Schedule

CPU = Device(torch.device("cpu"), "float32")
SHORT = {"epochs": 3, "batch_size": 8, "learning_rate": 0.02, "device": "cpu", "precision": "float32"}
INPUTS = torch.randn(44, 5, generator=torch.Generator().manual_seed(0))
PAIRS = (INPUTS[:24], INPUTS[:24, :3].argmax(1))
HELD_OUT = (INPUTS[24:], INPUTS[24:, :3].argmax(1))


def net(seed):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 3))


def wider(seed):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(5, 9), nn.ReLU(), Dropout(0.2), nn.Linear(9, 3))


def same(one, other):
    mine, theirs = one.state_dict(), other.state_dict()
    return all(torch.equal(value, theirs[name]) for name, value in mine.items())


@pytest.mark.parametrize("order", ["together", "in turn"])
def test_it_is_a_plain_loop_with_an_optimiser_for_each_student(order):
    run = limbeck.mutual(net, PAIRS, order=order, students=3, temperature=2.0, hard_weight=0.3, baseline=False, **SHORT)
    plain = [net(seed) for seed in range(3)]
    optimisers = [torch.optim.AdamW(one.parameters(), weight_decay=0.0) for one in plain]
    feed = Feed(Examples.of(*PAIRS), batch_size=8, seed=0)
    turns = 1 if order == "together" else 3
    schedule = Schedule(Training(epochs=3, learning_rate=0.02), turns * feed.steps)

    def loss(number, said, labels):
        target = [(each / 2).softmax(-1).detach() for each in said]
        mine = (said[number] / 2).log_softmax(-1)
        peers = [nn.functional.kl_div(mine, target[k], reduction="batchmean") for k in range(3) if k != number]
        return 0.3 * nn.functional.cross_entropy(said[number], labels) + 0.7 * 4 * sum(peers) / 2

    for epoch in range(3):
        for step, batch in enumerate(feed.batches(epoch)):
            said = [one(batch.inputs) for one in plain]
            losses = [loss(number, said, batch.labels) for number in range(3)]
            for number, optimiser in enumerate(optimisers):
                if order == "in turn":  # with what those before it say by now
                    said = [one(batch.inputs) for one in plain]
                    losses[number] = loss(number, said, batch.labels)
                optimiser.param_groups[0]["lr"] = schedule.rate((epoch * feed.steps + step) * turns + number % turns)
                optimiser.zero_grad()
                losses[number].backward()
                if order == "in turn":
                    optimiser.step()
            if order == "together":
                for optimiser in optimisers:
                    optimiser.step()
    for found, expected in zip(run.students, plain, strict=True):
        for name, value in expected.state_dict().items():
            torch.testing.assert_close(found.state_dict()[name], value, rtol=1e-4, atol=1e-5)


class Stop(Callback):
    def on_epoch(self, row):
        if row["epoch"] == 2:
            raise KeyboardInterrupt


@pytest.mark.parametrize("order", ["together", "in turn"])
def test_a_run_resumes_to_the_same_bits(tmp_path, order):
    given = {"test": HELD_OUT, "order": order, **SHORT}
    whole = limbeck.mutual([net(0), wider(1)], PAIRS, PAIRS, out=tmp_path / "whole", **given)
    alone = limbeck.train(net(0), PAIRS, PAIRS, test=HELD_OUT, **SHORT)
    assert same(whole.baseline, alone.model) and not same(whole.students[0], alone.model)
    assert whole.metrics["baseline"]["test_errors"] == alone.metrics["model"]["test_errors"]
    assert len(whole.history) == 3 and whole.verdict is not None
    with pytest.raises(KeyboardInterrupt):
        limbeck.mutual(
            [net(0), wider(1)], PAIRS, PAIRS, out=tmp_path / "stopped", baseline=False, callbacks=Stop(), **given
        )
    again = limbeck.mutual(
        [net(0), wider(1)], PAIRS, PAIRS, out=tmp_path / "stopped", baseline=False, resume=True, **given
    )
    finished = limbeck.mutual([net(0), wider(1)], PAIRS, PAIRS, out=tmp_path / "whole", resume=True, **given)
    for run in (again, finished):
        assert all(same(one, other) for one, other in zip(whole.students, run.students, strict=True))
        assert run.metrics["students"] == whole.metrics["students"]
    kept = json.loads((tmp_path / "whole" / "metrics.json").read_text())
    assert len(kept["students"]) == 2 and kept["students"][0]["test_errors"] == kept["student"]["test_errors"]
    assert (tmp_path / "whole" / "peers" / "2" / "model" / "model.safetensors").exists()
    with pytest.raises(limbeck.LimbeckError, match="hard_weight"):
        limbeck.mutual([net(0), wider(1)], PAIRS, PAIRS, out=tmp_path / "whole", resume=True, hard_weight=0.9, **given)


@pytest.mark.parametrize(
    ("student", "more", "says"),
    [
        (net(0), {}, "students that start from the same weights learn the same"),
        (lambda seed: net(7), {}, "students 1 and 2 start from the same weights"),
        ([net(0), net(0)], {}, "students 1 and 2 start from the same weights"),
        ([net(0)], {}, "students must be from 2 to 64, and is 1"),
        (net, {"order": "at random"}, "order"),
        (net, {"hard_weight": 1.0}, "hard_weight must be above 0 and below 1"),
        (net, {"hard_weight": 0.0}, "hard_weight must be above 0 and below 1"),
        (net, {"compile": True}, "compile is True, and mutual learning does not support it"),
        (net, {"class_weight": "balanced"}, "class_weight is 'balanced', and mutual learning does not support it"),
        (net, {"order": "in turn", "accumulate": 2}, "order 'in turn' does not support accumulate"),
    ],
)
@pytest.mark.filterwarnings("ignore::limbeck.LimbeckWarning")
def test_what_cannot_be_trained_is_told_in_a_line(student, more, says, tmp_path):
    with pytest.raises(limbeck.LimbeckError, match=says) as caught:
        limbeck.mutual(student, PAIRS, out=tmp_path / "run", **{**SHORT, **more})
    assert "\n" not in str(caught.value) and not (tmp_path / "run").exists()
    with pytest.raises(ConfigError, match="need labels"):
        limbeck.mutual(net, PAIRS[0], classes=["a", "b", "c"], **SHORT)


class PeersNotDetached(MutualObjective):
    """The gradient of a student's loss goes into its peers too."""

    def of_all(self, said, batch, learners):
        found = super().of_all(said, batch, learners)
        for number in learners:
            for other in set(range(len(said))) - {number}:
                p, q = (said[k].softmax(-1) for k in (other, number))
                found = found + (p * (p.log_softmax(-1) - q.detach().log())).sum(-1) * 1e-3
        return found


class SquaresForTheDivergence(MutualObjective):
    """Squared differences of probabilities in the place of the divergence."""

    def of_all(self, said, batch, learners):
        total = MutualObjective(hard_weight=1.0).of_all(said, batch, learners) * self.hard_weight
        for number in learners:
            for other in set(range(len(said))) - {number}:
                off = said[number].softmax(-1) - said[other].softmax(-1).detach()
                total = total + (1 - self.hard_weight) * off.square().mean(-1)
        return total


class SumOverPeers(MutualObjective):
    """The sum over the others in the place of their mean: labels count less the more students there are."""

    def of_all(self, said, batch, learners):
        labels = MutualObjective(hard_weight=1.0).of_all(said, batch, learners) * self.hard_weight
        both = super().of_all(said, batch, learners)
        return labels + (len(said) - 1) * (both - labels)


MISTAKES = [PeersNotDetached, SquaresForTheDivergence, SumOverPeers]


def test_the_page_of_mistakes_names_these():
    page = (Path(__file__).parents[2] / "docs" / "common-mistakes.md").read_text()
    assert [kind.__name__ for kind in MISTAKES if f"`{kind.__name__}`" not in page] == []


@pytest.mark.parametrize("kind", MISTAKES)
def test_each_mistake_stops_the_run_before_its_first_step(kind):
    students = [net(0), net(1), net(2)]
    feed = Feed(Examples.of(*PAIRS), batch_size=8, seed=0)
    with pytest.raises(SelfCheckError, match="gradient of mutual learning.*nothing was trained"):
        fit(Cohort(students), kind(hard_weight=0.5), feed, Training(epochs=1), CPU)
    assert same(students[0], net(0))
