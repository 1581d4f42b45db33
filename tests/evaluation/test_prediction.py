"""Answers for many examples: where they are computed, and in blocks that fit in memory."""

import gc

import pytest
import torch
from torch import nn

from limbeck.data import Examples
from limbeck.errors import DataError, UserCodeError
from limbeck.evaluation import blocks
from limbeck.evaluation.blocks import MOST, block_size, is_out_of_memory
from limbeck.evaluation.prediction import answer_views, answers_in_blocks, device_of, predict
from limbeck.models import CNN, MLP, CNNConfig, MLPConfig, Specialist, split_layers, to_int8
from limbeck.options import Augmentation
from limbeck.protocols import Batch
from limbeck.specialists import Committee
from limbeck.system.devices import Device
from limbeck.teachers import Ensemble, ModelTeacher, StoredTargets, UserTeacher

CPU = torch.device("cpu")
IMAGES = Examples.of(torch.rand(23, 1, 12, 12, generator=torch.Generator().manual_seed(0)))


class Wide(nn.Module):
    """Takes a given number of bytes per example, and remembers how many it was given."""

    def __init__(self, size, most=None, error=torch.OutOfMemoryError):
        super().__init__()
        self.size, self.most, self.error, self.seen = size, most, error, []
        self.last = nn.Linear(3, 2)

    def forward(self, x):
        self.seen.append(len(x))
        if self.most is not None and len(x) > self.most:
            raise self.error("CUDA out of memory. Tried to allocate 2.00 GiB")
        held = torch.zeros(len(x), self.size // 8)  # float32: half of the memory
        return self.last(x) + (held + 1)[:, :2] * 0


def test_a_block_is_as_large_as_the_budget_allows(monkeypatch):
    monkeypatch.setattr(blocks, "_BUDGET", 10_000_000)
    x = torch.ones(40, 3)
    for size, expected in ((10, MOST), (1_000_000, 9), (4_000_000, 2), (40_000_000, 1)):
        net = Wide(size)
        assert block_size(lambda few, net=net: net(x[:few]), 40, CPU) == expected
        assert net.seen == [1, 2]
    with torch.no_grad():
        list(answers_in_blocks(net := Wide(2_000_000), Examples.of(x)))
    assert net.seen[:2] == [1, 2] and set(net.seen[2:]) <= {4, 5, 40 % 4, 40 % 5} and sum(net.seen[2:]) == 40


def test_what_is_freed_does_not_count_and_weights_do_not():
    def answer(few):
        x = torch.zeros(few, 1 << 20)
        for _ in range(20):
            x = x + 1  # two alive at a time, 8 MiB
        return x

    assert block_size(answer, 9, CPU) == 32
    linear = nn.Linear(4000, 4000, bias=False)
    x = torch.zeros(9, 4000)

    def cast(few):  # 32 MB, once per block
        with torch.autocast("cpu", torch.bfloat16):
            return linear(x[:few])

    assert block_size(cast, 9, CPU) == MOST


def test_looking_leaves_random_numbers_and_errors_alone():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    block_size(lambda few: torch.rand(few), 9, CPU)
    assert torch.equal(torch.get_rng_state(), before)
    with pytest.raises(UserCodeError, match="Failing raised ZeroDivisionError on inputs of shape") as failed:
        predict(Failing(), IMAGES)
    assert isinstance(failed.value.__cause__, ZeroDivisionError)


class Failing(nn.Module):
    def forward(self, x):
        return x / (1 // 0)


@pytest.fixture(scope="module")
def little_to_search():
    """Memory is given back by a search for garbage, which among what earlier tests left takes half a second."""
    gc.collect()
    gc.freeze()


@pytest.mark.usefixtures("little_to_search")
@pytest.mark.parametrize("error", [torch.OutOfMemoryError, RuntimeError, MemoryError])
@pytest.mark.parametrize("most", [1, 3, 16])
def test_blocks_are_halved_where_memory_is_used_up(error, most):
    examples = Examples.of(torch.randn(37, 3), torch.arange(37) % 2)
    net = Wide(8, most, error)
    expected = predict(net, examples, batch_size=1)
    assert torch.allclose(predict(net, examples, batch_size=37), expected, atol=1e-6)
    stored = answer_views(
        ModelTeacher(net), examples, Augmentation(), classes="ab", views=1, device=Device(CPU, "float32"), batch_size=37
    )
    assert torch.allclose(stored.values[0], expected, atol=1e-6)


def test_one_example_that_does_not_fit_is_told_in_one_line():
    with pytest.raises(DataError, match=r"no memory on cpu for the answer to a single example \(CUDA out of memory"):
        predict(Wide(8, 0), Examples.of(torch.ones(5, 3)), batch_size=4)
    with pytest.raises(UserCodeError, match="Wide raised RuntimeError on inputs of shape .5, 3.: of another kind"):
        predict(Wide(8, 0, lambda _: RuntimeError("of another kind")), Examples.of(torch.ones(5, 3)))
    huge = pytest.raises(RuntimeError, torch.empty, 1 << 60)
    assert is_out_of_memory(huge.value)


def of_every_kind():
    torch.manual_seed(0)
    mlp = MLP(MLPConfig(input_shape=(1, 12, 12), classes=4, hidden=(30, 20), dropout=0.5))
    cnn = CNN(
        CNNConfig(input_shape=(1, 12, 12), classes=4, channels=(6, 8), hidden=(20,), batch_norm=True, padding=True)
    )
    cnn.train()(torch.rand(50, 1, 12, 12))  # running means other than 0
    special = Specialist(CNN(CNNConfig(input_shape=(1, 12, 12), classes=4, channels=(4,), hidden=(9,))), (1, 2))
    return {
        "mlp": mlp,
        "cnn": cnn,
        "low rank": split_layers(mlp, {"1": 5}),
        "int8": to_int8(mlp),
        "low rank int8": to_int8(split_layers(mlp, {"1": 5})),
        "specialist": special,
        "arithmetic": Ensemble([mlp, cnn]),
        "geometric": Ensemble([mlp, to_int8(cnn)], mean="geometric"),
        "committee": Committee(mlp, [special], [(1, 2)], [2.0]),
    }


@pytest.mark.parametrize("kind", of_every_kind())
def test_an_answer_does_not_depend_on_its_neighbours(kind):
    subject, generator = of_every_kind()[kind], torch.Generator().manual_seed(1)
    alone = predict(subject, IMAGES, batch_size=1)
    loud = IMAGES.inputs * torch.logspace(-2, 3, 23).view(-1, 1, 1, 1)
    for size in (2, 7, 23):
        assert torch.allclose(predict(subject, IMAGES, batch_size=size), alone, atol=1e-5)
        row = int(torch.randint(23, (), generator=generator))
        mixed = torch.cat([loud[: size - 1], IMAGES.inputs[row : row + 1]])
        together = predict(subject, Examples.of(mixed), batch_size=size)[-1]
        assert torch.allclose(together, alone[row], atol=1e-5) and together.argmax() == alone[row].argmax()


def test_a_subject_is_asked_where_it_is():
    subjects = of_every_kind()
    assert {device_of(subject).type for subject in subjects.values()} == {"cpu"}
    meta = nn.Linear(2, 2, device="meta")
    teacher = ModelTeacher(meta)
    assert {device_of(s).type for s in (meta, teacher, Ensemble([teacher]), Ensemble([Ensemble([teacher])]))} == {
        "meta"
    }
    assert device_of(Committee(meta, [], [], [])).type == "meta"
    stored = StoredTargets(torch.zeros(3, 2).log_softmax(-1), torch.arange(3))
    assert device_of(stored) == CPU and device_of(stored.to("meta")).type == "meta"

    class Own:
        classes = None
        device = "meta"

        def log_probs(self, batch: Batch, temperature):
            assert batch.inputs.device.type == "meta"
            return torch.zeros(len(batch.index), 2).log_softmax(-1)

    assert predict(Own(), Examples.of(torch.ones(3, 2))).shape == (3, 2)
    # It cannot be moved: on another device it is asked where it is.
    elsewhere = UserTeacher(Own()).to("cpu")
    batch = Examples.of(torch.ones(3, 2)).batch(slice(0, 3))
    assert elsewhere.log_probs(batch, 1.0).device == CPU and device_of(UserTeacher(Own())).type == "meta"
