"""Loss functions of the user's own, in training and in distillation: value, folder, resuming, parameters."""

import pytest
import torch
from torch import nn

import limbeck
from limbeck.errors import ConfigError, DataError, RunError, SelfCheckError, UserCodeError
from limbeck.losses import soft_target_loss, softened
from limbeck.methods import Method, Output
from limbeck.system.callbacks import Callback

X = torch.randn(60, 6, generator=torch.Generator().manual_seed(0))


def knowing():
    torch.manual_seed(0)
    return nn.Linear(6, 3)


PAIRS = (X, knowing()(X).argmax(-1))
SHORT = {"epochs": 2, "batch_size": 16, "device": "cpu", "precision": "float32", "learning_rate": 0.02}


def net():
    torch.manual_seed(5)
    return nn.Linear(6, 3)


def entropy(logits, labels):
    return nn.functional.cross_entropy(logits, labels, reduction="none")


def twice(logits, labels):
    return 2 * nn.functional.cross_entropy(logits, labels, reduction="none")


def softly(logits, teacher, labels):
    return soft_target_loss(logits, softened(teacher, 4.0), temperature=4.0)


def plainly(logits, teacher, labels):
    return soft_target_loss(logits, teacher)


class Scaled(nn.Module):
    """Cross-entropy of logits over a temperature that is learnt."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, logits, labels):
        return nn.functional.cross_entropy(logits * self.scale, labels, reduction="none")


def test_cross_entropy_as_a_function_trains_to_the_same_bits():
    ours, own = limbeck.train(net(), PAIRS, **SHORT), limbeck.train(net(), PAIRS, objective=entropy, **SHORT)
    assert torch.equal(ours.model.weight, own.model.weight)
    assert not torch.equal(limbeck.train(net(), PAIRS, objective=Scaled(), **SHORT).model.weight, own.model.weight)


def test_kd_as_a_function_is_kd_with_baseline_and_verdict(tmp_path):
    more = {**SHORT, "validation": PAIRS}
    ours = limbeck.distill(knowing(), net(), PAIRS, hard_weight=0.0, **more)
    own = limbeck.distill(knowing(), net(), PAIRS, objective=softly, out=tmp_path / "run", **more)
    torch.testing.assert_close(own.student.weight, ours.student.weight, rtol=1e-4, atol=1e-5)
    assert own.verdict is not None and (tmp_path / "run" / "model" / "model.safetensors").exists()
    assert 'method = "own"' in (tmp_path / "run" / "config.toml").read_text()


class Stop(Callback):
    def on_epoch(self, row):
        if row["epoch"] == 2:  # the first has left a checkpoint
            raise KeyboardInterrupt


def test_another_function_is_refused_when_a_run_resumes(tmp_path):
    runs = {
        "train": (lambda **more: limbeck.train(net(), PAIRS, out=tmp_path / "t", **SHORT, **more), entropy, twice),
        "distill": (
            lambda **more: limbeck.distill(
                knowing(), net(), PAIRS, out=tmp_path / "d", baseline=False, **SHORT, **more
            ),
            softly,
            plainly,
        ),
    }
    for run, first, other in runs.values():
        with pytest.raises(KeyboardInterrupt):
            run(objective=first, callbacks=Stop())
        with pytest.raises(RunError, match="another method or loss function"):
            run(objective=other, resume=True)
        assert len(run(objective=first, resume=True).history) == 2


def test_functions_of_one_source_differ_by_what_they_give(tmp_path):
    def weighing(weight):
        return lambda logits, labels: weight * nn.functional.cross_entropy(logits, labels, reduction="none")

    def run(weight, **more):
        return limbeck.train(net(), PAIRS, objective=weighing(weight), out=tmp_path / "run", **SHORT, **more)

    with pytest.raises(KeyboardInterrupt):
        run(1.0, callbacks=Stop())
    with pytest.raises(RunError, match="another method or loss function"):
        run(1.5, resume=True)
    run(1.0, resume=True)


@pytest.mark.parametrize(
    ("function", "error", "words"),
    [
        (lambda z, y: nn.functional.cross_entropy(z, y), DataError, 'one value per example.*give reduction="none"'),
        (lambda z, y: 1 / 0, UserCodeError, "division by zero"),
        (lambda z, y: z.detach().sum(-1), SelfCheckError, "does not depend on the logits"),
        (lambda z, y: z.sum(-1) * torch.nan, SelfCheckError, "not finite"),
        (lambda z, y: z.sum(-1) * knowing().weight.sum(), SelfCheckError, "carries a gradient to something beside"),
        (Method, ConfigError, "objective must be a function or a module"),
    ],
)
def test_functions_that_cannot_be_minimised_are_told_before_the_first_step(function, error, words):
    with pytest.raises(error, match=words):
        limbeck.train(net(), PAIRS, objective=function, **SHORT)


def test_objective_and_method_contradict_each_other():
    with pytest.raises(ConfigError, match="objective replaces method"):
        limbeck.distill(knowing(), net(), PAIRS, objective=softly, method="dkd", **SHORT)
    with pytest.raises(ConfigError, match="objective must be a function, and is 3"):
        limbeck.distill(knowing(), net(), PAIRS, objective=3, **SHORT)


class Mean(Method):
    """The same value for each example of a batch."""

    coupled = True

    def forward(self, student: Output, teacher: Output, batch):
        return (student.logits - teacher.logits).square().mean().expand(len(student.logits))


def test_a_method_as_an_objective_keeps_its_weight_and_is_refused_in_parts():
    run = limbeck.distill(knowing(), net(), PAIRS, objective=Mean(), baseline=False, hard_weight=0.3, **SHORT)
    assert len(run.history) == 2
    with pytest.raises(ConfigError, match="depends on the others in its batch"):
        limbeck.distill(knowing(), net(), PAIRS, method=Mean(), baseline=False, accumulate=2, **SHORT)
