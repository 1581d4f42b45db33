"""A Hugging Face tokenizer for the page's script; unsupported parts are refused by name."""

__all__ = ["tokenizer_for_page"]

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from limbeck.errors import ConfigError
from limbeck.options.text import TextPresentation
from limbeck.system.hugging_face import filler, load_tokenizer

_NORMALIZERS = {"Sequence", "Lowercase", "NFC", "NFD", "NFKC", "NFKD", "StripAccents", "Strip", "Prepend", "Replace",
                "BertNormalizer"}  # fmt: skip
_SPLITTERS = {"Sequence", "WhitespaceSplit", "Whitespace", "Punctuation", "Digits", "BertPreTokenizer", "ByteLevel"}
_MODELS = {"WordPiece", "WordLevel", "BPE"}
"""As tokens.js has them."""


def tokenizer_for_page(seen: TextPresentation, texts: Sequence[str]) -> dict[str, Any]:
    """What the page's script needs to make tokens of a text.

    Args:
        seen: How the model sees texts.
        texts: Some texts, by which the special tokens around a text are found.

    Returns:
        ``tokenizer``, parts of the file ``tokenizer.json``; ``length``, the most tokens; ``before`` and ``after``, the
        special tokens around a text; ``empty``, the token of a text that has none.

    Raises:
        ConfigError: If it is not a fast tokenizer, or has a part that the script does not have.
    """
    made = load_tokenizer(seen.tokenizer)
    if not made.is_fast:
        raise ConfigError(f"{seen.tokenizer} has no tokenizer.json, which a page needs: save it as a fast tokenizer")
    file = json.loads(made.backend_tokenizer.to_str())
    odd = next(_odd(file, made), None)
    if odd is not None:
        raise ConfigError(f"a page cannot tokenise as {seen.tokenizer} does, which has {odd}: export to onnx or hub")
    before, after = _around(made, texts)
    return {
        "tokenizer": {name: file[name] for name in ("model", "normalizer", "pre_tokenizer", "added_tokens")},
        "length": seen.max_length,
        "before": before,
        "after": after,
        "empty": filler(made),
    }


def _odd(file: Mapping[str, Any], made: Any) -> Iterator[str]:
    """Parts that the page's script does not have."""
    model = file["model"]
    if model["type"] not in _MODELS:
        yield f"a model {model['type']}"
    if model.get("dropout") or model.get("byte_fallback"):
        yield "a model with dropout or byte_fallback"
    for part in _parts(file["normalizer"], "normalizers"):
        if part["type"] not in _NORMALIZERS or (part["type"] == "Replace" and "String" not in part["pattern"]):
            yield f"a normalizer {part['type']}"
    for part in _parts(file["pre_tokenizer"], "pretokenizers"):
        plain = part["type"] != "Punctuation" or part.get("behavior") == "Isolated"
        if part["type"] not in _SPLITTERS or not plain:
            yield f"a pre-tokenizer {part['type']}"
    if any(token["single_word"] for token in file["added_tokens"]):
        yield "added tokens with single_word"
    if made.truncation_side != "right":
        yield f"truncation on the {made.truncation_side}"


def _parts(part: Mapping[str, Any] | None, inside: str) -> Iterator[Mapping[str, Any]]:
    if part is not None:
        yield part
        for each in part.get(inside, ()):
            yield from _parts(each, inside)


def _around(made: Any, texts: Sequence[str]) -> tuple[list[int], list[int]]:
    """The special tokens before and after those of a text."""
    for text in texts:
        bare = made(text, add_special_tokens=False, verbose=False)["input_ids"]
        whole = made(text, verbose=False)["input_ids"]
        for start in range(len(whole) - len(bare) + 1):
            if bare and whole[start : start + len(bare)] == bare:
                return whole[:start], whole[start + len(bare) :]
    raise ConfigError("the special tokens around a text cannot be found: give held-out texts that have tokens")
