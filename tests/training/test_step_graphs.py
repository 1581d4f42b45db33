"""Steps made from CUDA graphs end in the bits of steps made one kernel at a time.

On a processor a graph is a function that runs again: what is given to it, how often and from where is tested there;
on a CUDA device the graphs are real.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal, cast

import pytest
import torch
from torch import Tensor, nn

from limbeck.data import Examples
from limbeck.data.feed import Feed
from limbeck.methods import Method, make_method
from limbeck.models import CNN, MLP, CNNConfig, MLPConfig
from limbeck.options import Augmentation, Training
from limbeck.protocols import Objective
from limbeck.system.callbacks import Callback
from limbeck.system.devices import Device
from limbeck.system.processes import World, world
from limbeck.teachers import ModelTeacher, StoredTargets
from limbeck.training import engine
from limbeck.training.class_weights import Weighted
from limbeck.training.objective import DistillationObjective, LabelObjective
from limbeck.training.run_state import Fitted
from limbeck.training.step_graphs import MOST, WARM, StepGraphs, record_cuda_graph, wants_graphs

HERE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
PLACE = Device(HERE, "float32")
COUNT, BATCH, EPOCHS = 40, 6, 3
METHODS = [
    "kd", "logits", "dkd", "nkd", "dist", "ttm", "standardised", "attention", "fitnets", "rkd", "similarity", "srd",
    "kd:1+dist:0.5",
]  # fmt: skip
STEPS = EPOCHS * (COUNT // BATCH)
"""Steps of whole batches; each epoch ends in one of four examples."""


class Recorder:
    """Records steps, and counts how many are replayed."""

    def __init__(self) -> None:
        self.recorded = self.replayed = 0

    def __call__(self, launch: Callable[[], None]) -> Callable[[], None]:
        again = record_cuda_graph(launch) if HERE.type == "cuda" else launch
        self.recorded += 1

        def replay() -> None:
            self.replayed += 1
            again()

        return replay


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    """Graphs wherever they would be made on a CUDA device."""
    found = Recorder()

    def wanted(model: nn.Module, objective: Objective, training: Training, _: Device, *more: Any) -> bool:
        return wants_graphs(model, objective, training, Device(torch.device("cuda"), "float32"), *more)

    monkeypatch.setattr(engine, "record_cuda_graph", found)
    monkeypatch.setattr(engine, "wants_graphs", wanted)
    return found


def images(*, labels: bool = True) -> Examples:
    """A few images of three classes."""
    torch.manual_seed(3)
    return Examples.of(torch.rand(COUNT, 1, 8, 8), torch.randint(0, 3, (COUNT,)) if labels else None)


def network(seed: int = 0) -> nn.Module:
    """A small network with dropout, whose masks each step must draw anew."""
    torch.manual_seed(seed)
    return CNN(CNNConfig(input_shape=(1, 8, 8), classes=3, channels=(4,), hidden=(8,), dropout=0.3))


def trained(
    objective: Objective, graphs: Literal["auto", "on", "off"], **more: Any
) -> tuple[Fitted, dict[str, Tensor]]:
    """A training, and its last weights."""
    augmentation = more.pop("augmentation", None)
    model = more.pop("model", network)()
    examples = images()
    teaching = getattr(objective, "teaching", None)
    feed = Feed(examples, batch_size=BATCH, augmentation=augmentation, seed=1, device=HERE, teaching=teaching)
    given = {"epochs": EPOCHS, "learning_rate": 0.01, **more}
    settings = Training(batch_size=BATCH, cuda_graphs=graphs, **given)
    fitted = engine.fit(model, objective, feed, settings, PLACE, validation=examples)
    return fitted, fitted.last


def teacher() -> ModelTeacher:
    """A network of its own."""
    return ModelTeacher(network(seed=9).to(HERE))


def answers() -> StoredTargets:
    """Its answers, kept."""
    examples = images()
    network_of = network(seed=9).eval()
    with torch.no_grad():
        return StoredTargets(network_of(examples.inputs).log_softmax(-1), examples.index).to(HERE)


def distilling(asked: Any, method: Any = "kd", **more: Any) -> DistillationObjective:
    """The loss of distillation."""
    return DistillationObjective(asked, hard_weight=0.3, method=method, temperature=2.0, **more)


CASES: dict[str, Callable[[], tuple[Objective, dict[str, Any]]]] = {
    "labels": lambda: (LabelObjective(0.1), {}),
    "sgd": lambda: (LabelObjective(0.0), {"optimizer": "sgd", "weight_decay": 0.01, "clip_norm": 0.1}),
    "live teacher": lambda: (distilling(teacher()), {}),
    "stored answers": lambda: (distilling(answers()), {"schedule": "exponential", "decay": 0.7}),
    "another view": lambda: (
        distilling(teacher(), teacher_view="fixed"),
        {"augmentation": Augmentation(shift=1, views=2)},
    ),
    "mixup": lambda: (distilling(teacher()), {"augmentation": Augmentation(mixup=1.0)}),
    "class weights": lambda: (Weighted(distilling(answers()), [20, 15, 5]), {}),
    "features": lambda: (distilling(teacher(), "kd+attention"), {}),
    "own parameters": lambda: (distilling(teacher(), "srd"), {}),
    "coupled": lambda: (distilling(answers(), "dist"), {}),
    "skipping": lambda: (distilling(teacher()), {"skip_nonfinite": True}),
    "undone epochs": lambda: (LabelObjective(0.0), {"schedule": "newbob", "learning_rate": 0.3}),
}


@pytest.mark.parametrize("name", CASES)
def test_a_step_from_a_graph_is_the_step(name: str, recorder: Recorder) -> None:
    objective, more = CASES[name]()
    plain, weights = trained(objective, "off", **more)
    assert recorder.recorded == 0
    objective, more = CASES[name]()
    fitted, found = trained(objective, "auto", **more)
    assert recorder.replayed >= STEPS - 3 * WARM - (STEPS if name == "undone epochs" else 0)
    assert recorder.recorded > 0
    assert fitted.history == plain.history
    for key, value in weights.items():
        assert torch.equal(found[key], value), key


def test_the_smaller_batch_at_the_end_of_an_epoch_has_a_graph_of_its_own(recorder: Recorder) -> None:
    trained(LabelObjective(0.0), "auto", epochs=WARM + 2)
    assert recorder.recorded == 2
    assert recorder.replayed == (WARM + 2) * (COUNT // BATCH + 1) - 2 * WARM


def test_a_step_that_cannot_be_recorded_is_made_without(monkeypatch: pytest.MonkeyPatch, recorder: Recorder) -> None:
    def refuse(launch: Callable[[], None]) -> Callable[[], None]:
        raise RuntimeError("operation not permitted when stream is capturing")

    _, weights = trained(LabelObjective(0.0), "off")
    monkeypatch.setattr(engine, "record_cuda_graph", refuse)
    _, found = trained(LabelObjective(0.0), "auto")
    assert all(torch.equal(found[key], value) for key, value in weights.items())


def test_a_graph_reads_the_batch_that_it_is_given() -> None:
    seen: list[tuple[list[int], int]] = []
    feed = Feed(images(), batch_size=BATCH, seed=1)

    def make(batch: Any, answers: Any, number: Tensor) -> None:
        assert answers is None
        seen.append((batch.index.tolist(), int(number)))

    graphs = StepGraphs(make, LabelObjective(0.0), lambda launch: launch)
    batches = [batch for batch in feed.batches(0) if len(batch.index) == BATCH]
    made = [graphs.step(batch, number) for number, batch in enumerate(batches)]
    assert made == [False] * (WARM - 1) + [True] * (len(batches) - WARM + 1)
    assert seen == [(batch.index.tolist(), number) for number, batch in enumerate(batches)][WARM - 1 :]


def test_few_shapes_are_kept() -> None:
    graphs = StepGraphs(lambda batch, answers, number: None, LabelObjective(0.0), lambda launch: launch)
    made = []
    for size in range(2, MOST + 4):
        batch = next(Feed(images(), batch_size=size, seed=1).batches(0))
        made.append([graphs.step(batch, number) for number in range(WARM + 1)][-1])
    assert made == [True] * MOST + [False, False]


def test_a_step_in_which_the_host_waits_is_not_recorded() -> None:
    """It is made all the same, once."""
    made: list[int] = []

    @contextmanager
    def watch() -> Iterator[list[str]]:
        noted: list[str] = []
        yield noted
        noted.append("called a synchronizing CUDA operation")

    def refuse(launch: Callable[[], None]) -> Callable[[], None]:
        raise AssertionError("recorded")

    graphs = StepGraphs(lambda b, a, number: made.append(int(number)), LabelObjective(0.0), refuse, watch)
    batch = next(Feed(images(), batch_size=BATCH, seed=1).batches(0))
    assert [graphs.step(batch, number) for number in range(WARM + 1)] == [*[False] * (WARM - 1), True, False]
    assert made == [WARM - 1]
    assert graphs.refused is not None
    assert "synchronizing" in graphs.refused


@pytest.mark.skipif(HERE.type != "cuda", reason="needs a CUDA device")
def test_a_recording_that_fails_leaves_the_device_as_it_was() -> None:
    values = torch.ones(2, device=HERE)
    with pytest.raises(RuntimeError):
        record_cuda_graph(lambda: None if values.fill_(float(values.sum())) is None else None)
    nn.functional.dropout(values)
    again = record_cuda_graph(lambda: values.mul_(2))
    again()
    assert values.tolist() == [2.0, 2.0]


class Waiting(nn.Linear):
    """A user's network that looks at its values."""

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        found = super().forward(x.flatten(1))
        return found if bool(found.isfinite().all()) else found * 0


@pytest.mark.skipif(HERE.type != "cuda", reason="needs a CUDA device")
def test_a_network_that_waits_is_trained_without() -> None:
    def made() -> nn.Module:
        torch.manual_seed(0)
        return Waiting(64, 3)

    _, weights = trained(LabelObjective(0.0), "off", model=made)
    _, found = trained(LabelObjective(0.0), "on", model=made)
    assert all(torch.equal(found[key], value) for key, value in weights.items())


@pytest.mark.skipif(HERE.type != "cuda", reason="needs a CUDA device")
@pytest.mark.parametrize("name", METHODS)
def test_every_method_is_recorded(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr(Callback, "on_note", lambda self, text: told.append(text))
    recorder = Recorder()
    monkeypatch.setattr(engine, "record_cuda_graph", recorder)
    trained(distilling(teacher(), make_method(name, {"stages": 1} if name == "fitnets" else ())), "auto")
    assert not told
    assert recorder.recorded > 0


class Own(nn.Sequential):
    """A user's network."""


class OwnMethod(Method):
    """A user's method."""

    name = "own"

    def forward(self, student: Any, teacher: Any, batch: Any) -> Tensor:
        """Nothing."""
        return cast(Tensor, student.logits.sum(-1))


CUDA = Device(torch.device("cuda"), "float32")


@pytest.mark.parametrize(
    ("model", "objective", "training", "wanted"),
    [
        (nn.Linear(2, 2), LabelObjective(0.0), Training(), True),
        (MLP(MLPConfig(input_shape=(2,), classes=2)), LabelObjective(0.0), Training(), True),
        (nn.Linear(2, 2), LabelObjective(0.0), Training(cuda_graphs="off"), False),
        (Own(nn.Linear(2, 2)), LabelObjective(0.0), Training(), False),
        (Own(nn.Linear(2, 2)), LabelObjective(0.0), Training(cuda_graphs="on"), True),
        (nn.Linear(2, 2), LabelObjective(0.0), Training(compile=True), False),
        (nn.Linear(2, 2), lambda logits, batch: None, Training(), False),
        (nn.Linear(2, 2), distilling(answers(), OwnMethod()), Training(), False),
        (nn.Linear(2, 2), distilling(answers(), OwnMethod()), Training(cuda_graphs="on"), True),
        (nn.Linear(2, 2), distilling(teacher(), make_method("fitnets", {"stages": 2})), Training(), False),
    ],
)
def test_who_is_recorded(model: nn.Module, objective: Any, training: Training, *, wanted: bool) -> None:
    assert wants_graphs(model, objective, training, CUDA, world()) is wanted


def test_several_processes_parts_and_processors_are_not_recorded() -> None:
    model, objective = nn.Linear(2, 2), LabelObjective(0.0)
    assert not wants_graphs(model, objective, Training(), Device(torch.device("cpu"), "float32"), world())
    assert not wants_graphs(model, objective, Training(), CUDA, world(), accumulate=2)

    assert not wants_graphs(model, objective, Training(), CUDA, cast(World, type("Two", (), {"size": 2})()))
