"""A batch in parts is the whole batch: weights, losses, errors, clipping, dropout, guards and resuming."""

import pytest
import torch
from torch import nn

import limbeck
from limbeck.data import Examples, Feed
from limbeck.errors import ConfigError, NonFiniteError, RunError
from limbeck.models import Dropout
from limbeck.options import Training
from limbeck.system.devices import Device
from limbeck.training.engine import fit
from limbeck.training.objective import LabelObjective

CPU = Device(torch.device("cpu"), "float32")
X = torch.rand(50, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
Y = (X[:, 0] > 0.5).long()


class Exact(nn.Sequential):
    """A network of float64, whose answers the engine takes as float32: its gradients hold to seven digits."""


def net(*more):
    torch.manual_seed(0)
    return Exact(nn.Linear(5, 6), nn.Tanh(), *more, nn.Linear(6, 2)).double()


def run(accumulate, model=None, epochs=2, folder=None, resume=False, x=X, objective=None, **settings):
    model = model or net()
    training = Training(epochs=epochs, batch_size=16, accumulate=accumulate, **settings)
    feed = Feed(Examples.of(x.float(), Y), batch_size=16, seed=0, accumulate=accumulate)
    fitted = fit(model, objective or LabelObjective(), feed, training, CPU, folder=folder, resume=resume)
    return model, fitted


def bits(model):
    return torch.cat([value.flatten() for value in model.state_dict().values()])


@pytest.mark.parametrize("accumulate", [2, 3, 5, 16])
@pytest.mark.parametrize("settings", [{}, {"optimizer": "sgd", "clip_norm": 0.05, "weight_decay": 0.1}])
def test_the_result_is_that_of_the_whole_batch(accumulate, settings):
    """50 examples end in a batch of 2; the masks of dropout are those of the whole batch too."""
    whole, once = run(1, net(Dropout(0.3)), **settings)
    parts, many = run(accumulate, net(Dropout(0.3)), **settings)
    assert torch.allclose(bits(whole), bits(parts), rtol=1e-6, atol=1e-7)
    for one, other in zip(once.history, many.history, strict=True):
        assert one["train_accuracy"] == other["train_accuracy"]
        assert one["train_loss"] == pytest.approx(other["train_loss"], rel=1e-6)


def test_batch_normalisation_has_the_statistics_of_parts():
    whole, parts = (run(accumulate, net(nn.BatchNorm1d(6)), epochs=1)[0] for accumulate in (1, 4))
    assert not torch.allclose(bits(whole), bits(parts), rtol=1e-4)
    assert int(parts[2].num_batches_tracked) == 3 * 4 + 1  # the last batch has two examples, and one part
    with pytest.raises(ConfigError, match="accumulate 16 leaves a part of one example of batches of 16"):
        run(16, net(nn.BatchNorm1d(6)))


def test_a_run_resumes_to_the_same_bits_and_with_no_other_number_of_parts(tmp_path):
    whole, _ = run(3, net(Dropout(0.3)), epochs=4, schedule="constant")
    run(3, net(Dropout(0.3)), schedule="constant", folder=tmp_path)
    resumed, _ = run(3, net(Dropout(0.3)), epochs=4, schedule="constant", folder=tmp_path, resume=True)
    assert torch.equal(bits(whole), bits(resumed))
    with pytest.raises(RunError, match="accumulate = 3, and now it is 2"):
        run(2, epochs=5, schedule="constant", folder=tmp_path, resume=True)


def test_a_part_that_goes_wrong_is_found_and_named():
    x = X.clone()
    x[7, 2] = 1e38
    model = net()
    with torch.no_grad():
        model[0].weight.mul_(1e300)
    with pytest.raises(NonFiniteError, match="layer 0|example"):
        run(4, nn.Sequential(nn.Linear(5, 2)).double().apply(_huge), x=x)
    kept = nn.Sequential(nn.Linear(5, 2)).double()
    _, fitted = run(4, kept.apply(_huge), epochs=1, x=x, skip_nonfinite=True)
    assert fitted.history[0]["skipped_steps"] == 1 and bool(bits(kept).isfinite().all())


def _huge(part):
    if isinstance(part, nn.Linear):
        with torch.no_grad():
            part.weight.fill_(10.0)


def test_losses_that_couple_a_batch_are_refused():
    class Coupled(LabelObjective):
        coupled = True

    run(1, objective=Coupled())
    with pytest.raises(ConfigError, match="accumulate is 2, and in this method an example's loss depends"):
        run(2, objective=Coupled())


def test_it_is_asked_for_by_one_setting():
    kept = {"precision": "float32", "epochs": 2, "batch_size": 16}
    models = [limbeck.train(net().float(), (X.float(), Y), accumulate=parts, **kept).model for parts in (1, 4)]
    assert torch.allclose(bits(models[0]), bits(models[1]), atol=1e-5)
    with pytest.raises(ConfigError, match="accumulate must be from 1 to batch_size, which is 16, and is 17"):
        Training(batch_size=16, accumulate=17)
