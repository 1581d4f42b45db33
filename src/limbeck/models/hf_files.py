"""Files of Hugging Face models, checked before weights are loaded or data are read."""

__all__ = [
    "HEADS",
    "HF_PREFIX",
    "OF_TOKENS",
    "Look",
    "config_of",
    "has_tokenizer",
    "has_weights",
    "is_class_of_transformers",
    "look_at",
    "model_class",
    "refuse_regression",
    "require_fit",
]

from dataclasses import dataclass
from typing import Any

from torch import nn

from limbeck.errors import ConfigError
from limbeck.system.hugging_face import file_of, from_hub, load_tokenizer, transformers

HF_PREFIX = "hf:"
"""What a folder or name is given after where any model may be named."""
OF_TOKENS = ("ForCausalLM", "LMHeadModel")
"""How the names of language models' architectures end."""
HEADS = ("ForSequenceClassification", "ForImageClassification", "ForTokenClassification", *OF_TOKENS)
"""How the names of architectures end that answer with classes."""
_WEIGHTS = ("model.safetensors", "model.safetensors.index.json")
_UNSAFE = ("pytorch_model.bin", "pytorch_model.bin.index.json", "tf_model.h5", "flax_model.msgpack")


@dataclass(frozen=True)
class Look:
    """What is known of a model before its weights are loaded.

    Attributes:
        tokenizer: Its tokenizer, or None where it sees no texts.
        max_length: Tokens of a text, at most.
        vocabulary: Tokens that it knows.
    """

    tokenizer: str | None
    max_length: int
    vocabulary: int


def look_at(name: str, *, tokenizer: str | None = None, trained: bool = False) -> Look:
    """Look at a model's files, and refuse what cannot be used before anything else is read.

    Args:
        name: A folder or a name on the hub, with or without ``hf:``.
        tokenizer: A tokenizer's folder or name, where it is not beside the model.
        trained: Whether it needs weights, as a teacher does.

    Returns:
        What is known.

    Raises:
        ConfigError: If it is not there, is not a classifier, lacks weights, or its tokenizer belongs to another model.
        MissingExtraError: If transformers is not installed.
    """  # noqa: DOC502
    name = name.removeprefix(HF_PREFIX)
    config = config_of(name)
    kind = model_class(config, name)
    refuse_regression(config, name, trained=trained and not kind.__name__.endswith(OF_TOKENS))
    if not has_weights(name) and trained:
        raise ConfigError(f"model {name} has no weights, only a configuration: a teacher must be trained")
    used = name if has_tokenizer(name) else tokenizer
    vocabulary = int(getattr(config, "vocab_size", None) or 0)
    if used is None or not vocabulary:
        return Look(None, 0, vocabulary)
    loaded = load_tokenizer(used)
    require_fit(config, name, used, loaded)
    places = getattr(config, "max_position_embeddings", None) or 1 << 20
    return Look(used, int(min(places, loaded.model_max_length, 1 << 20)), vocabulary)


def has_tokenizer(name: str) -> bool:
    """Whether a tokenizer is beside a model."""
    return any(file_of(name, file) for file in ("tokenizer.json", "tokenizer_config.json", "vocab.txt"))


def require_fit(config: Any, name: str, tokenizer: str, loaded: Any) -> None:
    """Refuse a tokenizer whose tokens have numbers that the model has no embedding for."""
    last = max(loaded.get_vocab().values(), default=-1)
    if max(last + 1, len(loaded)) > config.vocab_size:
        raise ConfigError(
            f"model {name} has {config.vocab_size} tokens, and its tokenizer {tokenizer} has "
            f"{max(last + 1, len(loaded))}: they do not belong together, or vocab_size in config.json is too small"
        )


def refuse_regression(config: Any, name: str, *, trained: bool = False) -> None:
    """Refuse a head of regression; one output without a ``problem_type`` is trained as such by transformers."""
    said = getattr(config, "problem_type", None)
    if said == "regression" or (trained and said is None and config.num_labels == 1):
        raise ConfigError(
            f"model {name} is for regression (problem_type {said}, num_labels {config.num_labels}), which is not "
            f"supported:  classes are needed; of a binary head with one logit config.json says problem_type "
            f"multi_label_classification"
        )


def config_of(name: str) -> Any:
    """The configuration of a model; ConfigError where it is not there, or would fetch code."""
    config = from_hub(transformers().AutoConfig.from_pretrained, name, "model")
    kernels = getattr(config, "_attn_implementation", None)
    if getattr(config, "quantization_config", None) is not None or (isinstance(kernels, str) and "/" in kernels):
        raise ConfigError(f"model {name}: its config.json asks for a quantisation or a kernel of its own: take it out")
    config.use_cache = False
    return config


def model_class(config: Any, name: str) -> Any:
    """The class of the model: the one that its weights were saved from, or the classifier of its type."""
    library = transformers()
    for architecture in config.architectures or ():
        if architecture.endswith(HEADS) and is_class_of_transformers(getattr(library, architecture, None)):
            return getattr(library, architecture)
    for mapping in ("MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING", "MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING"):
        known = getattr(library, mapping)
        if type(config) in known:
            return known[type(config)]
    raise ConfigError(f"model {name}: there is no classifier of type {config.model_type} in transformers")


def has_weights(name: str) -> bool:
    """Whether there are weights; ConfigError where they are in a pickle only."""
    if any(file_of(name, file) for file in _WEIGHTS):
        return True
    pickled = next((file for file in _UNSAFE if file_of(name, file)), None)
    if pickled is not None:
        raise ConfigError(
            f"model {name} has its weights in {pickled}, and Limbeck executes no code from files: load it once with "
            "transformers and save it with save_pretrained, which writes model.safetensors"
        )
    return False


def is_class_of_transformers(kind: Any) -> bool:
    """Whether something is a class of a model in transformers itself."""
    own = isinstance(kind, type) and issubclass(kind, nn.Module) and kind.__module__.startswith("transformers.models.")
    return own and issubclass(kind, transformers().PreTrainedModel)
