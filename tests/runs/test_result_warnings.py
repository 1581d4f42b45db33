"""Warnings about what came out: networks that learned nothing, answer at random, diverged, or are larger."""

import pytest
import torch
from torch import nn

import limbeck

pytestmark = pytest.mark.filterwarnings("ignore")
X = torch.randn(200, 4, generator=torch.Generator().manual_seed(0))
Y = (X[:, 0] > 0.3).long()
TRAIN, TEST = (X[:100], Y[:100]), (X[100:], Y[100:])
SHORT = {"epochs": 3, "precision": "float32", "progress": False, "learning_rate": 0.1}


def net(seed=0, hidden=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, hidden), nn.ReLU(), nn.Linear(hidden, 2)) if hidden else nn.Linear(4, 2)


def good():
    return limbeck.train(net(), TRAIN, **{**SHORT, "epochs": 30}).model


def said(run, words):
    return [text for text in run.metrics.get("warnings", ()) if words in text]


def test_an_honest_small_student_is_not_warned_about():
    run = limbeck.distill(good(), net(1), TRAIN, test=TEST, **{**SHORT, "epochs": 30})
    for words in ("no more than always guessing", "different outputs", "diverged", "larger", "hard_weight is 1"):
        assert said(run, words) == []


def test_a_network_that_guesses():
    run = limbeck.train(net(), TRAIN, test=(X[100:], 1 - Y[100:]), **{**SHORT, "epochs": 30})
    assert len(said(run, "no more than always guessing")) == 1
    few = limbeck.train(net(), TRAIN, test=(X[100:110], 1 - Y[100:110]), **SHORT)
    assert said(few, "no more than always guessing") == []


def test_a_student_larger_than_its_teacher():
    run = limbeck.distill(good(), net(1, hidden=50), TRAIN, test=TEST, **SHORT)
    assert said(run, "the student has 352 parameters and its teacher 10: it is larger")


class Restless(nn.Linear):
    """Dropout that does not ask for self.training."""

    def forward(self, x):
        return super().forward(nn.functional.dropout(x, 0.5, training=True))


def test_a_model_that_draws_in_evaluation_mode():
    run = limbeck.train(Restless(4, 2), TRAIN, test=TEST, **SHORT)
    assert len(said(run, "the model gives different outputs for the same inputs in evaluation mode")) == 1
    run = limbeck.distill(good(), Restless(4, 2), TRAIN, test=TEST, **SHORT)
    assert len(said(run, "different outputs")) == 2  # the baseline too


def test_a_training_that_diverged():
    run = limbeck.train(net(hidden=8), TRAIN, test=TEST, **{**SHORT, "learning_rate": 1e9})
    assert len(said(run, "it diverged, and a smaller learning rate may help")) == 1


def test_labels_with_all_the_weight():
    run = limbeck.distill(good(), net(1), TRAIN, test=TEST, hard_weight=1.0, **SHORT)
    assert len(said(run, "hard_weight is 1: the teacher is not used")) == 1


def test_nothing_to_judge_on_is_told():
    run = limbeck.distill(good(), net(1), TRAIN, **SHORT)
    assert run.verdict is None and len(said(run, "there is no verdict: give test=")) == 1
    assert not said(limbeck.distill(good(), net(1), TRAIN, test=TEST, **SHORT), "no verdict")


def test_later_seeds_and_baselines_are_looked_at_too():
    run = limbeck.distill(
        good(), net(1, hidden=8), TRAIN, test=TEST, seeds=2, baseline_learning_rate=1e9, **{**SHORT, "epochs": 9}
    )
    assert len(said(run, "the training of the baseline of seeds 0, 1 ended with a loss of")) == 1
    assert said(run, "the training of the student") == []
    wrong = limbeck.distill(
        good(), lambda seed: net(seed), TRAIN, test=(X[100:], 1 - Y[100:]), seeds=2, **{**SHORT, "epochs": 30}
    )
    assert len(said(wrong, "the student of seeds 0, 1 has")) == 1


def test_a_method_with_a_loss_of_a_large_scale_did_not_diverge():
    options = {"method": "dkd", "method_options": {"alpha": 1e5}}
    run = limbeck.distill(good(), net(1, hidden=8), TRAIN, test=TEST, **options, **SHORT)
    assert run.history[-1]["train_loss"] > 100 and said(run, "diverged") == []


def test_seeds_that_begin_with_one_network_claim_nothing_about_others():
    given = {"test": TEST, "seeds": 2, "margin": 30.0, **SHORT}
    one, apart = limbeck.distill(good(), net(1), TRAIN, **given), limbeck.distill(good(), net, TRAIN, **given)
    for verdict in (one.verdict, one.margin):
        assert "from these same initial weights" in verdict.sentence and "any such trainings" not in verdict.sentence
    assert "any such trainings" in apart.verdict.sentence and "any such trainings" in apart.margin.sentence


class Listens(limbeck.Callback):
    def __init__(self):
        self.notes = []

    def on_note(self, text):
        self.notes.append(text)


@pytest.mark.parametrize(("epochs", "few"), [(2, True), (100, False)])
def test_trainings_of_few_steps_are_told(epochs, few):
    hears = Listens()
    limbeck.distill(good(), net(1), TRAIN, test=TEST, callbacks=hears, **{**SHORT, "epochs": epochs, "batch_size": 25})
    told = [note for note in hears.notes if note.startswith("each network makes")]
    assert told == ([f"each network makes 8 steps, 2 epochs of 4: {told[0].partition(': ')[2]}"] if few else [])


def test_a_verdict_says_itself_which_network_has_learned_nothing():
    """Else the report says that distillation helped beside a warning that nothing was learned."""
    other = (X[100:], 1 - Y[100:])
    run = limbeck.distill(good(), net(1), TRAIN, test=other, **{**SHORT, "epochs": 30})
    for sentence in (run.verdict.sentence, run.metrics["verdict"]["sentence"]):
        assert "But the baseline and the student do no better than always guessing" in sentence
        assert "what has learned nothing says little about distillation." in sentence
    run = limbeck.distill(good(), net(1), TRAIN, test=TEST, baseline_learning_rate=1e-9, **{**SHORT, "epochs": 30})
    assert run.verdict.helped and "But the baseline does no better than" in run.verdict.sentence
    run = limbeck.distill(good(), net(1), TRAIN, test=TEST, **{**SHORT, "epochs": 30})
    assert "But" not in run.verdict.sentence
