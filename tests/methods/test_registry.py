"""Methods by name: of Limbeck, of another package, of a user's file; their options, sums and names that are wrong."""

from importlib.metadata import EntryPoint

import pytest
import torch
from torch import nn

import limbeck
from limbeck.cli.settings import read_settings, safe_settings
from limbeck.errors import ConfigError, LimbeckWarning, RunError
from limbeck.methods import Method, Output, describe_methods, make_method, registry, targets_at
from limbeck.options import Distillation
from limbeck.options import methods as spelling
from limbeck.options.methods import method_parts, option_list
from limbeck.protocols import Batch
from limbeck.runs.folder import RunFolder

SHORT = {"epochs": 1, "batch_size": 16, "device": "cpu", "precision": "float32"}


class Squares(Method):
    """Squared distance of the softened probabilities."""

    def __init__(self, *, temperature: float = 4.0, weight: float = 1.0) -> None:
        super().__init__()
        self.temperature, self.weight = temperature, weight

    def forward(self, student, teacher, batch):
        p = (student.logits / self.temperature).softmax(-1)
        return self.weight * (p - targets_at(teacher, self.temperature).exp()).square().sum(-1)

    def reference_gradient(self, student, teacher, batch):
        powers = (student.logits / self.temperature).exp()
        p = powers / powers.sum(-1, keepdim=True)
        away = 2 * self.weight * (p - (teacher.logits * teacher.temperature / self.temperature).softmax(-1))
        return Output(p * (away - (p * away).sum(-1, keepdim=True)) / self.temperature)


class Doubled(Squares):
    """The same, with a value that is twice what its formula says."""

    def forward(self, student, teacher, batch):
        return 2 * super().forward(student, teacher, batch)


@pytest.fixture
def installed(monkeypatch):
    """Methods as an installed package would have them."""
    kinds = {"squares": Squares, "doubled": Doubled, "odd": dict}
    points = [EntryPoint(name, f"some.package:{kind.__name__}", "limbeck.methods") for name, kind in kinds.items()]
    monkeypatch.setattr(EntryPoint, "load", lambda self: kinds[self.name])
    for module in (registry, spelling):
        monkeypatch.setattr(module, "entry_points", lambda *, group: points)


def knowing():
    torch.manual_seed(0)
    return nn.Linear(6, 3)


def examples():
    inputs = torch.randn(48, 6, generator=torch.Generator().manual_seed(0))
    return inputs, knowing()(inputs).argmax(-1)


def test_a_method_of_another_package_is_one_class(installed, tmp_path):
    teacher = knowing()
    settings = {"method": "squares", "method_options": {"weight": 2.0}, "out": tmp_path / "run"}
    run = limbeck.distill(teacher, nn.Linear(6, 3), examples(), baseline=False, **settings, **SHORT)
    config = (tmp_path / "run" / "config.toml").read_text()
    assert 'method = "squares"' in config and "weight=2.0" in config
    same = limbeck.distill(teacher, run.student, examples(), baseline=False, method=Squares(weight=2.0), **SHORT)
    assert len(same.history) == 1
    line = "Squared distance of the softened probabilities."
    assert ("squares", line, {"temperature": 4.0, "weight": 1.0}) in describe_methods(["kd", "squares"])
    with pytest.raises(limbeck.LimbeckError, match="differs from its formula.*nothing was trained"):
        limbeck.distill(teacher, nn.Linear(6, 3), examples(), baseline=False, method="doubled", **SHORT)


def test_what_is_not_a_method_is_named(installed):
    with pytest.raises(ConfigError, match=r"the method odd \(some.package:dict\) is not a subclass"):
        make_method("odd")


@pytest.mark.parametrize(
    ("method", "options", "words"),
    [
        ("dkb", {}, "there is no method 'dkb': did you mean dkd?"),
        ("kl", {}, "there is no method 'kl': kl is called kd now"),
        ("zzz", {}, "there is no method 'zzz': there are kd, logits"),
        ("kd+kd", {}, "names kd twice"),
        ("kd:-1", {}, "gives kd the weight -1: give a positive one, or leave kd out"),
        ("kd:nan+dkd", {}, "gives kd the weight nan: give a positive one"),
        ("kd+", {}, "method must name methods"),
        ("dkd", {"betta": 1}, "method dkd has no option 'betta': did you mean beta?"),
        ("kd", {"beta": 1}, "method kd has no option 'beta': it has temperature"),
        ("dkd", {"beta": "much"}, "method dkd: beta must be a number, and is 'much'"),
        ("dkd", {"beta": -1}, "option beta must be at least 0 and finite, and is -1"),
        ("dist", {"variant": "mine"}, "option variant must be code or paper, and is mine"),
        ("dkd", {"temperature": 1e6}, "temperature of method dkd must be from 0.05 to 100"),
        ("kd+dkd", {"temperature": 2}, "kd and dkd each have an option temperature: name one, as kd.temperature"),
        ("kd+dkd", {"nkd.gamma": 2}, "method_options name nkd.gamma, and the methods are kd, dkd"),
        ("own", {}, "method own was given as an object in Python: give it again"),
        ("nowhere.py:loss", {}, "there is no file nowhere.py"),
        ("no.such.module:loss", {}, "the module no.such.module cannot be imported"),
    ],
)
def test_wrong_names_and_options_are_told_in_a_line(method, options, words):
    with pytest.raises(ConfigError, match=words.replace("(", r"\(")) as caught:
        make_method(method, options)
    assert "\n" not in str(caught.value)


def test_a_method_without_a_forward_is_told_by_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text("from limbeck.methods import Method\n\n\nclass Idle(Method):\n    pass\n")
    with pytest.raises(ConfigError, match="method mine.py:Idle: Idle has no forward"):
        make_method("mine.py:Idle", {})


def test_wrong_spellings_are_told_before_anything_is_read():
    for made, words in (
        (lambda: Distillation(method_options=("beta",)), "method_options are NAME=VALUE"),
        (lambda: Distillation(method_options=("beta=1", "beta=2")), "method_options name beta twice"),
        (lambda: option_list(3), "method_options must be a mapping"),
        (lambda: limbeck.distill(nn.Linear(6, 3), nn.Linear(6, 3), examples(), loss="l1"), "loss is called method"),
        (lambda: spelling.spelled({"kd": "much"}), "method must give each name a number"),
    ):
        with pytest.raises(ConfigError, match=words):
            made()


def test_a_call_that_names_a_loss_means_the_method():
    short = {"epochs": 1, "precision": "float32", "checkpoint_minutes": None}
    net, older = nn.Linear(6, 3), nn.Linear(6, 3)
    for given in ({"loss": []}, {"loss": "kl", "method": "dkd"}):
        with pytest.raises(ConfigError, match="loss is called method"):
            limbeck.distill(net, older, examples(), **given)
    with pytest.warns(LimbeckWarning, match='loss="logits" is called method="logits" now'):
        first = limbeck.distill(net, older, examples(), loss="logits", **short)
    second = limbeck.distill(net, older, examples(), method="logits", **short)
    assert torch.equal(first.student.weight, second.student.weight)


def test_a_sum_is_the_sum_of_its_parts():
    z, v = torch.randn(2, 6, 4, generator=torch.Generator().manual_seed(1)).unbind()
    batch = Batch(torch.arange(6), 0, torch.zeros(6, 1), torch.arange(6) % 4)
    teacher = Output(v.log_softmax(-1))
    both = make_method({"kd": 1, "dkd": 0.5}, {"dkd": {"beta": 2}, "kd.temperature": 3})
    assert [(part.name, part.weight) for part in method_parts("kd:1+dkd:0.5")] == [("kd", 1.0), ("dkd", 0.5)]
    assert (both.needs_logits, both.needs_labels, both.coupled) == (True, True, False)
    one, other = make_method("kd", temperature=3.0), make_method("dkd", {"beta": 2})
    expected = one(Output(z), teacher, batch) + 0.5 * other(Output(z), teacher, batch)
    torch.testing.assert_close(both(Output(z), teacher, batch), expected)
    assert make_method("kd+dist").coupled and make_method("kd:2").options == {"kd": {"weight": 2.0, "temperature": 4.0}}


def test_a_method_in_a_users_file(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(
        "from limbeck.methods.kd import KD\n\n\nclass Mine(KD):\n    '''Mine.'''\n\n\n"
        "def loss(logits, teacher, labels):\n    return (logits.log_softmax(-1) - teacher).square().mean(-1)\n\n\n"
        "number = 3\n"
    )
    assert make_method(f"{file}:Mine", temperature=2.0).temperature == 2.0
    own = make_method(f"{file}:loss", classes=3)
    assert own.fingerprint()["name"] == "loss" and len(own.fingerprint()["probes"]) == 4
    for name, words in (("number", "is not a function or a class"), ("nothing", "has no nothing")):
        with pytest.raises(ConfigError, match=words):
            make_method(f"{file}:{name}")
    file.write_text("1 / 0\n")
    with pytest.raises(ConfigError, match="cannot be run: ZeroDivisionError"):
        make_method(f"{file}:Mine")


@pytest.mark.parametrize(("loss", "method"), [("kl", "kd"), ("logits", "logits")])
def test_a_run_of_a_version_that_named_a_loss_is_read(tmp_path, loss, method):
    folder = RunFolder(tmp_path / "run")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.toml").write_text(f'loss = "{loss}"\ntemperature = 2.0\n')
    settings = {"method": method, "method_options": (), "temperature": 2.0}
    folder.agree(settings)
    with pytest.raises(RunError, match="was started with method = "):
        folder.agree({**settings, "method": "dkd"})
    assert read_settings(tmp_path / "run" / "config.toml") == {"method": method, "temperature": 2.0}


def test_a_settings_file_gives_options_and_names_no_code_by_itself(tmp_path):
    file = tmp_path / "run.toml"
    file.write_text('method = "kd:1+dkd:0.5"\nmethod_options = {dkd = {beta = 2}}\n')
    found = read_settings(file)
    assert found["method-options"] == ["dkd.beta=2"] and safe_settings(found, [], "run.toml") == found
    file.write_text('method = "mine.py:loss"\n')
    with pytest.raises(ConfigError, match="names code to import, method = 'mine.py:loss'"):
        safe_settings(read_settings(file), [], "run.toml")
    safe_settings(read_settings(file), ["--method", "mine.py:loss"], "run.toml")
