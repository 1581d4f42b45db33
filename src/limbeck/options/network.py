"""Settings of a network's architecture."""

__all__ = ["ModelOptions", "Network"]

import dataclasses
import difflib
from dataclasses import dataclass
from typing import Literal

from limbeck.errors import ConfigError
from limbeck.options.checks import check_types, require


@dataclass(frozen=True, kw_only=True)
class Network:
    """The sizes of a network's layers.

    Attributes:
        hidden: Widths of the fully connected layers; default: 512 for mlp, 1024 for cnn.
        channels: Channels of the 3x3 convolutions of cnn, each followed by 2x2 pooling; default 64 128.
        dropout: Dropout probability of hidden units.
        input_dropout: Dropout probability of inputs.
        max_norm: Largest Euclidean norm of a hidden unit's incoming weights; default: no limit.
        activation: Activation of the hidden layers of mlp: "relu", "sigmoid", "tanh" or "maxout".
        pieces: Linear units per maxout unit; default 2.
        batch_norm: Batch normalisation after each convolution (cnn).
        padding: Zero-pad each convolution (cnn), to keep the size of the image.
        standardise: Standardise the inputs by the training set's mean and standard deviation, inside the model.
    """

    hidden: tuple[int, ...] | None = None
    channels: tuple[int, ...] | None = None
    dropout: float = 0.0
    input_dropout: float = 0.0
    max_norm: float | None = None
    activation: Literal["relu", "sigmoid", "tanh", "maxout"] = "relu"
    pieces: int | None = None
    batch_norm: bool = False
    padding: bool = False
    standardise: bool = False

    def __post_init__(self) -> None:
        check_types(self)
        for name in ("dropout", "input_dropout"):
            require(0 <= getattr(self, name) < 1, name, getattr(self, name), "in [0, 1)")
        require(self.max_norm is None or self.max_norm > 0, "max_norm", self.max_norm, "positive")
        activations = ("relu", "sigmoid", "tanh", "maxout")
        require(self.activation in activations, "activation", self.activation, "relu, sigmoid, tanh or maxout")
        require(self.pieces is None or self.pieces >= 2, "pieces", self.pieces, "at least 2")
        if self.pieces is not None and self.activation != "maxout":
            raise ConfigError(f"pieces belongs to activation maxout, and activation is {self.activation}")
        for name in ("hidden", "channels"):
            widths = getattr(self, name)
            listed = " ".join(map(str, widths or ()))
            require(widths is None or all(w > 0 for w in widths), name, listed, "a list of positive widths")


@dataclass(frozen=True, kw_only=True)
class ModelOptions(Network):
    """The network to train: its architecture and sizes.

    Attributes:
        model: "mlp", "cnn"; a Hugging Face classifier, as hf:FOLDER or hf:NAME; a timm model, as timm:NAME,
            timm:NAME@CHECKPOINT or timm:FOLDER; or a function of your own that returns a torch module, as
            package.module:function.
    """

    model: str = "mlp"

    def __post_init__(self) -> None:
        check_types(self)
        super().__post_init__()
        if self.model == "mlp":
            for name in ("channels", "batch_norm", "padding"):
                if getattr(self, name):
                    raise ConfigError(f"{name} has no meaning for model mlp: leave it out, or use model cnn")
        elif ":" in self.model:
            for field in dataclasses.fields(Network):
                if getattr(self, field.name) != field.default:
                    raise ConfigError(
                        f"{field.name} has no meaning for {self.model}: set it in {_place_of(self.model)}"
                    )
        elif self.model == "cnn":
            if self.activation != "relu":
                raise ConfigError("activation has no meaning for model cnn: leave it out, or use model mlp")
        else:
            near = difflib.get_close_matches(self.model.lower(), ("mlp", "cnn"), 1)
            digits = any(letter.isdigit() for letter in self.model)  # as in resnet18
            near = near or [f"timm:{self.model}"] * (digits and self.model.isidentifier())
            raise ConfigError(
                f"model must be mlp, cnn, hf:FOLDER, timm:NAME or package.module:function, and is {self.model!r}"
                + (f": did you mean {near[0]}?" if near else "")
            )


def _place_of(model: str) -> str:
    if model.startswith("timm:"):
        return "the timm model's name"
    return "its config.json" if model.startswith("hf:") else "your own function"
