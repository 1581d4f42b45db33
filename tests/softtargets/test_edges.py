"""Soft targets at their edges: ties, numbers at the border of a class, memory that is used again, rows of the card."""

import json

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, logsumexp, rel_entr

from limbeck.data import Examples
from limbeck.errors import FormatError
from limbeck.softtargets import Dense, Sampled, SoftTargets, Store, TopK, sampled, write_arrays, writer
from limbeck.softtargets.encodings import FLOOR, below_largest
from limbeck.softtargets.topk import tail_weights
from limbeck.teachers import StoredTargets

ROWS, CLASSES = 60, 12


def draw(rows=ROWS, classes=CLASSES, seed=0):
    return (4 * np.random.default_rng(seed).normal(size=(rows, classes))).astype(np.float32)


def encode(codec, scores):
    numbers = np.arange(len(scores))
    return codec.encode(scores, numbers, np.zeros_like(numbers))


@pytest.mark.parametrize("k", [1, 2, 5, 11])
@pytest.mark.parametrize("classes", [12, 40, 300])
def test_of_equal_logits_those_of_the_lowest_classes_are_kept(k, classes):
    scores = np.random.default_rng(k).integers(-3, 1, (200, classes)).astype(np.float32)  # ties in nearly every row
    expected = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    fields = encode(TopK(k), scores)
    np.testing.assert_array_equal(fields["ids"], expected)
    if k > 1:
        np.testing.assert_array_equal(
            fields["gaps"], np.take_along_axis(scores, expected, 1)[:, 1:] - scores.max(1)[:, None]
        )


def test_classes_of_no_mass_at_the_edge_are_ties_too():
    scores = np.full((3, 9), -np.inf, np.float32)
    scores[:, 4] = 1.0
    fields = encode(TopK(3), scores)
    assert fields["ids"].tolist() == [[4, 0, 1]] * 3
    # And no infinity in a file: the least is that of float16.
    assert (
        (fields["tail"][:, 0] == FLOOR).all() and (fields["gaps"] == FLOOR).all() and np.isfinite(fields["tail"]).all()
    )


def test_a_rung_below_one_stays_within_float16():
    scores = np.array([[0.0, -np.inf, -np.inf], [0.0, -6e4, -1.0]], np.float32)
    tail = encode(TopK(2, (0.5, 1.0)), scores)["tail"]
    assert tail[0].tolist() == [FLOOR, FLOOR] and np.isfinite(tail).all()


def test_the_deepest_rung_is_served_exactly_and_beyond_it_infinity_is_the_next():
    ladder = (1.0, 2.0, 4.0)
    weights, last = tail_weights(ladder, 4.0)
    np.testing.assert_allclose(weights, [0, 0, 1], atol=1e-15)
    assert last == pytest.approx(0, abs=1e-15)
    weights, last = tail_weights(ladder, 1e12)
    np.testing.assert_allclose(weights, 0, atol=1e-10)
    assert last == pytest.approx(1)
    # At the first and at the deepest rung head and tail have the teacher's mass, whatever the rungs between.
    scores = draw(classes=40)
    codec = TopK(3, ladder)
    fields = encode(codec, scores)
    for temperature in (1.0, 4.0):
        exact = log_softmax(scores.astype(np.float64) / temperature, -1)
        stored = codec.decode(fields, 40, temperature)
        ids = fields["ids"].astype(int)
        np.testing.assert_allclose(np.take_along_axis(stored, ids, 1), np.take_along_axis(exact, ids, 1), atol=4e-3)
    below = below_largest(scores)
    rest = np.array([np.delete(row, head) for row, head in zip(below, fields["ids"], strict=True)], np.float64)
    for place, rung in enumerate(ladder):
        np.testing.assert_allclose(fields["tail"][:, place], logsumexp(rest / rung, axis=1), atol=4e-3)


def test_a_number_at_the_border_of_two_classes_is_the_lower_ones(monkeypatch):
    scores = draw(50, 7)
    scores[:, [2, 6]] = -np.inf
    upto = np.cumsum(np.exp(log_softmax_of(scores)), 1)
    upto /= upto[:, -1:]
    for place in (0, 1, 3, 4):
        monkeypatch.setattr(sampled, "uniforms", lambda *_, place=place, **__: upto[:, [place]])
        assert encode(Sampled(1), scores)["ids"].tolist() == [[place]] * 50  # and never class 2, which has no mass


def log_softmax_of(scores):
    from limbeck.softtargets.encodings import log_softmax as ours

    return ours(below_largest(scores), 1.0)


@pytest.mark.parametrize("classes", [7, 300, 5000])
def test_the_largest_and_the_least_number_draw_a_class_that_has_mass(monkeypatch, classes):
    """Sums of many probabilities end a little beside 1, and the largest number is a little below it."""
    scores = draw(200, classes)
    scores[:, [0, classes - 1]] = -np.inf
    for number, expected in ((1 - 2.0**-53, classes - 2), (2.0**-53, 1)):
        monkeypatch.setattr(sampled, "uniforms", lambda *_, number=number, **__: np.full((200, 1), number))
        ids = encode(Sampled(1), scores)["ids"]
        assert np.isfinite(np.take_along_axis(scores, ids.astype(int), 1)).all()
        # A class or two beside it may lie within a rounding.
        assert (np.abs(ids.astype(int) - expected) <= (0 if classes == 7 else 40)).all()


@pytest.mark.parametrize("codec", [Dense(), TopK(3), Sampled(4)], ids=["dense", "topk", "sampled"])
@pytest.mark.parametrize(("piece", "size"), [(7, 7), (7, 21), (8, 5), (60, 60)])
def test_the_card_is_that_of_every_so_many_rows_however_they_come(tmp_path, monkeypatch, codec, piece, size):
    """Blocks are cut into pieces, rows of the card are counted from the shard's start, and memory is used again."""
    monkeypatch.setattr(writer, "_PIECE_BYTES", piece * 4 * CLASSES)
    scores = draw()
    labels = scores[: ROWS // 2].argmax(1)
    labels[3::4], labels[1::7] = 0, -1  # some are unknown, and some answers wrong
    memory = np.empty((size, CLASSES), np.float32)

    def blocks():
        for start in range(0, ROWS, size):
            part = scores[start : start + size]
            memory[: len(part)] = part
            yield memory[: len(part)]
            memory[:] = 0

    each = sum(field.row_bytes for field in codec.fields(CLASSES))
    card = write_arrays(
        tmp_path, blocks(), classes=tuple("abcdefghijkl"), examples=ROWS // 2, views=2, encoding=codec, labels=labels,
        card_rows=4, shard_bytes=20 * each, temperature=1.0 if codec.name == "sampled" else None,
    )  # fmt: skip
    store = Store(tmp_path)
    assert store.plan.shards == 3 and store.plan.rows_per_shard == 20
    rows = np.arange(0, ROWS, 5)  # of 20 rows four
    assert card.rows_measured == 12 and json.loads((tmp_path / "card.json").read_text()) == card.to_dict()
    truth = np.tile(labels, 2)[rows]
    known = truth >= 0
    assert card.teacher_accuracy == pytest.approx((scores[rows].argmax(1) == truth)[known].mean()) and known.sum() > 7
    stored = store.codec.encode(scores, np.tile(np.arange(30), 2), np.repeat([0, 1], 30))
    for name, values in store.span(0, ROWS).items():
        np.testing.assert_array_equal(values, stored[name])
    exact = log_softmax(scores[rows].astype(np.float64), -1)
    if codec.name != "dense":
        kept = np.zeros((ROWS, CLASSES), bool)
        np.put_along_axis(kept, stored["ids"].astype(int), True, 1)
        assert card.mass_kept == pytest.approx((np.exp(exact) * kept[rows]).sum(1).mean(), rel=1e-6)
    if codec.name != "sampled":
        found = store.log_probs(rows, temperature=1.0)
        assert card.divergence["1"] == pytest.approx(rel_entr(np.exp(exact), np.exp(found)).sum(1).mean(), rel=1e-6)


@pytest.mark.parametrize("mapped_bytes", [0, 1 << 30])
@pytest.mark.parametrize("codec", [Dense(), TopK(3)], ids=["dense", "topk"])
def test_rows_that_are_changed_afterwards_are_not_the_stores(tmp_path, mapped_bytes, codec):
    write_arrays(tmp_path, [draw()], classes=tuple("abcdefghijkl"), examples=ROWS, encoding=codec, shard_bytes=500)
    store, numbers = Store(tmp_path, mapped_bytes=mapped_bytes), np.array([7, 3, 59, 7])
    for ask in (lambda: store.rows(numbers), lambda: store.span(0, ROWS), lambda: store.span(5, 6)):
        first = ask()
        kept = {name: values.copy() for name, values in first.items()}
        for values in first.values():
            values[:] = 1
        assert all((values == kept[name]).all() for name, values in ask().items())
    store.verify()


@pytest.mark.parametrize("kind", ["softened whole", "row by row", "one temperature", "in memory"])
def test_an_answer_that_is_changed_afterwards_is_not_the_teachers(tmp_path, monkeypatch, kind):
    examples = Examples.of(torch.randn(ROWS, 3, generator=torch.Generator().manual_seed(0)))
    scores = torch.from_numpy(draw()).log_softmax(-1)
    if kind == "in memory":
        targets = StoredTargets(scores.clone(), torch.arange(ROWS), temperature=2.0)
    else:
        temperature = 2.0 if kind == "one temperature" else None
        write_arrays(
            tmp_path, [scores.numpy()], classes=tuple("abcdefghijkl"), examples=ROWS, encoding=Dense("float32"),
            temperature=temperature,
        )  # fmt: skip
        targets = SoftTargets.open(tmp_path)
        if kind == "row by row":
            monkeypatch.setattr("limbeck.softtargets.teacher._SOFTENED_BYTES", 0)
    for rows in (slice(0, ROWS), slice(10, 11)):
        batch = examples.batch(rows)
        answer = targets.log_probs(batch, 2.0)
        kept = answer.clone()
        answer.zero_()
        assert torch.equal(targets.log_probs(batch, 2.0), kept) and kept.any()


def test_a_store_that_changed_since_it_was_checked_is_checked_again(tmp_path, monkeypatch):
    write_arrays(tmp_path, [draw()], classes=tuple("abcdefghijkl"), examples=ROWS, encoding=Dense())
    looks = []
    verify = Store.verify
    monkeypatch.setattr(Store, "verify", lambda self: looks.append(1) or verify(self))
    for _ in range(3):
        Store(tmp_path).verify_once()
    assert len(looks) == 1
    path = next(tmp_path.glob("shard-*"))
    whole = path.read_bytes()
    path.write_bytes(whole[:-3] + bytes([whole[-3] ^ 1]) + whole[-2:])
    for _ in range(2):  # and what was found damaged is not taken for checked
        with pytest.raises(FormatError, match=path.name):
            Store(tmp_path).verify_once()
    path.write_bytes(whole)
    Store(tmp_path).verify_once()
    assert len(looks) == 4
