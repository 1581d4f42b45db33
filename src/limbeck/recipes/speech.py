"""Several acoustic models in one, and 3 % of the data: recipe ``speech``."""

__all__ = ["run"]

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limbeck.errors import ConfigError
from limbeck.evaluation.group_rates import group_rate_difference, group_rate_interval
from limbeck.evaluation.prediction import predict
from limbeck.evaluation.statistics import Interval
from limbeck.kaldi.figures import draw_posteriors
from limbeck.kaldi.source.phones import one_utterance, phones_of, spectrogram
from limbeck.options import ModelOptions
from limbeck.protocols import Teacher
from limbeck.recipes.acoustic import SAME_SIZE, SMALL, Maker, best, together
from limbeck.recipes.corpus import Corpus, corpus
from limbeck.recipes.findings import Findings, Order, spread
from limbeck.recipes.series import Cell, Series
from limbeck.recipes.words import DEV_UTTERANCES, SEARCH, Spoken, Words
from limbeck.report import Drawing, Table
from limbeck.report.figures_study import draw_curves, draw_results
from limbeck.runs.measure import answers_of, labels_of, scores_of

_FRAME_SHIFT = 0.01


@dataclass(frozen=True)
class _System:
    """Networks of one kind: a row of the table.

    Attributes:
        name: What it is.
        trials: The cells of each seed; several in one trial are averaged.
    """

    name: str
    trials: tuple[tuple[Cell, ...], ...]


def run(series: Series, order: Order) -> Findings:
    """Train teachers, distil them into one of their size and into small ones, with all data and with 3 %.

    Args:
        series: Where trainings are kept.
        order: Names the corpus.

    Returns:
        Frame accuracies and word error rates on the test set.

    Raises:
        ConfigError: If no corpus is named.
    """
    if order.data is None:
        raise ConfigError("the recipe speech needs a corpus: give --data FOLDER")
    maker = Maker(corpus(series, order.data))
    here = maker.here
    teachers = [maker.teacher(seed) for seed in range(here.members)]
    systems = {
        "teacher": _System("one teacher, labels", tuple((cell,) for cell in teachers)),
        "ensemble": _System(f"{here.members} teachers, geometric mean", (tuple(teachers),)),
        "distilled": _System("one of the teacher's size, distilled", maker.trials(maker.same_size)),
        "small_labels": _System("a sixth the size, labels", maker.trials(maker.small_labels)),
        "small_soft": _System("a sixth the size, distilled", maker.trials(maker.small_soft)),
        "few_labels": _System(f"the same, {here.percent} of the data, labels", maker.trials(maker.few_labels)),
        "few_soft": _System(f"the same, {here.percent} of the data, soft targets", maker.trials(maker.few_soft)),
    }
    words = Words(series, here.root) if here.spoken else None
    scales = {} if words is None else {key: words.choose(key, system.trials[0]) for key, system in systems.items()}

    # All choices are made: now the test set is read.
    scores = {key: [_scores(here, trial) for trial in system.trials] for key, system in systems.items()}
    spoken: dict[str, list[Spoken]] = {}
    for key, scale in scales.items():
        assert words is not None
        chosen = systems[key].trials[: len(series.seeds)]
        spoken[key] = [words.count(f"{key}-{number}", trial, scale) for number, trial in enumerate(chosen)]
    values = {key: [100 * score["accuracy"] for score in found] for key, found in scores.items()}
    values |= {f"{key}_wer": [one.wer for one in found] for key, found in spoken.items()}
    mean = {key: float(np.mean(numbers)) for key, numbers in values.items()}
    gain, gap = mean["ensemble"] - mean["teacher"], mean["small_labels"] - mean["few_labels"]
    values["kept"] = [100 * (value - mean["teacher"]) / gain for value in values["distilled"]] if gain > 0 else []
    values["closed"] = [100 * (value - mean["few_labels"]) / gap for value in values["few_soft"]] if gap > 0 else []
    return Findings(
        values,
        _notes(maker, systems),
        _answer(values, mean, gain, here),
        (_systems_table(systems, scores, spoken), *_words_tables(systems, spoken), _lessons(maker)),
        (_accuracies(systems, values), _posteriors(here, systems), *_curves(series, systems, here)),
        _remarks(here, systems),
    )


def _scores(here: Corpus, trial: Sequence[Cell]) -> dict[str, Any]:
    """Frame accuracy and cross-entropy on the test set: called at the end of the recipe alone."""
    return scores_of(answers_of(together(trial, here.whole.classes), here.test), labels_of(here.test))


def _notes(maker: Maker, systems: Mapping[str, _System]) -> dict[str, str]:
    here = maker.here
    large, distilled, small, soft = (
        systems[key].trials[0][0] for key in ("teacher", "distilled", "small_labels", "few_soft")
    )
    stopped = [trial[0].epochs for trial in systems["few_labels"].trials]
    return {
        "teacher": f"{_sizes(here.large)}, 2 x {here.contexts[0]} + 1 frames, {large.epochs} epochs; a value a teacher",
        "ensemble": "the same teachers",
        "distilled": f"{distilled.epochs} epochs, {SAME_SIZE}",
        "small_labels": f"{_sizes(here.small)}, 2 x {here.contexts[1]} + 1 frames, {small.epochs} epochs",
        "small_soft": f"the same, {SMALL}",
        "few_labels": f"at most {max(stopped)} epochs, stopped early",
        "few_soft": f"T = {best(maker.few_soft_tried).temperature:g}, soft targets alone, {soft.epochs} epochs",
        "closed": "of the gap between labels on little and on all data; the paper: 87 %",
    }


def _lessons(maker: Maker) -> Table:
    """What was tried on little data with the first seed."""
    tried = maker.few_soft_tried
    rows = [
        (
            f"{lesson.temperature:g}" + (" (chosen)" if lesson == best(tried) else ""),
            f"{100 * float(cell.validation['accuracy']):.2f} %",
        )
        for lesson, cell in tried.items()
    ]
    heading = ("T", "frame accuracy on development utterances")
    return Table("Soft targets on little data by temperature, first seed", heading, tuple(rows))


def _answer(values: Mapping[str, Sequence[float]], mean: Mapping[str, float], gain: float, here: Corpus) -> str:
    kept, closed = values["kept"], values["closed"]
    words = (
        f" Words: {mean['teacher_wer']:.1f} % wrong with a teacher, {mean['ensemble_wer']:.1f} % with all, "
        f"{mean['distilled_wer']:.1f} % with the distilled network."
        if "teacher_wer" in mean
        else " There is no graph in the corpus's folder, so words were not counted."
    )
    return (
        f"The ensemble gains {gain:.2f} points of frame accuracy over its members; one network of their size distilled "
        f"from it keeps {f'{np.mean(kept):.0f} %' if kept else 'nothing'} of that (paper: 86 %). With "
        f"{here.percent} of the data soft targets close {f'{np.mean(closed):.0f} %' if closed else 'nothing'} of the "
        f"gap to all of the data (paper: 87 %).{words}"
    )


def _systems_table(
    systems: Mapping[str, _System],
    scores: Mapping[str, Sequence[Mapping[str, Any]]],
    spoken: Mapping[str, list[Spoken]],
) -> Table:
    rows = []
    for key, system in systems.items():
        size = sum(parameter.numel() for cell in system.trials[0] for parameter in cell.model.parameters())
        heard = spoken.get(key, [])
        kinds = ("insertions", "deletions", "substitutions")
        rows.append(
            (
                system.name,
                f"{size:,}",
                spread([100 * score["accuracy"] for score in scores[key]], "%"),
                f"{np.mean([score['nll'] for score in scores[key]]):.3f}",
                spread([one.wer for one in heard], "% errors") if heard else "–",
                " / ".join(f"{np.mean([getattr(one, kind) for one in heard]):.0f}" for kind in kinds) if heard else "–",
                f"{heard[0].scale:g}" if heard else "–",
                f"{np.mean([one.real_time for one in heard]):.3f}" if heard else "–",
            )
        )
    heading = (
        "network", "parameters", "frame accuracy", "cross-entropy (nats)", "word error rate", "ins / del / sub",
        "acoustic scale", "real-time factor",
    )  # fmt: skip
    return Table("Networks on the test set", heading, tuple(rows))


_COMPARED = (
    ("ensemble", "teacher"), ("distilled", "teacher"), ("distilled", "ensemble"), ("small_soft", "small_labels"),
    ("small_soft", "teacher"), ("few_soft", "few_labels"),
)  # fmt: skip


def _words_tables(systems: Mapping[str, _System], spoken: Mapping[str, list[Spoken]]) -> tuple[Table, ...]:
    """Word error rates and their differences, over speakers and seeds."""
    if not spoken:
        return ()
    speakers = spoken["teacher"][0].grouped
    sizes = list(speakers.words.values())
    errors = {key: np.array([list(one.grouped.errors.values()) for one in found]) for key, found in spoken.items()}
    rows = [(systems[key].name, *_points(group_rate_interval(counts, sizes), "")) for key, counts in errors.items()]
    rows += [
        (
            f"{systems[a].name}, less {systems[b].name}",
            *_points(group_rate_difference(errors[a], errors[b], sizes), "+"),
        )
        for a, b in _COMPARED
    ]
    heading = ("", "word error rate, or difference in points", "95 % interval")
    title = f"Word errors over {len(sizes)} {speakers.unit} and all seeds: rates, and differences on the same sentences"
    return (Table(title, heading, tuple(rows)),)


def _points(interval: Interval, sign: str) -> tuple[str, str]:
    numbers = (interval.estimate, interval.low, interval.high)
    estimate, low, high = (format(100 * value, f"{sign}.2f") for value in numbers)
    return estimate, f"{low} to {high}" if math.isfinite(interval.low) else "unknown: one says nothing of others"


def _accuracies(systems: Mapping[str, _System], values: Mapping[str, Sequence[float]]) -> Drawing:
    return Drawing(
        "accuracy",
        "Frame accuracy",
        "On the test set; each dot is a seed or a teacher, the bar their mean. The paper's numbers are of other data.",
        draw_results(
            [system.name for system in systems.values()],
            [values[key] for key in systems],
            [None] * len(systems),
            "test frame accuracy (%)",
        ),
    )


def _posteriors(here: Corpus, systems: Mapping[str, _System]) -> Drawing:
    """One utterance of the test set: what the ensemble and a small student hear."""
    one = one_utterance(here.test)
    phones = phones_of(here.root / "ali_train" / "final.mdl")
    heard: dict[str, NDArray[np.float32]] = {}
    for key in ("ensemble", "small_soft", "few_labels"):
        guide: Teacher = together(systems[key].trials[0], here.whole.classes)
        heard[systems[key].name] = phones.add_up(predict(guide, one).exp().numpy())
    return Drawing(
        "posteriors",
        "Spectrogram and posteriors",
        "An utterance of the test set: its spectrogram, and posteriors of phones (those of a phone's pdfs added up) by "
        "the ensemble, a small student distilled from it, and the same network trained on labels of little data. The "
        "line is the alignment.",
        draw_posteriors(spectrogram(one), heard, phones.of_pdf[labels_of(one)], phones.names, frame_shift=_FRAME_SHIFT),
    )


def _curves(series: Series, systems: Mapping[str, _System], here: Corpus) -> tuple[Drawing, ...]:
    few = {
        name: [100 * value for value in series.history(systems[key].trials[0][0], "validation_accuracy")]
        for name, key in (("labels", "few_labels"), ("soft targets", "few_soft"))
    }
    length = min(map(len, few.values()))
    if length < 2:
        return ()
    return (
        Drawing(
            "few",
            f"Learning from {here.percent} of the data",
            "Frame accuracy on development utterances by epoch, first seed, for as long as training on labels went on.",
            draw_curves(
                [float(epoch) for epoch in range(1, length + 1)],
                {name: np.array([numbers[:length]]) for name, numbers in few.items()},
                x_label="epoch",
                y_label="validation frame accuracy (%)",
            ),
        ),
    )


def _remarks(here: Corpus, systems: Mapping[str, _System]) -> tuple[str, ...]:
    teachers = systems["teacher"].trials
    return (
        here.about(),
        f"All networks have ReLU units and see filterbanks normalised by the mean and variance of each speaker. "
        f"{len(teachers)} teachers made the ensemble; it was asked once about every training frame, and the top "
        f"{here.kept} pdfs of each output were kept with the mass of the rest. Learning rates fall along a cosine (on "
        f"labels of little data they stay). Development frames chose each network's epoch, and with the first seed the "
        f"temperature on little data; the other temperatures and weights were fixed before.",
        f"Words: {SEARCH.max_active:,} active states, beam {SEARCH.beam:g}. The acoustic scale was chosen for each row "
        f"on {DEV_UTTERANCES} development utterances with its first seed. As many teachers were decoded as there are "
        "seeds. Intervals over speakers hold for other speakers and trainings alike, of this one ensemble. The "
        "real-time factor is processor time of one core, the network in numpy and the search together.",
    )


def _sizes(network: ModelOptions) -> str:
    return "-".join(map(str, network.hidden or ()))
