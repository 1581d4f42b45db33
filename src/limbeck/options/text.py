"""A model's text preprocessing: tokenizer and maximum length."""

__all__ = ["TOKEN_INPUTS", "TextPresentation"]

from dataclasses import dataclass

from limbeck.options.checks import check_types, require

TOKEN_INPUTS = ("input_ids", "attention_mask", "token_type_ids")
"""The tokenised inputs, by argument name."""


@dataclass(frozen=True)
class TextPresentation:
    """A model's tokenizer and maximum length; teacher and student may differ.

    Attributes:
        tokenizer: A folder with the files of a Hugging Face tokenizer, or its name on the hub.
        max_length: Longest text in tokens, including special tokens; longer texts are truncated.
        names: Which of ``input_ids``, ``attention_mask`` and ``token_type_ids`` the model takes; None for the
            tokenizer's.

    Example:
        >>> TextPresentation("bert-base-uncased", 128).max_length
        128
    """

    tokenizer: str
    max_length: int = 256
    names: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        check_types(self)
        require(bool(self.tokenizer), "tokenizer", repr(self.tokenizer), "a folder or a name")
        require(1 <= self.max_length <= 1 << 20, "max_length", self.max_length, "from 1 to 1,048,576 tokens")
        names = self.names or TOKEN_INPUTS
        require(
            "input_ids" in names and set(names) <= set(TOKEN_INPUTS),
            "names",
            ", ".join(names),
            "input_ids, and any of attention_mask and token_type_ids",
        )
