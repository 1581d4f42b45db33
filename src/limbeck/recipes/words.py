"""Word errors of a recipe's networks, decoded once and saved beside the cells."""

__all__ = ["Spoken", "Words"]

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from limbeck.errors import RunError
from limbeck.kaldi.decoding.graph import Graph, check_packages
from limbeck.kaldi.decoding.judging import Judged, choose_scale, decode_part, open_sources
from limbeck.kaldi.decoding.options import FeatureOptions, OutputOptions, SearchOptions
from limbeck.kaldi.decoding.outputs import AcousticModel
from limbeck.kaldi.decoding.speakers import GroupedErrors
from limbeck.recipes.series import Cell, Series
from limbeck.system.files import digest_bytes, make_folder, read_json, replace_json

SEARCH = SearchOptions(beam=11.0, max_active=2000)
SCALES = (0.05, 0.07, 0.1, 0.14, 0.2, 0.28)
DEV_UTTERANCES = 96
_FRAME_SHIFT = 0.01


@dataclass(frozen=True)
class Spoken:
    """What decoding the test set with a network gave.

    Attributes:
        wer: Word error rate, per cent.
        scale: The acoustic scale, chosen on development utterances.
        insertions: Words too many.
        deletions: Words too few.
        substitutions: Other words.
        words: Words that were said.
        real_time: Processor seconds a second of sound, network and search.
        grouped: Errors by speaker.
    """

    wer: float
    scale: float
    insertions: int
    deletions: int
    substitutions: int
    words: int
    real_time: float
    grouped: GroupedErrors


class Words:
    """Decodes with the networks of cells, several of which are averaged geometrically.

    Args:
        series: Where the cells are.
        root: The corpus.
    """

    def __init__(self, series: Series, root: Path) -> None:
        self.series, self.root = series, root
        self.folder = make_folder(series.folder / "words")

    @cached_property
    def graph(self) -> Graph:
        """The graph, checked."""
        check_packages()
        return Graph.open(self.root / "graph", self.root / "ali_train" / "final.mdl")

    def choose(self, name: str, cells: Sequence[Cell]) -> float:
        """The acoustic scale, on some utterances of the development set."""
        settings = {"scales": list(SCALES), "dev_utterances": DEV_UTTERANCES}

        def measure() -> dict[str, Any]:
            best, tried = choose_scale(SCALES, lambda scale: self._decode("dev", name, cells, scale))
            return {"scale": best.scale, "tried": {f"{one.scale:g}": one.words.rate for one in tried}}

        return float(self._kept(f"{name}-scale", cells, settings, measure)["scale"])

    def count(self, name: str, cells: Sequence[Cell], scale: float) -> Spoken:
        """Word errors on the test set."""

        def measure() -> dict[str, Any]:
            return self._decode("test", name, cells, scale).to_dict(frame_shift=_FRAME_SHIFT)

        found = self._kept(name, cells, {"scale": scale, "errors": "by speaker"}, measure)
        return Spoken(
            100 * found["wer"],
            scale,
            found["insertions"],
            found["deletions"],
            found["substitutions"],
            found["words"],
            found["real_time_factor"],
            GroupedErrors.from_dict(found),
        )

    def _decode(self, part: str, name: str, cells: Sequence[Cell], scale: float) -> Judged:
        self.series.callback_for(f"{self.series.recipe}: words").on_note(
            f"decoding {part} with {name} at scale {scale:g}"
        )
        model = AcousticModel(
            [self.series.folder / cell.name for cell in cells],
            OutputOptions(no_softmax=True),
            mean="geometric" if len(cells) > 1 else None,
        )
        sources = open_sources(self.root / part, None, None, model, OutputOptions(), FeatureOptions(), self.graph)
        if part == "dev":
            sources.utterances.keep(DEV_UTTERANCES)
        return decode_part(sources, self.graph, scale=scale, options=SEARCH)

    def _kept(self, name: str, cells: Sequence[Cell], settings: dict[str, Any], measure: Any) -> dict[str, Any]:
        """What was measured with the same weights and settings, now or before."""
        paths = [self.series.folder / cell.name / "model" / "model.safetensors" for cell in cells]
        known = {
            "weights": digest_bytes([path.read_bytes() for path in paths]),
            **dataclasses.asdict(SEARCH),
            **settings,
        }
        path = self.folder / f"{name}.json"
        if path.exists():
            kept = read_json(path)
            if not isinstance(kept, dict) or {key: kept.get(key) for key in known} != known:
                raise RunError(f"{path} was measured with other networks or settings: remove it to measure again")
            return kept
        found = {**known, **measure()}
        replace_json(path, found)
        return found
