"""Word errors by speaker: how far they would scatter with other speakers, and whether two systems differ."""

__all__ = ["GroupedErrors", "find_speakers"]

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from limbeck.errors import FormatError, MismatchError
from limbeck.evaluation.group_rates import group_rate_difference, group_rate_interval
from limbeck.evaluation.statistics import Interval
from limbeck.kaldi.decoding.scoring import WordErrors
from limbeck.kaldi.formats.lines import read_map
from limbeck.system.files import read_json


@dataclass(frozen=True)
class GroupedErrors:
    """Word errors of one system, by speaker, or by utterance where speakers are not known.

    Attributes:
        unit: "speakers" or "utterances".
        errors: Insertions, deletions and substitutions of each.
        words: Words that each said.

    Example:
        >>> heard = {"a-1": WordErrors(0, 1, 0, 4), "a-2": WordErrors(0, 0, 2, 6), "b-1": WordErrors(1, 0, 0, 5)}
        >>> GroupedErrors.of(heard, {"a-1": "a", "a-2": "a", "b-1": "b"}).errors
        {'a': 3, 'b': 1}
    """

    unit: str
    errors: Mapping[str, int]
    words: Mapping[str, int]

    @classmethod
    def of(cls, by_utterance: Mapping[str, WordErrors], speakers: Mapping[str, str] | None) -> "GroupedErrors":
        """Add up utterances.

        Args:
            by_utterance: Word errors of each utterance.
            speakers: Who speaks in each of them; None: utterances stay by themselves.

        Returns:
            The errors, by name in order.
        """
        owner = {key: key for key in by_utterance} if speakers is None else speakers
        added: dict[str, WordErrors] = {}
        for key, errors in by_utterance.items():
            added[owner[key]] = added.get(owner[key], WordErrors()) + errors
        ordered = dict(sorted(added.items()))
        return cls(
            "utterances" if speakers is None else "speakers",
            {name: one.total for name, one in ordered.items()},
            {name: one.words for name, one in ordered.items()},
        )

    @classmethod
    def read(cls, path: Path) -> "GroupedErrors":
        """Read the metrics of an earlier ``limbeck decode``.

        Args:
            path: The ``.json`` beside its hypotheses, or the hypotheses.

        Returns:
            Its errors.

        Raises:
            FormatError: If it holds none.
        """
        file = path if path.suffix == ".json" else path.with_suffix(".json")
        try:
            return cls.from_dict(read_json(file))
        except (KeyError, TypeError, AttributeError, IndexError, ValueError) as error:
            raise FormatError(file, "holds no word errors by speaker: decode again with limbeck decode") from error

    @classmethod
    def from_dict(cls, kept: Mapping[str, Any]) -> "GroupedErrors":
        """The errors in a dictionary of :meth:`to_dict`, which may hold more."""
        counts = kept["by_unit"]
        return cls(
            str(kept["unit"]),
            {str(name): int(count[0]) for name, count in counts.items()},
            {str(name): int(count[1]) for name, count in counts.items()},
        )

    def to_dict(self) -> dict[str, Any]:
        """Values that JSON can hold: ``unit``, and ``by_unit`` with errors and words of each."""
        return {"unit": self.unit, "by_unit": {name: [self.errors[name], self.words[name]] for name in self.errors}}

    def interval(self) -> Interval:
        """The word error rate with its interval over speakers; limits are infinite for one speaker."""
        return group_rate_interval([list(self.errors.values())], list(self.words.values()))

    def against(self, other: "GroupedErrors", name: str = "the other") -> Interval:
        """This system's word error rate less another's, speaker by speaker.

        Args:
            other: Of the same utterances.
            name: What the other is called in errors.

        Returns:
            The difference as a share of the words, with its interval over speakers.

        Raises:
            MismatchError: If they are of other utterances.
        """
        if self.unit != other.unit or self.words != other.words:
            theirs, own = (
                f"{sum(one.words.values()):,} words of {len(one.words):,} {one.unit}" for one in (other, self)
            )
            raise MismatchError(
                f"{name} was counted on {theirs} and this on {own}, or on others of as many: decode the same "
                "utterances with both, and give both the same utt2spk"
            )
        return group_rate_difference(
            [[*self.errors.values()]], [[other.errors[one] for one in self.errors]], [*self.words.values()]
        )


def find_speakers(given: Path | None, *, beside: Sequence[str | Path | None]) -> dict[str, str] | None:
    """Who speaks in each utterance.

    Args:
        given: A table of speakers by utterance, or None.
        beside: Data directories, or files in them, where ``utt2spk`` is looked for; specifiers are passed over.

    Returns:
        The table, or None where there is none.

    Raises:
        FormatError: If it is damaged.
    """
    table = given or next(filter(Path.is_file, (_table_beside(place) for place in beside if place is not None)), None)
    return None if table is None else read_map(table)


def _table_beside(place: str | Path) -> Path:
    path = Path(place)
    return (path.parent if path.is_file() else path) / "utt2spk"
