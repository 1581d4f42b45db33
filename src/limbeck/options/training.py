"""Settings of training and distillation."""

__all__ = ["Distillation", "OwnOptimizer", "Training", "TrainingKeywords"]

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypedDict

from limbeck.errors import ConfigError
from limbeck.options.checks import check_types, require
from limbeck.options.data import TeacherView
from limbeck.options.methods import has_temperature, method_parts, option_table


class OwnOptimizer(str):
    """A user's optimiser factory: a name, which settings save as text, with its function.

    Attributes:
        function: Takes parameter groups and returns a :class:`torch.optim.Optimizer`.

    Example:
        >>> OwnOptimizer.of(sorted)
        'builtins:sorted'
    """

    function: Callable[..., Any]

    @classmethod
    def of(cls, function: Callable[..., Any]) -> "OwnOptimizer":
        """The optimiser factory for a function."""
        inner = function
        while not hasattr(inner, "__qualname__") and hasattr(inner, "func"):  # functools.partial
            inner = inner.func
        kind = type(inner)
        name = getattr(inner, "__qualname__", kind.__qualname__)
        found = cls(f"{getattr(inner, '__module__', None) or kind.__module__}:{name}")
        found.function = function
        return found


@dataclass(frozen=True, kw_only=True)
class Training:
    """Training settings.

    Attributes:
        epochs: Passes over the training set.
        batch_size: Examples per step.
        accumulate: Gradient accumulation: split each step's batch into this many micro-batches. The step is that of the
            whole batch up to rounding; batch normalisation and dropout work per micro-batch.
        optimizer: "adamw", or "sgd" with momentum. AdamW is insensitive to the scale of the loss, which grows with T.
            Or your own function from parameter groups to a torch.optim.Optimizer (an object in Python, or
            package.module:function). It sets the learning rates; the schedule multiplies each group's.
        learning_rate: Peak learning rate; default 0.1 for sgd, 0.001 for adamw.
        momentum: Momentum of sgd.
        nesterov: Use Nesterov momentum.
        weight_decay: Weight decay, except for biases and normalisation layers.
        schedule: Learning-rate schedule: "cosine" decay to zero; "constant"; "exponential"; "plateau", halved when
            validation stalls; or Kaldi's "newbob", halved every epoch from the first whose gain on validation is below
            1 %, with worse epochs undone, and ended when the gain is below 0.1 %.
        warmup_epochs: Epochs of linear warm-up from 0.
        decay: Factor per epoch of the exponential schedule.
        plateau_patience: Epochs without improvement before the plateau schedule halves the learning rate.
        patience: Early stopping after this many epochs without improvement on validation; default: never.
        keep: The final weights: those of the "best" epoch on validation, or of the "last". Where the learning rate
            decays to zero and a teacher prevents overfitting, the last are better: a good epoch midway is mostly
            chance.
        clip_norm: Clip the gradient to this norm; default: no clipping.
        skip_nonfinite: Skip and count steps whose loss or gradient is NaN or infinite, instead of stopping.
        label_smoothing: Probability mass of a hard label that is spread over all classes.
        class_weight: "balanced" for long-tailed data: the loss of an example of class k, for soft targets and labels,
            is multiplied by N / (K n_k), with n_k training examples of that class. It applies to student and baseline,
            and not to unlabelled examples. Default: equal weights.
        compile: Compile the network, and a teacher that runs at each step, with torch.compile, which needs a C++
            compiler: worth it for long trainings. Saved weights are those of the uncompiled network.
        cuda_graphs: On an NVIDIA GPU, launch each training step as one CUDA graph: "auto", for networks and methods
            whose steps are known to be alike; "on", for your own too, which must not draw random numbers or count in
            Python; "off". The result is the same.
        side_by_side: Train several small networks of one architecture, such as those of several seeds or of a search,
            as one with stacked weights, where that is faster: on the CPU in one process, with labels or method kd.
            Each equals its training alone up to rounding.
        seed: Seed of the initial weights, the order, the augmentation and dropout.
        precision: "bf16", "float32", or "auto": measured when the run starts.
        device: "auto", "cpu", "cuda", "cuda:1", "mps".
        checkpoint_minutes: Minutes between checkpoints within an epoch, beside the one at its end; none: only at its
            end.
        workers: Data-loading processes, for examples that are not in memory; 0: none; default: one per processor core,
            at most 8. The result does not depend on it.
    """

    epochs: int = 20
    batch_size: int = 256
    accumulate: int = 1
    optimizer: str = "adamw"
    learning_rate: float | None = None
    momentum: float = 0.9
    nesterov: bool = True
    weight_decay: float = 0.0
    schedule: Literal["cosine", "constant", "exponential", "plateau", "newbob"] = "cosine"
    warmup_epochs: float = 0.0
    decay: float | None = None
    plateau_patience: int | None = None
    patience: int | None = None
    keep: Literal["best", "last"] = "best"
    clip_norm: float | None = None
    skip_nonfinite: bool = False
    label_smoothing: float = 0.0
    class_weight: Literal["balanced"] | None = None
    compile: bool = False
    cuda_graphs: Literal["auto", "on", "off"] = "auto"
    side_by_side: bool = True
    seed: int = 0
    precision: Literal["auto", "float32", "bf16"] = "auto"
    device: str = "auto"
    checkpoint_minutes: float | None = 10.0
    workers: int | None = None

    def __post_init__(self) -> None:
        if callable(self.optimizer):
            object.__setattr__(self, "optimizer", OwnOptimizer.of(self.optimizer))
        check_types(self)
        require(self.epochs >= 1, "epochs", self.epochs, "at least 1")
        require(self.batch_size >= 1, "batch_size", self.batch_size, "at least 1")
        parts = f"from 1 to batch_size, which is {self.batch_size}"
        require(1 <= self.accumulate <= self.batch_size, "accumulate", self.accumulate, parts)
        known = self.optimizer in {"sgd", "adamw"} or self.own_optimizer
        require(known, "optimizer", self.optimizer, "sgd, adamw or package.module:function")
        require(self.class_weight in {None, "balanced"}, "class_weight", self.class_weight, "balanced")
        require(
            self.schedule in {"cosine", "constant", "exponential", "plateau", "newbob"},
            "schedule",
            self.schedule,
            "cosine, constant, exponential, plateau or newbob",
        )
        require(
            self.precision in {"auto", "float32", "bf16"},
            "precision",
            self.precision,
            "auto, float32 or bf16",
        )
        require(self.keep in {"best", "last"}, "keep", self.keep, "best or last")
        rate = self.learning_rate
        require(rate is None or 0 < rate < math.inf, "learning_rate", rate, "positive and finite")
        require(0 <= self.momentum < 1, "momentum", self.momentum, "in [0, 1)")
        require(0 <= self.weight_decay < math.inf, "weight_decay", self.weight_decay, "at least 0 and finite")
        require(0 <= self.warmup_epochs <= self.epochs, "warmup_epochs", self.warmup_epochs, "in [0, epochs]")
        require(self.decay is None or 0 < self.decay <= 1, "decay", self.decay, "in (0, 1]")
        for name in ("plateau_patience", "patience"):
            require(
                getattr(self, name) is None or getattr(self, name) >= 1,
                name,
                getattr(self, name),
                "at least 1",
            )
        require(self.clip_norm is None or self.clip_norm > 0, "clip_norm", self.clip_norm, "positive")
        minutes = self.checkpoint_minutes
        require(minutes is None or minutes > 0, "checkpoint_minutes", minutes, "positive")
        require(self.workers is None or 0 <= self.workers <= 1000, "workers", self.workers, "from 0 to 1000")
        require(0 <= self.label_smoothing < 1, "label_smoothing", self.label_smoothing, "in [0, 1)")
        require(0 <= self.seed < 1 << 63, "seed", self.seed, "in [0, 2**63)")
        for name, schedule in (("decay", "exponential"), ("plateau_patience", "plateau")):
            if getattr(self, name) is not None and self.schedule != schedule:
                raise ConfigError(f"{name} belongs to schedule {schedule}, and schedule is {self.schedule}")
        if self.optimizer != "sgd" and (self.momentum, self.nesterov) != (0.9, True):
            raise ConfigError(f"momentum and nesterov belong to optimizer sgd, and optimizer is {self.optimizer}")
        if self.own_optimizer and rate is not None:
            raise ConfigError(
                f"learning_rate belongs to optimizer sgd and adamw, and optimizer is {self.optimizer}, which sets its "
                "groups' own: leave it out"
            )

    @property
    def own_optimizer(self) -> bool:
        """Whether the optimiser is made by a user's function.

        Returns:
            True if it is.

        Example:
            >>> Training(optimizer="my_package.optimizers:lion").own_optimizer
            True
        """
        return ":" in self.optimizer

    @property
    def peak_learning_rate(self) -> float:
        """The learning rate asked for, or the optimiser's default; 1 where the optimiser is a user's.

        Returns:
            The peak learning rate, or the peak factor of the groups' own.

        Example:
            >>> Training().peak_learning_rate
            0.001
        """
        return self.learning_rate or {"sgd": 0.1, "adamw": 0.001}.get(self.optimizer, 1.0)


class TrainingKeywords(TypedDict, total=False):
    """The fields of :class:`Training` as keyword arguments."""

    epochs: int
    batch_size: int
    accumulate: int
    optimizer: str | Callable[..., Any]
    learning_rate: float | None
    momentum: float
    nesterov: bool
    weight_decay: float
    schedule: Literal["cosine", "constant", "exponential", "plateau", "newbob"]
    warmup_epochs: float
    decay: float | None
    plateau_patience: int | None
    patience: int | None
    keep: Literal["best", "last"]
    clip_norm: float | None
    skip_nonfinite: bool
    label_smoothing: float
    class_weight: Literal["balanced"] | None
    compile: bool
    cuda_graphs: Literal["auto", "on", "off"]
    side_by_side: bool
    seed: int
    precision: Literal["auto", "float32", "bf16"]
    device: str
    checkpoint_minutes: float | None
    workers: int | None


@dataclass(frozen=True, kw_only=True)
class Distillation:
    """Distillation settings.

    Attributes:
        temperature: Temperature T of the softmax for soft targets; above 0.
        hard_weight: Weight of the true labels in [0, 1]; the soft targets have the rest. 0 needs no labels.
        method: The distillation loss: kd, the KL divergence of the softened distributions times T squared; another
            method that limbeck methods lists; several with weights, as kd:1+dkd:0.5; or FILE.py:NAME for your own class
            or function.
        method_options: Options of the method, as NAME=VALUE, such as beta=8; limbeck methods lists them. In a sum,
            METHOD.NAME=VALUE where several methods have it.
        baseline_learning_rate: Peak learning rate of the baseline; default: the student's. limbeck tune chooses both
            with equally many trials.
        teacher_view: Which view the teacher sees: the student's ("consistent"), the unaugmented example ("fixed"), or
            another view, that of the next view seed ("independent").
        searched: Whose settings were tuned: of the "student" alone, of "both", or of "nobody". If of the student alone,
            the verdict says so.
    """

    temperature: float = 4.0
    hard_weight: float = 0.1
    method: str = "kd"
    method_options: tuple[str, ...] = ()
    baseline_learning_rate: float | None = None
    teacher_view: TeacherView = "consistent"
    searched: Literal["nobody", "student", "both"] = "nobody"

    def __post_init__(self) -> None:
        check_types(self)
        method_parts(self.method)
        option_table(self.method_options)
        require(0 < self.temperature < math.inf, "temperature", self.temperature, "positive and finite")
        range_of_float32 = "from 1e-06 to 1e+30, within which float32 represents soft targets (or use method logits)"
        hot = self.hard_weight < 1 and has_temperature(self.method, self.method_options)
        require(not hot or 1e-6 <= self.temperature <= 1e30, "temperature", self.temperature, range_of_float32)
        require(0 <= self.hard_weight <= 1, "hard_weight", self.hard_weight, "in [0, 1]")
        rate = self.baseline_learning_rate
        require(rate is None or 0 < rate < math.inf, "baseline_learning_rate", rate, "positive and finite")
        known = ("consistent", "fixed", "independent")
        require(self.teacher_view in known, "teacher_view", repr(self.teacher_view), f"one of {', '.join(known)}")
        require(self.searched in {"nobody", "student", "both"}, "searched", self.searched, "nobody, student or both")
