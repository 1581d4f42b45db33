"""A run that resumes is the one that was begun: same data, teacher, objective and length, or a refusal by name."""

import json
import warnings

import pytest
import torch
from torch import nn

import limbeck
from limbeck import Examples, SoftTargets
from limbeck.errors import ConfigError, FormatError, RunError
from limbeck.system.callbacks import Callback
from limbeck.system.files import seal_files, unseal_files
from limbeck.training.checkpoint import load_tensors, save_tensors
from limbeck.training.identity import require_agreement

generator = torch.Generator().manual_seed(0)
X = torch.randn(300, 6, generator=generator)
W = torch.randn(6, 3, generator=generator)
Y = (X @ W).argmax(1)
TRAIN, HELD, TEST = (X[:200], Y[:200]), (X[200:250], Y[200:250]), (X[250:], Y[250:])
SETTINGS = {"learning_rate": 0.05, "precision": "float32", "hard_weight": 0.0, "batch_size": 50, "epochs": 3}


def knowing(sign=1.0):
    net = nn.Linear(6, 3)
    net.weight.data, net.bias.data = sign * W.T * 3, torch.zeros(3)
    return net


class StopAt(Callback):
    """Stops a run as a user at the keyboard does."""

    def __init__(self, epoch):
        self.at = epoch

    def on_epoch(self, row):
        if row["epoch"] == self.at:
            raise KeyboardInterrupt


class Own:
    """A teacher without a digest."""

    classes = None

    def __init__(self, net):
        self.net = net

    def log_probs(self, batch, temperature):
        return (self.net(batch.inputs) / temperature).log_softmax(-1).detach()


def distil(out, *, teacher=None, student=None, train=TRAIN, held=HELD, test=TEST, resume=True, callbacks=(), **changed):
    torch.manual_seed(7)
    return limbeck.distill(
        knowing() if teacher is None else teacher, student or nn.Linear(6, 3), train, held, test=test, out=out,
        resume=resume, callbacks=callbacks, **{**SETTINGS, **changed},
    )  # fmt: skip


@pytest.fixture(params=["stopped", "finished"])
def begun(request, tmp_path):
    if request.param == "finished":
        distil(tmp_path / "run", resume=False)
    else:
        with pytest.raises(KeyboardInterrupt):
            distil(tmp_path / "run", resume=False, baseline=True, callbacks=StopAt(2))
    return tmp_path / "run"


OTHER = (X[:200].flip(0), Y[:200].flip(0))
CHANGES = {
    "another teacher": ({"teacher": knowing(-1.0)}, "another teacher"),
    "other training data": ({"train": OTHER}, "other training data"),
    "other validation data": ({"held": (X[200:249], Y[200:249])}, "other validation data"),
    "other test data": ({"test": (X[251:], Y[251:])}, "other test data"),
    "no test data": ({"test": None}, "other test data"),
    "a transfer set": ({"transfer": X[:200]}, "other transfer data"),
    "another student": ({"student": nn.Sequential(nn.Linear(6, 3), nn.Tanh())}, "another student"),
    "another temperature": ({"temperature": 2.0}, "temperature"),
    "another weight": ({"hard_weight": 0.5}, "hard_weight"),
    "another method": ({"method": "logits"}, "method"),
    "another learning rate": ({"learning_rate": 0.06}, "learning_rate"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_differs_is_refused_by_name_and_nothing_changes(begun, name):
    before = {path: path.read_bytes() for path in sorted(begun.rglob("*")) if path.is_file() and path.name != ".lock"}
    change, said = CHANGES[name]
    with pytest.raises(RunError, match=said):
        distil(begun, **change)
    assert before == {path: path.read_bytes() for path in before}


def bits(folder):
    """Networks, histories, and what the run is of; speeds are no part of it."""
    paths = [*folder.rglob("model.safetensors"), *folder.rglob("history.jsonl"), folder / "identity.json"]
    assert len(paths) >= 5
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


@pytest.mark.parametrize(("stop", "seeds"), [(2, 1), (4, 1), (7, 2)])
def test_a_script_that_initialises_otherwise_resumes_to_the_same_bits(tmp_path, stop, seeds):
    """Stopped in the baseline, before the student's first checkpoint, and in the second seed's baseline."""

    class StopAfter(Callback):
        epochs = 0

        def on_epoch(self, row):
            self.epochs += 1
            if self.epochs == stop:
                raise KeyboardInterrupt

    distil(tmp_path / "whole", resume=False, seeds=seeds)
    with pytest.raises(KeyboardInterrupt):
        distil(tmp_path / "run", resume=False, seeds=seeds, callbacks=StopAfter())
    first, sums = tmp_path / "run" / "first.safetensors", tmp_path / "run" / "SHA256SUMS"
    assert first.name in sums.read_text() and len(load_tensors(first)[0]) == 2  # one copy for all seeds
    for _ in range(2):  # the second time it is finished, and begins nothing
        with warnings.catch_warnings():
            warnings.filterwarnings("error", ".*started with other initial weights")
            distil(tmp_path / "run", student=nn.Linear(6, 3), seeds=seeds)
        assert bits(tmp_path / "run") == bits(tmp_path / "whole")
        assert not first.exists() and first.name not in sums.read_text()


def test_members_whose_function_has_no_seed_resume_to_the_same_bits(tmp_path):
    drawn = torch.Generator()

    def make():
        net = nn.Linear(6, 3)
        net.weight.data, net.bias.data = torch.randn(3, 6, generator=drawn), torch.zeros(3)
        return net

    def run(out, seed, **more):
        drawn.manual_seed(seed)
        return limbeck.train(make, TRAIN, HELD, out=out, members=2, epochs=2, precision="float32", **more)

    run(tmp_path / "whole", 3)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "run", 3, callbacks=StopAt(2))
    assert len(load_tensors(tmp_path / "run" / "first.safetensors")[0]) == 3  # the zero bias is alike, and there once
    run(tmp_path / "run", 4, resume=True)
    assert bits(tmp_path / "run") == bits(tmp_path / "whole")


def test_first_weights_that_are_damaged_or_of_another_network_are_refused_by_name(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        distil(tmp_path / "run", resume=False, callbacks=StopAt(2))
    path = tmp_path / "run" / "first.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(FormatError, match=r"first.safetensors.*does not match its digest"):
        distil(tmp_path / "run")
    save_tensors(path, {"0.weight": torch.zeros(3, 5), "0.bias": torch.zeros(3)})
    seal_files(tmp_path / "run", [path.name])
    with pytest.raises(FormatError, match=r"first.safetensors.*0.weight is torch.float32 of shape \(3, 5\)"):
        distil(tmp_path / "run")


def test_a_run_that_kept_no_first_weights_tells_of_others(tmp_path):
    """As runs of earlier versions."""
    with pytest.raises(KeyboardInterrupt):
        distil(tmp_path / "run", resume=False, callbacks=StopAt(2))
    unseal_files(tmp_path / "run", ["first.safetensors"])
    (tmp_path / "run" / "first.safetensors").unlink()
    with pytest.warns(limbeck.LimbeckWarning, match="started with other initial weights"):
        distil(tmp_path / "run", student=nn.Linear(6, 3))


def test_a_run_that_fails_before_its_first_step_leaves_no_first_weights(tmp_path):
    with pytest.raises(ConfigError, match="batch_size 199"):
        distil(
            tmp_path / "run", resume=False, student=nn.Sequential(nn.BatchNorm1d(6), nn.Linear(6, 3)), batch_size=199
        )
    assert not (tmp_path / "run").exists()


def test_a_finished_run_is_given_back_and_has_the_length_that_it_has(tmp_path):
    first = distil(tmp_path / "run", resume=False)
    again = distil(tmp_path / "run")
    assert torch.equal(first.student.weight, again.student.weight)
    assert first.metrics["student"]["nll"] == again.metrics["student"]["nll"]
    config = (tmp_path / "run" / "config.toml").read_text()
    for epochs in (2, 5):
        with pytest.raises(RunError, match="baseline is finished with epochs = 3, and now it is"):
            distil(tmp_path / "run", epochs=epochs)
    assert (tmp_path / "run" / "config.toml").read_text() == config


def test_a_run_whose_baseline_is_finished_keeps_its_length(tmp_path):
    """Else the student would have more epochs than its baseline."""

    class StopStudent(StopAt):
        def __init__(self):
            super().__init__(2)
            self.starts = 0

        def on_start(self, name, epochs, steps, epoch):
            self.starts += 1

        def on_epoch(self, row):
            if self.starts == 2:
                super().on_epoch(row)

    with pytest.raises(KeyboardInterrupt):
        distil(tmp_path / "run", resume=False, callbacks=StopStudent())
    with pytest.raises(RunError, match="baseline is finished with epochs = 3"):
        distil(tmp_path / "run", epochs=6)
    resumed, whole = distil(tmp_path / "run"), distil(tmp_path / "whole", resume=False)
    assert torch.equal(resumed.student.weight, whole.student.weight)


def test_a_stopped_run_may_be_made_longer(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        distil(tmp_path / "run", resume=False, baseline=False, callbacks=StopAt(2), schedule="constant")
    run = distil(tmp_path / "run", baseline=False, epochs=5, schedule="constant")
    assert [row["epoch"] for row in run.history] == [1, 2, 3, 4, 5]


def test_a_teacher_without_a_digest_is_known_by_its_answers(tmp_path):
    distil(tmp_path / "run", teacher=Own(knowing()), resume=False, baseline=False)
    distil(tmp_path / "run", teacher=Own(knowing()), baseline=False)
    for other in (Own(knowing(-1.0)), knowing()):
        with pytest.raises(RunError, match="another teacher"):
            distil(tmp_path / "run", teacher=other, baseline=False)


def test_another_store_of_the_same_teacher_is_another_teacher(tmp_path):
    stores = []
    for name, settings in (("dense", {}), ("top", {"encoding": "topk", "k": 1}), ("again", {})):
        SoftTargets.write(tmp_path / name, knowing(), Examples.of(*TRAIN), classes=["0", "1", "2"], **settings)
        stores.append(SoftTargets.open(tmp_path / name))
    distil(tmp_path / "run", teacher=stores[0], resume=False, baseline=False)
    distil(tmp_path / "run", teacher=stores[2], baseline=False)
    for other in (stores[1], knowing()):
        with pytest.raises(RunError, match="another teacher"):
            distil(tmp_path / "run", teacher=other, baseline=False)


def test_training_and_compressing_are_held_to_their_data_too(tmp_path):
    run = {"epochs": 1, "precision": "float32", "out": tmp_path / "train"}
    limbeck.train(nn.Linear(6, 3), TRAIN, HELD, test=TEST, **run)
    with pytest.raises(RunError, match="other test data"):
        limbeck.train(nn.Linear(6, 3), TRAIN, HELD, test=HELD, resume=True, **run)
    net = nn.Sequential(nn.Linear(6, 30), nn.Linear(30, 3))
    small = {"rule": limbeck.RankRule(rank=(2,)), "out": tmp_path / "small"}
    limbeck.compress(net, TRAIN, HELD, **small)
    with pytest.raises(RunError, match="begun with another network"):
        limbeck.compress(nn.Sequential(nn.Linear(6, 30), nn.Linear(30, 3)), TRAIN, HELD, resume=True, **small)
    with pytest.raises(RunError, match="other training data"):
        limbeck.compress(net, OTHER, HELD, resume=True, **small)


def test_a_run_of_an_earlier_version_resumes(tmp_path):
    distil(tmp_path / "run", resume=False)
    for path in [tmp_path / "run" / "identity.json", *(tmp_path / "run").rglob("SHA256SUMS")]:
        path.unlink()
    distil(tmp_path / "run")


def test_a_damaged_identity_is_one_clear_line(tmp_path):
    distil(tmp_path / "run", resume=False)
    for text in ("[]", "{", '{"train": null}', json.dumps({"train": {}})):
        (tmp_path / "run" / "identity.json").write_text(text)
        with pytest.raises(limbeck.LimbeckError):
            distil(tmp_path / "run")


def test_numbers_are_compared_with_a_tolerance_for_a_teacher_alone():
    one, alike = (["geometric", [0.5], [[[p, 1 - p]], "digest"]] for p in (0.1, 0.11))
    require_agreement("run", "teacher", one, alike)
    for before, now in (([[0.1, 0.9]], [[0.2, 0.8]]), ([[0.1, 0.9]], [[0.1]]), ("a", [[0.1]]), (None, "a")):
        with pytest.raises(RunError, match="another teacher"):
            require_agreement("run", "teacher", before, now)
    with pytest.raises(RunError, match="learning_rate"):
        require_agreement("run", "learning_rate", 0.001, 0.002)
