"""The scripts of examples/, each run on small data in a folder of its own; those of other tools beside them, slowly."""

import importlib.util
import json
import re
import runpy
import shlex
import sys
from pathlib import Path

import pandas
import pytest
from code_lines import code_lines
from journey_data import SMALL
from tiny_runs import run_here

import limbeck
from limbeck.models.timm_models import import_timm

ROOT = Path(__file__).parents[1]
SCRIPTS = sorted(path for path in (ROOT / "examples").iterdir() if path.is_file())
PEERS = sorted((ROOT / "benchmarks" / "peers").glob("*.py"))
NEEDS = {"forest": "sklearn", "hf": "datasets", "next": "transformers", "timm": "timm"}


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder of its own, whose modules can be imported."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "own", raising=False)
    yield tmp_path
    sys.modules.pop("own", None)


def make_small(stem):
    """What a script reads."""
    needed = next((module for prefix, module in NEEDS.items() if stem.startswith(prefix)), "torch")
    if importlib.util.find_spec(needed) is None:
        pytest.skip(f"{needed} is not installed")
    next(make for name, make in SMALL.items() if Path(name).stem == stem)()


def test_there_are_ten_and_each_is_short():
    assert [script.name for script in SCRIPTS] == sorted(SMALL) and len(SMALL) == 10
    for script in SCRIPTS:
        text = script.read_text()
        if script.suffix == ".py":
            assert code_lines(text) <= 10 and "print(run.verdict" in text and text.startswith('"""')
        else:
            commands = [line for line in text.replace("\\\n", " ").splitlines() if not line.startswith("#")]
            assert len(commands) == 1 and commands[0].startswith("limbeck ")


def test_lines_are_counted_without_what_is_silent():
    assert code_lines('"""Says\n\nmuch."""\n\n# nothing\nx = [\n    1,  # one\n]\n\ny = """a\n\nb"""\n') == 6
    assert code_lines("") == code_lines('"""Alone."""\n') == 0 and code_lines('x = 1\n"""no docstring"""\n') == 2


@pytest.mark.parametrize(
    "script",
    [pytest.param(one, marks=[pytest.mark.slow] if one.stem == "timm_images" else []) for one in SCRIPTS],
    ids=[one.stem for one in SCRIPTS],
)
def test_a_journey(script, here, monkeypatch, capsys):
    make_small(script.stem)
    capsys.readouterr()
    if script.suffix == ".sh":
        words = shlex.split(script.read_text().replace("\\\n", ""), comments=True)
        tiny = ("--channels", 4, "--hidden", 8, "--epochs", 2, "--precision", "float32", "--workers", 0)
        done = run_here(*words[1:], *tiny)
        assert done.code == 0, done.err
        printed, run = done.out + done.err, here / words[words.index("--out") + 1]
    else:
        text = script.read_text()
        settings = {"precision": "float32", "workers": int(script.stem == "own_dataset")}
        if "epochs=3" not in text:
            settings["epochs"] = 2
        whole = limbeck.distill
        monkeypatch.setattr(limbeck, "distill", lambda *given, **named: whole(*given, **{**named, **settings}))
        for large, small in (("image_size=224", "image_size=32"), ("mobilenetv3_small_050", "test_resnet")):
            text = text.replace(large, small)
        exec(compile(text, script, "exec"), {})
        printed = capsys.readouterr().out
        run = here / re.search(r'out="([^"]*)"', text)[1]
    assert re.search(r"(test|validation) errors|Distillation helped", printed)
    metrics = json.loads((run / "metrics.json").read_text())
    assert {"teacher", "student", "verdict"} <= metrics.keys()
    LEFT.get(script.stem, lambda run, metrics: None)(run, metrics)


def _forest(run, metrics):
    assert len(pandas.read_csv("predictions.csv")) == 60


def _multi_label(run, metrics):
    assert len(pandas.read_csv("tags.csv")) == 20


def _hf_text(run, metrics):
    described = json.loads((run / "model" / "config.json").read_text())
    assert described["config"]["hidden_size"] == 8 and described["id2label"] == {"0": "bad", "1": "good"}


def _next_token(run, metrics):
    assert metrics["student"]["test_examples"] > 20


def _own_dataset(run, metrics):
    assert "own = true" in (run / "config.toml").read_text()


def _timm_images(run, metrics):
    assert 'augment = "standard"' in (run / "config.toml").read_text()


LEFT = {
    "forest": _forest,
    "multi_label": _multi_label,
    "hf_text": _hf_text,
    "hf_dataset": _hf_text,
    "next_token": _next_token,
    "own_dataset": _own_dataset,
    "timm_images": _timm_images,
}
"""What else some of them leave."""


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the other tools about themselves
@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: peer.stem)
def test_what_other_tools_need_for_the_same_job(peer, here, monkeypatch, capsys):
    """On the same small data; only epochs and processes are fewer."""
    make_small(peer.stem)
    if "timm" in peer.stem:
        import_timm()
    text = re.sub(r"num_workers=\d", "num_workers=0", peer.read_text())
    text = text.replace("num_train_epochs=3", "num_train_epochs=1").replace(
        '224, "mobilenetv3_small_050"', '32, "test_resnet"'
    )
    text = re.sub(r"EPOCHS([^=\n]*) = ([^\n]*?)\b(10|20|30)\b", r"EPOCHS\1 = \g<2>2", text)
    (here / "peer.py").write_text(text)
    runpy.run_path("peer.py")
    assert re.search(r"(errors|eval_accuracy|eval_loss)", capsys.readouterr().out)


def test_each_journey_has_a_peer_and_the_page_tells_both():
    page = (ROOT / "docs" / "journeys.md").read_text()
    assert [peer.stem for peer in PEERS] == [script.stem for script in SCRIPTS]
    for script, peer in zip(SCRIPTS, PEERS, strict=True):
        assert f"```{'python' if script.suffix == '.py' else 'sh'}\n{script.read_text()}```" in page
        own = code_lines(script.read_text()) if script.suffix == ".py" else 1
        row = re.search(rf"\| \[[^|]*\| \[{script.name}\][^|]*\| (\d+) \| \[[^|]*{peer.name}\) \| (\d+) \|", page)
        assert row is not None and (int(row[1]), int(row[2])) == (own, code_lines(peer.read_text()))
