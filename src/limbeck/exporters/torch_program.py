"""A program of ``torch.export``: it is loaded by PyTorch alone."""

__all__ = ["TORCH"]

import json
from collections.abc import Callable, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from limbeck.errors import FormatError
from limbeck.exporters.memory import TORCH_SCRIPT, peak_of_script
from limbeck.exporters.protocol import Card
from limbeck.exporters.tracing import hushed, portable, traced
from limbeck.inputs import Inputs
from limbeck.system.files import replace_bytes

_CLASSES, _INPUT = "classes.json", "input.json"
"""The files inside that name the classes, and say what the inputs are."""


class TorchExporter:
    """A ``.pt2`` file: ``torch.export.load(path).module()`` is the model, for any number of examples."""

    name = "torch"
    suffix = ".pt2"
    what = "a program of torch.export, loaded by PyTorch without Limbeck"
    exact = True

    def refusal(self, model: nn.Module) -> str | None:
        """None: every traceable model can be written."""
        return None

    def write(self, model: nn.Module, example: Inputs, path: Path, card: Card) -> Mapping[str, Any]:
        """Write the program, with the names of the classes and the input contract as extra files inside."""
        found = traced(portable(model), example)
        found.program.example_inputs = None  # rows of the user's data, which are nobody else's
        content = BytesIO()
        classes = json.dumps(list(card.classes), ensure_ascii=False)
        inside = {_CLASSES: classes} | ({_INPUT: json.dumps(card.contract)} if card.contract else {})
        with hushed():
            torch.export.save(found.program, content, extra_files=inside)
        replace_bytes(path, [content.getbuffer()])
        return {"inputs": list(found.inputs), "output": found.output, "torch": torch.__version__}

    def open(self, path: Path, *, threads: int | None = None) -> Callable[[Inputs], Tensor]:
        """Load the program; how many threads it has is PyTorch's own setting."""
        try:
            with hushed():
                module = torch.export.load(path).module()
        except Exception as error:  # any error of a damaged file
            raise FormatError(
                path, f"is not a program of torch.export: {' '.join(str(error).split())[:200]}"
            ) from error

        def ask(inputs: Inputs) -> Tensor:
            with torch.no_grad():
                found: Tensor = module(**inputs) if isinstance(inputs, Mapping) else module(inputs)
            return found

        return ask

    def peak_memory(self, path: Path, inputs: Inputs) -> Mapping[str, int] | None:
        """Of a process that has PyTorch."""
        return peak_of_script(TORCH_SCRIPT, path, inputs)


TORCH = TorchExporter()
