"""Runs on files and texts that are read by workers, killed at random steps, end in the same bits as runs that were not.

Each time that a run continues it has another number of workers, of 0, 1 and 4. `make test-slow` kills 20 times;
`LIMBECK_KILLS=100` kills as often as it says, half on images and half on texts.
"""

import csv
import multiprocessing
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from image_makers import put, scene
from launcher import also_preload, finished, launch
from left_behind import content

from limbeck.data.workers import made_ahead
from limbeck.system.hugging_face import transformers
from limbeck.system.locks import hold

KILLS = int(os.environ.get("LIMBECK_KILLS", "20"))
WORKERS = (0, 1, 4)
SETTINGS = ("--batch-size", 8, "--precision", "float32", "--quiet", "--checkpoint-minutes", 0.0005)
NETWORK = """
import torch
from limbeck.options import ImagePresentation


def net(input_shape, classes, size=24, width=4):
    layers = torch.nn.Conv2d(3, width, 3, 2), torch.nn.Tanh(), torch.nn.AdaptiveAvgPool2d(2), torch.nn.Flatten()
    made = torch.nn.Sequential(*layers, torch.nn.Dropout(0.2), torch.nn.Linear(4 * width, classes))
    made.presentation = ImagePresentation(size=size)
    return made


def teacher(input_shape, classes):
    return net(input_shape, classes, size=32, width=6)
"""


class Journey:
    """A command, and what it needs."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.own = folder, {"MODULES": str(folder)}

    def run(self, name: str, *words: object, **environment: str) -> int:
        """The exit code of a command that writes in the folder of that name."""
        out = ("--out", self.folder / name, *SETTINGS)
        launched = launch(self.folder / f"{name}.log", *words, *out, **self.own, **environment)
        code = finished(launched)
        assert code in (0, -9), launched.said
        return code


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """JPEGs of several sizes, which no network here wants as they are: each is decoded, cropped and resized anew."""
    journey = Journey(tmp_path_factory.mktemp("images"))
    for number in range(60):
        label = "cat" if number % 2 else "dog"
        put(journey.folder, f"data/{label}/{number}.jpg", scene(114 + number % 7, 120 + number % 5, number))
    (journey.folder / "kill_nets.py").write_text(NETWORK)
    data = ("--data", journey.folder / "data", "--augment", "standard")
    taught = ("train", *data, "--model", "kill_nets:teacher", "--epochs", 1)
    assert journey.run("teacher", *taught) == 0
    taught = ("--teacher", journey.folder / "teacher", "--teacher-model", "kill_nets:teacher")
    journey.words = ("distill", *data, *taught, "--student", "kill_nets:net", "--epochs", 3)
    return journey


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    """Texts of 1 to 20 words; they count as too many to hold, so that workers tokenise each batch."""
    also_preload("preload_text")
    journey = Journey(tmp_path_factory.mktemp("texts"))
    draw, words = random.Random(0), [f"w{number}" for number in range(40)]
    with open(journey.folder / "data.csv", "w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(("text", "label"))
        for row in range(80):
            writer.writerow((" ".join(draw.choices(words, k=1 + row % 20)), ("short", "long")[row % 20 > 9]))
    hf = transformers()
    sizes = {"vocab_size": 60, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    from tokenizers import Tokenizer, models, pre_tokenizers

    made = Tokenizer(models.WordLevel({word: place for place, word in enumerate(["[PAD]", *words])}, unk_token="w0"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    torch.manual_seed(0)
    named = {"id2label": {0: "long", 1: "short"}, "label2id": {"long": 0, "short": 1}}
    hf.BertForSequenceClassification(hf.BertConfig(**sizes, hidden_size=16, **named)).save_pretrained(
        journey.folder / "teacher"
    )
    hf.BertConfig(**sizes, hidden_size=8).save_pretrained(journey.folder / "student")
    for name in ("teacher", "student"):
        hf.PreTrainedTokenizerFast(tokenizer_object=made, pad_token="[PAD]").save_pretrained(journey.folder / name)
    models_of = ("--teacher", f"hf:{journey.folder}/teacher", "--student", f"hf:{journey.folder}/student")
    data = ("--data", journey.folder / "data.csv", "--text-column", "text")
    journey.words = ("distill", *data, *models_of, "--epochs", 3)
    journey.own["KEPT_TOKENS"] = "100"
    return journey


def kill_and_compare(journey: Journey, kills: int, seed: int) -> tuple[int, int]:
    """Kill at random steps until it was done often enough; runs that ended, and times that workers changed."""
    draw = random.Random(seed)
    assert journey.run("whole", *journey.words, "--workers", 0) == 0
    expected, steps = content(journey.folder / "whole"), 2 * 3 * -(-journey.examples // 8)
    killed = ends = changed = 0
    while killed < kills:
        workers, code = None, -9
        while code:
            before, workers = workers, draw.choice(WORKERS)
            changed += before not in (None, workers)
            # Any step, and any time from its begin to some steps later; a run that has fewer steps left ends.
            moment = f"{draw.randint(1, steps)} {draw.uniform(0, 0.03)}" if killed < kills else "0 0"
            again = ("--workers", workers, "--resume")
            code = journey.run(f"run-{seed}-{ends}", *journey.words, *again, KILL_AT=moment)
            killed += code == -9
        assert content(journey.folder / f"run-{seed}-{ends}") == expected, f"run {ends} after {killed} kills, {seed}"
        ends += 1
    return ends, changed


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["images", "texts"])
def test_many_kills(kind, request):
    journey = request.getfixturevalue(kind)
    journey.examples = {"images": 49, "texts": 65}[kind]
    ends, changed = kill_and_compare(journey, KILLS // 2, seed=KILLS)
    print(f"{kind}: {KILLS // 2} kills, {changed} changes of workers, {ends} runs ended in the same bits")  # noqa: T201


HOLDER = """
import os, signal, sys, time
from pathlib import Path
from limbeck.system.locks import hold

with hold(Path(sys.argv[1])):
    child = os.fork()
    if child == 0:
        time.sleep(60)
        os._exit(0)
    print(child, flush=True)
    time.sleep(0.2)
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no forks here")
def test_a_lock_goes_with_its_holder_while_workers_live_on(tmp_path):
    """A worker sees only after some seconds that its parent is gone, and a run that was killed can continue at once."""
    with subprocess.Popen([sys.executable, "-c", HOLDER, tmp_path], stdout=subprocess.PIPE) as run:
        worker = int(run.stdout.readline())
        assert run.wait(30) == -signal.SIGKILL
    try:
        os.kill(worker, 0)  # it is there
        with hold(tmp_path):
            pass
    finally:
        os.kill(worker, signal.SIGKILL)


@pytest.mark.skipif(sys.platform != "linux", reason="processes are forked on Linux alone")
def test_workers_are_children_of_their_run_whatever_started_it(monkeypatch):
    """Those of a server of forks would not see that the run is gone, and what they make would have to be pickled."""
    chosen = multiprocessing.get_context("spawn")
    monkeypatch.setattr("multiprocessing.context._default_context._actual_context", chosen)
    assert multiprocessing.get_start_method() == "spawn"
    found = list(made_ahead(lambda request: (request, os.getppid()), range(3), 2))
    assert found == [(request, os.getpid()) for request in range(3)]
