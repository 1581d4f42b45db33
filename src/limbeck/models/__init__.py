"""Architectures, each with a small frozen config that is saved beside the weights."""

__all__ = [
    "CNN",
    "MLP",
    "CNNConfig",
    "Dropout",
    "Factored",
    "Int8Linear",
    "MLPConfig",
    "Specialist",
    "build",
    "changes_of",
    "close_attention",
    "close_conv1d",
    "conv1d_names",
    "count_outputs",
    "count_parameters",
    "describe",
    "factored_ranks",
    "from_options",
    "has_conv1d",
    "has_int8",
    "hf_model",
    "hf_teacher",
    "layer_sizes",
    "open_attention",
    "open_conv1d",
    "opened_names",
    "own_function",
    "rebuild",
    "register_architecture",
    "spatial_layers",
    "split_layers",
    "to_int8",
    "tucker_layers",
]

import dataclasses
import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from limbeck.errors import ConfigError, DataError
from limbeck.inputs import Inputs, first_few
from limbeck.models.attention import close_attention, open_attention, opened_names
from limbeck.models.calling import call_model, evaluating
from limbeck.models.cnn import CNN, CNNConfig
from limbeck.models.dropout import Dropout
from limbeck.models.factored import Factored, factored_ranks, spatial_layers, split_layers, tucker_layers
from limbeck.models.factories import make_model
from limbeck.models.hf_models import HF_PREFIX, build_hf, describe_hf, hf_model, hf_teacher
from limbeck.models.int8 import Int8Linear, count_parameters, has_int8, to_int8
from limbeck.models.mlp import MLP, MLPConfig
from limbeck.models.narrow import narrow, narrowed_widths
from limbeck.models.specialist import Specialist
from limbeck.models.timm_models import TIMM_PREFIX, build_timm, describe_timm, make_timm
from limbeck.models.transposed import close_conv1d, conv1d_names, has_conv1d, open_conv1d
from limbeck.options import ModelOptions
from limbeck.system.user_code import import_user_module

_KINDS: dict[str, tuple[type[Any], type[Any]]] = {
    "mlp": (MLPConfig, MLP),
    "cnn": (CNNConfig, CNN),
}
_NAMED = {"nnet1": "limbeck.kaldi.network"}
"""Modules that register an architecture, imported when one is asked for by its name."""
_SPECIALIST, _HF, _TIMM = "specialist", "hf", "timm"
_CHANGES = ("conv1d", "attention", "widths", "ranks", "spatial", "tucker", "int8")


def register_architecture(kind: str, config: type[Any], model: type[nn.Module]) -> None:
    """Let :func:`build` make an architecture by its name, and :func:`describe` know it.

    Args:
        kind: Its ``model_type``.
        config: A dataclass of its fields.
        model: Made of a config, which it keeps as ``config``.

    Example:
        >>> register_architecture("another mlp", MLPConfig, type("Another", (MLP,), {}))
        >>> type(build({"model_type": "another mlp", "input_shape": [4], "classes": 3})).__name__
        'Another'
    """
    _KINDS[kind] = (config, model)


def build(description: Mapping[str, Any]) -> nn.Module:
    """Make a model, with fresh weights, from its description.

    Args:
        description: ``{"model_type": "mlp" | "cnn" | "nnet1", ...}`` with the fields of the architecture's config, and
            where the network was compressed what :func:`changes_of` gives; or ``{"model_type": "hf", "architecture":
            ..., "config": {...}}`` for a classifier of transformers; or ``{"model_type": "specialist", "special":
            [...], "network": {...}}`` with the description of the network inside; or ``{"model_type": "timm", "name":
            ..., "classes": ...}`` for a network of timm.

    Returns:
        The model, in training mode.

    Raises:
        ConfigError: If the architecture or a field is unknown, missing or of another type.

    Example:
        >>> net = build({"model_type": "mlp", "input_shape": [4], "classes": 3, "hidden": [8]})
        >>> net(torch.zeros(1, 4)).shape
        torch.Size([1, 3])
    """
    fields = dict(description)
    kind = fields.pop("model_type", None)
    if kind == _SPECIALIST:
        return _specialist(fields)
    changes: dict[str, Any] = {name: fields.pop(name) for name in _CHANGES if name in fields}
    if kind == _HF:
        return rebuild(build_hf(fields), changes)
    if kind == _TIMM:
        return rebuild(build_timm(fields), changes)
    if isinstance(kind, str) and kind in _NAMED:
        importlib.import_module(_NAMED[kind])
    if not isinstance(kind, str) or kind not in _KINDS:
        names = dict.fromkeys((*_KINDS, *_NAMED, _HF, _TIMM, _SPECIALIST))
        raise ConfigError(f"unknown architecture {str(kind)[:40]!r}: known are {', '.join(names)}")
    config_type, model_type = _KINDS[kind]
    known = {field.name for field in dataclasses.fields(config_type)}
    unknown = sorted(set(fields) - known)
    if unknown:
        raise ConfigError(f"unknown fields of architecture {kind}: {', '.join(unknown)}")
    fields = {name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()}
    try:
        model: nn.Module = model_type(config_type(**fields))
    except (TypeError, ValueError, RuntimeError) as error:
        raise ConfigError(f"architecture {kind} cannot be built from {fields}: {error}") from error
    return rebuild(model, changes)


def _specialist(fields: Mapping[str, Any]) -> Specialist:
    special, inside = fields.get("special"), fields.get("network")
    if set(fields) != {"special", "network"} or not isinstance(inside, Mapping) or not isinstance(special, list):
        raise ConfigError(f"a specialist is described by special classes and a network, not by {dict(fields)}"[:300])
    if inside.get("model_type") == _SPECIALIST or not all(type(number) is int for number in special):
        raise ConfigError(f"a specialist of {inside.get('model_type')} for classes {special} cannot be built"[:300])
    network = build(inside)
    if special and not (max(special) < inside["classes"] > len(special)):
        raise ConfigError(f"a specialist for classes {special} needs more than {inside['classes']} classes"[:300])
    try:
        return Specialist(network, special)
    except DataError as error:
        raise ConfigError(f"a specialist cannot be built: {error}") from error


def changes_of(model: nn.Module) -> dict[str, Any]:
    """What compression changed in an architecture, as :func:`rebuild` takes it.

    Args:
        model: Any module.

    Returns:
        ``conv1d``, the names of layers that were ``Conv1D``; ``attention``, of those whose projections are layers;
        ``widths``, inputs and outputs of layers that lost units; ``ranks``, by layer; ``spatial``, the names of those
        that are a convolution over columns and one over rows; ``tucker``, to how many channels the first goes of those
        that are three; and ``int8``, each only where there is such a layer: true where all linear layers have 8 bits,
        or the names of those that have.

    Example:
        >>> changes_of(split_layers(nn.Sequential(nn.Linear(8, 6)), {"0": 2}))
        {'ranks': {'0': 2}}
    """
    ranks, spatial = factored_ranks(model), spatial_layers(model)
    names = [name for name, part in model.named_modules() if isinstance(part, Int8Linear)]
    partly = any(type(part) is nn.Linear for part in model.modules())
    int8: dict[str, Any] = {"int8": names if partly else True} if names else {}
    widths = narrowed_widths(model)
    found = {
        "conv1d": conv1d_names(model),
        "attention": opened_names(model),
        "widths": widths,
        "ranks": ranks,
        "spatial": spatial,
        "tucker": tucker_layers(model),
    }
    return {**{name: value for name, value in found.items() if value}, **int8}


def rebuild(model: nn.Module, changes: Mapping[str, Any]) -> nn.Module:
    """Change an architecture as compression did, so that the compressed network's weights can be loaded into it.

    Args:
        model: The architecture before, or already changed like this.
        changes: What :func:`changes_of` gave, as it comes out of a file.

    Returns:
        The model as it is where nothing is to be changed, otherwise a new one without its weights.

    Raises:
        ConfigError: If the changes do not fit the architecture.

    Example:
        >>> rebuild(nn.Sequential(nn.Linear(8, 6)), {"ranks": {"0": 2}})[0].rank
        2
    """
    ranks, int8, spatial = changes.get("ranks", {}), changes.get("int8", False), changes.get("spatial", [])
    named = isinstance(int8, list) and bool(int8) and all(isinstance(name, str) for name in int8)
    if not isinstance(ranks, Mapping) or not (type(int8) is bool or named):
        raise ConfigError(f"ranks must be a mapping and int8 true or false, and are {ranks!r} and {int8!r}"[:300])
    if not isinstance(spatial, list) or not all(isinstance(name, str) and name in ranks for name in spatial):
        raise ConfigError(f"spatial must be a list of layers that have ranks, and is {spatial!r}"[:300])
    tucker = changes.get("tucker", {})
    if not isinstance(tucker, Mapping) or not set(tucker) <= set(ranks) - set(spatial):
        raise ConfigError(f"tucker must be channels by layers that have ranks, and is {tucker!r}"[:300])
    widths = changes.get("widths", {})
    if not isinstance(widths, Mapping) or not all(
        isinstance(each, list) and len(each) == 2 for each in widths.values()
    ):
        raise ConfigError(f"widths must be inputs and outputs by layer, and are {widths!r}"[:300])
    conv1d = changes.get("conv1d", [])
    if not isinstance(conv1d, list) or not all(isinstance(name, str) for name in conv1d):
        raise ConfigError(f"conv1d must be a list of layers, and is {conv1d!r}"[:300])
    if conv1d and conv1d_names(model) != conv1d:
        model = open_conv1d(model, conv1d)
        if conv1d_names(model) != conv1d:
            raise ConfigError(f"the architecture has no Conv1D in all of {', '.join(conv1d)}"[:300])
    attention = changes.get("attention", [])
    if not isinstance(attention, list) or not all(isinstance(name, str) for name in attention):
        raise ConfigError(f"attention must be a list of modules, and is {attention!r}"[:300])
    if attention and opened_names(model) != attention:
        model = open_attention(model, attention)
        if opened_names(model) != attention:
            raise ConfigError(f"the architecture has no attention in all of {', '.join(attention)}"[:300])
    if widths and narrowed_widths(model) != widths:
        model = narrow(model, {name: tuple(each) for name, each in widths.items()})
    if ranks and factored_ranks(model) != ranks:
        model = split_layers(model, ranks, spatial, tucker)
    if not int8 or has_int8(model):
        return model
    return to_int8(model, round_weights=False, only=int8 if named else None)


def count_outputs(model: nn.Module) -> int | None:
    """The number of a model's logits, from its own attributes or its final linear layer.

    Args:
        model: Any module.

    Returns:
        The number; None if it is not known without asking the model.

    Example:
        >>> count_outputs(nn.Sequential(nn.Flatten(), nn.Linear(4, 3))), count_outputs(nn.Identity())
        (3, None)
    """
    if isinstance(model, Specialist):
        return len(model.chosen) + 1
    count = (describe(model) or {}).get("classes", getattr(getattr(model, "config", None), "num_labels", None))
    while isinstance(model, nn.Sequential) and len(model):
        model = model[-1]
    count = model.out_features if count is None and type(model) is nn.Linear else count
    return count if isinstance(count, int) else None


def describe(model: nn.Module) -> dict[str, Any] | None:
    """The description from which :func:`build` makes the model again; None for a user's model.

    Args:
        model: Any module.

    Returns:
        ``model_type``, the fields of the config, and where the network was compressed what :func:`changes_of` gives.

    Example:
        >>> describe(MLP(MLPConfig(input_shape=(4,), classes=3)))["model_type"]
        'mlp'
    """
    if type(model) is Specialist:
        inside = describe(model.network)
        known = inside is not None and inside["model_type"] != _SPECIALIST
        return {"model_type": _SPECIALIST, "special": list(model.chosen), "network": inside} if known else None
    for kind, (_, model_type) in _KINDS.items():
        if type(model) is model_type:
            return {"model_type": kind, **dataclasses.asdict(cast(Any, model.config)), **changes_of(model)}
    for kind, builder, described in (
        (_HF, build_hf, describe_hf(model)),
        (_TIMM, build_timm, describe_timm(model)),
    ):
        changes = changes_of(model)
        if described is not None and (changes or _as_described(model, builder, described)):
            return {"model_type": kind, **described, **changes}
    return None


def _as_described(
    model: nn.Module, builder: Callable[[Mapping[str, Any]], nn.Module], description: Mapping[str, Any]
) -> bool:
    """Whether a model of another library is what its configuration says: its user may have replaced a part."""
    try:
        made = _made_on("meta", builder, description)  # without memory: the model may be large
    except (RuntimeError, NotImplementedError, ConfigError):  # some networks of timm compute while they are made
        made = _made_on("cpu", builder, description)
    weights = ({name: value.shape for name, value in each.state_dict().items()} for each in (made, model))
    return next(weights) == next(weights)


def _made_on(
    device: str, builder: Callable[[Mapping[str, Any]], nn.Module], description: Mapping[str, Any]
) -> nn.Module:
    with torch.random.fork_rng(devices=[]), torch.device(device):
        return builder(description)


def from_options(
    options: ModelOptions,
    *,
    input_shape: tuple[int, ...],
    classes: int,
    seed: int,
    class_names: Sequence[str] | None = None,
    input_mean: float = 0.0,
    input_std: float = 1.0,
    tokenizer: str | None = None,
    max_length: int | None = None,
) -> nn.Module:
    """The network that options name, with weights drawn from a seed.

    Args:
        options: Architecture and sizes; or ``hf:`` and the folder or name of one of Hugging Face's classifiers; or
            ``package.module:function``, which is called with those of ``input_shape``, ``classes`` and ``seed`` that it
            takes, by name, and returns a module.
        input_shape: Shape of one example.
        classes: Number of classes.
        seed: Seed of the weights; the global generator's state is restored.
        class_names: Names of the classes, in order; None to number them.
        input_mean: Subtracted from every input where ``options.standardise`` is set.
        input_std: Every input is divided by it where ``options.standardise`` is set.
        tokenizer: For a model of Hugging Face that has none beside it.
        max_length: Tokens of a text that such a model sees; None for the usual number.

    Returns:
        The model, in training mode.

    Raises:
        ConfigError: If a user's function is missing or fails, or a size is impossible.
    """
    if options.model.startswith(HF_PREFIX):
        named = class_names or [str(number) for number in range(classes)]
        return hf_model(options.model, named, seed=seed, tokenizer=tokenizer, max_length=max_length)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if options.model.startswith(TIMM_PREFIX):
            return make_timm(options.model, classes=classes, input_shape=input_shape)
        if ":" in options.model:
            offered = {"input_shape": input_shape, "classes": classes}
            return make_model(own_function(options.model), seed, named=offered, what=f"model {options.model}")
        fields: dict[str, Any] = {
            "model_type": options.model,
            "input_shape": input_shape,
            "classes": classes,
            "dropout": options.dropout,
            "input_dropout": options.input_dropout,
            "max_norm": options.max_norm,
        }
        if options.hidden is not None:
            fields["hidden"] = options.hidden
        if options.standardise:
            fields |= {"input_mean": input_mean, "input_std": input_std}
        if options.model == "mlp":
            fields |= {"activation": options.activation, "pieces": options.pieces or 2}
        if options.model == "cnn":
            fields |= {"batch_norm": options.batch_norm, "padding": options.padding}
            if options.channels is not None:
                fields["channels"] = options.channels
        return build(fields)


def own_function(spec: str, *, what: str = "model") -> Callable[..., Any]:
    """Load a user's function by module and name.

    Args:
        spec: ``package.module:function``.
        what: The setting that names it, for messages.

    Returns:
        The function.

    Raises:
        ConfigError: If there is no such module, or no such function in it.

    Example:
        >>> own_function("math:gcd")(4, 6)
        2
    """
    module_name, _, function_name = spec.partition(":")
    module = import_user_module(module_name, f"{what} {spec}")
    try:
        function = getattr(module, function_name)
    except AttributeError as error:
        raise ConfigError(f"{what} {spec}: {module_name} has no {function_name}") from error
    if not callable(function):
        raise ConfigError(f"{what} {spec}: {function_name} is {type(function).__name__}, and a function is needed")
    return function  # type: ignore[no-any-return]


def layer_sizes(model: nn.Module, example: Inputs) -> list[tuple[str, tuple[int, ...], int]]:
    """The output shape and number of parameters of each layer with parameters.

    Args:
        model: Any module.
        example: One batch of inputs, of which one example is used.

    Returns:
        For each layer its name, the shape of its output for one example, and its parameters.

    Example:
        >>> layer_sizes(MLP(MLPConfig(input_shape=(4,), classes=3, hidden=(8,))), torch.zeros(1, 4))
        [('Linear', (8,), 40), ('Linear', (3,), 27)]
    """
    found: list[tuple[str, tuple[int, ...], int]] = []

    def note(module: nn.Module, _: object, output: object) -> None:
        own = module.parameters(recurse=False)
        count = count_parameters(module) if isinstance(module, Int8Linear) else sum(value.numel() for value in own)
        if isinstance(output, Tensor):
            found.append((type(module).__name__, tuple(output.shape[1:]), count))

    owners = [
        module
        for module in model.modules()
        if isinstance(module, Int8Linear) or next(module.parameters(recurse=False), None) is not None
    ]
    hooks = [module.register_forward_hook(note) for module in owners]
    try:
        with evaluating(model), torch.no_grad():
            call_model(model, first_few(example))
    finally:
        for hook in hooks:
            hook.remove()
    return found
