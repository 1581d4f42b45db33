"""Where trainings start: modules keep their weights, functions are called under seeds, and copies are possible."""

import copy
import random
import sys
import threading
import warnings

import numpy as np
import pytest
import torch
from torch import nn

import limbeck
from limbeck.errors import ConfigError, DataError
from limbeck.methods import make_method
from limbeck.models import from_options, own_function
from limbeck.models.copying import copy_module
from limbeck.models.factories import make_model
from limbeck.options import ModelOptions
from limbeck.runs.initial_models import starts

X = torch.randn(60, 8, generator=torch.Generator().manual_seed(0))
Y = (X @ torch.randn(8, 4, generator=torch.Generator().manual_seed(1))).argmax(1)
SHORT = {"epochs": 1, "batch_size": 16, "precision": "float32"}


class Pretrained(nn.Module):
    """A module whose weights reset_parameters of its parts would destroy."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(8, 4)
        self.scale = nn.Parameter(torch.full((4,), 0.5))

    def forward(self, x):
        return self.layer(x) * self.scale


def make(seed):
    return nn.Linear(8, 4)


def test_a_module_keeps_its_weights_for_every_seed_and_says_so():
    net = Pretrained()
    with pytest.warns(limbeck.LimbeckWarning, match="all 3 trainings start from the weights of the given student"):
        begun = starts(net, [5, 6, 7], role="student")
    for one in begun:
        assert all(torch.equal(a, b) for a, b in zip(one.parameters(), net.parameters(), strict=True))
        assert one.layer.weight is not net.layer.weight
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        starts(net, [5])
        starts(make, [5, 6])


def test_seeds_of_a_pretrained_student_differ_and_none_begins_anew():
    # The student solves the task already; with a learning rate of next to nothing every seed still does.
    net = nn.Linear(8, 4)
    optimiser = torch.optim.Adam(net.parameters(), 0.1)
    for _ in range(200):
        optimiser.zero_grad()
        nn.functional.cross_entropy(net(X), Y).backward()
        optimiser.step()
    with pytest.warns(limbeck.LimbeckWarning):
        run = limbeck.distill(net, net, (X, Y), (X, Y), seeds=3, learning_rate=1e-6, **SHORT)
    assert [row["student_errors"] for row in run.metrics["seeds"]] == [0, 0, 0]


@pytest.mark.parametrize("function", [make, lambda: nn.Linear(8, 4), lambda s: nn.Linear(8, 4)])
def test_a_function_is_called_under_its_seed_with_the_seed_or_without(function):
    state = torch.get_rng_state()
    first, second, again = starts(function, [3, 4]) + starts(function, [3])
    assert torch.equal(first.weight, again.weight) and not torch.equal(first.weight, second.weight)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(3)
    assert torch.equal(nn.Linear(8, 4).weight, first.weight)


def test_numpy_and_python_are_seeded_too_and_left_as_they_were():
    drawn = []

    def noisy():
        drawn.append((np.random.rand(), random.random()))
        return nn.Linear(8, 4)

    np.random.seed(1)
    random.seed(1)
    expected = np.random.rand(), random.random()
    np.random.seed(1)
    random.seed(1)
    for seed in (3, 3, (1 << 63) - 1):
        make_model(noisy, seed)
    assert drawn[0] == drawn[1] != drawn[2]
    assert (np.random.rand(), random.random()) == expected


def keyword_only(*, seed):
    assert seed == 9
    return nn.Identity()


def optional(hidden=32):
    return nn.Linear(hidden, 4)


def shaped(input_shape, classes, **more):
    assert not more
    return nn.Linear(input_shape[0], classes)


def starred(*arguments):
    assert arguments == (9,)
    return nn.Identity()


class Named(nn.Module):
    def __init__(self, seed=0):
        super().__init__()
        self.seed = seed


class Sized(nn.Module):
    def __init__(self, hidden):
        super().__init__()


def test_arguments_are_those_that_a_function_takes():
    assert isinstance(make_model(keyword_only, 9), nn.Identity) and isinstance(make_model(starred, 9), nn.Identity)
    assert make_model(optional, 9).in_features == 32, "an optional argument of another name is not the seed"
    assert make_model(Named, 9).seed == 9 and isinstance(make_model(nn.Identity, 9), nn.Identity)
    assert make_model(shaped, 9, named={"input_shape": (5,), "classes": 3}).in_features == 5
    with pytest.raises(ConfigError, match="Sized needs the arguments hidden.*instance of the class"):
        make_model(Sized, 9)
    with pytest.raises(ConfigError, match="needs the arguments a, b"):
        make_model(lambda a, b: nn.Identity(), 9)
    with pytest.raises(ConfigError, match="returned a int, and a torch.nn.Module is needed"):
        make_model(lambda: 3, 9)
    with pytest.raises(ConfigError, match="model must be mlp, cnn, .* and is 'resnet999'"):
        limbeck.train("resnet999", (X, Y), **SHORT)


def test_own_functions_of_the_command_line_take_what_they_name(tmp_path, monkeypatch):
    text = """
        from torch import nn
        def plain(): return nn.Linear(8, 4)
        def seeded(seed): return nn.Linear(8, 4)
        def sized(classes, input_shape): return nn.Linear(*input_shape, classes)
    """
    (tmp_path / "own_nets.py").write_text("\n".join(line.strip() for line in text.splitlines()))
    monkeypatch.syspath_prepend(tmp_path)
    nets = [
        from_options(ModelOptions(model=f"own_nets:{name}"), input_shape=(8,), classes=4, seed=seed)
        for name, seed in (("plain", 1), ("seeded", 1), ("sized", 1), ("plain", 2))
    ]
    assert all(torch.equal(nets[0].weight, net.weight) for net in nets[1:3])
    assert not torch.equal(nets[0].weight, nets[3].weight)


def test_modules_of_the_current_folder_are_found_after_those_that_are_installed(tmp_path, monkeypatch):
    """Where the console script was started, which is on no path of Python's."""
    (tmp_path / "beside_nets.py").write_text("import json\nfrom torch import nn\ndef net(): return nn.Linear(8, 4)\n")
    (tmp_path / "colorsys.py").write_text("raise SystemExit('not this one')\n")
    (tmp_path / "beside_method.py").write_text("def loss(student, teacher): return student.sum()\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [place for place in sys.path if place not in {"", str(tmp_path)}])
    monkeypatch.delitem(sys.modules, "colorsys", raising=False)
    net = from_options(ModelOptions(model="beside_nets:net"), input_shape=(8,), classes=4, seed=1)
    assert net.out_features == 4 and sys.path[-1] == str(tmp_path)
    assert own_function("colorsys:rgb_to_hsv")(0, 0, 0) == (0.0, 0.0, 0)
    assert type(make_method("beside_method:loss", temperature=2.0)).__name__ == "OwnLoss"
    with pytest.raises(ConfigError, match="absent cannot be imported .*; it must be in the current folder"):
        own_function("absent:net")


def test_the_same_object_twice_makes_two_members_and_is_told():
    net = nn.Linear(8, 4)
    before = copy.deepcopy(net.state_dict())
    with pytest.warns(limbeck.LimbeckWarning, match="gives the same weights for seeds 0 and 1"):
        run = limbeck.train(lambda seed: net, (X, Y), (X, Y), members=2, **SHORT)
    one, two = (member.model for member in run.model.members)
    assert not torch.equal(one.weight, two.weight), "other orders"
    alone = nn.Linear(8, 4)
    alone.load_state_dict(before)
    single = limbeck.train(alone, (X, Y), (X, Y), seed=1, **SHORT).model
    assert torch.equal(two.weight, single.weight), "the second began where the first did"


def test_members_that_end_equal_are_told():
    whole = {**SHORT, "batch_size": 60}
    with pytest.warns(limbeck.LimbeckWarning, match="members 1 and 2 ended with the same weights"):
        frozen = nn.Sequential(nn.Linear(8, 4), nn.Linear(4, 4, bias=False).requires_grad_(False))
        frozen[1].weight.data.zero_()
        limbeck.train(frozen, (X, Y), (X, Y), members=2, **whole)


def test_frozen_and_16_bit_models_are_refused_or_trained_in_float32():
    with pytest.raises(DataError, match="every weight of the student is frozen.*requires_grad_"):
        limbeck.distill(nn.Linear(8, 4), nn.Linear(8, 4).requires_grad_(False), (X, Y), (X, Y), **SHORT)
    for kind in (torch.float16, torch.bfloat16):
        net = nn.Linear(8, 4).to(kind)
        with pytest.warns(limbeck.LimbeckWarning, match=f"weights of {str(kind)[6:]}.*trained in float32"):
            run = limbeck.distill(net, net, (X, Y), (X, Y), baseline=False, **SHORT)
        assert run.student.weight.dtype == torch.float32 and net.weight.dtype == kind
        plain = limbeck.distill(net.float(), net.float(), (X, Y), (X, Y), baseline=False, **SHORT)
        torch.testing.assert_close(run.student.weight, plain.student.weight, atol=2e-3, rtol=0)
        net.to(kind)


def test_64_bit_models_teach_and_are_trained_in_64_bits(tmp_path):
    net = nn.Linear(8, 4).double()
    run = limbeck.distill(net, net, (X, Y), (X, Y), out=tmp_path / "run", **SHORT)
    assert run.student.weight.dtype == torch.float64
    plain = limbeck.distill(copy.deepcopy(net).float(), copy.deepcopy(net).float(), (X, Y), (X, Y), **SHORT)
    torch.testing.assert_close(run.student.weight.float(), plain.student.weight, atol=1e-5, rtol=1e-5)
    again = limbeck.load(tmp_path / "run", model=nn.Linear(8, 4).double())
    assert torch.equal(again.weight, run.student.weight)


def test_default_dtype_float64_does_not_break_a_run():
    torch.set_default_dtype(torch.float64)
    try:
        net, x = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 4)), X.double()
        run = limbeck.distill(net, net, (x, Y), (x, Y), **SHORT)
        limbeck.compress(net, (x, Y), (x, Y), rule=limbeck.RankRule(rank=(2,)), int8=True)
        made = limbeck.train(lambda: nn.Linear(8, 4), (x, Y), (x, Y), members=2, **SHORT)
        teacher = limbeck.distill(made.model, nn.Linear(8, 4), (x, Y), (x, Y), temperature=2.0, **SHORT)
    finally:
        torch.set_default_dtype(torch.float32)
    assert run.student[0].weight.dtype == torch.float64 and teacher.metrics["teacher"]["test_examples"] == 60


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_calls_without_gradients_around_train_all_the_same(context):
    def run(inputs, net):
        trained = limbeck.distill(net, net, (inputs, Y), (inputs, Y), **SHORT).student
        limbeck.compress(net, (inputs, Y), (inputs, Y), rule=limbeck.RankRule(parameters=0.9))
        return trained.weight

    net = nn.Linear(8, 4)
    expected = run(X, net)
    with context():
        inside = nn.Linear(8, 4)
        inside.load_state_dict(net.state_dict())
        assert torch.equal(run(X.clone(), inside), expected)
    assert torch.equal(run(torch.tanh(nn.Linear(8, 8)(X)) * 0 + X, net), expected), "inputs with a graph"


class Keeps(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer, self.lock, self.table = nn.Linear(8, 4), threading.Lock(), {}
        self.scale = lambda x: x

    def forward(self, x):
        self.kept = self.layer(x)
        self.table["last"] = [self.kept * 2]
        return self.scale(self.kept)


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_kept_activations_old_weight_norm_lambdas_and_locks_are_copied():
    for net in (Keeps(), torch.nn.utils.weight_norm(nn.Linear(8, 4))):
        before = net(X).detach()
        again = copy_module(net)
        if isinstance(net, Keeps):
            again.kept.fill_(7.0)
            assert torch.equal(net.kept, before), "what is kept is copied too"
        assert torch.equal(again(X), before)
        assert not {id(p) for p in again.parameters()} & {id(p) for p in net.parameters()}
        for weight in again.parameters():
            weight.data.fill_(1.0)
        assert torch.equal(net(X), before) and not torch.equal(again(X), before)
        net(X)
        limbeck.distill(net, net, (X, Y), (X, Y), baseline=False, **SHORT)


class Streams(nn.Module):
    """What cannot be copied, two levels down."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(8, 4)
        self.layer.stream = (number for number in range(3))

    def forward(self, x):
        return self.layer(x)


def test_what_cannot_be_copied_is_named_and_a_teacher_needs_no_copy():
    net = nn.Sequential(Streams())
    with pytest.raises(DataError, match=r"the model cannot be copied: its attribute 0\.layer\.stream is a generator"):
        limbeck.train(net, (X, Y), (X, Y), **SHORT)
    net.train()
    run = limbeck.distill(net, nn.Linear(8, 4), (X, Y), (X, Y), **SHORT)
    assert run.metrics["teacher"]["test_examples"] == 60
    assert net.training and all(weight.requires_grad for weight in net.parameters())


def test_load_takes_the_function_that_made_the_student(tmp_path):
    run = limbeck.train(make, (X, Y), (X, Y), out=tmp_path / "run", **SHORT)
    for given in (make, lambda: nn.Linear(8, 4), nn.Linear(8, 4)):
        assert torch.equal(limbeck.load(tmp_path / "run", model=given).weight, run.model.weight)
    with pytest.raises(ConfigError, match="needs the arguments a, b"):
        limbeck.load(tmp_path / "run", model=lambda a, b: nn.Linear(8, 4))


def test_members_are_loaded_into_modules_of_their_own(tmp_path):
    run = limbeck.train(make, (X, Y), (X, Y), members=2, out=tmp_path / "run", **SHORT)
    net = nn.Linear(8, 4)
    for given in (net, lambda: net):
        loaded = limbeck.load(tmp_path / "run", model=given)
        for mine, theirs in zip(loaded.members, run.model.members, strict=True):
            assert torch.equal(mine.model.weight, theirs.model.weight)


@pytest.mark.parametrize("wrap", [nn.DataParallel, lambda net: torch.compile(net, backend="eager")])
def test_wrapped_models_are_saved_and_loaded_by_plain_names(wrap, tmp_path):
    net = nn.Sequential(nn.Linear(8, 4), nn.ReLU())
    folder = limbeck.save_model(tmp_path / "wrapped", wrap(net), classes=list("abcd"))
    from safetensors.torch import load_file, save_file

    names = set(load_file(folder / "model.safetensors"))
    assert names == {"0.weight", "0.bias"}
    for saved_under in ("", "_orig_mod.", "module.", "module._orig_mod."):
        weights = {f"{saved_under}{name}": value.clone() for name, value in net.state_dict().items()}
        save_file(weights, folder / "model.safetensors")
        (folder / "SHA256SUMS").unlink(missing_ok=True)  # as others save them
        for given in (nn.Sequential(nn.Linear(8, 4), nn.ReLU()), wrap(nn.Sequential(nn.Linear(8, 4), nn.ReLU()))):
            assert torch.equal(limbeck.load(folder, model=given)(X), net(X))
    run = limbeck.train(wrap(net), (X, Y), (X, Y), out=tmp_path / "run", **SHORT)
    assert set(load_file(tmp_path / "run" / "model" / "model.safetensors")) == {"0.weight", "0.bias"}
    assert torch.equal(limbeck.load(tmp_path / "run", model=net)(X), run.model(X))


def test_a_part_named_module_is_no_wrapper(tmp_path):
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.module = nn.Linear(8, 4)

        def forward(self, x):
            return self.module(x)

    net = Own()
    folder = limbeck.save_model(tmp_path / "own", net, classes=list("abcd"))
    assert torch.equal(limbeck.load(folder, model=Own())(X), net(X))


def test_settings_of_a_network_stand_where_its_name_does(tmp_path):
    """In Python as with the flags of the commands: each seed, member and trial has the widths that are given."""
    inputs = torch.randn(90, 5, generator=torch.Generator().manual_seed(0))
    part = (inputs, (inputs[:, 0] > 0).long())
    short = {"epochs": 1, "precision": "float32"}
    small = limbeck.ModelOptions(hidden=(3, 4))

    def widths(model):
        return [layer.out_features for layer in model.modules() if isinstance(layer, torch.nn.Linear)]

    teacher = limbeck.train(small, part, part, **short).model
    assert widths(teacher) == [3, 4, 2]
    run = limbeck.distill(teacher, small, part, part, seeds=2, **short)
    assert [widths(each) for each in (run.student, run.baseline)] == [[3, 4, 2]] * 2
    assert widths(limbeck.mutual(small, part, part, **short).students[0]) == [3, 4, 2]
    search = limbeck.Search(temperatures=(2.0,), hard_weights=(0.5,), learning_rates=(0.01,), trials=1)
    assert limbeck.tune(teacher, small, part, part, search=search, **short).best
    with pytest.raises(limbeck.LimbeckError, match="hidden belongs to the network: give limbeck.ModelOptions"):
        limbeck.train("mlp", part, part, hidden=(3,), **short)
