"""The settings of a run, as frozen dataclasses: flags, TOML keys and Python arguments are three spellings of these.

Nothing here imports torch, so that ``limbeck --help`` is quick.
"""

__all__ = [
    "Augmentation",
    "DataOptions",
    "Distillation",
    "FineTuning",
    "ModelOptions",
    "Network",
    "RankRule",
    "SoftLoss",
    "SpeechOptions",
    "Training",
    "TrainingKeywords",
]

import dataclasses
import math
from dataclasses import dataclass
from typing import Literal, TypedDict

from limbeck.errors import ConfigError

SoftLoss = Literal["kl", "logits"]
"""What is made small between student and teacher."""


def _require(holds: bool, name: str, value: object, rule: str) -> None:
    if not holds:
        raise ConfigError(f"{name} must be {rule}, and is {value}")


@dataclass(frozen=True, kw_only=True)
class SpeechOptions:
    """What belongs to Kaldi data directories alone.

    Attributes:
        ali: Alignment directory of the training data: ali.*.gz and final.mdl. Kaldi directories only, as all these.
        validation_data: Data directory to choose by; without it whole speakers are set aside.
        validation_ali: Its alignments; where it has no final.mdl, that of the training data holds.
        test_data: Data directory to judge on.
        test_ali: Its alignments.
        mdl: The final.mdl of the training alignments, where it is elsewhere.
        left: Frames of context before each frame; default 5.
        right: Frames of context after it; default 5.
        cmvn: Take the mean off by "speaker" or "utterance", or "none"; "auto": by speaker where there is a cmvn.scp.
        norm_vars: Make the variance 1 too.
        deltas: Order of time derivatives beside the features.
        every: Learn from every n-th frame only; context comes from all.
        feature_transform: A final.feature_transform in nnet1 form, run after CMVN and deltas; its splice is the
            context.
        allow_pipes: Run script lines that end in a pipe in a shell: only for files you trust.
        most_left_out: Largest share of utterances whose labels may be missing or of another number.
        in_memory_gb: Features up to this size, unspliced, stay in memory; larger ones are read again each epoch.
    """

    ali: str | None = None
    validation_data: str | None = None
    validation_ali: str | None = None
    test_data: str | None = None
    test_ali: str | None = None
    mdl: str | None = None
    left: int | None = None
    right: int | None = None
    cmvn: Literal["auto", "none", "speaker", "utterance"] = "auto"
    norm_vars: bool = False
    deltas: int = 0
    every: int = 1
    feature_transform: str | None = None
    allow_pipes: bool = False
    most_left_out: float = 0.05
    in_memory_gb: float = 4.0

    def __post_init__(self) -> None:
        for name in ("left", "right"):
            side = getattr(self, name)
            _require(side is None or 0 <= side <= 1000, name, side, "from 0 to 1000 frames")
        _require(0 <= self.deltas <= 4, "deltas", self.deltas, "from 0 to 4")
        _require(self.every >= 1, "every", self.every, "at least 1")
        _require(0 <= self.most_left_out < 1, "most_left_out", self.most_left_out, "in [0, 1)")
        _require(0 <= self.in_memory_gb < math.inf, "in_memory_gb", self.in_memory_gb, "at least 0 and finite")

    def speech_settings(self) -> list[str]:
        """Names of the settings here that were given."""
        return [f.name for f in dataclasses.fields(SpeechOptions) if getattr(self, f.name) != f.default]


@dataclass(frozen=True, kw_only=True)
class DataOptions(SpeechOptions):
    """Which examples, and how they are divided.

    Attributes:
        data: A data set: "mnist" (inside the package), or the path of an EMNIST .mat file, an .npz file with x and
            y, a folder with the four IDX files, a folder of pictures with one sub-folder a class, or a Kaldi data
            directory, which needs ali.
        validation: How much of the training set is set aside to choose by: a share below 1, or a count. It is the
            same for every seed, and stratified by class.
        image_size: Pictures of a folder are resized to this many pixels, square; none: all must have one size.
        train_examples: Use this many training examples only, stratified: a share below 1, or a count.
    """

    data: str = "mnist"
    validation: float = 0.1
    image_size: int | None = None
    train_examples: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        _require(0 <= self.validation < math.inf, "validation", self.validation, "a share below 1, or a count")
        _require(self.image_size is None or self.image_size > 0, "image_size", self.image_size, "positive")
        _require(
            self.train_examples is None or 0 < self.train_examples < math.inf,
            "train_examples",
            self.train_examples,
            "a share below 1, or a count",
        )


@dataclass(frozen=True, kw_only=True)
class Network:
    """The sizes of a network.

    Attributes:
        hidden: Widths of the fully connected layers; default 512 for mlp and 1024 for cnn.
        channels: Channels of the 3x3 convolutions of cnn, each followed by 2x2 pooling; default 64 128.
        dropout: Share of hidden units dropped while training.
        input_dropout: Share of inputs dropped while training.
        max_norm: Largest Euclidean norm of a hidden unit's incoming weights; none: no limit.
        activation: What follows each hidden layer of mlp: "relu", "sigmoid", "tanh" or "maxout".
        pieces: Linear units of which each maxout unit is the largest; default 2.
        batch_norm: Batch normalisation after each convolution (cnn).
        padding: Keep the size of the image in each convolution (cnn), rather than losing a border of 1 pixel.
        standardise: Shift and scale the inputs by the training set's mean and standard deviation, inside the model.
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
        for name in ("dropout", "input_dropout"):
            _require(0 <= getattr(self, name) < 1, name, getattr(self, name), "in [0, 1)")
        _require(self.max_norm is None or self.max_norm > 0, "max_norm", self.max_norm, "positive")
        activations = ("relu", "sigmoid", "tanh", "maxout")
        _require(self.activation in activations, "activation", self.activation, "relu, sigmoid, tanh or maxout")
        _require(self.pieces is None or self.pieces >= 2, "pieces", self.pieces, "at least 2")
        if self.pieces is not None and self.activation != "maxout":
            raise ConfigError(f"pieces belongs to activation maxout, and activation is {self.activation}")
        for name in ("hidden", "channels"):
            widths = getattr(self, name)
            _require(widths is None or all(w > 0 for w in widths), name, widths, "a list of positive widths")


@dataclass(frozen=True, kw_only=True)
class ModelOptions(Network):
    """The network to train: its architecture and its sizes.

    Attributes:
        model: "mlp", "cnn", or a function of your own that returns a torch module, as package.module:function.
    """

    model: str = "mlp"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.model == "mlp":
            for name in ("channels", "batch_norm", "padding"):
                if getattr(self, name):
                    raise ConfigError(f"{name} has no meaning for model mlp: leave it out, or use model cnn")
        elif ":" in self.model:
            for field in dataclasses.fields(Network):
                if getattr(self, field.name) != field.default:
                    raise ConfigError(f"{field.name} has no meaning for {self.model}: set it in your own function")
        elif self.model == "cnn":
            if self.activation != "relu":
                raise ConfigError("activation has no meaning for model cnn: leave it out, or use model mlp")
        else:
            raise ConfigError(f"model must be mlp, cnn or package.module:function, and is {self.model!r}")


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """Random views of a picture. Each is a function of its seed, the view's number and the example alone.

    Attributes:
        shift: Largest shift in pixels in each direction. Alone, shifts are whole pixels, as in the paper's jitter.
        rotate: Largest rotation in degrees.
        scale: Largest change of size, as a share: 0.1 gives sizes from 1/1.1 to 1.1.
        shear: Largest shear, as a share of the height.
        views: How many different views of each example; training cycles through them. None: a new one each epoch.
        view_seed: Seed of the views, apart from that of training, so that a teacher's answers to them serve any seed.
    """

    shift: float = 0.0
    rotate: float = 0.0
    scale: float = 0.0
    shear: float = 0.0
    views: int | None = None
    view_seed: int = 0

    def __post_init__(self) -> None:
        for name, limit in (("shift", math.inf), ("rotate", 180.0), ("scale", math.inf), ("shear", math.inf)):
            value = getattr(self, name)
            _require(0 <= value <= limit and math.isfinite(value), name, value, "at least 0 and finite")
        _require(self.views is None or self.views >= 1, "views", self.views, "at least 1")
        _require(0 <= self.view_seed < 1 << 63, "view_seed", self.view_seed, "in [0, 2**63)")

    @property
    def active(self) -> bool:
        """Whether any view differs from the picture itself."""
        return any((self.shift, self.rotate, self.scale, self.shear))

    @property
    def whole_pixels(self) -> bool:
        """Whether views are shifts by whole pixels and nothing else."""
        return not any((self.rotate, self.scale, self.shear)) and float(self.shift).is_integer()

    def view_of(self, epoch: int) -> int:
        """Which view an epoch shows.

        Args:
            epoch: From 0.

        Returns:
            The view, from 0.

        Example:
            >>> [Augmentation(shift=1, views=3).view_of(epoch) for epoch in range(5)]
            [0, 1, 2, 0, 1]
        """
        return epoch if self.views is None else epoch % self.views


@dataclass(frozen=True, kw_only=True)
class Training:
    """How a network is trained.

    Attributes:
        epochs: Passes over the training set.
        batch_size: Examples a step.
        optimizer: "adamw", or "sgd" with momentum. AdamW does not mind the size of the loss, which grows with T.
        learning_rate: Largest learning rate; default 0.1 for sgd, 0.001 for adamw.
        momentum: Momentum of sgd.
        nesterov: Nesterov's form of momentum.
        weight_decay: Decay of weight matrices (not of biases and normalisation).
        schedule: "cosine" to zero, "constant", "exponential", "plateau": halved when validation stalls, or "newbob",
            Kaldi's rule: halved every epoch from the first whose gain on validation is below 1 %, a worse epoch undone,
            ended when the gain is below 0.1 %.
        warmup_epochs: Epochs over which the learning rate rises from 0.
        decay: Factor an epoch of the exponential schedule.
        plateau_patience: Epochs without improvement before the plateau schedule halves the learning rate.
        patience: Stop early after this many epochs without improvement on validation; none: never.
        clip_norm: Largest norm of the gradient; none: no limit.
        skip_nonfinite: Leave out steps whose loss or gradient is NaN or infinite, and count them, instead of stopping.
        label_smoothing: Share of a hard label's mass spread over all classes.
        seed: Seed of the weights, the order, the views and dropout.
        precision: "bf16", "float32", or "auto": measured when the run starts.
        device: "auto", "cpu", "cuda", "cuda:1", "mps".
        checkpoint_minutes: Write a checkpoint this often within an epoch, beside the one at its end; none: never.
    """

    epochs: int = 20
    batch_size: int = 256
    optimizer: Literal["sgd", "adamw"] = "adamw"
    learning_rate: float | None = None
    momentum: float = 0.9
    nesterov: bool = True
    weight_decay: float = 0.0
    schedule: Literal["cosine", "constant", "exponential", "plateau", "newbob"] = "cosine"
    warmup_epochs: float = 0.0
    decay: float | None = None
    plateau_patience: int | None = None
    patience: int | None = None
    clip_norm: float | None = None
    skip_nonfinite: bool = False
    label_smoothing: float = 0.0
    seed: int = 0
    precision: Literal["auto", "float32", "bf16"] = "auto"
    device: str = "auto"
    checkpoint_minutes: float | None = 10.0

    def __post_init__(self) -> None:
        _require(self.epochs >= 1, "epochs", self.epochs, "at least 1")
        _require(self.batch_size >= 1, "batch_size", self.batch_size, "at least 1")
        _require(self.optimizer in {"sgd", "adamw"}, "optimizer", self.optimizer, "sgd or adamw")
        _require(
            self.schedule in {"cosine", "constant", "exponential", "plateau", "newbob"},
            "schedule",
            self.schedule,
            "cosine, constant, exponential, plateau or newbob",
        )
        _require(
            self.precision in {"auto", "float32", "bf16"},
            "precision",
            self.precision,
            "auto, float32 or bf16",
        )
        rate = self.learning_rate
        _require(rate is None or 0 < rate < math.inf, "learning_rate", rate, "positive and finite")
        _require(0 <= self.momentum < 1, "momentum", self.momentum, "in [0, 1)")
        _require(0 <= self.weight_decay < math.inf, "weight_decay", self.weight_decay, "at least 0 and finite")
        _require(0 <= self.warmup_epochs <= self.epochs, "warmup_epochs", self.warmup_epochs, "at most epochs")
        _require(self.decay is None or 0 < self.decay <= 1, "decay", self.decay, "in (0, 1]")
        for name in ("plateau_patience", "patience"):
            _require(
                getattr(self, name) is None or getattr(self, name) >= 1,
                name,
                getattr(self, name),
                "at least 1",
            )
        _require(self.clip_norm is None or self.clip_norm > 0, "clip_norm", self.clip_norm, "positive")
        minutes = self.checkpoint_minutes
        _require(minutes is None or minutes > 0, "checkpoint_minutes", minutes, "positive")
        _require(0 <= self.label_smoothing < 1, "label_smoothing", self.label_smoothing, "in [0, 1)")
        _require(0 <= self.seed < 1 << 63, "seed", self.seed, "in [0, 2**63)")
        for name, schedule in (("decay", "exponential"), ("plateau_patience", "plateau")):
            if getattr(self, name) is not None and self.schedule != schedule:
                raise ConfigError(f"{name} belongs to schedule {schedule}, and schedule is {self.schedule}")
        if self.optimizer == "adamw" and (self.momentum, self.nesterov) != (0.9, True):
            raise ConfigError("momentum and nesterov belong to optimizer sgd, and optimizer is adamw")

    @property
    def peak_learning_rate(self) -> float:
        """The learning rate asked for, or the optimiser's default.

        Returns:
            The largest learning rate of the run.

        Example:
            >>> Training().peak_learning_rate
            0.001
        """
        return self.learning_rate or {"sgd": 0.1, "adamw": 0.001}[self.optimizer]


class TrainingKeywords(TypedDict, total=False):
    """The fields of :class:`Training` as keyword arguments."""

    epochs: int
    batch_size: int
    optimizer: Literal["sgd", "adamw"]
    learning_rate: float | None
    momentum: float
    nesterov: bool
    weight_decay: float
    schedule: Literal["cosine", "constant", "exponential", "plateau", "newbob"]
    warmup_epochs: float
    decay: float | None
    plateau_patience: int | None
    patience: int | None
    clip_norm: float | None
    skip_nonfinite: bool
    label_smoothing: float
    seed: int
    precision: Literal["auto", "float32", "bf16"]
    device: str
    checkpoint_minutes: float | None


@dataclass(frozen=True, kw_only=True)
class Distillation:
    """What the student learns from the teacher.

    Attributes:
        temperature: Temperature T of the softmax for soft targets; above 0.
        hard_weight: Weight of the true labels in [0, 1]; the soft targets have the rest. 0 needs no labels.
        loss: What is made small beside the labels' loss: "kl", the divergence of the softened distributions times T
            squared, or "logits", its limit at high temperatures: half the mean squared distance of the zero-meaned
            scores, in which no temperature counts.
    """

    temperature: float = 4.0
    hard_weight: float = 0.1
    loss: SoftLoss = "kl"

    def __post_init__(self) -> None:
        _require(self.loss in {"kl", "logits"}, "loss", self.loss, "kl or logits")
        _require(0 < self.temperature < math.inf, "temperature", self.temperature, "positive and finite")
        _require(0 <= self.hard_weight <= 1, "hard_weight", self.hard_weight, "in [0, 1]")


@dataclass(frozen=True, kw_only=True)
class RankRule:
    """How small the layers become: one of these.

    Attributes:
        rank: The same rank for all layers, or one for each layer in order.
        energy: Share kept of each layer's sum of squares of the singular values, in (0, 1].
        singular_share: Share kept of each layer's sum of singular values, in (0, 1].
        layer_share: Share of each layer's weights, in (0, 1].
        parameters: Parameters of the whole network, divided among the layers so that least is lost: a share up to 1,
            or a count.
        flops: Multiply-adds of the whole network, likewise.
        size: Bytes of the whole network's weights, likewise, such as 200KB.
    """

    rank: tuple[int, ...] | None = None
    energy: float | None = None
    singular_share: float | None = None
    layer_share: float | None = None
    parameters: float | None = None
    flops: float | None = None
    size: str | None = None

    def __post_init__(self) -> None:
        names = [field.name for field in dataclasses.fields(self)]
        given = [name for name in names if getattr(self, name) is not None]
        if len(given) > 1:
            raise ConfigError(f"one rank rule is needed, and {' and '.join(given)} are given: leave all but one out")
        for name in ("energy", "singular_share", "layer_share"):
            value = getattr(self, name)
            _require(value is None or 0 < value <= 1, name, value, "in (0, 1]")
        for name in ("parameters", "flops"):
            value = getattr(self, name)
            _require(value is None or 0 < value < math.inf, name, value, "a share in (0, 1], or a count above 1")
        _require(self.rank is None or all(rank >= 1 for rank in self.rank), "rank", self.rank, "at least 1")
        if self.rank == ():
            raise ConfigError("rank needs a number: --rank 50, or one for each layer in order")

    @property
    def name(self) -> str | None:
        """Which rule is given, or None.

        Returns:
            The field's name.

        Example:
            >>> RankRule(energy=0.9).name
            'energy'
        """
        return next((field.name for field in dataclasses.fields(self) if getattr(self, field.name) is not None), None)


@dataclass(frozen=True, kw_only=True)
class FineTuning:
    """How a smaller network learns to answer as the one it was made of.

    Attributes:
        finetune_epochs: Epochs of distillation from the original after its layers were made smaller; 0: none.
        temperature: Temperature T of the softmax for soft targets; above 0.
        hard_weight: Weight of the true labels in [0, 1]; the soft targets have the rest. 0 needs no labels.
        batch_size: Examples a step.
        learning_rate: Largest learning rate of AdamW; it falls to zero along a cosine.
        warmup_epochs: Epochs over which the learning rate rises from 0.
        seed: Seed of the order, the views, dropout and the choice of calibration examples.
        precision: "bf16", "float32", or "auto": measured when the run starts.
        device: "auto", "cpu", "cuda", "cuda:1", "mps".
    """

    finetune_epochs: int = 0
    temperature: float = 4.0
    hard_weight: float = 0.1
    batch_size: int = 256
    learning_rate: float = 0.0005
    warmup_epochs: float = 0.0
    seed: int = 0
    precision: Literal["auto", "float32", "bf16"] = "auto"
    device: str = "auto"

    def __post_init__(self) -> None:
        _require(self.finetune_epochs >= 0, "finetune_epochs", self.finetune_epochs, "at least 0")
        self.aims  # noqa: B018  (checks its fields)
        self.training(max(1, self.finetune_epochs))

    @property
    def aims(self) -> Distillation:
        """What is learnt."""
        return Distillation(temperature=self.temperature, hard_weight=self.hard_weight)

    def training(self, epochs: int) -> Training:
        """The settings of the training.

        Args:
            epochs: How many.

        Returns:
            The settings.
        """
        return Training(
            epochs=epochs,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            warmup_epochs=self.warmup_epochs,
            seed=self.seed,
            precision=self.precision,
            device=self.device,
        )
