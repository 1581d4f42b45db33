"""Calls with wrong arguments end in one clear line, before anything is written; what can stand for an argument may."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import limbeck
from limbeck import Augmentation, DataSet, Ensemble, Examples, FineTuning, LimbeckError, RankRule, Search, SoftTargets
from limbeck import specialists as sp
from limbeck.errors import UserCodeError
from limbeck.evaluation.non_inferiority import judge_margin
from limbeck.evaluation.sample_size import examples_needed, smallest_difference
from limbeck.evaluation.verdicts import judge, judge_many, judge_seeds

X, Y = torch.randn(24, 4, generator=torch.Generator().manual_seed(0)), torch.arange(24) % 4
OTHER = (X + 1, Y)
ANSWERS = X.log_softmax(-1)
IMAGES = torch.zeros(12, 1, 28, 28, dtype=torch.uint8)
NET = nn.Linear(4, 4)
FLAT = nn.Sequential(nn.Flatten(), nn.Linear(784, 4))


def distil(**given: Any) -> Any:
    """A distillation that would work but for what is given."""
    return limbeck.distill(
        **{"teacher": NET, "student": nn.Linear(4, 4), "train": (X, Y), "validation": OTHER, "epochs": 1, **given}
    )


def train(**given: Any) -> Any:
    """A training, likewise."""
    return limbeck.train(**{"model": nn.Linear(4, 4), "train": (X, Y), "validation": OTHER, "epochs": 1, **given})


def compress(**given: Any) -> Any:
    """A compression, likewise."""
    net = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 4))
    return limbeck.compress(
        **{"model": net, "train": (X, Y), "validation": OTHER, "rule": RankRule(rank=(2,)), **given}
    )


def tune(**given: Any) -> Any:
    """A search, likewise."""
    search = Search(grid=True, temperatures=(1,), hard_weights=(0,), learning_rates=(0.1,), baseline=False)
    return limbeck.tune(
        **{"teacher": NET, "student": nn.Linear(4, 4), "train": (X, Y), "validation": OTHER, "epochs": 1}
        | {"search": search, **given}
    )


def write(**given: Any) -> Any:
    """A store of soft targets, likewise."""
    return SoftTargets.write(
        **{"folder": "store", "teacher": NET, "examples": Examples.of(X, Y), "classes": "abcd", **given}
    )


Call = tuple[Callable[..., Any], dict[str, Any], str]

RUNS: list[Call] = [
    *[
        call
        for run in (distil, train, compress, tune)
        for call in (
            (run, {"classes": 5}, "classes must be a list .*and is 5"),
            (run, {"classes": [0, 1, 2, 3]}, "classes: the class name 0 is not text: give names as strings"),
            (run, {"augmentation": "shift"}, "augmentation must be limbeck.Augmentation.* and is 'shift'"),
            (run, {"augmentation": {"shfit": 1}}, "did you mean shift"),
            (run, {"settings": 5}, "settings must be a mapping, and is 5"),
            (run, {"settings": {1: 2}}, "a key of settings must be text, and is 1"),
            (run, {"out": 5}, "out must be a path, and is 5"),
            (run, {"out": b"run"}, "out must be a path, and is b'run'"),
            (run, {"out": "a\0b"}, "out must be a path, as text without a null character"),
            (run, {"out": ""}, "out must be a path"),
            (run, {"resume": True}, "resume needs a run's folder, and none is given"),
            (run, {"resume": None}, "resume must be True or False, and is None"),
            (run, {"out": "run", "settings": {"a": object()}}, "one is an object: leave it out"),
            (run, {"validation": "mnist"}, "validation data: .*open files with limbeck.open_data"),
        )
    ],
    *[(run, {"callbacks": 5}, "callbacks must be a Callback or a list") for run in (distil, train, compress)],
    *[(run, {"margin": "1"}, "margin must be a number, and is '1'") for run in (distil, compress)],
    *[(run, {"margin": True}, "margin must be a number, and is True") for run in (distil, compress)],
    *[(run, {"jobs": jobs}, "jobs must be at least 1") for run in (distil, train, tune) for jobs in (0, -1)],
    *[(run, {"seed": -1}, r"seed must be in \[0, 2\*\*63\)") for run in (distil, train, tune)],
    *[(run, {"save_hdf5": True}, "save_hdf5 needs a run's folder") for run in (distil, train)],
    *[(run, {"ray": 5}, "ray must be text, and is 5") for run in (distil, train, tune)],
    *[
        (run, {"train": (Y, X)}, r"two axes at least, and have shape \(24,\).*\(inputs, labels\)")
        for run in (distil, train)
    ],
    (distil, {"baseline": None}, "baseline must be True or False, and is None"),
    (distil, {"seeds": 0}, "seeds must be at least 1, and is 0"),
    (distil, {"searched": "x"}, "searched must be nobody or student or both, and is 'x'"),
    (distil, {"teacher": None}, "a teacher is .*and a NoneType was given"),
    (distil, {"teacher": "runs/a"}, "limbeck.load"),
    (
        distil,
        {"student": "runs/a"},
        "model must be mlp, cnn, .* or package.module:function, and is 'runs/a'",
    ),
    (distil, {"student": nn.Linear}, "Linear needs the arguments"),
    (distil, {"transfer": 5}, "transfer data: examples must be a pair"),
    (distil, {"train": (X, None), "classes": "abcd"}, "hard_weight is 0.1, and the training set has no labels"),
    (distil, {"transfer": X}, "hard_weight is 0.1, and transfer examples are used without labels"),
    (train, {"members": 0}, "members must be at least 1, and is 0"),
    (train, {"mean": "geo"}, "mean must be arithmetic or geometric, and is 'geo'"),
    (train, {"train": (X.T.contiguous(), Y)}, r"shape \(4, 24\) have the examples on their last axis.*moveaxis"),
    *[
        (
            run,
            {model: FLAT, "train": (IMAGES, Y[:12]), "validation": None, "augmentation": distortion},
            "pixels, and images",
        )
        for run, model in ((train, "model"),)
        for distortion in (Augmentation(shift=99), Augmentation(elastic=28), Augmentation(shift=28, rotate=1))
    ],
    (compress, {"rule": 5}, "rule must be limbeck.RankRule, or a mapping of its settings, and is 5"),
    (compress, {"rule": {"rnk": 5}}, "there is no setting 'rnk'"),
    (
        compress,
        {"rule": None, "plan": 5},
        r"plan must be a tuple of 2 \(a RankPlan or a PrunePlan, a Spectrum\) or a RankPlan or a PrunePlan, and is 5",
    ),
    (compress, {"rule": None, "plan": (1, 2)}, r"plan\[0\] must be a RankPlan or a PrunePlan, and is 1"),
    (compress, {"calibration": "x"}, "calibration must be a whole number, and is 'x'"),
    (compress, {"calibration": 1.5}, "calibration must be a whole number, and is 1.5"),
    (compress, {"model": "runs/a"}, r"model must be a torch.nn.Module, and is 'runs/a': open a run with limbeck.load"),
    (compress, {"model": Ensemble([NET])}, "model must be a torch.nn.Module, and is an Ensemble"),
    (compress, {"model": nn.Linear}, "is the class Linear: give an instance"),
    (compress, {"placement": "x"}, "placement must be input or split"),
    (compress, {"finetuning": 5}, "finetuning must be limbeck.FineTuning"),
    (compress, {"before": 5}, "before must be a mapping, and is 5"),
    (compress, {"before": {"a": 5}}, "a teacher is"),
    (tune, {"search": 5}, "search must be limbeck.Search, or a mapping"),
    (tune, {"progress": 5}, "progress must be True or False or a function, and is 5"),
    (tune, {"storage": 5}, "storage must be text, and is 5"),
]

STORES: list[Call] = [
    (write, {"encoding": "topk", "k": 1.5}, "k must be a whole number, and is 1.5"),
    (write, {"encoding": "topk", "k": True}, "k must be a whole number, and is True"),
    (write, {"encoding": "topk", "k": 2, "dtype": "float32"}, "dtype belongs to encoding dense"),
    (write, {"encoding": "topk", "k": 2, "seed": 3}, "seed belongs to encoding sampled"),
    (write, {"proposal": 2.0}, "proposal belongs to encoding sampled"),
    (write, {"encoding": 5}, "encoding must be text, and is 5"),
    (write, {"encoding": "x"}, "encoding must be dense, topk or sampled, and is 'x'"),
    (write, {"classes": None}, "classes must be a list .*and is None"),
    (write, {"classes": {"a", "b", "c", "d"}}, "classes must be a list"),  # a set has no order
    (write, {"temperature": "2"}, "temperature must be a number, and is '2'"),
    (write, {"device": 5}, 'device must be the name of a device, such as "cpu", and is 5'),
    (write, {"device": "nowhere"}, "device nowhere cannot be used"),
    (write, {"dtype": torch.float32}, "dtype must be text, and is a dtype"),
    (write, {"batch_size": 1.5}, "batch_size must be a whole number"),
    (write, {"examples": "mnist"}, "examples: .*limbeck.open_data"),
    (
        write,
        {"examples": DataSet("some", tuple("abcd"), Examples.of(X, Y))},
        "give one of its parts, such as data.train",
    ),
    (write, {"folder": 5}, "folder must be a path, and is 5"),
    (write, {"progress": 5}, "progress must be True or False or a function"),
    (SoftTargets.open, {"folder": (1, 2)}, r"folder must be a path, and is \(1, 2\)"),
    (SoftTargets.open, {"folder": 5}, "folder must be a path, and is 5"),
    (SoftTargets, {"store": "folder"}, "store must be a Store, and is 'folder'"),
    (Ensemble, {"members": NET}, "members must be a list .*and is a Linear"),
    (Ensemble, {"members": nn.Sequential(NET, NET)}, "members must be a list .*and is a Sequential"),
    (Ensemble, {"members": {"a": NET}}, "members must be a list"),
    (Ensemble, {"members": ["runs/a"]}, "limbeck.load"),
    (Ensemble, {"members": [NET, NET], "weights": 5}, "weights must be a list .*and is 5"),
    (Ensemble, {"members": [NET, NET], "weights": "ab"}, "weights must be a list"),
    (Ensemble, {"members": [NET, NET], "weights": ["a", 1]}, r"weights\[0\] must be a number, and is 'a'"),
    (Ensemble, {"members": [NET, NET], "weights": [1]}, "2 members and 1 weights"),
    (Ensemble, {"members": [NET, NET], "mean": 5}, "mean must be arithmetic or geometric, and is 5"),
]

SOME = Examples.of(X, Y)
FOUR = DataSet("four", tuple("abcd"), SOME, SOME)
WRONG = [True, False, False]
OTHERS: list[Call] = [
    (limbeck.evaluate, {"model": NET, "data": "mnist"}, "data: .*limbeck.open_data"),
    (limbeck.evaluate, {"model": NET, "data": 5}, "data: examples must be a pair"),
    (limbeck.evaluate, {"model": nn.Linear(4, 5), "data": FOUR}, "model outputs 5 classes, and the data has 4"),
    (limbeck.evaluate, {"model": NET, "data": FOUR, "teacher": nn.Linear(4, 5)}, "teacher outputs 5 classes"),
    (limbeck.evaluate, {"model": NET, "data": SOME, "teacher": nn.Linear(4, 5)}, "4 classes, and the teacher has 5"),
    (limbeck.evaluate, {"model": NET, "data": SOME, "device": 5}, "device must be text or a device, and is 5"),
    (limbeck.load, {"path": 5}, "path must be a path, and is 5"),
    (limbeck.load, {"path": "a\0b"}, "null character"),
    (limbeck.open_run, {"path": 3}, "path must be a path, and is 3"),
    (limbeck.export, {"model": len, "out": "here", "data": SOME}, "model must be a torch.nn.Module or the folder of a"),
    (limbeck.export, {"model": None, "out": "here", "data": SOME}, "and is None: distil other teachers into a network"),
    (judge, {"student_errors": WRONG, "baseline_errors": 5}, "errors must be arrays of bool.*int64"),
    (judge, {"student_errors": WRONG, "baseline_errors": WRONG, "confidence": "a"}, "confidence must be a number"),
    (judge_seeds, {"student_errors": 5, "baseline_errors": [WRONG]}, "must be a list of an array for each seed"),
    (judge_many, {"students": [WRONG], "baseline_errors": [WRONG]}, "students must be a mapping of names to errors"),
    (judge_margin, {"errors": [WRONG], "reference_errors": [WRONG], "margin": "a"}, "margin must be a number"),
    (judge_margin, {"errors": [WRONG], "reference_errors": None, "margin": 1}, "errors over seeds must be a list"),
    (examples_needed, {"margin": "a"}, "margin must be a number, and is 'a'"),
    (smallest_difference, {"examples": 9, "alpha": "a"}, "alpha must be a number, and is 'a'"),
    (limbeck.save_model, {"folder": "here", "model": NET, "classes": 5}, "classes must be a list"),
    (limbeck.save_model, {"folder": "here", "model": "a", "classes": "ab"}, "model must be a torch.nn.Module"),
    (limbeck.export, {"model": NET, "example": X, "out": "x", "formats": "onnx"}, r"as \['onnx'\]"),
    (distil, {"method": "dkd", "method_options": "beta=2"}, r"is 'beta=2': give a list, as \['beta=2'\]"),
    (lambda given: limbeck.compare(given), {"given": ["runs/a", "runs/b"]}, r"one by one.*compare\(\*runs\)"),
    (limbeck.predict, {"model": NET, "data": ""}, "data must be a name or a path, and is an empty text"),
    (limbeck.open_data, {"source": ""}, "data must be a name or a path, and is an empty text"),
    (limbeck.open_data, {"source": 5}, "source must be a name, a path, a table or options, and is 5"),
    (limbeck.open_data, {"source": b"a"}, "source must be a name"),
    (limbeck.fix_bias, {"model": 5, "shift": [1, 2]}, "model must be a torch.nn.Module, and is 5"),
    (limbeck.fix_bias, {"model": NET, "shift": "abc"}, "shift must be numbers"),
    (limbeck.fix_bias, {"model": NET, "shift": {"a": 1}}, "a class number must be a whole number, and is 'a'"),
    (limbeck.fix_bias, {"model": NET, "shift": {1.5: 1}}, "a class number must be a whole number, and is 1.5"),
    (limbeck.fix_bias, {"model": NET, "shift": {0: "a"}}, "shift must be numbers"),
    (limbeck.fix_bias, {"model": NET, "shift": [None] * 4}, "shift must be numbers"),
    (limbeck.fix_bias, {"model": NET, "unlabelled": X, "prior": {0: 1}}, "prior must be numbers"),
    (limbeck.fix_bias, {"model": NET, "unlabelled": X, "groups": 5}, "groups must be a list"),
    (
        limbeck.fix_bias,
        {"model": NET, "unlabelled": X, "groups": [[1.5]]},
        "a class number must be a whole number, and is 1.5",
    ),
    (limbeck.fix_bias, {"model": NET, "unlabelled": 5}, "examples must be a pair"),
    (sp.confusable_groups, {"log_probs": "abc", "groups": 2}, "log_probs must be numbers"),
    (sp.confusable_groups, {"log_probs": ANSWERS, "groups": "2"}, "groups must be a whole number"),
    (sp.specialist_data, {"examples": "abc", "special": [1]}, "examples: .*limbeck.open_data"),
    (sp.specialist_data, {"examples": SOME, "special": "abc"}, "special must be a list"),
    (sp.specialist_data, {"examples": SOME, "special": [1.5]}, "a class number must be a whole number, and is 1.5"),
    (sp.specialist_data, {"examples": SOME, "special": [1], "seed": "a"}, "seed must be a whole number"),
    (sp.specialist_network, {"generalist": ANSWERS, "special": [1]}, "generalist must be a torch.nn.Module"),
    (sp.specialist_network, {"generalist": NET, "special": [1], "oversampling": "a"}, "oversampling must be a number"),
    (sp.correct_dustbin, {"scores": "abc", "oversampling": 1.0}, "scores must be numbers"),
    (sp.correct_dustbin, {"scores": Y, "oversampling": 1.0}, "scores must be floating-point numbers"),
    (
        sp.combine,
        {"generalist": 5, "specialists": [], "groups": []},
        "generalist must be a tensor or an array",
    ),
    (sp.combine, {"generalist": ANSWERS, "specialists": 5, "groups": [[1]]}, "specialists must be a list"),
    (sp.combine, {"generalist": ANSWERS, "specialists": [ANSWERS[:, :2]], "groups": 5}, "groups must be a list"),
    (sp.active_specialists, {"generalist": ANSWERS[0], "groups": [[1]]}, "must be floating-point numbers .examples"),
    (
        sp.Committee,
        {"generalist": 5, "specialists": [], "groups": [], "oversampling": []},
        "generalist must be a torch",
    ),
    (DataSet, {"name": "a", "classes": 5, "train": SOME}, "classes must be a tuple of names, and is 5"),
    (DataSet, {"name": "a", "classes": tuple("abcd"), "train": (X, Y)}, "train must be Examples.*Examples.of"),
    (Examples.of, {"inputs": Y, "labels": X}, r"two axes at least, and have shape \(24,\).*\(inputs, labels\)"),
    (
        Examples.of,
        {"inputs": np.zeros((28, 28, 10), np.uint8), "labels": np.arange(10) % 2},
        r"\(28, 28, 10\) have the examples on their last axis",
    ),
]


@pytest.mark.parametrize("number", range(len(RUNS + STORES + OTHERS)))
def test_wrong_calls_are_refused_in_one_line(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line that names the argument, and nothing in the folder."""
    call, given, message = (RUNS + STORES + OTHERS)[number]
    monkeypatch.chdir(tmp_path)
    with pytest.raises(LimbeckError, match=message) as refused:
        call(**given)
    assert "\n" not in str(refused.value)
    assert refused.value.exit_code == 2
    assert not list(tmp_path.iterdir())


def test_pythons_own_words_for_names() -> None:
    """A name that a function does not have is a TypeError, as for every function."""
    with pytest.raises(TypeError, match="rul"):
        compress(rul=5)


def test_what_can_stand_for_examples(tmp_path: Path) -> None:
    """A pair, an array or a tensor is taken wherever Examples are."""
    cards = [write(folder=tmp_path / str(n), examples=given) for n, given in enumerate((SOME, (X, Y), (X.numpy(), Y)))]
    assert cards[0] == cards[1] == cards[2]
    assert SoftTargets.open(tmp_path / "0", examples=(X, Y), teacher=NET).source == SOME.source
    assert limbeck.evaluate(NET, (X, Y))["test_errors"] == limbeck.evaluate(NET, SOME)["test_errors"]
    by_pair, plain = (limbeck.fix_bias(NET, unlabelled=given) for given in ((X, Y), X))
    assert torch.equal(by_pair(X), plain(X))
    assert torch.equal(sp.specialist_data((X, Y), [1]).examples.inputs, sp.specialist_data(SOME, [1]).examples.inputs)


def test_what_can_stand_for_tensors_and_devices(tmp_path: Path) -> None:
    """Arrays for tensors, a name or a torch.device for where to compute, whole floats for whole numbers."""
    answers = ANSWERS.numpy()
    assert sp.confusable_groups(answers, 2.0) == sp.confusable_groups(ANSWERS, 2)  # type: ignore[arg-type]
    expert = sp.correct_dustbin(answers[:, :2], 1)
    assert torch.equal(sp.combine(answers, [expert], np.array([[1]])), sp.combine(ANSWERS, [expert], [[1]]))
    assert write(folder=tmp_path / "a", device="cpu") == write(folder=tmp_path / "b", device=torch.device("cpu"))
    assert limbeck.evaluate(NET, SOME, device=torch.device("cpu"))["test_examples"] == 24


def test_mappings_and_parts_stand_for_settings() -> None:
    """A mapping for a dataclass of settings, and a plan without its spectrum."""
    net = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 4))
    one = limbeck.compress(net, (X, Y), rule={"rank": (2,)}, finetuning={"finetune_epochs": 1, "device": "cpu"})
    other = limbeck.compress(
        net, (X, Y), rule=RankRule(rank=(2,)), finetuning=FineTuning(finetune_epochs=1, device="cpu")
    )
    assert all(torch.equal(a, b) for a, b in zip(one.model.parameters(), other.model.parameters(), strict=True))
    assert one.plan is not None
    again = limbeck.compress(net, (X, Y), plan=one.plan)
    assert again.plan == one.plan


class Own(nn.Module):
    """A network of the user's own, which does something to its logits."""

    def __init__(self, change: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.layer, self.change = nn.Linear(4, 4), change

    def forward(self, inputs: Tensor) -> Any:
        """What is left of the logits."""
        return self.change(self.layer(inputs))


class Table:
    """A teacher of the user's own."""

    classes = None

    def __init__(self, change: Callable[[Tensor], Any]) -> None:
        self.change = change

    def log_probs(self, batch: Any, temperature: float) -> Any:
        """What is left of its answers."""
        return self.change(ANSWERS[batch.index])


def raises(*_: object) -> Any:
    """What a user's code may do."""
    raise KeyError("head")


def raises_on_many(values: Tensor) -> Tensor:
    """The same, where one example is answered."""
    return values if len(values) == 1 else raises()


USES: dict[str, Callable[[Any], Any]] = {
    "student": lambda own: distil(student=own, out="run"),
    "teacher": lambda own: distil(teacher=own, out="run"),
    "model": lambda own: train(model=own, out="run"),
    "judged": lambda own: limbeck.evaluate(own, SOME),
    "softened": lambda own: write(teacher=own),
    "compressed": lambda own: compress(model=own, out="run"),
    "shifted": lambda own: limbeck.fix_bias(own, unlabelled=X),
    "searched": lambda own: tune(student=own),
    "asked": lambda own: tune(teacher=own),
    "member": lambda own: distil(teacher=Ensemble([own, NET]), out="run"),
}


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("fault", [raises, raises_on_many])
def test_a_models_own_error_is_its_cause(
    use: str, fault: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The line names the model (or its role) and the shape it was given; the user's traceback is kept."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(LimbeckError, match=r"KeyError") as refused:
        USES[use](Own(fault))
    assert isinstance(refused.value.__cause__, KeyError)
    assert any(entry.name == "forward" for entry in _frames(refused.value.__cause__))
    assert " of shape (" in str(refused.value)


def _frames(error: BaseException) -> list[Any]:
    import traceback

    return list(traceback.extract_tb(error.__traceback__))


@pytest.mark.parametrize("use", ["teacher", "judged", "softened", "asked", "member"])
@pytest.mark.parametrize("kind", [Table, lambda change: lambda inputs: change(inputs)], ids=["object", "function"])
def test_a_teachers_own_error_is_its_cause(
    use: str, kind: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Objects and functions as teachers, likewise."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(LimbeckError, match="KeyError") as refused:
        USES[use](kind(raises_on_many))
    assert isinstance(refused.value.__cause__, KeyError)


def test_a_function_that_makes_a_model_and_raises() -> None:
    """It is named, with the seed that it was called for."""
    for call in (lambda: distil(student=raises), lambda: train(model=raises), lambda: tune(student=raises)):
        with pytest.raises(UserCodeError, match="raises raised KeyError on a call with seed 0") as found:
            call()
        assert isinstance(found.value.__cause__, KeyError)


SHAPES: dict[str, Callable[[Tensor], Any]] = {
    "one row fewer": lambda values: values[:-1] if len(values) > 1 else values,
    "no row": lambda values: values[:0],
    "three rows": lambda values: values[:1].repeat(3, 1),
    "one axis": lambda values: values.sum(-1),
    "no axis": lambda values: values.sum(),
    "three axes": lambda values: values[:, None],
    "nothing": lambda values: None,
    "list": lambda values: values.tolist(),
    "complex": lambda values: values.to(torch.complex64),
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", [Own, Table], ids=["module", "object"])
@pytest.mark.parametrize("use", ["teacher", "judged", "softened", "asked", "member"])
def test_answers_of_another_shape(
    use: str, kind: Callable[..., Any], shape: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A teacher gives one row of numbers per example, or is refused, and no run begins."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(LimbeckError, match=r"logits|log_probs|classes|labels must be in"):
        USES[use](kind(SHAPES[shape]))
    assert not (tmp_path / "run" / "model").exists()


def test_answers_without_gradient_are_no_student() -> None:
    """A student that detaches its logits, or is frozen, cannot be trained, also under no_grad."""
    for change in (Tensor.detach, Tensor.long):
        with pytest.raises(LimbeckError, match="do not depend on weights that can be trained"):
            train(model=Own(change))
    for context in (torch.no_grad(), torch.inference_mode()):
        with context, pytest.raises(LimbeckError, match="every weight of the student is frozen"):
            distil(student=nn.Linear(4, 4).requires_grad_(False))


def test_memory_is_no_fault_of_the_model() -> None:
    """What says that memory is used up passes as it is, for whoever can do with less."""

    def no_memory(_: Tensor) -> Tensor:
        raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")

    from limbeck.models.calling import call_model

    with pytest.raises(RuntimeError, match="^CUDA out of memory"):
        call_model(Own(no_memory), X)


def test_an_archive_with_its_examples_on_the_last_axis(tmp_path: Path) -> None:
    """The message says which axis, not that labels are missing."""
    for inputs in (np.zeros((28, 28, 10), np.uint8), np.zeros((4, 10))):
        np.savez(tmp_path / "a.npz", x=inputs, y=np.arange(10) % 2)
        with pytest.raises(LimbeckError, match="on their last axis, and the first is needed"):
            limbeck.open_data(tmp_path / "a.npz")


def test_a_run_of_python_does_not_name_a_command(tmp_path: Path) -> None:
    """Its config.toml does not hold its data, so the command would train on other data."""
    run = tmp_path / "run"
    net = nn.Linear(4, 4)
    train(model=net, out=run)
    first = (run / "config.toml").read_text().splitlines()[0]
    assert first.startswith("# A run of limbeck.train in Python") and "--config" not in first
    train(model=net, out=run, resume=True)
    with pytest.raises(LimbeckError, match="was started in Python, and now it is resumed on the command line"):
        train(out=run, resume=True, settings={"data": "mnist"})
    train(out=tmp_path / "other", settings={"data": "mnist"})
    assert "limbeck train --config" in (tmp_path / "other" / "config.toml").read_text().splitlines()[0]
    with pytest.raises(LimbeckError, match="was started on the command line, and now it is resumed in Python"):
        train(out=tmp_path / "other", resume=True)
