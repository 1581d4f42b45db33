"""Items that are read when they are wanted: any random transform becomes a function of the example and the view."""

import dataclasses
import random

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.utils.data import ConcatDataset, DataLoader, Dataset, Subset

import limbeck
from limbeck.data import items
from limbeck.data import workers as worker_module
from limbeck.data.examples import Examples
from limbeck.data.feed import Feed
from limbeck.data.item_source import ItemSource, example_seed
from limbeck.data.source import Source
from limbeck.data.viewing import Viewing
from limbeck.data.workers import ahead
from limbeck.errors import ConfigError, DataError, ItemError, LimbeckError, LimbeckWarning, MismatchError
from limbeck.keyed import seeds, uniform
from limbeck.runs.inputs import as_data_set, as_examples
from limbeck.softtargets import SoftTargets
from limbeck.system.callbacks import Callback
from limbeck.teachers import ModelTeacher

X, Y = torch.randn(40, 3, generator=torch.Generator().manual_seed(3)), torch.arange(40) % 2


class Noisy(Dataset):
    """Draws from the three generators that transforms draw from."""

    def __init__(self, scale=0.1, count=40):
        self.scale, self.count = scale, count
        self.targets = Y[:count]

    def __len__(self):
        return self.count

    def __getitem__(self, number):
        noise = torch.rand(()) + random.random() + np.random.rand()  # noqa: NPY002
        return X[number] + self.scale * noise, int(Y[number])


class Unlisted(Noisy):
    """Labels that are in its items alone."""

    def __init__(self, scale=0.1, count=40):
        super().__init__(scale, count)
        del self.targets


class Big(Dataset):
    """Deterministic, and too large to be read whole."""

    def __len__(self):
        return 40

    def __getitem__(self, number):
        return {"x": X[number], "label": Y[number]}


def drawn(examples, workers, batch_size, *, epochs=2, start=0):
    """Each example's inputs by epoch and number."""
    feed = Feed(examples, batch_size=batch_size, seed=5, workers=workers)
    return {
        (epoch, int(number)): inputs.clone()
        for epoch in range(epochs)
        for batch in feed.batches(epoch, start=start)
        for number, inputs in zip(batch.index, batch.inputs, strict=True)
    }


@pytest.mark.parametrize("kind", [Noisy, Unlisted])
def test_a_view_is_a_function_of_example_and_epoch_alone(kind):
    torch.manual_seed(1)
    random.seed(1)
    wanted = torch.rand(3), random.random(), np.random.get_state()[1].copy()  # noqa: NPY002
    torch.manual_seed(1)
    random.seed(1)
    examples = as_examples(kind())
    reference = drawn(examples, 0, 7)
    # The caller's generators go on as if nothing had been read.
    assert torch.equal(torch.rand(3), wanted[0]) and random.random() == wanted[1]
    assert np.array_equal(np.random.get_state()[1], wanted[2])  # noqa: NPY002
    assert torch.equal(examples.labels, Y) and examples.random
    for workers, size in ((0, 40), (1, 7), (3, 16)):
        other = drawn(as_examples(kind()), workers, size)
        assert other.keys() == reference.keys()
        assert all(torch.equal(other[key], reference[key]) for key in reference)
    late = drawn(examples, 2, 7, start=3)
    assert all(torch.equal(late[key], reference[key]) for key in late) and len(late) == 2 * (40 - 21)


def test_views_differ_by_epoch_and_example_and_match_a_plain_reading():
    examples = as_examples(Noisy())
    views = drawn(examples, 0, 8)
    noise = torch.stack([views[epoch, i] - X[i] for epoch in (0, 1) for i in range(40)])
    assert torch.unique(noise[:, 0]).numel() == 80
    for number, seed in enumerate(seeds(torch.arange(40), seed=0, view=1).tolist()):
        torch.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed & 0xFFFFFFFF)  # noqa: NPY002
        assert torch.equal(Noisy()[number][0], views[1, number])


def test_numbered_views_come_again():
    feed = Feed(as_examples(Noisy()), batch_size=40, seed=0, augmentation=limbeck.Augmentation(views=2), workers=0)
    by_epoch = [dict(zip(b.index.tolist(), b.inputs, strict=True)) for e in range(3) for b in feed.batches(e)]
    assert all(torch.equal(by_epoch[0][i], by_epoch[2][i]) for i in range(40))
    assert not torch.equal(by_epoch[0][3], by_epoch[1][3])


def test_a_part_of_the_items_has_their_views_and_their_source():
    examples = as_examples(Noisy())
    whole = drawn(examples, 0, 8)
    part = examples.take(torch.tensor([5, 30, 2]))
    assert part.source == examples.source and isinstance(part.inputs, ItemSource)
    assert all(torch.equal(inputs, whole[key]) for key, inputs in drawn(part, 0, 2).items())


def test_what_is_large_and_fixed_is_read_as_it_is_needed(monkeypatch):
    small = as_examples(Big())
    assert isinstance(small.inputs, torch.Tensor)
    monkeypatch.setattr(items, "_IN_MEMORY", 16)
    large = as_examples(Big())
    assert isinstance(large.inputs, ItemSource) and not large.random
    assert torch.equal(large.as_seen(slice(None)), X) and torch.equal(large.labels, Y)
    with pytest.raises(ConfigError, match="leave it out"):
        Viewing(large, limbeck.Augmentation(shift=1))


@pytest.mark.parametrize("wrap", [lambda d: Subset(d, list(range(30))), lambda d: ConcatDataset([d, d])])
def test_labels_beside_the_items_are_found_and_compared(wrap, monkeypatch):
    read = []
    monkeypatch.setattr(ItemSource, "labels", lambda *_, **__: read.append(1))
    examples = as_examples(wrap(Noisy()))
    assert not read and len(examples.labels) == len(examples)
    lying = Noisy()
    lying.targets = 1 - Y
    monkeypatch.undo()
    assert torch.equal(as_examples(lying).labels, Y)


def test_a_loader_gives_its_collate_function_and_not_its_order():
    def collate(batch):
        inputs, labels = zip(*batch, strict=True)
        return torch.stack(inputs) * 10, torch.tensor(labels)

    examples = as_examples(DataLoader(Big2(), batch_size=4, shuffle=True, collate_fn=collate))
    assert torch.equal(examples.as_seen(slice(None)), 10 * X) and torch.equal(examples.labels, Y)
    made = next(Feed(examples, batch_size=5, seed=0, workers=0).batches(0))
    assert torch.equal(made.inputs, 10 * X[made.index]) and torch.equal(made.labels, Y[made.index])


class Big2(Big):
    def __getitem__(self, number):
        return X[number], int(Y[number])


class Tokens(Dataset):
    """Token ids of different lengths, with their mask, as tokenizers give them."""

    def __len__(self):
        return 6

    def __getitem__(self, number):
        ids = list(range(1, number + 2))
        return {"input_ids": ids, "attention_mask": [1] * len(ids), "label": number % 2}


@pytest.mark.parametrize("bytes_in_memory", [1 << 20, 0])
def test_token_ids_are_padded_with_their_mask(bytes_in_memory, monkeypatch):
    monkeypatch.setattr(items, "_IN_MEMORY", bytes_in_memory)
    examples = as_examples(Tokens())
    seen = examples.as_seen(torch.tensor([0, 2]))
    width = 6 if bytes_in_memory else 3
    assert seen["input_ids"].tolist() == [[1, *[0] * (width - 1)], [1, 2, 3, *[0] * (width - 3)]]
    assert seen["attention_mask"].sum(1).tolist() == [1, 3] and seen["input_ids"].dtype == torch.int64


class Bag(nn.Module):
    """Takes two arguments by name, as Hugging Face's models do."""

    def __init__(self):
        super().__init__()
        self.embedding, self.out = nn.Embedding(8, 4), nn.Linear(4, 2)

    def forward(self, input_ids, attention_mask):
        kept = attention_mask.unsqueeze(-1)
        return {"logits": self.out((self.embedding(input_ids) * kept).sum(1) / kept.sum(1))}


def test_inputs_by_name_go_the_whole_way(tmp_path):
    run = limbeck.distill(
        Bag(), Bag(), Tokens(), Tokens(), epochs=2, batch_size=4, out=tmp_path / "run", precision="float32"
    )
    assert run.metrics["student"]["test_examples"] == 6
    small = limbeck.compress(run.student, Tokens(), Tokens(), rule=limbeck.RankRule(rank=(1,)))
    assert small.metrics


def test_random_items_go_the_whole_way_and_resume_to_the_same_bits(tmp_path):
    def run(out, **more):
        with example_seed(3):
            nets = nn.Linear(3, 2), nn.Linear(3, 2)
        given = {"epochs": 3, "batch_size": 16, "precision": "float32", **more}
        return limbeck.distill(*nets, Noisy(), Big2(), out=out, **given)

    whole = run(tmp_path / "a")
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "b", callbacks=Stops())
    again = run(tmp_path / "b", resume=True)
    assert all(torch.equal(a, b) for a, b in zip(whole.student.parameters(), again.student.parameters(), strict=True))
    histories = [(tmp_path / out / "history.jsonl").read_text() for out in "ab"]
    assert histories[0] == histories[1]


class Stops(Callback):
    def on_epoch(self, row):
        if row["epoch"] == 2:
            raise KeyboardInterrupt


def test_stored_answers_are_those_to_the_views_that_are_trained_on(tmp_path):
    teacher, examples = nn.Linear(3, 2), as_examples(Noisy())
    SoftTargets.write(tmp_path, teacher, examples, classes=["a", "b"], augmentation=limbeck.Augmentation(views=3))
    stored = SoftTargets.open(tmp_path).bind(examples, examples.drawn(limbeck.Augmentation(views=3)))
    feed = Feed(examples, batch_size=9, seed=2, augmentation=limbeck.Augmentation(views=3), workers=2)
    for epoch in range(4):
        for batch in feed.batches(epoch):
            expected = teacher(batch.inputs).log_softmax(-1)
            torch.testing.assert_close(stored.log_probs(batch, 1.0), expected, atol=2e-3, rtol=2e-3)
    with pytest.raises(MismatchError, match="views"):
        SoftTargets.open(tmp_path).bind(examples, examples.drawn(None))
    fixed = Examples.of(X, Y)
    with pytest.raises(MismatchError):
        SoftTargets.open(tmp_path).bind(fixed, limbeck.Augmentation(views=3))


def test_a_generator_of_its_own_is_told():
    rng = np.random.default_rng(0)

    class Own(Big2):
        def __getitem__(self, number):
            return X[number] + float(rng.random()), int(Y[number])

    with pytest.warns(LimbeckWarning, match="under the same seed, so they draw from a generator of their own"):
        examples = as_examples(Own())
    assert isinstance(examples.inputs, torch.Tensor)


def test_an_item_that_fails_in_a_worker_is_named():
    class Fails(Noisy):
        def __getitem__(self, number):
            if number == 37:
                raise OSError("file is truncated")
            return super().__getitem__(number)

    source = ItemSource(Fails(), torch.arange(40), items._parsed(Fails()[0], "Fails", None), random=True)
    rows = [(torch.arange(35, 38), torch.arange(35, 38)), (torch.arange(2), torch.arange(2))]
    for workers in (0, 2):
        with pytest.raises(DataError, match="item 37 of the Fails cannot be read: OSError: file is truncated"):
            list(ahead(source, rows, 0, None, (None,), workers))


def test_grey_and_coloured_images_fit_together():
    class Photos(Dataset):
        def __len__(self):
            return 4

        def __getitem__(self, number):
            image = Image.new("RGB" if number % 2 == 0 else "L", (3, 2), 50 * number if number % 2 else (9, 8, 7))
            return (image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if random.random() < 0.5 else image), number % 2

    class Shifted(Photos):
        def __getitem__(self, number):
            image, label = super().__getitem__(number)
            return np.asarray(image.convert("RGB")).transpose(2, 0, 1) + np.uint8(random.randrange(9)), label

    assert as_examples(Shifted()).as_seen(torch.tensor([1, 0])).shape == (2, 3, 2, 3)


def test_parts_and_class_names_of_a_mapping_of_data_sets():
    named = Noisy()
    named.classes = ["no", "yes"]
    data = as_data_set({"train": named, "validation": Big2(), "test": Big2()}, None, None, None)
    assert data.classes == ("no", "yes") and len(data.validation) == len(data.test) == 40
    with pytest.raises(DataError, match="needs one named train, and has val"):
        as_data_set({"val": named}, None, None, None)
    with pytest.raises(ConfigError, match="test is in the mapping"):
        as_data_set({"train": named, "test": Big2()}, None, Big2(), None)


def test_data_sets_of_hugging_face(tmp_path):
    datasets = pytest.importorskip("datasets")
    features = datasets.Features(
        {"input_ids": datasets.Sequence(datasets.Value("int64")), "label": datasets.ClassLabel(names=["bad", "good"])}
    )
    rows = {"input_ids": [[number, 1, 2] for number in range(8)], "label": [number % 2 for number in range(8)]}
    whole = datasets.Dataset.from_dict(rows, features=features)
    data = as_data_set(datasets.DatasetDict(train=whole, validation=whole), None, None, None)
    assert data.classes == ("bad", "good") and data.train.kind == "integers"
    assert data.train.as_seen(torch.tensor([3])).tolist() == [[3, 1, 2]]
    assert data.train.labels.tolist() == rows["label"]


@dataclasses.dataclass(frozen=True)
class Scaled:
    """A presentation: the same examples, of another size."""

    factor: float


class Presented(Source):
    """Numbers that a model may want scaled; what is drawn for a view is the same in every presentation."""

    augments = True

    def __init__(self, values, presentation=None):
        self.values, self.presentation = values, presentation

    def __len__(self):
        return len(self.values)

    @property
    def shape(self):
        return tuple(self.values.shape)

    def fetch(self, rows, keys, *, view=0, augmentation=None, presentations=(None,)):
        noise = torch.zeros(len(rows), 1) if augmentation is None else uniform(keys, seed=0, view=view)[:, :1]
        factors = [(wanted or self.presentation or Scaled(1.0)).factor for wanted in presentations]
        return [(self.values[rows.cpu()] + noise) * factor for factor in factors]

    def select(self, rows):
        return Presented(self.values[rows], self.presentation)

    def with_presentation(self, presentation):
        return Presented(self.values, presentation)


class Seeing(nn.Linear):
    """A network with a presentation of its own, that remembers what it saw."""

    def __init__(self, factor):
        super().__init__(3, 2)
        self.presentation, self.seen = Scaled(factor), []

    def forward(self, inputs):
        self.seen.append(inputs.clone())
        return super().forward(inputs / self.presentation.factor)


@pytest.mark.parametrize("workers", [0, 2])
def test_teacher_and_student_see_an_example_each_in_its_own_way(workers):
    examples = Examples.of(Presented(X), Y)
    views = limbeck.Augmentation(shift=1)
    teacher = ModelTeacher(Seeing(100.0))
    feed = Feed(
        examples.with_presentation(Scaled(10.0)),
        batch_size=16,
        seed=0,
        augmentation=views,
        workers=workers,
        presentations=[seen for _, seen in teacher.modules()],
    )
    for batch in feed.batches(3):
        teacher.model.seen.clear()
        teacher.log_probs(batch, 1.0)
        torch.testing.assert_close(teacher.model.seen[0], 10 * batch.inputs)
        noise = uniform(batch.index, seed=0, view=3)[:, :1]
        torch.testing.assert_close(batch.inputs, 10 * (X[batch.index] + noise))
        torch.testing.assert_close(batch.seen_as(Scaled(2.0)), 2 * (X[batch.index] + noise))
        torch.testing.assert_close(batch.head(3).seen_as(Scaled(2.0)), 2 * (X[batch.index] + noise)[:3])


def test_a_run_shows_each_network_its_own_presentation():
    teacher, student = Seeing(100.0), Seeing(10.0)
    examples = Examples.of(Presented(X), Y)
    run = limbeck.distill(teacher, student, examples, examples, epochs=1, batch_size=16, precision="float32")
    assert run.student.presentation == Scaled(10.0)
    again = limbeck.evaluate(run.student, examples)
    assert again["test_errors"] == run.metrics["student"]["test_errors"]
    torch.testing.assert_close(run.student.seen[-1].abs().mean(), 10 * X.abs().mean(), rtol=0.5, atol=0)


def test_items_of_another_type_are_refused_where_they_are_read_late(monkeypatch):
    class Mixed(Big2):
        def __getitem__(self, number):
            return (X[number].int() if number == 3 else X[number]), int(Y[number])

    monkeypatch.setattr(items, "_IN_MEMORY", 16)
    examples = as_examples(Mixed())
    assert isinstance(examples.inputs, ItemSource)
    with pytest.raises(DataError, match=r"item 3 of the Mixed is of type torch.int32, and item 2 of torch.float32"):
        examples.as_seen(torch.tensor([2, 3]))


def test_labels_of_few_items_start_no_process(monkeypatch):
    monkeypatch.setattr(worker_module, "DataLoader", None)
    assert torch.equal(as_examples(Unlisted()).labels, Y)


def test_what_cannot_be_read_is_not_put_down_to_the_model():
    class Fails(Dataset):
        def __len__(self):
            return 40

        def __getitem__(self, number):
            if number == 17 and self.broken:
                raise KeyError("seventeen")
            shift = torch.rand(3)
            return (shift / 0 if number == 9 and not self.broken else shift), number % 2

    Fails.broken = True
    with pytest.raises(
        ItemError, match="^(training data: )?item 17 of the Fails cannot be read: KeyError: 'seventeen'"
    ):
        limbeck.distill(nn.Linear(3, 2), nn.Linear(3, 2), Fails(), epochs=1, precision="float32")
    Fails.broken = False
    with pytest.raises(LimbeckError, match="the inputs of .*example.* 9 are not finite; repair or leave out"):
        limbeck.train(nn.Linear(3, 2), Fails(), epochs=1, precision="float32", workers=0)
