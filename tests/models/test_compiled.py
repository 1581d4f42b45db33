"""A compiled training is the plain one up to rounding, its weights are plain ones, and what fails is told in a line."""

import shutil

import pytest
import torch
from torch import nn

import limbeck
from limbeck.data import Examples, Feed
from limbeck.errors import ConfigError
from limbeck.models import MLP, MLPConfig
from limbeck.options import Training
from limbeck.system.devices import Device
from limbeck.teachers import ModelTeacher
from limbeck.training.engine import fit
from limbeck.training.objective import LabelObjective

X = torch.rand(40, 6, generator=torch.Generator().manual_seed(0))
Y = (X[:, 0] > 0.5).long()
SETTINGS = {"precision": "float32", "batch_size": 16, "learning_rate": 0.01}


def net(*more):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), *more, nn.ReLU(), nn.Linear(8, 2))


def bits(model):
    return torch.cat([value.flatten() for value in model.state_dict().values()])


@pytest.fixture
def traced(monkeypatch):
    """Graphs are traced, and run as they are: compiling them takes half a minute."""
    calls, compile = [], torch.compile

    def quick(module):
        calls.append(module)
        return compile(module, backend="eager")

    monkeypatch.setattr(torch, "compile", quick)
    return calls


@pytest.mark.parametrize("more", [(), (nn.BatchNorm1d(8),)])
def test_it_is_the_plain_training_and_leaves_a_plain_model(traced, more):
    models = [limbeck.train(net(*more), (X, Y), epochs=2, compile=on, **SETTINGS).model for on in (False, True)]
    assert len(traced) == 1 and type(models[1]) is nn.Sequential
    assert list(models[0].state_dict()) == list(models[1].state_dict())
    assert torch.allclose(bits(models[0]).double(), bits(models[1]).double(), atol=1e-6)


@pytest.mark.parametrize("first", [False, True])
def test_a_run_resumes_with_or_without(traced, tmp_path, first):
    def run(epochs, *, on, **more):
        model, training = net(), Training(epochs=epochs, schedule="constant", compile=on)
        feed, cpu = Feed(Examples.of(X, Y), batch_size=16, seed=0), Device(torch.device("cpu"), "float32")
        fit(model, LabelObjective(), feed, training, cpu, **more)
        return model

    whole = run(4, on=False)
    run(2, on=first, folder=tmp_path)
    assert torch.allclose(bits(whole), bits(run(4, on=not first, folder=tmp_path, resume=True)), atol=1e-6)
    assert len(traced) == 1


def test_a_teacher_that_is_asked_at_each_step_is_compiled_too(traced):
    shifted = limbeck.Augmentation(shift=1)
    images = torch.randint(0, 256, (20, 1, 4, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    nets = [MLP(MLPConfig(input_shape=(1, 4, 4), classes=2, hidden=(4,))) for _ in range(3)]
    settings = {"epochs": 1, "augmentation": shifted, "baseline": False, "precision": "float32"}
    for teacher, count in ((nets[1], 2), (limbeck.Ensemble(nets[1:]), 3)):
        traced.clear()
        runs = [limbeck.distill(teacher, nets[0], (images, Y[:20]), compile=on, **settings) for on in (False, True)]
        assert len(traced) == count
        assert runs[0].history[0]["train_loss"] == pytest.approx(runs[1].history[0]["train_loss"], rel=1e-5)
    traced.clear()
    limbeck.distill(nets[1], nets[0], (images, Y[:20]), compile=True, epochs=2, baseline=False, precision="float32")
    assert len(traced) == 1  # the teacher's answers were kept


@pytest.mark.parametrize(
    "words, told",
    [
        ("no graphs here", r"^Sequential cannot be compiled \(.*no graphs here.*\): leave compile out$"),
        ("InvalidCxxCompiler: No working C++ compiler found in x", r"^compile needs a C\+\+ compiler.*install g\+\+"),
    ],
)
@pytest.mark.parametrize("teaches", [False, True])
def test_what_cannot_be_compiled_is_one_line(monkeypatch, words, told, teaches):
    def backend(graph, inputs):
        raise RuntimeError(words)

    torch.compiler.reset()
    compile = torch.compile
    monkeypatch.setattr(torch, "compile", lambda module: compile(module, backend=backend))
    with pytest.raises(ConfigError, match=told):
        if teaches:
            ModelTeacher(net()).compiled().log_probs(Examples.of(X, Y).batch(slice(0, 4)), 1.0)
        else:
            limbeck.train(net(), (X, Y), epochs=1, compile=True, **SETTINGS)


@pytest.mark.filterwarnings("ignore::UserWarning")  # of the compiler, on its own tensors
@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="there is no C++ compiler")
def test_the_compiler_itself():
    model = MLP(MLPConfig(input_shape=(6,), classes=2, hidden=(8,), dropout=0.2, max_norm=2.0))
    runs = [limbeck.train(model, (X, Y), epochs=2, compile=on, **SETTINGS) for on in (False, True)]
    assert torch.allclose(bits(runs[0].model), bits(runs[1].model), atol=1e-5)
