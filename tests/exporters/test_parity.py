"""The parity report: what differs is told, rounding is no fault, and files that are wrong are not kept."""

import errno
import json
import os
from importlib.metadata import EntryPoint

import numpy as np
import pytest
import torch
from exporter_makers import CLASSES, Changed, Elsewhere, images, net
from torch import nn

import limbeck
from limbeck.data.examples import Examples
from limbeck.errors import ConfigError, DataError, MismatchError, ParityError, RunError
from limbeck.exporters import exporter_named, exporters, registry
from limbeck.exporters.comparing import compare, rounding_of
from limbeck.exporters.torch_program import TorchExporter
from limbeck.options import ImagePresentation
from limbeck.runs import export_request
from limbeck.system.files import replace_bytes

pytestmark = pytest.mark.usefixtures("no_drawing")
HELD = images(60, seed=1)


@pytest.fixture
def registered(monkeypatch):
    """Register an exporter as an installed package would."""

    def add(exporter):
        point = EntryPoint(exporter.name, "nowhere:EXPORTER", "limbeck.exporters")
        monkeypatch.setattr(registry, "entry_points", lambda *, group: [point])
        monkeypatch.setattr(EntryPoint, "load", lambda self: exporter)
        exporters.cache_clear()

    yield add
    exporters.cache_clear()


def shipped(exporter, registered, out, model=None, **options):
    registered(exporter)
    options = {"data": HELD, "classes": CLASSES, **options}
    return limbeck.export(model or net(), out=out, formats=[exporter.name], **options)


def measured(folder, name):
    return json.loads((folder / "parity.json").read_text())["formats"][name]


def test_an_exporter_of_another_package_is_one_file(registered, tmp_path):
    done = shipped(Elsewhere(), registered, tmp_path / "out")
    found = done.parity["formats"]["elsewhere"]
    assert found["flips"]["count"] == 0 and found["logit_differences"]["max"] == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "SHA256SUMS", "model.elsewhere.pt2", "parity.html", "parity.json"
    ]  # fmt: skip
    assert found["exported"] == found["original"] and found["original"]["accuracy"] > 0.9
    assert found["sha256"] in (tmp_path / "out" / "SHA256SUMS").read_text()


def test_an_exporter_that_cannot_be_loaded_and_an_unknown_format_are_named(monkeypatch):
    point = EntryPoint("broken", "no.such.module:X", "limbeck.exporters")
    monkeypatch.setattr(registry, "entry_points", lambda *, group: [point])
    exporters.cache_clear()
    with pytest.raises(ConfigError, match=r"the exporter broken \(no.such.module:X\) cannot be loaded"):
        exporters()
    monkeypatch.undo()
    exporters.cache_clear()
    with pytest.raises(ConfigError, match="there is no format 'onxn' to export to: did you mean onnx"):
        exporter_named("onxn")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"before": lambda x: x.transpose(2, 3)}, "predictions differ that are not ties"),
        ({"after": lambda z: z[:, [0, 2, 1]]}, "predictions differ that are not ties"),
        ({"after": lambda z: z * 1.05}, "a logit differs by .*, far more than rounding"),
        ({"after": lambda z: z + 0 * torch.log(z[:, :1] - 100)}, "answers are not numbers"),
        ({"after": lambda z: z[:, :2]}, r"a batch of 1 fails: .* shape \(1, 2\)"),
    ],
)
def test_wrong_files_are_refused_and_only_the_report_is_kept(registered, tmp_path, change, message):
    with pytest.raises(ParityError, match=f"no model is kept: elsewhere: .*{message}") as error:
        shipped(Elsewhere(**change), registered, tmp_path / "out")
    assert error.value.exit_code == 1
    assert [path.name for path in tmp_path.iterdir()] == ["out.refused"]
    assert sorted(path.name for path in (tmp_path / "out.refused").iterdir()) == ["parity.html", "parity.json"]
    assert measured(tmp_path / "out.refused", "elsewhere")["refused"]


def test_a_frozen_batch_is_caught(registered, tmp_path):
    class Frozen(TorchExporter):
        name, suffix = "frozen", ".frozen.pt2"

        def write(self, model, example, path, card):
            torch.export.save(torch.export.export(model, (example[:1],)), path)
            return {}

    with pytest.raises(ParityError, match="a batch of 3 fails: "):
        shipped(Frozen(), registered, tmp_path / "out")


def test_a_missing_normalisation_is_caught(registered, tmp_path):
    model = net(channels=3)
    model.presentation = ImagePresentation(size=8, crop_pct=1.0)
    held = images(60, seed=1, channels=3)
    with_it = {"data": held, "with_preprocessing": True, "model": model}
    found = shipped(Elsewhere(), registered, tmp_path / "right", **with_it).parity["formats"]["elsewhere"]
    assert found["flips"]["count"] == 0 and found["probability_differences"]["max"] < 1e-5

    def forgotten(inside):
        inside.mean.zero_()
        inside.std.fill_(1)
        return inside

    class Forgets(Elsewhere):
        def write(self, model, example, path, card):
            return TorchExporter.write(self, forgotten(model), example, path, card)

    with pytest.raises(ParityError, match="a probability differs by"):
        shipped(Forgets(), registered, tmp_path / "wrong", **with_it)


def test_pixels_in_and_probabilities_out_are_those_of_predict(registered, tmp_path):
    model = net(channels=3)
    model.presentation = ImagePresentation(size=8, crop_pct=1.0)
    x, _ = images(30, seed=2, channels=3)
    shipped(Elsewhere(), registered, tmp_path / "out", model=model, data=images(30, 1, 3), with_preprocessing=True)
    ask = torch.export.load(tmp_path / "out" / "model.elsewhere.pt2").module()
    expected = limbeck.predict(model, x, classes=CLASSES).probabilities
    np.testing.assert_allclose(ask(x).numpy(), expected, atol=1e-5)
    with pytest.raises(ConfigError, match="with_preprocessing is for images, uint8 or in files"):
        shipped(Elsewhere(), registered, tmp_path / "no", data=(torch.rand(9, 1, 8, 8), None), with_preprocessing=True)


def test_a_changed_answer_is_excused_where_it_was_a_tie_and_nowhere_else(registered, tmp_path):
    x, y = images(60, seed=1)
    model = net()
    model[1].weight.data[1] = model[1].weight.data[0]  # classes 0 and 1 tie, but for what follows
    model[1].bias.data[:2] = 1.0
    nudge = torch.tensor([0.0, 2e-6, 0.0])
    done = shipped(Elsewhere(after=lambda z: z + nudge), registered, tmp_path / "tie", model=model, data=(x, y))
    found = done.parity["formats"]["elsewhere"]
    assert 0 < found["flips"]["count"] == found["flips"]["ties"] and "ties" in done.sentences[0]
    assert all(flip["tie"] and flip["margin"] < 1e-5 for flip in found["flipped"])
    model[1].bias.data[1] = 1.0 - 1e-3  # no tie any more
    push = torch.tensor([0.0, 2e-3, 0.0])
    with pytest.raises(ParityError, match="predictions differ that are not ties"):
        shipped(Elsewhere(after=lambda z: z + push), registered, tmp_path / "no", model=model, data=(x, y))


def test_measures_are_those_of_a_slow_obvious_version():
    x, y = images(50, seed=3)
    model, other = net(), Changed(net(), after=lambda z: 0.5 * z + torch.tensor([0.0, 0.3, 0.0])).eval()
    examples = Examples.of(x, y)
    found = compare(model, other, examples, rows=torch.arange(50))
    with torch.no_grad():
        one, two = model(x / 255).double(), other(x / 255).double()
    p, q = one.softmax(1), two.softmax(1)
    assert found.answers.tolist() == [one.argmax(1).tolist(), two.argmax(1).tolist()]
    np.testing.assert_allclose(found.differences, (one - two).abs().max(1).values, rtol=1e-4)
    np.testing.assert_allclose(found.divergence, (p * (p / q).log()).sum(1), rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(found.true_log_probs[1], two.log_softmax(1)[range(50), y], atol=1e-5)
    flips = [k for k in range(50) if one[k].argmax() != two[k].argmax()]
    assert sorted(found.flips.tolist()) == flips
    margins = [float(one[k].max() - one[k, two[k].argmax()]) for k in found.flips.tolist()]
    assert margins == sorted(margins, reverse=True)
    np.testing.assert_allclose(found.margin[found.flips], margins, atol=1e-5)


def test_rounding_is_measured_against_float64():
    big = nn.Linear(4000, 2)
    big.weight.data *= 1000
    x = torch.randn(64, 4000)
    with torch.no_grad():
        scale = float(big(x).abs().max())
        exact = (x.double() @ big.weight.double().T + big.bias.double()).float()
        off = float((big(x) - exact).abs().max())
    assert rounding_of(big, [x], scale) == pytest.approx(max(off, 32 * 2**-23 * scale), rel=0.5)

    class Single(nn.Module):
        def forward(self, x):
            return x @ torch.ones(3, 2)  # of float32 alone

    assert rounding_of(Single(), [torch.ones(1, 3)], 3.0) == pytest.approx(32 * 2**-23 * 3)


def test_a_format_that_rounds_is_judged_by_the_margin(registered, tmp_path):
    x, y = images(600, seed=4)
    coarse = Elsewhere(after=lambda z: (z * 32).round() / 32, exact=False)
    done = shipped(coarse, registered, tmp_path / "coarse", data=(x, y), margin=2.0)
    found = done.parity["formats"]["elsewhere"]
    assert found["margin"]["outcome"] == "as good" and found["logit_differences"]["max"] > 0.01
    bad = Elsewhere(after=lambda z: z.round(), exact=False)
    with pytest.raises(ParityError, match=r"the elsewhere file is as good as the original within 0.01 points") as error:
        shipped(bad, registered, tmp_path / "bad", data=(x, y), margin=0.01)
    assert error.value.exit_code == 2  # a margin was missed: the file is what it is
    with pytest.raises(ParityError, match="of all answers may differ"):
        shipped(bad, registered, tmp_path / "worse", data=(x, None), margin=0.1)


def test_a_fault_of_ours_is_one_beside_a_missed_margin(tmp_path, monkeypatch):
    coarse = Elsewhere("coarse", after=lambda z: z.round(), exact=False)
    coarse.suffix = ".coarse.pt2"
    wrong = Elsewhere("wrong", after=lambda z: z.flip(1))
    monkeypatch.setattr(export_request, "exporter_named", {"coarse": coarse, "wrong": wrong}.__getitem__)
    with pytest.raises(ParityError, match=r"no model is kept: coarse: .*; wrong: ") as error:
        limbeck.export(
            net(), out=tmp_path / "out", formats=["coarse", "wrong"], data=images(600, seed=4), classes=CLASSES,
            margin=0.01,
        )  # fmt: skip
    assert error.value.exit_code == 1
    assert [path.name for path in tmp_path.iterdir()] == ["out.refused"]


def test_a_sample_of_the_held_out_examples_and_an_example_alone(registered, tmp_path):
    done = shipped(Elsewhere(), registered, tmp_path / "few", parity_examples=20)
    assert done.parity["formats"]["elsewhere"]["examples"] == 20
    registered(Elsewhere())
    alone = limbeck.export(net(), torch.rand(4, 1, 8, 8), out=tmp_path / "alone", formats=["elsewhere"])
    assert alone.parity["judged_on"] == "example"
    assert alone.parity["formats"]["elsewhere"]["original"]["accuracy"] is None


def test_several_labels_are_compared_label_by_label(registered, tmp_path):
    x, y = images(40, seed=6)
    held = Examples.of_labels(x, torch.eye(3, dtype=torch.long)[y], names=["red", "round", "sweet"])
    found = shipped(Elsewhere(), registered, tmp_path / "out", data=held, classes=["red", "round", "sweet"])
    assert found.parity["formats"]["elsewhere"]["examples"] == 120
    with pytest.raises(ParityError, match="far more than rounding"):
        shipped(Elsewhere(after=lambda z: z.flip(1)), registered, tmp_path / "no", data=held)
    with pytest.raises(ConfigError, match="with_preprocessing is for images"):
        shipped(Elsewhere(), registered, tmp_path / "pixels", data=held, with_preprocessing=True)


def test_wrong_calls_write_nothing(registered, tmp_path):
    registered(Elsewhere())
    (tmp_path / "there").mkdir()
    calls = [
        ({"out": tmp_path / "there"}, RunError, "there exists already"),
        ({"formats": []}, ConfigError, "formats must be a list"),
        ({"formats": ["elsewhere", "elsewhere"]}, ConfigError, "is asked for twice"),
        ({"formats": ["tflite"]}, ConfigError, "no format 'tflite'"),
        ({"data": None}, ConfigError, "give data, held-out examples"),
        ({"margin": 0.0}, ConfigError, "margin must be above 0"),
        ({"parity_examples": 0}, ConfigError, "parity_examples must be at least 1"),
        ({"classes": ["a", "b"]}, MismatchError, "outputs 3 classes, and 2 are named"),
        ({"data": (torch.zeros(3, 1, 5, 5, dtype=torch.uint8), None)}, limbeck.LimbeckError, "shape"),
        ({"model": limbeck.Ensemble([net(), net()])}, ConfigError, "an ensemble of 2 networks cannot be exported"),
        ({"data": limbeck.DataSet("d", CLASSES, Examples.of(*HELD))}, DataError, "no test or validation examples"),
    ]
    for given, kind, message in calls:
        options = {"model": net(), "out": tmp_path / "out", "formats": ["elsewhere"], "data": HELD, **given}
        with pytest.raises(kind, match=message):
            limbeck.export(**options)
    assert [path.name for path in tmp_path.iterdir()] == ["there"]


class Kept:
    """A format whose file holds nothing: the model itself answers."""

    name, suffix, what, exact = "kept", ".kept", "nothing", True

    def refusal(self, model):
        return None

    def write(self, model, example, path, card):
        self.model = model
        replace_bytes(path, b"kept")
        return {}

    def open(self, path, *, threads=None):
        return self.model


def test_a_full_disk_leaves_nothing_half_written(registered, tmp_path, monkeypatch):
    """Let the n-th flush to the disk fail, for every n that an export has; then what a library writes by itself."""
    real, count, fail_at = os.fsync, [0], [10**9]

    def fsync(handle):
        count[0] += 1
        if count[0] == fail_at[0]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    shipped(Kept(), registered, tmp_path / "good")
    total = count[0]
    assert total >= 4
    for number in range(1, total):  # the last is of the folder around, in which all is by then
        count[0], fail_at[0] = 0, number
        with pytest.raises(RunError, match="cannot write .*No space left on device: make room"):
            shipped(Kept(), registered, tmp_path / "full")
        assert [path.name for path in tmp_path.iterdir()] == ["good"]
    fail_at[0] = 10**9

    class Full(Kept):
        def write(self, model, example, path, card):
            path.write_bytes(b"half")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(RunError, match="cannot write model.kept into .*make room"):
        shipped(Full(), registered, tmp_path / "half")
    assert [path.name for path in tmp_path.iterdir()] == ["good"]


def test_what_cannot_be_traced_is_told_in_a_line(tmp_path):
    class Branches(nn.Module):
        def forward(self, x):
            return x.flatten(1)[:, :3] if x.sum() > 0 else -x.flatten(1)[:, :3]

    class Fixed(nn.Module):
        def forward(self, x):
            return x.flatten(1)[:, :3] + torch.zeros(len(x), 3)

    for model, message in (
        (
            Branches(),
            r"Branches cannot be exported: its forward decides by values of its inputs \(test_parity.py, line",
        ),
        (Fixed(), "Fixed cannot be exported: its forward fixes the number of examples or tokens: .* use x.shape"),
    ):
        with pytest.raises(ConfigError, match=message):
            limbeck.export(model, out=tmp_path / "out", formats=["torch"], data=HELD)
    assert not list(tmp_path.iterdir())
