"""Devices without float64, as Apple's are: emulated by refusing every float64 tensor, wherever it is."""

import math

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import limbeck
from limbeck.models import MLP, MLPConfig
from limbeck.options import RankRule
from limbeck.system.devices import has_float64, sum64, widest
from limbeck.training.run_state import _Sums

X = torch.randn(80, 1, 8, 8, generator=torch.Generator().manual_seed(0))
Y = (X[:, 0, :2].mean((1, 2)) > 0).long() + 2 * (X[:, 0, 2:4].mean((1, 2)) > 0).long()
SHORT = {"epochs": 2, "precision": "float32", "device": "cpu", "batch_size": 16}


class NoFloat64(TorchDispatchMode):
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        found = func(*args, **(kwargs or {}))
        if any(isinstance(value, torch.Tensor) and value.dtype == torch.float64 for value in tree_leaves(found)):
            raise TypeError("no float64 on this device")
        return found


def network():
    torch.manual_seed(0)
    return MLP(MLPConfig(input_shape=(1, 8, 8), classes=4, hidden=(12,)))


def test_what_a_device_holds():
    assert has_float64("cpu") and widest("cpu") == torch.float64
    values = torch.tensor([1e8, 1.0, -1e8, 3e-3])
    right = math.fsum(values.tolist())
    assert sum64(values) == right
    with NoFloat64():
        assert not has_float64("cpu") and widest("cpu") == torch.float32
        assert sum64(values) == right


def test_the_sums_of_an_epoch_are_the_same_without_it():
    generator = torch.Generator().manual_seed(0)
    steps = [(100 * torch.rand((), generator=generator), torch.tensor(3), 7, torch.tensor(float(n % 3 == 0)))
             for n in range(50)]  # fmt: skip
    found = []
    for mode in (None, NoFloat64()):
        if mode is not None:
            mode.__enter__()
        try:
            sums = _Sums(torch.device("cpu"))
            for step in steps:
                sums.add(*step)
            sums.add(torch.tensor(0.1), None, 5, None)
            again = _Sums(torch.device("cpu"))
            again.restore(sums.tolist())
            assert again.tolist() == sums.tolist()
            found.append(sums.tolist())
        finally:
            if mode is not None:
                mode.__exit__(None, None, None)
    assert found[0] == found[1] and found[0][1:] == [33 * 3, 33 * 7 + 5, 17]


@pytest.mark.parametrize("spoilt", [[1.0], [1.0, 2.0, 3.0, math.nan], None, "text"])
def test_sums_that_are_none_are_refused(spoilt):
    with pytest.raises((ValueError, TypeError)):
        _Sums(torch.device("cpu")).restore(spoilt)


def test_compressing_and_8_bits():
    with NoFloat64():
        run = limbeck.compress(network(), (X, Y), (X, Y), rule=RankRule(parameters=0.6), int8=True)
    assert len(run.metrics["stages"]) == 3
