"""The parity report of a compression: the compressed network's predictions against the original's."""

__all__ = ["write_parity"]

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from limbeck.errors import ConfigError
from limbeck.evaluation.prediction import shown_to
from limbeck.exporters import Card
from limbeck.exporters.parity import Held, asked, judge_file
from limbeck.inputs import Inputs
from limbeck.keyed import permutation
from limbeck.models.calling import call_model
from limbeck.models.copying import copy_module
from limbeck.report.parity import write_parity_page
from limbeck.runs.compress_plan import CompressPlan
from limbeck.runs.folder import RunFolder
from limbeck.runs.measure import title_of
from limbeck.runs.parity_files import write_report

_MOST = 20_000
"""Number of examples to compare on, drawn evenly; both networks run on the CPU."""


class _Compressed:
    """The compressed network as an export format whose file is the model folder."""

    name, suffix, exact = "compressed", "", False
    what = "the network with thin layers or 8-bit weights"

    def __init__(self, model: nn.Module) -> None:
        self.model = model

    def refusal(self, model: nn.Module) -> str | None:
        """None: every model is supported."""
        return None

    def write(self, model: nn.Module, example: Inputs, path: Path, card: Card) -> Mapping[str, Any]:
        """Already written as the run's model."""
        raise ConfigError("a compressed network is written with its run")

    def open(self, path: Path, *, threads: int | None = None) -> Callable[[Inputs], Tensor]:
        """The network in memory; timed as its user calls it."""
        bare = asked(self.model)
        if threads is not None:
            return cast(Callable[[Inputs], Tensor], bare)

        def ask(inputs: Inputs) -> Tensor:
            with torch.no_grad():
                return call_model(self.model, inputs)

        return ask


def write_parity(plan: CompressPlan, last: nn.Module, folder: RunFolder) -> dict[str, Any] | None:
    """Write ``parity.json`` and ``parity.html`` of the last stage against the original network.

    Args:
        plan: The plan.
        last: The last stage, whose model is in the folder.
        folder: The run's folder.

    Returns:
        The contents of ``parity.json``; None where there are only training examples.
    """
    data = plan.data
    examples = data.test or data.validation
    if examples is None:
        return None
    original = copy_module(plan.model).cpu().eval()
    small = copy_module(last).cpu().eval()
    shown = shown_to(original, examples)
    rows = torch.arange(len(shown))
    if len(rows) > _MOST:
        rows = permutation(len(shown), seed=0, epoch=0)[:_MOST].sort().values
    held = Held(shown, "test" if data.test is not None else "validation", rows)
    path = folder.path / "model"
    found = judge_file(_Compressed(small), path, original, held, noted={}, default_margin=None)
    digests = {name: part.digest for name, part in data.parts().items()}
    card = Card(title_of(last), data.outputs, data=digests)  # a run does not name its own folder, which may be moved
    return write_report(folder.path, [found], held, card, draw=write_parity_page)
