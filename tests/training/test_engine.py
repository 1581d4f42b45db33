"""The engine against a bare loop, against itself after interruptions, and when numbers go wrong."""

import copy
import dataclasses
import math
import os
import signal

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from limbeck.data import Examples, Feed
from limbeck.errors import ConfigError, DataError, FormatError, InterruptedRun, NonFiniteError, RunError
from limbeck.models import MLP, Dropout, MLPConfig
from limbeck.options import Augmentation, Training
from limbeck.protocols import Loss
from limbeck.system.callbacks import Callback
from limbeck.system.devices import Device, find_device, measure_precisions
from limbeck.teachers import ModelTeacher
from limbeck.training.engine import fit
from limbeck.training.objective import DistillationObjective, LabelObjective
from limbeck.training.schedules import Schedule

CPU = Device(torch.device("cpu"), "float32")


def some(count=60, seed=0, size=4):
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randint(0, 256, (count, 1, size, size), generator=generator, dtype=torch.uint8)
    return Examples.of(inputs, inputs.flatten(1).float().mean(1).gt(127).long() + (inputs[:, 0, 0, 0] > 200).long())


def net(seed=0, dropout=0.0):
    torch.manual_seed(seed)
    return MLP(MLPConfig(input_shape=(1, 4, 4), classes=3, hidden=(8,), dropout=dropout))


def weights(model):
    return torch.cat([value.flatten() for value in model.state_dict().values()])


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_the_engine_is_the_bare_loop(optimizer):
    examples, training = some(), Training(epochs=3, batch_size=16, optimizer=optimizer, learning_rate=0.01, seed=4)
    feed = Feed(examples, batch_size=16, seed=4)
    model, bare = net(), net()
    fitted = fit(model, LabelObjective(), feed, training, CPU)

    matrices = [p for p in bare.parameters() if p.ndim > 1]
    vectors = [p for p in bare.parameters() if p.ndim < 2]
    if optimizer == "sgd":
        steps = torch.optim.SGD([{"params": matrices}, {"params": vectors}], lr=0.01, momentum=0.9, nesterov=True)
    else:
        steps = torch.optim.AdamW([{"params": matrices}, {"params": vectors}], lr=0.01, weight_decay=0.0)
    schedule, losses = Schedule(training, feed.steps), []
    for epoch in range(3):
        total = 0.0
        for step, batch in enumerate(feed.batches(epoch)):
            for group in steps.param_groups:
                group["lr"] = schedule.rate(epoch * feed.steps + step)
            loss = nn.functional.cross_entropy(bare(batch.inputs), batch.labels)
            steps.zero_grad()
            loss.backward()
            steps.step()
            total += float(loss.detach()) * len(batch.index)
        losses.append(total / len(examples))
    assert torch.allclose(weights(model), weights(bare), atol=1e-6)
    assert [row["train_loss"] for row in fitted.history] == pytest.approx(losses, rel=1e-5)


def test_distillation_from_the_student_itself_changes_nothing():
    model = net()
    before = weights(model).clone()
    objective = DistillationObjective(ModelTeacher(model), temperature=5.0, hard_weight=0.0)
    training = Training(epochs=2, optimizer="sgd", learning_rate=0.1)
    fit(model, objective, Feed(some().without_labels(), batch_size=16, seed=0), training, CPU)
    assert torch.allclose(weights(model), before, atol=1e-5)


class StopAt(Callback):
    """Sends a signal to its own process when a step is reached."""

    def __init__(self, monkeypatch, step, number=signal.SIGTERM):
        import limbeck.training.engine

        monkeypatch.setattr(limbeck.training.engine, "LOOK_EVERY", 1)
        self.left, self.number = step, number

    def on_step(self, epoch, step, loss, accuracy, rate):
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), self.number)


@pytest.mark.parametrize("stop", [1, 3, 4, 6, 11])
@pytest.mark.parametrize("schedule", ["cosine", "plateau", "newbob"])
def test_an_interrupted_run_continues_to_the_same_bits(tmp_path, monkeypatch, stop, schedule):
    examples, held = some(), some(30, seed=9)
    training = Training(epochs=4, batch_size=16, schedule=schedule, learning_rate=0.02, warmup_epochs=1, patience=9)

    def run(folder, *, resume, callback=None):
        model = net(dropout=0.4)
        feed = Feed(examples, batch_size=16, augmentation=Augmentation(shift=1, rotate=10), seed=0)
        fitted = fit(
            model,
            LabelObjective(),
            feed,
            training,
            CPU,
            validation=held,
            folder=folder,
            resume=resume,
            callback=callback,
        )
        return model, fitted

    whole, expected = run(tmp_path / "whole", resume=False)
    handler = signal.getsignal(signal.SIGTERM)
    with pytest.raises(InterruptedRun, match=r"resume=True \(--resume\) continues") as caught:
        run(tmp_path / "parts", resume=False, callback=StopAt(monkeypatch, stop))
    assert caught.value.exit_code == 128 + signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) == handler
    again, found = run(tmp_path / "parts", resume=True)
    assert torch.equal(weights(again), weights(whole))
    assert found.history == expected.history
    assert found.best_epoch == expected.best_epoch
    assert all(torch.equal(found.last[name], value) for name, value in expected.last.items())


def test_ctrl_c_is_caught_too(tmp_path, monkeypatch):
    with pytest.raises(InterruptedRun, match="SIGINT") as caught:
        fit(
            net(), LabelObjective(), Feed(some(), batch_size=16, seed=0), Training(epochs=3), CPU,
            folder=tmp_path, callback=StopAt(monkeypatch, 2, signal.SIGINT),
        )  # fmt: skip
    assert caught.value.exit_code == 130


def test_a_damaged_checkpoint_falls_back_to_the_one_before(tmp_path):
    training = Training(epochs=3, batch_size=16)
    feed = Feed(some(), batch_size=16, seed=0)
    whole = net()
    fit(whole, LabelObjective(), feed, training, CPU, folder=tmp_path)
    latest = tmp_path / "latest.safetensors"
    content = bytearray(latest.read_bytes())
    content[-5] ^= 1
    latest.write_bytes(content)
    notes = []
    callback = Callback()
    callback.on_warning = notes.append
    again = net()
    fit(again, LabelObjective(), feed, training, CPU, folder=tmp_path, resume=True, callback=callback)
    assert torch.equal(weights(again), weights(whole))
    assert "checksum" in notes[0]
    assert "continuing from the checkpoint before it" in notes[0]
    for name in ("latest", "previous"):
        (tmp_path / f"{name}.safetensors").write_bytes(b"nothing")
    with pytest.raises(FormatError, match=r"latest\.safetensors"):
        fit(net(), LabelObjective(), feed, training, CPU, folder=tmp_path, resume=True)


def test_a_run_is_not_continued_with_other_settings_or_data(tmp_path):
    fit(
        net(),
        LabelObjective(),
        Feed(some(), batch_size=16, seed=0),
        Training(epochs=1, batch_size=16),
        CPU,
        folder=tmp_path,
    )

    def again(examples=None, augmentation=None, **changed):
        feed = Feed(examples or some(), batch_size=16, seed=0, augmentation=augmentation)
        training = Training(**{"epochs": 2, "batch_size": 16, **changed})
        return fit(net(), LabelObjective(), feed, training, CPU, folder=tmp_path, resume=True)

    with pytest.raises(RunError, match=r"learning_rate = None, and now it is 0\.5"):
        again(learning_rate=0.5)
    with pytest.raises(RunError, match=r"shift = 0\.0, and now it is 1"):
        again(augmentation=Augmentation(shift=1))
    with pytest.raises(RunError, match=r"digest .*, and these have"):
        again(examples=some(seed=5))
    assert len(again().history) == 2


def test_numbers_that_go_wrong_stop_the_run_and_name_the_place(tmp_path):
    model = net()
    with pytest.raises(NonFiniteError, match=r"epoch 1, step \d+ of 4.*clip_norm"):
        training = Training(epochs=2, batch_size=16, optimizer="sgd", learning_rate=1e12)
        fit(model, LabelObjective(), Feed(some(), batch_size=16, seed=0), training, CPU, folder=tmp_path)
    assert not list(tmp_path.glob("*.partial"))


def test_the_best_epoch_on_validation_is_kept_and_patience_ends_the_run():
    class Drifting(nn.Module):
        """Right at first, worse with every step."""

        def __init__(self):
            super().__init__()
            self.drift = nn.Parameter(torch.zeros(()))

        def forward(self, x):
            mean = x.flatten(1).mean(1, keepdim=True) - 0.5
            return torch.cat([-mean, mean], 1) * 20 * (0.15 - self.drift)

    examples = Examples.of(torch.cat([torch.zeros(8, 3), torch.ones(8, 3)]), torch.tensor([1] * 8 + [0] * 8))
    held = Examples.of(examples.inputs, 1 - examples.labels)
    model = Drifting()
    training = Training(
        epochs=30,
        batch_size=16,
        optimizer="sgd",
        momentum=0,
        nesterov=False,
        learning_rate=0.005,
        schedule="constant",
        patience=4,
    )
    fitted = fit(model, LabelObjective(), Feed(examples, batch_size=16, seed=0), training, CPU, validation=held)
    scores = [(row["validation_errors"], row["validation_nll"]) for row in fitted.history]
    assert fitted.best_epoch == scores.index(min(scores)) + 1
    assert len(fitted.history) == fitted.best_epoch + 4 < 30
    assert model.drift.item() != fitted.last["drift"].item()

    last = Drifting()
    fitted = fit(
        last,
        LabelObjective(),
        Feed(examples, batch_size=16, seed=0),
        dataclasses.replace(training, keep="last"),
        CPU,
        validation=held,
    )
    assert len(fitted.history) == fitted.best_epoch + 4  # patience goes by the best all the same
    assert last.drift.item() == fitted.last["drift"].item() != model.drift.item()


def test_validation_is_the_mean_of_its_examples():
    torch.manual_seed(0)
    model, held = net(), some(29, seed=5)
    training = Training(epochs=1, batch_size=16, keep="last", precision="float32")
    fitted = fit(model, LabelObjective(), Feed(some(), batch_size=16, seed=0), training, CPU, validation=held)
    with torch.no_grad():
        answers = model(held.as_seen(slice(None))).double().log_softmax(-1)
    (row,) = fitted.history
    assert row["validation_nll"] == pytest.approx(float(-answers.gather(1, held.labels[:, None]).mean()), rel=1e-6)
    wrong = int((answers.argmax(-1) != held.labels).sum())
    assert (row["validation_errors"], row["validation_accuracy"]) == (wrong, 1 - wrong / 29)


def test_the_best_epoch_has_the_fewest_errors_and_then_the_least_nll():
    answers = {1: [3.0, 3.0, 3.0, -0.1], 2: [0.2, 0.2, 0.2, 0.2], 3: [0.3, 0.3, 0.3, 0.3], 4: [3.0, 3.0, 3.0, -0.1]}
    held = Examples.of(torch.ones(4, 1), torch.ones(4, dtype=torch.int64))

    class Given(nn.Module):
        def __init__(self):
            super().__init__()
            self.epoch = nn.Parameter(torch.zeros(()))

        def forward(self, x):
            edge = torch.tensor(answers[min(4, max(1, round(float(self.epoch.detach()))))])[: len(x)]
            return torch.stack([torch.zeros(len(x)), edge + (self.epoch - self.epoch.detach())], 1)

    class OnePerEpoch:
        """Its only step of an epoch moves the model on by one."""

        def __call__(self, logits, batch):
            return Loss(logits[:, 0] - logits[:, 1])

        def reference_gradient(self, logits, batch):
            return torch.tensor([1.0, -1.0], dtype=torch.float64).expand_as(logits)

        def fingerprint(self):
            return {}

    model, objective = Given(), OnePerEpoch()
    training = Training(
        epochs=4, batch_size=4, optimizer="sgd", momentum=0.0, nesterov=False, learning_rate=1.0, schedule="constant"
    )
    fitted = fit(model, objective, Feed(held, batch_size=4, seed=0), training, CPU, validation=held)
    assert [row["validation_errors"] for row in fitted.history] == [1, 0, 0, 1]
    # The first and the last are the surest on the whole.
    assert (
        fitted.history[0]["validation_nll"] < fitted.history[2]["validation_nll"] < fitted.history[1]["validation_nll"]
    )
    assert fitted.best_epoch == 3


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_models_own_limits_hold_after_every_step(optimizer):
    calls = []

    class Limited(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(16, 3)

        def forward(self, x):
            return self.layer(x.flatten(1))

        def project_(self):
            calls.append(float(self.layer.weight.detach().abs().max()))
            with torch.no_grad():
                self.layer.weight.clamp_(-0.1, 0.1)

    model = Limited()
    training = Training(epochs=2, batch_size=16, optimizer=optimizer, learning_rate=0.5)
    fit(model, LabelObjective(), Feed(some(), batch_size=16, seed=0), training, CPU)
    assert len(calls) == 8 and max(calls) > 0.1
    assert float(model.layer.weight.detach().abs().max()) <= 0.1 + 1e-6


def test_a_limit_on_incoming_weights_holds_in_training():
    torch.manual_seed(0)
    model = MLP(MLPConfig(input_shape=(1, 4, 4), classes=3, hidden=(8,), max_norm=0.2))
    fit(model, LabelObjective(), Feed(some(), batch_size=16, seed=0), Training(epochs=2, learning_rate=0.5), CPU)
    hidden = next(part for part in model.modules() if isinstance(part, nn.Linear))
    assert float(hidden.weight.detach().norm(dim=1).max()) <= 0.2 + 1e-5


def test_labels_are_looked_at_once_before_any_step(tmp_path):
    good = some()
    for label, part in ((-100, "training"), (3, "training"), (-1, "validation"), (7, "validation")):
        labels = good.labels.clone()
        labels[41] = label
        spoilt = Examples(good.inputs, labels, good.index)
        train, held = (spoilt, good) if part == "training" else (good, spoilt)
        feed = Feed(train, batch_size=8, seed=0)
        with pytest.raises(DataError, match=rf"3 classes, and there is a label {label}: {part} example 41"):
            fit(net(), LabelObjective(), feed, Training(epochs=1, batch_size=8), CPU, validation=held)


def test_gradients_are_clipped():
    examples = some()
    first, clipped = net(), net()
    training = Training(
        epochs=1, batch_size=60, optimizer="sgd", momentum=0, nesterov=False, learning_rate=1.0, schedule="constant"
    )
    before = weights(first).clone()
    fit(first, LabelObjective(), Feed(examples, batch_size=60, seed=0), training, CPU)
    norm = (weights(first) - before).norm()
    limit = float(norm) / 3
    fit(
        clipped,
        LabelObjective(),
        Feed(examples, batch_size=60, seed=0),
        Training(**{**training.__dict__, "clip_norm": limit}),
        CPU,
    )
    assert (weights(clipped) - before).norm() == pytest.approx(limit, rel=1e-4)


def test_a_run_leaves_the_callers_random_numbers_alone():
    torch.manual_seed(7)
    state = torch.get_rng_state()
    model = net(dropout=0.5)
    torch.set_rng_state(state)
    fit(model, LabelObjective(), Feed(some(), batch_size=16, seed=0), Training(epochs=1), CPU)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (nn.Sequential(nn.Linear(4, 3)), "must give logits"),
        (nn.Flatten(), "no parameters"),
        (nn.Sequential(nn.Flatten(), nn.Linear(16, 2)), "2 classes, and there is a label 2"),
    ],
)
def test_models_that_do_not_fit_are_refused(model, message):
    with pytest.raises(DataError, match=message):
        fit(copy.deepcopy(model), LabelObjective(), Feed(some(), batch_size=16, seed=0), Training(epochs=1), CPU)


def test_schedules_are_their_formulas():
    steps = 10

    def rates(**settings):
        schedule = Schedule(Training(epochs=4, learning_rate=2.0, **settings), steps)
        return [schedule.rate(step) for step in range(40)]

    assert rates(schedule="constant") == [2.0] * 40
    cosine = rates(schedule="cosine", warmup_epochs=1)
    assert cosine[:10] == pytest.approx([0.2 * (step + 1) for step in range(10)])
    assert cosine[10] == pytest.approx(2.0)
    assert cosine[25] == pytest.approx(1.0)
    assert rates(schedule="exponential", decay=0.5)[::10] == pytest.approx([2.0, 1.0, 0.5, 0.25])
    # Its epochs are counted from the end of warm-up: the first whole one after it is still at the peak.
    later = rates(schedule="exponential", decay=0.5, warmup_epochs=1.5)
    assert later[15:25] == [2.0] * 10 and later[25:35] == pytest.approx([1.0] * 10) and later[35] == 0.5
    plateau = Schedule(Training(epochs=9, learning_rate=2.0, schedule="plateau", plateau_patience=2), steps)
    found = []
    for value in (5, 4, 4, 4, 3, 3, 3, 3, 3):
        plateau.observe(value)
        found.append(plateau.rate(0))
    assert found == [2.0, 2.0, 2.0, 1.0, 1.0, 1.0, 0.5, 0.5, 0.25]
    copied = Schedule(plateau.training, steps)
    copied.restore(plateau.state())
    assert copied.state() == plateau.state()


@given(
    st.one_of(st.floats(0.001, 8), st.sampled_from([0.25, 0.5, 1.0, 8.0])),
    st.integers(1, 40),
    st.sampled_from(["constant", "cosine", "exponential", "plateau", "newbob"]),
    st.booleans(),
)
def test_warm_up_rises_to_the_peak_and_never_above(warmup, steps, schedule, whole):
    epochs = max(1, math.ceil(warmup)) + (not whole) * 2
    warmup = float(epochs) if whole else warmup
    rate = Schedule(Training(epochs=epochs, learning_rate=2.0, schedule=schedule, warmup_epochs=warmup), steps).rate
    rates = [rate(step) for step in range(epochs * steps)]
    assert 0 <= min(rates) and max(rates) <= 2.0
    first = math.ceil(warmup * steps - 1e-9)  # the first step after it
    assert rates[:first] == sorted(rates[:first])
    assert rates[: first - 1] == pytest.approx([2.0 * (step + 1) / (warmup * steps) for step in range(first - 1)])
    # It ends at the peak, from which the schedule goes on: no step is larger than one of warm-up or of the schedule.
    assert rates[first - 1] == pytest.approx(2.0)
    if first < len(rates):
        started = rates[first] / 2.0
        progress = (first / steps - warmup) / max(epochs - warmup, 1e-9)
        assert started == pytest.approx((1 + math.cos(math.pi * progress)) / 2 if schedule == "cosine" else 1.0)


def kaldi_scheduler(losses, rate):
    """train_scheduler.sh, line by line: the rate of each epoch, which were accepted, and whether it stopped."""
    best, halving, rates, accepted = losses[0], False, [], []
    for loss_new in losses[1:]:
        rates.append(rate)
        loss_prev = best
        accepted.append(loss_new < best)
        if loss_new < best:
            best = loss_new
        rel_impr = (loss_prev - best) / loss_prev
        if halving and rel_impr < 0.001:
            return rates, accepted, True
        if rel_impr < 0.01:
            halving = True
        if halving:
            rate *= 0.5
    return rates, accepted, False


@pytest.mark.parametrize("seed", range(20))
def test_newbob_is_kaldis_scheduler(seed):
    generator = torch.Generator().manual_seed(seed)
    falls = 0.08 * torch.rand(15, generator=generator, dtype=torch.float64) ** 3 - 0.004
    losses = (4 * (1 - falls).cumprod(0)).tolist()
    schedule = Schedule(Training(epochs=99, learning_rate=0.008, schedule="newbob"), 1)
    schedule.observe(losses[0])
    assert (schedule.rate(0), schedule.undo, schedule.ended) == (0.008, False, False)
    rates, accepted, ended = [], [], False
    for loss in losses[1:]:
        rates.append(schedule.rate(0))
        schedule.observe(loss)
        again = Schedule(schedule.training, 1)
        again.restore(schedule.state())
        accepted.append(not schedule.undo)
        ended = schedule.ended
        if ended:
            break
        schedule = again
    assert (rates, accepted, ended) == kaldi_scheduler(losses, 0.008)


def test_newbob_forgets_the_momentum_that_led_to_a_worse_epoch():
    """After an epoch that is taken back the next goes from the best weights as a new optimiser would."""
    examples, held = some(), some(30, seed=1)
    training = Training(
        epochs=12, batch_size=16, schedule="newbob", optimizer="sgd", learning_rate=1.5, momentum=0.9, nesterov=False
    )
    feed, after = Feed(examples, batch_size=16, seed=0), []
    fitted = fit(
        net(), LabelObjective(), feed, training, CPU, validation=held,
        after_epoch=lambda epoch, module: after.append(copy.deepcopy(module.state_dict())),
    )  # fmt: skip
    losses = [row["validation_nll"] for row in fitted.history]
    worse = [place for place in range(1, len(losses)) if losses[place] >= min(losses[:place])]
    assert worse[0] + 1 < len(losses)
    for place in worse[:-1]:
        bare, total = net(), 0.0
        bare.load_state_dict(after[place])
        steps = torch.optim.SGD(bare.parameters(), lr=fitted.history[place + 1]["learning_rate"], momentum=0.9)
        for batch in feed.batches(place + 1):
            loss = nn.functional.cross_entropy(bare(batch.inputs), batch.labels)
            steps.zero_grad()
            loss.backward()
            steps.step()
            total += float(loss.detach()) * len(batch.index)
        assert fitted.history[place + 1]["train_loss"] == pytest.approx(total / len(examples), rel=1e-5)


def test_newbob_takes_a_worse_epoch_back():
    seen, model = [], net()
    training = Training(
        epochs=12, batch_size=16, schedule="newbob", optimizer="sgd", learning_rate=1.5, momentum=0.0, nesterov=False
    )
    fitted = fit(
        model,
        LabelObjective(),
        Feed(some(), batch_size=16, seed=0),
        training,
        CPU,
        validation=some(seed=1),
        after_epoch=lambda epoch, module: seen.append((epoch, weights(module).clone())),
    )
    losses = [row["validation_nll"] for row in fitted.history]
    worse = [place for place in range(1, len(losses)) if losses[place] >= min(losses[:place])]
    assert worse and [epoch for epoch, _ in seen] == list(range(1, len(losses) + 1))
    for place in range(1, len(losses)):
        assert torch.equal(seen[place][1], seen[place - 1][1]) == (place in worse)
    assert fitted.best_epoch == losses.index(min(losses)) + 1
    with pytest.raises(ConfigError, match="newbob"):
        fit(net(), LabelObjective(), Feed(some(), batch_size=16, seed=0), training, CPU)


def test_precision_is_measured_not_assumed(monkeypatch):
    import limbeck.system.devices

    rates = measure_precisions("cpu", 128)
    assert set(rates) == {"float32", "bf16"}
    assert min(rates.values()) > 0
    for fast, expected in ((10.0, "bf16"), (1.1, "float32"), (0.2, "float32")):
        rates = {"float32": 1.0, "bf16": fast}
        monkeypatch.setattr(limbeck.system.devices, "measure_precisions", lambda _, rates=rates: rates)
        assert find_device("cpu", "auto").precision == expected


def test_large_products_are_tried_only_where_small_ones_leave_it_open(monkeypatch):
    """Without bf16 a large product takes seconds."""
    import limbeck.system.devices

    for slower, sizes in ((3.9, [16, 64]), (4.1, [16])):
        asked = []

        def rates(device, size, asked=asked, slower=slower):
            asked.append(size)
            return {"float32": size * slower, "bf16": float(size)}

        monkeypatch.setattr(limbeck.system.devices, "_rates", rates)
        measure_precisions.cache_clear()
        assert measure_precisions("cpu", 64) == {"float32": sizes[-1] * slower, "bf16": sizes[-1]} and asked == sizes
    measure_precisions.cache_clear()


def test_dropout_draws_from_the_run_seed():
    def outcome(seed):
        model = nn.Sequential(nn.Flatten(), nn.Linear(16, 8), Dropout(0.5), nn.Linear(8, 3))
        for parameter in model.parameters():
            nn.init.constant_(parameter, 0.01)
        fit(model, LabelObjective(), Feed(some(), batch_size=16, seed=0), Training(epochs=1, seed=seed), CPU)
        return weights(model)

    assert torch.equal(outcome(1), outcome(1))
    assert not torch.equal(outcome(1), outcome(2))


def normed(*more):
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.BatchNorm1d(8), *more, nn.Linear(8, 3))


def test_a_last_batch_of_one_is_refused_before_training_where_batch_normalisation_is():
    examples = some().take(torch.arange(33))
    model = normed()
    before = copy.deepcopy(model.state_dict())
    for size, better in ((16, 15), (32, 31), (1, 3)):
        with pytest.raises(ConfigError, match=f"batch_size {size} leaves the last of 33.*set batch_size to {better}$"):
            fit(model, LabelObjective(), Feed(examples, batch_size=size, seed=0), Training(epochs=1), CPU)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    fit(model, LabelObjective(), Feed(examples, batch_size=15, seed=0), Training(epochs=1), CPU)
    # Over an image there is something to normalise, and without such layers nothing is asked.
    image = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.LazyLinear(3))
    image(examples.inputs[:1].float())
    for right in (image, net()):
        fit(right, LabelObjective(), Feed(examples, batch_size=16, seed=0), Training(epochs=1), CPU)
