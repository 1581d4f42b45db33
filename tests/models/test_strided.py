"""Strided convolutions of one pixel: trained in the layout in which PyTorch's kernels are right."""

import copy
import subprocess
import sys

import pytest
import torch
from torch import nn

from limbeck.models.strided import contiguous_strided

CPU = torch.device("cpu")
CRASH = """
import torch, limbeck
from torch import nn
class Last(nn.Sequential):
    def forward(self, x):
        return super().forward(x.contiguous(memory_format=torch.channels_last))
for channels in (4, 7):
    torch.manual_seed(0)
    layers = nn.Conv2d(channels, 8, 1, stride=2, bias=False), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2)
    net = Last(*layers).to(memory_format=torch.channels_last)
    images = torch.rand(640, channels, 16, 16).contiguous(memory_format=torch.channels_last)
    limbeck.train(net, (images, torch.arange(640) % 2), epochs=2, batch_size=64, device="cpu", precision="float32")
    print("trained", channels)
"""


def narrow(channels):
    torch.manual_seed(0)
    return nn.Conv2d(channels, 8, 1, stride=2, bias=False).to(memory_format=torch.channels_last)


@pytest.mark.parametrize("channels", [1, 3, 4, 7, 15])
def test_gradients_are_those_of_float64(channels):
    layer = narrow(channels)
    images = torch.rand(64, channels, 16, 16).contiguous(memory_format=torch.channels_last)
    exact = copy.deepcopy(layer).double()
    exact.weight.data = exact.weight.data.flatten().reshape(exact.weight.shape)
    exact(images.double().contiguous()).square().sum().backward()
    with contiguous_strided(layer, CPU):
        layer(images).square().sum().backward()
    torch.testing.assert_close(layer.weight.grad.double(), exact.weight.grad, rtol=1e-5, atol=1e-5)


def test_channels_last_networks_are_trained_without_damage():
    """Without the guard the process aborts, or hangs, so it is one of its own."""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", CRASH], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and done.stdout.endswith("trained 4\ntrained 7\n"), done.stderr[-500:]


def test_other_layers_and_devices_stay_as_they_are():
    layers = [nn.Conv2d(4, 8, 3, stride=2), nn.Conv2d(4, 8, 1), nn.Conv2d(16, 8, 1, stride=2)]
    layers.append(nn.Conv2d(32, 32, 1, stride=2, groups=2))
    kept = nn.Sequential(*layers).to(memory_format=torch.channels_last)
    before = [each.stride() for each in kept.parameters()]
    with contiguous_strided(kept, CPU):
        assert [each.stride() for each in kept.parameters()] == before
        assert not any(layer._forward_pre_hooks for layer in kept)
    layer = narrow(4)
    with contiguous_strided(layer, torch.device("meta")):
        assert not layer._forward_pre_hooks and layer.weight.stride() == (4, 1, 4, 4)


def test_the_hook_is_gone_afterwards_and_the_parameter_is_the_same_one():
    layer = narrow(4)
    parameter, values = layer.weight, layer.weight.detach().clone()
    with contiguous_strided(nn.Sequential(layer), CPU):
        assert len(layer._forward_pre_hooks) == 1
    assert not layer._forward_pre_hooks and layer.weight is parameter and torch.equal(layer.weight, values)
