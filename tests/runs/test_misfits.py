"""A model that cannot take the data: one line that names role, module, shape and PyTorch's own words."""

import re

import numpy as np
import pytest
import torch
from tiny_runs import run_here
from torch import nn

import limbeck
from limbeck import tuning
from limbeck.errors import MismatchError
from limbeck.softtargets.softening import soften

X, Y = torch.randn(60, 4, generator=torch.Generator().manual_seed(0)), torch.arange(60) % 3
SOME = (X, Y)
WORDS = "mat1 and mat2 shapes cannot be multiplied"


class Wide(nn.Module):
    """A network for examples of 6 values, which the data's 4 are not."""

    def __init__(self, _seed: int = 0) -> None:
        super().__init__()
        self.last = nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(x)


def fits(_seed: int = 0) -> nn.Module:
    return nn.Sequential(nn.Linear(4, 3))


def whole():
    part = limbeck.Examples.of(*SOME)
    return limbeck.DataSet("some", ("0", "1", "2"), part, part, part)


WAYS = {
    "train": ("model", lambda out: limbeck.train(Wide(), SOME, epochs=1, out=out)),
    "teacher": ("teacher", lambda out: limbeck.distill(Wide(), fits(), SOME, epochs=1, out=out)),
    "student": ("student", lambda out: limbeck.distill(fits(), Wide(), SOME, epochs=1, out=out)),
    "mutual": ("student", lambda out: limbeck.mutual([fits, Wide], SOME, epochs=1, out=out)),
    "evaluate": ("model", lambda _: limbeck.evaluate(Wide(), whole())),
    "beside": ("teacher", lambda _: limbeck.evaluate(fits(), whole(), teacher=Wide())),
    "predict": ("model", lambda _: limbeck.predict(Wide(), X)),
    "predict with names": ("model", lambda _: limbeck.predict(Wide(), X, classes="abc")),
    "soften": ("teacher", lambda out: soften(out, Wide(), whole().train, classes=("0", "1", "2"))),
    "export": ("model", lambda out: limbeck.export(Wide(), data=SOME, out=out, formats=["torch"])),
    "export of an example": ("model", lambda out: limbeck.export(Wide(), X[:2], out=out, formats=["torch"])),
    "compress": ("network", lambda out: limbeck.compress(Wide(), SOME, int8=True, out=out)),
    "compress beside": (
        "large",
        lambda out: limbeck.compress(fits(), SOME, int8=True, before={"large": Wide()}, out=out),
    ),
    "compress with a teacher": (
        "teacher",
        lambda out: limbeck.compress(
            fits(),
            SOME,
            rule=limbeck.RankRule(rank=(1,)),
            teacher=Wide(),
            finetuning=limbeck.FineTuning(finetune_epochs=1),
            out=out,
        ),
    ),
    "tune": ("teacher", lambda out: tuning.tune(Wide(), fits, SOME, SOME, epochs=1, out=out)),
    "tune the student": ("student", lambda out: tuning.tune(fits(), Wide, SOME, SOME, epochs=1, out=out)),
    "compare": ("teacher", lambda out: limbeck.compare_methods(Wide(), fits, SOME, SOME, test=SOME, out=out)),
    "compare for": ("student", lambda out: limbeck.compare_methods(fits(), Wide, SOME, SOME, test=SOME, out=out)),
}


@pytest.mark.filterwarnings("ignore::limbeck.errors.LimbeckWarning")
@pytest.mark.parametrize("way", WAYS)
def test_a_model_of_another_width_is_told_by_role_name_and_shape(tmp_path, way):
    role, call = WAYS[way]
    with pytest.raises(MismatchError) as caught:
        call(tmp_path / "out")
    said = str(caught.value)
    assert said.startswith(f"the {role} cannot take an example of shape (4,) from ") and "\n" not in said
    assert re.search(rf": Wide raised RuntimeError on inputs of shape \(\d+, 4\): {WORDS} \(.*\)$", said)
    assert not (tmp_path / "out").exists()


def test_on_the_command_line_it_is_a_mistake_of_the_user(tmp_path, monkeypatch):
    (tmp_path / "wide_net.py").write_text(
        "import torch\n\n\ndef net(input_shape, classes):\n    return torch.nn.Linear(6, classes)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    np.savez(tmp_path / "some.npz", x=X.numpy(), y=Y.numpy())
    words = "--data", tmp_path / "some.npz", "--model", "wide_net:net", "--out", tmp_path / "run"
    done = run_here("train", *words)
    assert done.code == 2 and done.err.count("\n") == 1
    assert done.err.startswith("limbeck: the model cannot take an example of shape (4,) from some: Linear raised")
    assert WORDS in done.err
