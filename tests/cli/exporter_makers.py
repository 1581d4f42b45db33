"""Images of three classes, networks for them, and exporters of another package."""

import torch
from torch import nn

from limbeck.exporters.torch_program import TorchExporter

CLASSES = ("one", "two", "three")


def images(count=90, seed=0, channels=1):
    """Noisy 8x8 images; class k has a bright pair of columns at 2k."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randint(0, 130, (count, channels, 8, 8), generator=generator)
    y = torch.arange(count) % 3
    for k in range(3):
        x[y == k, :, :, 2 * k : 2 * k + 2] += 100
    return x.to(torch.uint8), y


def net(channels=1, seed=0):
    """Bright columns tell the classes, as the weights say; some noise makes it a network like another."""
    generator = torch.Generator().manual_seed(seed)
    layer = nn.Linear(64 * channels, 3)
    weight = 0.01 * torch.randn(3, channels, 8, 8, generator=generator)
    for k in range(3):
        weight[k, :, :, 2 * k : 2 * k + 2] += 0.2
    layer.weight.data, layer.bias.data = weight.reshape(3, -1), 0.1 * torch.randn(3, generator=generator)
    return nn.Sequential(nn.Flatten(), layer).eval()


class Changed(nn.Module):
    """A model whose inputs or outputs are changed by a function."""

    def __init__(self, model, before=None, after=None):
        super().__init__()
        self.model, self.before, self.after = model, before or (lambda x: x), after or (lambda z: z)
        for name in ("input_name", "output_name"):
            if hasattr(model, name):
                setattr(self, name, getattr(model, name))

    def forward(self, x):
        return self.after(self.model(self.before(x)))


class Elsewhere(TorchExporter):
    """An exporter of another package: programs of torch.export of a model that is changed on the way."""

    suffix = ".elsewhere.pt2"

    def __init__(self, name="elsewhere", before=None, after=None, exact=True):
        self.name, self.before, self.after, self.exact = name, before, after, exact

    def write(self, model, example, path, card):
        return super().write(Changed(model, self.before, self.after).eval(), example, path, card)
