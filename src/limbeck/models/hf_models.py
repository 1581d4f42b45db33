"""Classifiers of Hugging Face's transformers: from a folder, a name on the hub, or a configuration alone.

Axes: ``K`` classes.
"""

__all__ = ["HF_PREFIX", "build_hf", "describe_hf", "hf_model", "hf_teacher"]

import inspect
import json
import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from limbeck.errors import ConfigError, LimbeckError, MismatchError
from limbeck.models.class_order import InOrder, matched
from limbeck.models.factories import seeded
from limbeck.models.hf_files import (
    HEADS,
    HF_PREFIX,
    OF_TOKENS,
    config_of,
    has_tokenizer,
    has_weights,
    is_class_of_transformers,
    model_class,
    refuse_regression,
    require_fit,
)
from limbeck.options.presentation import ImagePresentation
from limbeck.options.text import TOKEN_INPUTS, TextPresentation
from limbeck.system.files import read_json
from limbeck.system.hugging_face import file_of, filler, from_hub, load_tokenizer, transformers

_OF_THE_MACHINE = ("_name_or_path", "architectures", "transformers_version", "dtype", "torch_dtype")
_CODE = ("auto_map", "attn_implementation", "experts_implementation", "quantization_config")
"""Fields of a configuration by which code, or kernels from the hub, would be fetched; those with an underscore too."""
_USUAL_LENGTH = 256
_PROCESSOR = "preprocessor_config.json"


def hf_model(
    name: str,
    classes: Sequence[str],
    *,
    seed: int = 0,
    tokenizer: str | None = None,
    max_length: int | None = None,
) -> nn.Module:
    """A classifier to train, with the data's classes.

    Where there are weights they are kept for every seed, and what is new, such as the head where the number of classes
    differs, is drawn from the seed; where there is a ``config.json`` alone all weights are.

    Args:
        name: A folder, or a name on the hub whose files are on the disk or can be downloaded.
        classes: Names of the classes, in order.
        seed: Of what is drawn.
        tokenizer: A tokenizer's folder or name, where it is not beside the model.
        max_length: Tokens of a text; None for 256, or as many as the model takes where that is less.

    Returns:
        The model in float32 and training mode, of transformers' own class. Its attribute ``presentation`` says how it
        sees texts or images, and ``classes`` names the classes.

    Raises:
        ConfigError: If it is not there, is not a classifier, or has weights in a pickle only.
        MissingExtraError: If transformers is not installed.
    """  # noqa: DOC502
    name, config = name.removeprefix(HF_PREFIX), config_of(name.removeprefix(HF_PREFIX))
    kind = model_class(config, name)
    refuse_regression(config, name)
    if not kind.__name__.endswith(OF_TOKENS):
        config.id2label = dict(enumerate(map(str, classes)))
        config.label2id = {str(label): number for number, label in enumerate(classes)}
    elif config.vocab_size != len(classes):
        raise ConfigError(
            f"model {name} outputs {config.vocab_size} tokens, and the data have {len(classes)} classes: set the "
            "data's vocabulary to what the model knows"
        )
    with seeded(seed):
        if has_weights(name):
            settings = {"config": config, "use_safetensors": True, "ignore_mismatched_sizes": True}
            network = from_hub(kind.from_pretrained, name, "model", dtype=torch.float32, **settings)
        else:
            network = _made(kind, config)
    return _presented(network.train(), name, tuple(map(str, classes)), tokenizer, max_length)


def hf_teacher(
    name: str,
    classes: Sequence[str] | None = None,
    *,
    tokenizer: str | None = None,
    max_length: int | None = None,
) -> nn.Module:
    """A classifier that was trained, in the type of its weights.

    Args:
        name: A folder, or a name on the hub whose files are on the disk or can be downloaded.
        classes: Names of the data's classes; where the model has them in another order its logits are reordered.
        tokenizer: A tokenizer's folder or name, where it is not beside the model.
        max_length: Tokens of a text; None for 256, or as many as the model takes where that is less.

    Returns:
        The model in evaluation mode, with attributes ``presentation`` and ``classes``.

    Raises:
        ConfigError: If it is not there, is not a classifier, lacks weights, or has them in a pickle only.
        MismatchError: If its classes are not the data's.
        MissingExtraError: If transformers is not installed.
    """  # noqa: DOC502
    name, config = name.removeprefix(HF_PREFIX), config_of(name.removeprefix(HF_PREFIX))
    if not has_weights(name):
        raise ConfigError(f"model {name} has no weights, only a configuration: a teacher must be trained")
    kind = model_class(config, name)
    theirs = tuple(str(config.id2label[number]) for number in range(config.num_labels))
    if kind.__name__.endswith(OF_TOKENS):
        theirs = tuple(map(str, range(config.vocab_size)))
    else:
        refuse_regression(config, name, trained=True)
    binary = len(theirs) == 1 and classes is not None and len(classes) == 2
    if binary and classes is not None and theirs[0] == classes[0]:
        raise MismatchError(
            f"the one logit of teacher {name} is for class {theirs[0]!r}, and must be for the second of the data's, "
            f"{', '.join(classes)}: name the classes in that order"
        )
    order = None if classes is None or binary else matched(f"teacher {name}", theirs, classes)
    loaded, info = from_hub(
        kind.from_pretrained, name, "model", config=config, use_safetensors=True, output_loading_info=True
    )
    if info["missing_keys"]:
        missing = ", ".join(sorted(info["missing_keys"])[:3])
        raise ConfigError(
            f"model {name} has no weights for {missing}: it was not trained to classify, and cannot teach"
        )
    network = _presented(loaded.eval(), name, theirs, tokenizer, max_length)
    if order is not None:
        network = InOrder(network, order).eval()
    network.classes = theirs if classes is None else tuple(classes)  # type: ignore[assignment]
    return network


def build_hf(fields: Mapping[str, Any]) -> nn.Module:
    """Make a model from what :func:`describe_hf` gave.

    Args:
        fields: ``architecture``, the name of a class of transformers, and ``config``, its configuration.

    Returns:
        The model with fresh weights, in training mode.

    Raises:
        ConfigError: If the architecture is unknown or the configuration does not suit it.
    """  # noqa: DOC501
    name, config = fields.get("architecture"), fields.get("config")
    if set(fields) != {"architecture", "config"} or not isinstance(config, Mapping) or not isinstance(name, str):
        raise ConfigError(f"an hf model is described by architecture and config, not by {', '.join(map(str, fields))}")
    kind: Any = getattr(transformers(), name, None) if re.fullmatch(r"[A-Z]\w{0,99}", name) else None
    if not is_class_of_transformers(kind) or not name.endswith(HEADS):
        raise ConfigError(f"architecture {name[:60]!r} is not a classifier of transformers")
    try:
        return _made(kind, kind.config_class.from_dict(_plain(config)))
    except LimbeckError:
        raise
    except Exception as error:  # whatever a configuration with odd values raises
        reason = " ".join(str(error).split())
        raise ConfigError(f"architecture {name} cannot be built: {type(error).__name__}: {reason[:200]}") from error


def describe_hf(model: nn.Module) -> dict[str, Any] | None:
    """The description from which :func:`build_hf` makes a model again.

    Args:
        model: Any module.

    Returns:
        ``architecture`` and ``config``; None for what is not a classifier of transformers, as it is there.
    """
    if "transformers" not in sys.modules or not is_class_of_transformers(type(model)):
        return None
    if not type(model).__name__.endswith(HEADS):
        return None
    network: Any = model
    config = _plain(json.loads(network.config.to_json_string(use_diff=False)))
    return {"architecture": type(model).__name__, "config": config}


def _plain(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration without what names this machine, and without what would fetch code."""
    dropped = {*_OF_THE_MACHINE, *_CODE}
    found = {}
    for name, value in config.items():
        if name not in dropped and not name.startswith("_"):
            found[name] = _plain(value) if isinstance(value, Mapping) and name.endswith("_config") else value
    return found


def _made(kind: Any, config: Any) -> nn.Module:
    # What follows is told where it matters: of token numbers outside a small vocabulary.
    logging = transformers().utils.logging
    level = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        network: nn.Module = kind(config)
    finally:
        logging.set_verbosity(level)
    return network


def _presented(
    network: Any, name: str, classes: tuple[str, ...], tokenizer: str | None, max_length: int | None
) -> nn.Module:
    """Give a model its presentation and its classes as attributes."""
    network.classes = classes
    if tokenizer is not None or has_tokenizer(name):
        network.presentation = _of_texts(network, name, tokenizer or name, max_length)
    elif (processor := file_of(name, _PROCESSOR)) is not None:
        network.presentation = ImagePresentation.from_processor(read_json(processor))
    return network  # type: ignore[no-any-return]


def _of_texts(network: Any, name: str, tokenizer: str, max_length: int | None) -> TextPresentation:
    loaded, config = load_tokenizer(tokenizer), network.config
    require_fit(config, name, tokenizer, loaded)
    most = _most_tokens(network, loaded)
    if max_length is not None and max_length > most:
        raise ConfigError(f"max_length is {max_length}, and model {name} takes {most} tokens at most")
    if config.pad_token_id is None:
        config.pad_token_id = filler(loaded)  # or some architectures answer about one text at a time only
    taken = inspect.signature(network.forward).parameters
    names = tuple(each for each in TOKEN_INPUTS if each in taken and each in {"input_ids", *loaded.model_input_names})
    return TextPresentation(tokenizer, max_length or min(most, _USUAL_LENGTH), names)


def _most_tokens(network: Any, tokenizer: Any) -> int:
    """How long a text may be: what the tokenizer says, and for how many places the model has embeddings."""
    places = getattr(network.config, "max_position_embeddings", None) or 1 << 20
    embeddings = getattr(getattr(network.base_model, "embeddings", None), "position_embeddings", None)
    padding = getattr(embeddings, "padding_idx", None)
    if padding is not None:
        places -= padding + 1  # RoBERTa counts places from there
    return int(min(places, tokenizer.model_max_length, 1 << 20))
