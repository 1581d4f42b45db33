"""Models in folders: what is saved comes back, and what does not fit is refused."""

import copy
import json
import sys
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file
from tiny_runs import sealed_again
from torch import nn

import limbeck
from limbeck import SoftTargets
from limbeck.data.data_set import DataSet
from limbeck.data.examples import Examples
from limbeck.data.viewing import in_parts
from limbeck.errors import ConfigError, FormatError, MismatchError, RunError
from limbeck.models import CNN, MLP, CNNConfig, MLPConfig
from limbeck.runs.inputs import check_answers, check_classes
from limbeck.runs.models import attached_reading, classes_of, load, save_ensemble, save_model
from limbeck.runs.models_for_data import load_teacher
from limbeck.softtargets import teacher_digest
from limbeck.teachers import Ensemble

SHAPE = (1, 8, 8)
INPUTS = torch.rand(5, *SHAPE, generator=torch.Generator().manual_seed(0))
CLASSES = ("a", "b", "ü")
NETS = {
    "mlp": lambda: MLP(MLPConfig(input_shape=SHAPE, classes=3, hidden=(6, 5), dropout=0.5, max_norm=2.0)),
    "standardised": lambda: MLP(MLPConfig(input_shape=SHAPE, classes=3, hidden=(), input_mean=0.3, input_std=0.2)),
    "cnn": lambda: CNN(CNNConfig(input_shape=SHAPE, classes=3, channels=(4,), hidden=(7,), batch_norm=True)),
}


class Own(nn.Module):
    def __init__(self, width: int = 4, classes: int = 3) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.BatchNorm1d(width), nn.Linear(width, classes))

    def forward(self, x):
        return self.body(x)


def examples(shape=SHAPE, classes=CLASSES) -> DataSet:
    y = torch.arange(12) % len(classes)
    return DataSet("some", classes, Examples.of(torch.rand(12, *shape), y))


@pytest.mark.parametrize("kind", NETS)
def test_a_model_comes_back_to_the_bit(tmp_path, kind):
    net = NETS[kind]()
    net.train()
    net(INPUTS)  # running statistics move
    save_model(tmp_path / "model", net, classes=CLASSES)
    again = load(tmp_path)
    assert torch.equal(again(INPUTS), net.eval()(INPUTS))
    assert again.classes == CLASSES and not again.training
    written = load_file(tmp_path / "model" / "model.safetensors")
    assert written.keys() == net.state_dict().keys()
    assert all(torch.equal(value, written[name]) for name, value in net.state_dict().items())


@pytest.mark.filterwarnings("ignore:.*has no SHA256SUMS")
@pytest.mark.parametrize("hidden", [[1 << 20, 1 << 20], [7, 5]])
def test_more_parameters_than_the_weights_have_bytes_are_refused_before_memory_is_taken(tmp_path, hidden):
    save_model(tmp_path, NETS["mlp"](), classes=CLASSES)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "hidden": hidden}))
    (tmp_path / "SHA256SUMS").unlink()  # as somebody would who made such a folder on purpose
    promised = r"model.safetensors: is truncated, or does not fit .* 1,0[\d,]+ parameters, and this file has [\d,]+ byt"
    with pytest.raises(FormatError, match=promised if hidden[0] > 7 else "does not fit the architecture"):
        load(tmp_path)


def test_the_hub_layout(tmp_path):
    save_model(tmp_path, NETS["mlp"](), classes=CLASSES)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["id2label"] == {"0": "a", "1": "b", "2": "ü"}
    assert config["label2id"] == {"a": 0, "b": 1, "ü": 2}
    assert config["model_type"] == "mlp" and config["hidden"] == [6, 5] and config["library_name"] == "limbeck"
    assert {path.name for path in tmp_path.iterdir()} == {"config.json", "model.safetensors", "SHA256SUMS"}


def test_an_own_architecture_is_asked_for(tmp_path):
    net = Own()
    save_model(tmp_path, net, classes=CLASSES, source="pets.nets:own")
    with pytest.raises(ConfigError, match=r"pets\.nets:own.*--model"):
        load(tmp_path)
    given = Own()
    before = copy.deepcopy(given.state_dict())
    for model in (given, Own):
        assert torch.equal(load(tmp_path, model=model)(INPUTS), net.eval()(INPUTS))
    assert all(torch.equal(value, before[name]) for name, value in given.state_dict().items())
    with pytest.raises(FormatError, match="does not fit"):
        load(tmp_path, model=Own(width=5))


def test_each_member_of_an_own_ensemble_has_its_own_weights(tmp_path):
    nets = [Own().eval() for _ in range(3)]
    for number, net in enumerate(nets, 1):
        save_model(tmp_path / "members" / str(number) / "model", net, classes=CLASSES)
    save_ensemble(tmp_path, members=3, mean="geometric")
    expected = torch.stack([net(INPUTS).log_softmax(1) for net in nets]).mean(0).log_softmax(1)
    for model in (Own(), Own):
        found = load(tmp_path, model=model)
        assert isinstance(found, Ensemble) and found.mean == "geometric" and found.classes == CLASSES
        torch.testing.assert_close(_answer(found), expected.detach())


def _answer(teacher: Ensemble) -> torch.Tensor:
    from limbeck.protocols import Batch

    return teacher.log_probs(Batch(torch.arange(len(INPUTS)), 0, INPUTS, None), 1.0)


@pytest.mark.parametrize("cut", [0, 1, 8, 40, -1])
def test_weights_cut_anywhere(tmp_path, cut):
    save_model(tmp_path, NETS["mlp"](), classes=CLASSES)
    path = tmp_path / "model.safetensors"
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(FormatError, match=r"model\.safetensors"):
        load(tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        {"model_type": "gpt"},
        {"model_type": None},
        {"classes": 4},
        {"hidden": [6]},
        {"hidden": ["a"]},
        {"hidden": None},
        {"depth": 3},
        {"input_shape": [1, 8, 9]},
        {"input_shape": []},
    ],
)
def test_descriptions_that_do_not_fit(tmp_path, change):
    save_model(tmp_path, NETS["mlp"](), classes=CLASSES)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, **change}))
    sealed_again(tmp_path)
    with pytest.raises(FormatError, match=str(tmp_path)):
        load(tmp_path)


def test_a_model_is_replaced_only_when_asked(tmp_path):
    folder = save_model(tmp_path / "model", NETS["mlp"](), classes=CLASSES)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(RunError, match="holds a model already.*overwrite=True"):
        save_model(folder, NETS["cnn"](), classes=CLASSES)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    save_model(folder, NETS["cnn"](), classes=CLASSES, overwrite=True)
    assert type(load(folder)) is type(NETS["cnn"]())
    (tmp_path / "config.toml").write_text("")
    with pytest.raises(RunError, match="is the folder of a run, whose model is in"):
        save_model(tmp_path, NETS["mlp"](), classes=CLASSES, overwrite=True)


def test_folders_without_a_model(tmp_path):
    with pytest.raises(FormatError, match="is the run finished"):
        load(tmp_path)
    with pytest.raises(FormatError, match="nowhere"):
        load(tmp_path / "nowhere")
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="file"):
        save_model(tmp_path / "file", NETS["mlp"](), classes=CLASSES)


@pytest.mark.parametrize(
    "labels, expected",
    [
        ({"0": "a", "1": "b"}, ("a", "b")),
        ({"1": "b", "0": "a"}, ("a", "b")),
        ({"0": "a", "2": "b"}, None),
        ({"0": 3}, None),
        (["a"], None),
        (None, None),
    ],
)
def test_names_of_classes(labels, expected):
    assert classes_of({"id2label": labels}) == expected


def test_ten_classes_and_more_keep_their_order():
    names = tuple(f"class {number}" for number in range(120))
    assert classes_of({"id2label": {str(k): name for k, name in sorted(enumerate(names), key=lambda p: p[1])}}) == names


@pytest.mark.parametrize(
    "classes, says",
    [(("a", "b"), "has 2 classes.*has 3"), (("a", "ü", "b"), "class 1 'ü'.*'b'"), (("a", "b", "c"), "class 2 'c'")],
)
def test_other_classes_are_refused(classes, says):
    net = nn.Linear(1, 1)
    net.classes = classes
    with pytest.raises(MismatchError, match=says):
        check_classes("teacher", net, examples())


def test_models_that_cannot_answer():
    check_answers("model", Own(), examples())
    with pytest.raises(MismatchError, match="4 classes.*has 3"):
        check_answers("model", Own(classes=4), examples())
    with pytest.raises(MismatchError, match=r"\(1, 7, 8\)"):
        check_answers("model", Own(), examples((1, 7, 8)))
    with pytest.raises(MismatchError, match="must give logits"):
        check_answers("model", nn.Identity(), examples())


def test_trying_a_model_leaves_no_trace():
    net, data = Own().train(), examples()
    before = copy.deepcopy(net.state_dict())
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    check_answers("model", net, data)
    assert torch.equal(torch.rand(2), expected)
    assert net.training and all(module.training for module in net.modules())
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_trying_a_model_plans_for_one_example_whatever_their_number(monkeypatch):
    planned = []
    monkeypatch.setattr(
        "limbeck.evaluation.prediction.in_parts", lambda *asked: planned.extend(in_parts(*asked)) or planned
    )
    check_answers("model", Own(), examples())
    assert planned == [slice(0, 1)]


def test_teachers_of_several_folders(tmp_path):
    nets = [NETS["mlp"]().eval(), NETS["cnn"]().eval()]
    folders = [save_model(tmp_path / str(number), net, classes=CLASSES) for number, net in enumerate(nets)]
    both = load_teacher(folders, data=examples(), mean="geometric")
    expected = torch.stack([net(INPUTS) for net in nets]).mean(0).log_softmax(1)
    torch.testing.assert_close(_answer(both), expected.detach())
    with pytest.raises(MismatchError, match=r"teacher .*1 cannot take"):
        load_teacher(folders[1:], data=examples((1, 12, 12)))


class Unluckily(nn.Module):
    """A user's module whose parts have the names that loading a run attaches."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.classes = nn.Linear(4, 8), nn.Linear(8, 2)
        self.reading, self.presentation = nn.Parameter(torch.zeros(1)), nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.presentation(self.classes(self.body(x)) + self.reading)


@pytest.mark.filterwarnings("ignore")  # 60 examples, one epoch
def test_parts_named_as_what_is_attached_stay_and_are_no_names(tmp_path):
    x = torch.randn(60, 4)
    some = (x, (x[:, 0] > 0).long())
    run = limbeck.train(Unluckily(), some, epochs=1, out=tmp_path / "run")
    model = limbeck.load(tmp_path / "run", model=Unluckily())
    assert isinstance(model.classes, nn.Linear) and isinstance(model.reading, nn.Parameter)
    for each in (run.model, model):
        limbeck.distill(each, Unluckily(), some, epochs=1, test=some)
        assert limbeck.predict(each, some).classes == ("0", "1")
        assert limbeck.evaluate(each, some)["test_examples"] == 60

    assert run.report().exists()


class Reader(Unluckily):
    """One whose layer ``reading`` is a module."""

    def __init__(self) -> None:
        super().__init__()
        del self.reading
        self.reading = nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.presentation(self.classes(self.body(x)) + self.reading(x))


@pytest.mark.filterwarnings("ignore")
def test_a_run_of_a_module_with_a_layer_called_reading_is_a_teacher(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "readers", SimpleNamespace(net=lambda **_: Reader()))
    some = (torch.randn(60, 4), torch.arange(60) % 2)
    run = limbeck.train(Reader(), some, epochs=1, out=tmp_path / "run")
    data = DataSet("some", ("0", "1"), Examples.of(*some))
    teacher = load_teacher([tmp_path / "run"], data=data, own="readers:net")
    assert attached_reading(teacher.model) is None
    torch.testing.assert_close(teacher.model(some[0]), run.model(some[0]))


@pytest.mark.filterwarnings("ignore")
def test_a_model_just_trained_has_the_digest_of_the_same_one_loaded(tmp_path):
    """So that soft targets of the one are those of the other, when a script is run again."""
    some = (torch.randn(60, 4), torch.arange(60) % 2)
    made = lambda: nn.Sequential(nn.Linear(4, 2))  # noqa: E731
    first, again = (
        limbeck.train(made(), some, classes=("cat", "dog"), epochs=1, out=tmp_path / "run", resume=resume)
        for resume in (False, True)
    )
    assert again.model.classes == ("cat", "dog")
    assert teacher_digest(first.model) == teacher_digest(again.model)
    for run in (first, again):
        SoftTargets.write(tmp_path / "store", run.model, some, classes=("cat", "dog"))
