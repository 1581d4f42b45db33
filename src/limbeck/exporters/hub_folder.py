"""A folder in the layout of the Hugging Face Hub: config, weights, preprocessing, and a model card.

Three layouts, by who made the network: transformers and timm load their own from the folder; of any other there is a
program of ``torch.export`` beside the weights, since nothing else can be loaded without the network's code. Where its
class has ``PyTorchModelHubMixin``, its own ``from_pretrained`` loads the folder too.
"""

__all__ = ["HUB"]

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn

from limbeck.data.presentations import presentation_files, save_presentation
from limbeck.data.registry import Reading
from limbeck.errors import FormatError
from limbeck.exporters.memory import TORCH_SCRIPT, peak_of_script
from limbeck.exporters.model_card import model_card
from limbeck.exporters.pixels import FromPixels
from limbeck.exporters.protocol import Card
from limbeck.exporters.torch_program import TORCH
from limbeck.exporters.tracing import hushed, portable
from limbeck.inputs import Inputs
from limbeck.models import build, changes_of, describe
from limbeck.models.calling import logits_of, presentation_of, two_of_one
from limbeck.models.hf_models import describe_hf
from limbeck.models.timm_models import describe_timm, import_timm
from limbeck.options import ImagePresentation, TextPresentation
from limbeck.options.kinds import kept_files
from limbeck.system.files import make_folder, read_json, replace_bytes, replace_json, replace_text, seal_files
from limbeck.system.hugging_face import load_tokenizer, transformers

_PROGRAM = "model.pt2"


@dataclass(frozen=True)
class _Layout:
    """How one library's networks lie in a folder.

    Attributes:
        library: As the hub calls it.
        loading: Python that loads the network and asks it, for the model card.
        made: Whether a network is of this library, unchanged.
        write: Writes configuration and weights.
        open: Gives the network.
        script: Does so in a process of its own (:func:`limbeck.exporters.memory.peak_of_script`).
    """

    library: str
    loading: str
    made: Callable[[nn.Module], bool]
    write: Callable[[nn.Module, Inputs, Path, Card], None]
    open: Callable[[Path], Callable[..., Any]]
    script: str


class HubExporter:
    """A folder for ``huggingface-cli upload``, which loads without Limbeck."""

    name = "hub"
    suffix = ""
    what = "a folder in the layout of the Hugging Face Hub, with a model card"
    exact = True

    def refusal(self, model: nn.Module) -> str | None:
        """Why a model cannot be written."""
        if isinstance(model, FromPixels):
            return "preprocessor_config.json says how images are normalised: leave with_preprocessing out"
        return None

    def write(self, model: nn.Module, example: Inputs, path: Path, card: Card) -> Mapping[str, Any]:
        """Write the folder."""
        layout = next(each for each in _LAYOUTS if each.made(model))
        make_folder(path)
        layout.write(portable(model), example, path, card)
        seen = presentation_of(model) or card.presentation
        _show_inputs(seen, path)
        replace_text(path / "README.md", model_card(card, seen, library=layout.library, loading=layout.loading))
        return {"library": layout.library, "files": sorted(each.name for each in path.iterdir())}

    def open(self, path: Path, *, threads: int | None = None) -> Callable[[Inputs], Tensor]:
        """Load the network as the model card says; threads are PyTorch's own setting."""
        with hushed():
            network = _layout_of(path).open(path)

        def ask(inputs: Inputs) -> Tensor:
            with torch.no_grad():
                logits = logits_of(network(**inputs) if isinstance(inputs, Mapping) else network(inputs))
            return logits.float() if isinstance(inputs, Mapping) else two_of_one(logits, len(inputs)).float()

        return ask

    def peak_memory(self, path: Path, inputs: Inputs) -> Mapping[str, int] | None:
        """Of a process that has the library that the folder is for."""
        return peak_of_script(_layout_of(path).script, path, inputs)


def _layout_of(path: Path) -> _Layout:
    config = read_json(path / "config.json")
    if not isinstance(config, Mapping):
        raise FormatError(path / "config.json", "holds no JSON object")
    name = str(config.get("library_name") or ("transformers" if "architectures" in config else "timm"))
    return next(each for each in _LAYOUTS if each.library == name)


def _show_inputs(seen: Any, path: Path) -> None:
    """What makes inputs of a text or an image, beside the network."""
    if isinstance(seen, ImagePresentation):
        replace_json(path / "preprocessor_config.json", seen.to_processor())
    if isinstance(seen, TextPresentation):
        # A fresh one: that in use remembers how it was last called. Into a folder of its own, as it writes in place.
        with tempfile.TemporaryDirectory() as made:
            load_tokenizer.__wrapped__(seen.tokenizer).save_pretrained(made)
            for file in sorted(Path(made).iterdir()):
                if file.is_file():
                    replace_bytes(path / file.name, file.read_bytes())


def _weights(model: nn.Module) -> bytes:
    return save({name: value.detach().contiguous().clone() for name, value in model.state_dict().items()}, _PT)


_PT = {"format": "pt"}


def _labels(card: Card) -> dict[str, dict[str, Any]]:
    return {
        "id2label": {str(number): name for number, name in enumerate(card.classes)},
        "label2id": {name: number for number, name in enumerate(card.classes)},
    }


def _is_hf(model: nn.Module) -> bool:
    return describe_hf(model) is not None and not changes_of(model)


def _write_hf(model: nn.Module, example: Inputs, path: Path, card: Card) -> None:
    network: Any = model
    if "ForCausalLM" not in type(model).__name__ and "LMHead" not in type(model).__name__:
        network.config.id2label = dict(enumerate(card.classes))
        network.config.label2id = {name: number for number, name in enumerate(card.classes)}
    with hushed(), tempfile.TemporaryDirectory() as made:
        network.save_pretrained(made)
        for file in sorted(Path(made).iterdir()):
            replace_bytes(path / file.name, file.read_bytes())


def _open_hf(path: Path) -> Callable[..., Any]:
    kind = getattr(transformers(), read_json(path / "config.json")["architectures"][0])
    network: Callable[..., Any] = kind.from_pretrained(str(path)).eval()
    return network


def _is_timm(model: nn.Module) -> bool:
    return describe_timm(model) is not None and not changes_of(model)


def _write_timm(model: nn.Module, example: Inputs, path: Path, card: Card) -> None:
    made = describe_timm(model)
    assert made is not None, "asked before"
    seen = presentation_of(model) or ImagePresentation()
    known = getattr(model, "pretrained_cfg", None) or {}
    shown = {
        "input_size": [seen.channels, *seen.size],
        "mean": list(seen.mean),
        "std": list(seen.std),
        "crop_pct": seen.crop_pct,
        "interpolation": seen.interpolation,
        "crop_mode": "squash" if seen.squash else "center",
        "num_classes": made["classes"],
        **{name: known[name] for name in ("classifier", "first_conv", "fixed_input_size") if known.get(name)},
    }
    config = {
        "architecture": made["name"],
        "num_classes": made["classes"],
        "label_names": list(card.classes),
        "pretrained_cfg": shown,
        **({"model_args": dict(made["settings"])} if made["settings"] else {}),
    }
    replace_json(path / "config.json", config)
    replace_bytes(path / "model.safetensors", _weights(model))


def _open_timm(path: Path) -> Callable[..., Any]:
    network: Callable[..., Any] = import_timm().create_model(f"local-dir:{path}", pretrained=True).eval()
    return network


def _write_program(model: nn.Module, example: Inputs, path: Path, card: Card) -> None:
    TORCH.write(model, example, path / _PROGRAM, card)
    replace_bytes(path / "model.safetensors", _weights(model))
    # What the class was made with, where it has huggingface_hub's PyTorchModelHubMixin: from_pretrained asks for it.
    made = getattr(model, "_hub_mixin_config", None)
    own = made if isinstance(made, Mapping) else {}
    described = _description(model)
    about = described or {"model": card.title}
    config = {"library_name": "pytorch", **about, **_labels(card), **own}
    if described:  # as limbeck.load reads it, with how the inputs are made
        reading, presentation = getattr(model, "reading", None), save_presentation(path, presentation_of(model))
        if isinstance(reading, Reading):
            config[reading.key] = reading.write(path)
        if presentation is not None:
            config["presentation"] = presentation
    replace_json(path / "config.json", config)
    if described:
        # limbeck.load compares them
        seal_files(path, ["config.json", "model.safetensors", *presentation_files(path), *kept_files()])


def _description(model: nn.Module) -> dict[str, Any]:
    """What :func:`limbeck.load` makes one of Limbeck's networks of, where the weights fit that."""
    described = describe(model)
    if described is None:
        return {}
    with torch.device("meta"):
        again = build(described).state_dict()
    shapes = {name: value.shape for name, value in model.state_dict().items()}
    return described if {name: value.shape for name, value in again.items()} == shapes else {}


def _open_program(path: Path) -> Callable[..., Any]:
    ask = TORCH.open(path / _PROGRAM)
    return lambda *inputs, **named: ask(inputs[0] if inputs else named)


_ASK = """
given = {name: torch.from_numpy(value) for name, value in inputs.items()}
def ask():
    with torch.no_grad():
        return network(given["inputs"]) if single else network(**given)
"""
_TRANSFORMERS_SCRIPT = (
    """
import torch
torch.set_num_threads(1)
try:
    import torchvision
except Exception:  # a build of another PyTorch: to transformers it is then not installed
    sys.modules["torchvision"] = None
import transformers
with open(path + "/config.json") as file:
    kind = getattr(transformers, json.load(file)["architectures"][0])
before = peak()
network = kind.from_pretrained(path).eval()
"""
    + _ASK
)
_TIMM_SCRIPT = (
    """
import timm, torch
torch.set_num_threads(1)
before = peak()
network = timm.create_model("local-dir:" + path, pretrained=True).eval()
"""
    + _ASK
)
_LAYOUTS = (
    _Layout(
        "transformers",
        'from transformers import AutoModelFor{task}\nmodel = AutoModelFor{task}.from_pretrained("FOLDER")',
        _is_hf,
        _write_hf,
        _open_hf,
        _TRANSFORMERS_SCRIPT,
    ),
    _Layout(
        "timm",
        'import timm\nmodel = timm.create_model("local-dir:FOLDER", pretrained=True).eval()',
        _is_timm,
        _write_timm,
        _open_timm,
        _TIMM_SCRIPT,
    ),
    _Layout(
        "pytorch",
        'import torch\nmodel = torch.export.load("FOLDER/model.pt2").module()  # logits of any number of examples',
        lambda model: True,
        _write_program,
        _open_program,
        TORCH_SCRIPT.replace("load(path)", f"load(path + '/{_PROGRAM}')"),
    ),
)
HUB = HubExporter()
