"""The manifest of a store: its plan, and once it is complete, the seals of its shards."""

__all__ = ["MANIFEST", "Manifest", "Plan", "encoding_of"]

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from limbeck.errors import ConfigError, FormatError, LimbeckError
from limbeck.softtargets.encodings import Dense, Encoding
from limbeck.softtargets.sampled import Sampled
from limbeck.softtargets.shards import Layout
from limbeck.softtargets.topk import TopK
from limbeck.system.files import replace_text

MANIFEST = "manifest.json"
_VERSIONS = (1, 3)
"""Of stores without and with a profile of the tail, which top-k has; the second had another one."""
_LATER = ("precision", "source")
"""Fields that stores of earlier versions do not have: left out where they are None."""
_NO_CHECKSUM = "0" * 64


def encoding_of(described: Mapping[str, Any]) -> Encoding:
    """The encoding that a manifest describes.

    Args:
        described: Its ``name`` and settings.

    Returns:
        The encoding.

    Raises:
        ConfigError: If there is no such encoding, or none any more.

    Example:
        >>> encoding_of({"name": "topk", "k": 3, "ladder": [1.0, 4.0], "tail": "directions", "coordinates": 6})
        TopK(k=3, ladder=(1.0, 4.0), coordinates=6)
    """
    if described["name"] == "dense":
        return Dense(described["dtype"])
    if described["name"] == "topk" and described["tail"] in {"spread evenly", "profile"}:
        raise ConfigError("its tails are kept as an older Limbeck kept them: write the store again")
    if described["name"] == "topk" and described["tail"] == "directions":
        return TopK(described["k"], tuple(described["ladder"]), described["coordinates"])
    if described["name"] == "sampled":
        return Sampled(described["draws"], described["proposal"], described["seed"])
    raise ConfigError(f"the encoding {described} is not known: it is of a newer Limbeck")


@dataclass(frozen=True)
class Plan:
    """The plan of a store; two stores with equal plans have equal bytes.

    Attributes:
        classes: Names of the classes, in order.
        examples: How many examples.
        views: Views of each; rows lie view by view.
        augmentation: Settings of the views and their seed, or None for the examples as they are.
        encoding: The encoding's name and settings.
        temperature: The only temperature that the targets hold for, or None for all.
        mean: How the teacher averages: "arithmetic", "geometric", or "none" for a single model.
        teacher_digest: SHA-256 of the teacher, or None where it has none.
        data_digest: SHA-256 of the examples, labels and all, or None.
        inputs_digest: SHA-256 of the examples without labels, or None.
        index: SHA-256 of the examples' numbers, or None where they are 0, 1, 2, ...
        labelled: Whether the teacher's accuracy was measured.
        rows_per_shard: Rows of every shard but the last.
        card_rows: Rows of a shard that the card measures at most.
        precision: In which the teacher computed, "float32" or "bf16"; None where it is not known.
        source: Digest of the data that the examples were taken from, :attr:`limbeck.Examples.source`; None where they
            are whole, so that it is ``inputs_digest``.
    """

    classes: tuple[str, ...]
    examples: int
    views: int
    augmentation: Mapping[str, Any] | None
    encoding: Mapping[str, Any]
    temperature: float | None
    mean: str
    teacher_digest: str | None
    data_digest: str | None
    inputs_digest: str | None
    index: str | None
    labelled: bool
    rows_per_shard: int
    card_rows: int
    precision: str | None = None
    source: str | None = None

    @property
    def rows(self) -> int:
        """Rows of all shards."""
        return self.examples * self.views

    @property
    def shards(self) -> int:
        """How many shards."""
        return -(-self.rows // self.rows_per_shard)

    @cached_property
    def codec(self) -> Encoding:
        """The encoding."""
        return encoding_of(self.encoding)

    def first_row(self, shard: int) -> int:
        """The first row of a shard; of one past the last, the number of rows."""
        return min(self.rows, shard * self.rows_per_shard)

    def layout(self, shard: int) -> Layout:
        """Where the arrays of a shard lie."""
        return Layout(self.codec.fields(len(self.classes)), self.first_row(shard + 1) - self.first_row(shard))

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the plan."""
        return hashlib.sha256(_dump(self.to_dict()).encode()).hexdigest()

    def to_dict(self) -> dict[str, Any]:
        """The plan as JSON can hold it."""
        found = {each.name: getattr(self, each.name) for each in fields(self)}  # asdict copies each of many names
        found |= {"classes": list(self.classes), "encoding": dict(self.encoding)}
        found |= {"augmentation": None if self.augmentation is None else dict(self.augmentation)}
        return {name: value for name, value in found.items() if value is not None or name not in _LATER}

    def differences(self, other: "Plan") -> str:
        """What differs from another plan, for a message."""
        mine, theirs = self.to_dict(), other.to_dict()
        return "; ".join(
            f"its {name} is {_short(mine.get(name))}, not {_short(theirs.get(name))}"
            for name in sorted(mine.keys() | theirs.keys())
            if mine.get(name) != theirs.get(name)
        )


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 90 else f"{text[:80]}... ({len(text)} characters)"


@dataclass(frozen=True)
class Manifest:
    """A plan, and the seals of the shards once all are written.

    Attributes:
        plan: What the store holds.
        seals: SHA-256 of each shard's header, or None while it is being written.
        tail: The same of the tail's profile, where the encoding has one.
    """

    plan: Plan
    seals: tuple[str, ...] | None = None
    tail: str | None = None

    def complete(self, seals: Sequence[str], tail: str | None) -> "Manifest":
        """The same with the seals."""
        return replace(self, seals=tuple(seals), tail=tail)

    def render(self) -> str:
        """The file: indented JSON that ends in its own checksum."""
        seals = None if self.seals is None else list(self.seals)
        profiled = self.plan.encoding["name"] == "topk"
        content: dict[str, Any] = {"format": _VERSIONS[profiled], "plan": self.plan.to_dict(), "shards": seals}
        content |= {"tail": self.tail} if profiled else {}
        content |= {"checksum": _NO_CHECKSUM}
        blank = _dump(content)
        return _dump({**content, "checksum": hashlib.sha256(blank.encode()).hexdigest()})

    def write(self, folder: Path) -> None:
        """Write it atomically."""
        replace_text(folder / MANIFEST, self.render())

    @classmethod
    def read(cls, folder: Path) -> "Manifest":
        """Read and check a manifest.

        Args:
            folder: The store.

        Returns:
            The manifest.

        Raises:
            FormatError: If it is missing, damaged or of a newer format.
        """
        path = folder / MANIFEST
        try:
            text = path.read_bytes()
        except OSError as error:
            raise FormatError(
                path, f"cannot be read ({error.strerror}): is {folder} a store of soft targets?"
            ) from error
        damaged = "does not match its checksum: it was damaged or edited; write the store again"
        try:
            content = json.loads(text)
            if content["format"] not in _VERSIONS and _matches(text, content):
                raise FormatError(path, f"has format {content['format']}, and this Limbeck reads {_VERSIONS[-1]}")
            described = dict(content["plan"])
            described["classes"] = tuple(described["classes"])
            seals = content["shards"]
            manifest = cls(Plan(**described), None if seals is None else tuple(seals), content.get("tail"))
            if content["format"] == _VERSIONS[0] and _matches(text, content):
                _ = manifest.plan.codec  # one that is no longer read says so
            if manifest.render().encode() != text:
                raise FormatError(path, damaged)
            if manifest.seals is not None and len(manifest.seals) != manifest.plan.shards:
                raise FormatError(path, damaged)
            manifest.plan.layout(0)
        except FormatError:
            raise
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError, ArithmeticError) as error:
            raise FormatError(path, damaged) from error
        except LimbeckError as error:
            raise FormatError(path, str(error)) from error
        return manifest


def _matches(text: bytes, content: Mapping[str, Any]) -> bool:
    blank = _dump({**content, "checksum": _NO_CHECKSUM})
    return text == _dump(content).encode() and content["checksum"] == hashlib.sha256(blank.encode()).hexdigest()


def _dump(value: object) -> str:
    return json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
