"""The paper's first experiment, and how far the student can be taken beyond it: recipe ``mnist``."""

__all__ = ["run"]

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from limbeck.data import Views
from limbeck.evaluation.prediction import predict
from limbeck.options import Augmentation, ModelOptions, Training
from limbeck.protocols import Teacher
from limbeck.recipes.digits import Digits, digits
from limbeck.recipes.findings import Findings, Order
from limbeck.recipes.series import Cell, Series
from limbeck.report import Contents, Drawing, Model, Table
from limbeck.report.figures_softness import draw_temperature
from limbeck.report.figures_study import draw_views
from limbeck.runs.measure import answers_of, labels_of, scores_of
from limbeck.runs.models_for_data import model_maker
from limbeck.teachers import Ensemble, as_teacher

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_PAPER_TEMPERATURE = 20.0
_OTHER_TEMPERATURES = (4.0, 8.0)
_BENT_TEMPERATURES = (20.0, 4.0, 2.0)
"""Tried for students of the ensemble, in short trainings."""
_RATE = 3e-3
"""Learning rate of the students: of 0.001, 0.003 and 0.01 it brings them nearest to the teacher on validation."""
_VIEWS = Augmentation(shift=2, views=8)
"""Jitter of the patient students: the teacher answers each view once."""
_BENT = Augmentation(shift=2, rotate=10, scale=0.1, elastic=4)
"""What the better teachers see, and the student of one of them: a new view each epoch."""
_BENT_VIEWS = 75
"""What the ensemble's students see of each digit: it is too slow to be asked again for each of them."""
_LABELS = 0.5
"""Weight of the labels with a single teacher of augmented digits: labels alone bring the student further."""
_OF_EACH = 3
"""CNNs, and MLPs, in the ensemble."""


@dataclass(frozen=True, eq=False)
class _Round:
    """The networks of one seed."""

    teacher: Cell
    alone: Cell
    distilled: Cell
    chosen: Cell
    jittered: Cell
    bent_teacher: Cell
    bent_alone: Cell
    bent: Cell
    committee_800: Cell
    committee_300: Cell


def run(series: Series, order: Order) -> Findings:
    """Train every network of the table, a seed after the other; then read the test set.

    Args:
        series: Where trainings are kept.
        order: Not used.

    Returns:
        Test errors, and how temperatures were chosen.
    """
    here = digits(series)
    maker = _Maker(here)
    trials, bent_trials = maker.temperatures(), maker.bent_temperatures()
    temperature, bent_temperature = _best(trials), _best(bent_trials)
    rounds = [maker.round(seed, temperature, bent_temperature) for seed in series.seeds]
    committee = maker.committee()

    # All choices are made: now the test set is read.
    values = {
        name: [float(here.errors(getattr(networks, name).model)) for networks in rounds]
        for name in _Round.__dataclass_fields__
    }
    assert here.whole.test is not None
    truth = labels_of(here.whole.test)
    together = answers_of(committee, here.whole.test)
    values["committee"] = [float(scores_of(together, truth)["test_errors"])]
    return Findings(
        values,
        _protocols(rounds[0], temperature, bent_temperature),
        _answer({name: sum(numbers) / len(numbers) for name, numbers in values.items()}),
        (
            _trial_table("the student of the paper's protocol", trials, temperature),
            _trial_table("a student of the ensemble, after a sixth of its epochs", bent_trials, bent_temperature),
        ),
        _drawings(here, rounds[0], truth),
        (_NOTE,),
    )


_NOTE = (
    "5,000 of the 60,000 training digits are set aside for validation: on them the students' temperature and "
    "learning rate were chosen, and the best epoch of networks on labels and of the jittered student; others "
    "end with their last. Transfer sets are the other 55,000 digits; students learn from soft targets alone "
    "where the table names no weight of labels. Each seed has teachers of its own. AdamW, cosine schedule; the "
    "paper's are not given there."
)


def _answer(means: Mapping[str, float]) -> str:
    """What was found, in words, by mean test errors."""
    lead = means["alone"] - means["teacher"]
    kept = ""
    if lead > 0:
        share = 100 * (means["alone"] - means["distilled"]) / lead
        kept = f": it keeps {share:.0f} % of the teacher's lead (paper: 91 %)"
    return (
        f"The student of the paper's protocol makes {means['distilled']:.1f} test errors, the same network on labels "
        f"alone {means['alone']:.1f}, the teacher {means['teacher']:.1f}{kept}. With jitter it makes "
        f"{means['jittered']:.1f}. With elastic deformation, too, labels alone bring it to {means['bent_alone']:.1f}, "
        f"labels and a teacher of {means['bent_teacher']:.1f} to {means['bent']:.1f}, and an ensemble of "
        f"{means['committee']:.0f} to {means['committee_800']:.1f}."
    )


def _protocols(networks: _Round, temperature: float, bent_temperature: float) -> dict[str, str]:
    """How each network was trained, for the table."""
    epochs = {name: getattr(networks, name).epochs for name in _Round.__dataclass_fields__}
    return {
        "teacher": f"dropout 0.4, {epochs['teacher']} epochs",
        "alone": f"{epochs['alone']} epochs",
        "distilled": f"{epochs['distilled']} epochs",
        "chosen": f"T = {temperature:g}",
        "jittered": f"T = {temperature:g}, {_VIEWS.views} views of each digit, {epochs['jittered']} epochs",
        "bent_teacher": f"dropout 0.2, {epochs['bent_teacher']} epochs; shifts by up to 2 pixels, rotations by up "
        "to 10 degrees, scaling within a tenth, elastic deformation by up to 4 pixels",
        "bent_alone": f"{epochs['bent_alone']} epochs, a new view in each",
        "bent": f"T = {bent_temperature:g}, labels with a weight of {_LABELS:g}, {epochs['bent']} epochs, a new "
        "view in each",
        "committee": f"{_OF_EACH} CNNs and {_OF_EACH} MLPs, geometric mean, the same for all seeds",
        "committee_800": f"T = {bent_temperature:g}, {_BENT_VIEWS} views of each digit, {epochs['committee_800']} "
        "epochs",
        "committee_300": f"T = {bent_temperature:g}, the same views, {epochs['committee_300']} epochs",
    }


def _drawings(here: Digits, networks: _Round, truth: NDArray[np.int64]) -> tuple[Drawing, ...]:
    return (
        Drawing(
            "dark-knowledge",
            "What the student is taught",
            "Softened answers of teacher and student (first seed, the paper's protocol) to three test digits: the "
            "two that the teacher was least sure of, and an ordinary one.",
            _softened(here, networks, truth),
        ),
        Drawing(
            "bent-digits",
            "Augmented digits",
            "The first twelve training digits, and four views of each as the better teachers and their students "
            "see them.",
            _bent_digits(here),
        ),
    )


def _best(trials: Mapping[float, Cell]) -> float:
    """The temperature of fewest errors on validation."""
    return min(trials, key=lambda t: (trials[t].errors, trials[t].validation["nll"]))


def _trial_table(whose: str, trials: Mapping[float, Cell], chosen: float) -> Table:
    return Table(
        f"Temperatures on validation: {whose}, first seed",
        ("T", "errors", "negative log-likelihood"),
        tuple(
            (f"{t:g}" + (" (chosen)" if t == chosen else ""), str(c.errors), f"{c.validation['nll']:.4f}")
            for t, c in trials.items()
        ),
    )


class _Maker:
    """Trains the networks of the table, each in its cell."""

    def __init__(self, here: Digits) -> None:
        self.here, self.series = here, here.series
        self.answers: dict[tuple[str, Augmentation | None], Callable[[], Teacher]] = {}
        self.together: Ensemble | None = None

    def temperatures(self) -> dict[float, Cell]:
        """Students of the first seed at the paper's temperature and at others."""
        return {t: self.student(0, t) for t in (_PAPER_TEMPERATURE, *_OTHER_TEMPERATURES)}

    def bent_temperatures(self) -> dict[float, Cell]:
        """Students of the ensemble, first seed, for a sixth of the epochs."""
        return {t: self.of_committee(0, 800, 25, t, f"trial-800-T{t:g}") for t in _BENT_TEMPERATURES}

    def student(self, seed: int, temperature: float) -> Cell:
        """2x800 by the paper's protocol."""
        teacher, training = self.here.teacher(seed), self.patiently(60, seed)
        return self.distil(f"student-800-T{temperature:g}", training, 800, temperature, teacher.model, teacher.name)

    def round(self, seed: int, temperature: float, bent_temperature: float) -> _Round:
        """All networks of a seed."""
        return _Round(
            teacher=self.here.teacher(seed),
            alone=self.alone(seed),
            distilled=self.student(seed, _PAPER_TEMPERATURE),
            chosen=self.student(seed, temperature),
            jittered=self.jittered(seed, temperature),
            bent_teacher=self.bent_teacher(seed),
            bent_alone=self.bent_alone(seed),
            bent=self.bent(seed, bent_temperature),
            committee_800=self.of_committee(seed, 800, 150, bent_temperature),
            committee_300=self.of_committee(seed, 300, 150, bent_temperature),
        )

    def alone(self, seed: int) -> Cell:
        """2x800 on labels, on the digits as they are."""
        return self.labelled("alone-800", self.here.training(40, seed=seed))

    def bent_alone(self, seed: int) -> Cell:
        """2x800 on labels, with the views that the ensemble sees."""
        return self.labelled("bent-alone-800", self.here.training(150, seed=seed, learning_rate=2e-3), _BENT)

    def labelled(self, name: str, training: Training, augmentation: Augmentation | None = None) -> Cell:
        """2x800 on labels, without any regularisation but the views."""
        return self.series.train(
            name,
            model_maker(self.here.network(800, 800), self.here.data),
            self.here.data,
            training,
            augmentation=augmentation,
            settings={"network": "mlp 800 800"},
        )

    def jittered(self, seed: int, temperature: float) -> Cell:
        """2x800 of the seed's own teacher, with the teacher's jitter, patiently."""
        teacher, training = self.here.teacher(seed), self.here.training(100, seed=seed)
        return self.distil("jittered-800", training, 800, temperature, teacher.model, teacher.name, _VIEWS)

    def bent(self, seed: int, temperature: float) -> Cell:
        """2x800 of the seed's teacher on augmented digits, which runs during the training."""
        here, teacher = self.here, self.bent_teacher(seed)
        return self.series.distil(
            "bent-800",
            model_maker(here.network(800, 800), here.data),
            lambda: as_teacher(teacher.model),
            here.data,
            self.patiently(150, seed),
            temperature=temperature,
            hard_weight=_LABELS,
            augmentation=_BENT,
            settings={"network": "mlp 800 800", "teacher": teacher.name},
        )

    def of_committee(self, seed: int, width: int, epochs: int, temperature: float, name: str | None = None) -> Cell:
        """A student of the ensemble, with the views that the ensemble sees."""
        training, taught_by = self.patiently(epochs, seed), f"{_OF_EACH} CNNs and {_OF_EACH} MLPs"
        return self.distil(
            name or f"committee-{width}", training, width, temperature, self.committee(), taught_by, self.bent_views
        )

    def bent_teacher(self, seed: int) -> Cell:
        """2x1200 on labels and augmented digits."""
        network = self.here.network(1200, 1200, dropout=0.2)
        return self.member("bent-mlp", network, 80, 2e-3, seed, "mlp 1200 1200, dropout 0.2")

    def committee(self) -> Ensemble:
        """Convolutional networks, and the teachers of the first seeds, on augmented digits; averaged. Made once."""
        if self.together is not None:
            return self.together
        small = self.series.quick
        each = 1 if small else _OF_EACH
        network = ModelOptions(
            model="cnn",
            channels=(4,) if small else (32, 64, 128),
            hidden=(16,) if small else (256,),
            dropout=0.3,
            batch_norm=True,
            padding=True,
        )
        said = "cnn 32 64 128 256, batch norm, dropout 0.3"
        cells = [
            *(self.member("bent-cnn", network, 20, 3e-3, number, said) for number in range(each)),
            *(self.bent_teacher(number) for number in range(each)),
        ]
        self.together = Ensemble([cell.model for cell in cells], mean="geometric", classes=self.here.data.classes)
        return self.together

    def member(self, name: str, network: ModelOptions, epochs: int, rate: float, seed: int, said: str) -> Cell:
        """A network on labels and augmented digits."""
        return self.series.train(
            name,
            model_maker(network, self.here.data),
            self.here.data,
            self.here.training(epochs, seed=seed, learning_rate=rate),
            augmentation=_BENT,
            settings={"network": said},
        )

    @property
    def bent_views(self) -> Augmentation:
        """The views of augmented digits for the ensemble's students, a fixed number of each."""
        return replace(_BENT, views=2 if self.series.quick else _BENT_VIEWS)

    def patiently(self, epochs: int, seed: int) -> Training:
        """The settings of a student that ends with its last weights."""
        return self.here.training(epochs, seed=seed, learning_rate=_RATE, keep="last")

    def distil(
        self,
        name: str,
        training: Training,
        width: int,
        temperature: float,
        teacher: nn.Module | Teacher,
        taught_by: str,
        views: Augmentation | None = None,
    ) -> Cell:
        """A student of two layers, on soft targets alone."""
        here, key = self.here, (taught_by, views)
        if key not in self.answers:
            self.answers[key] = self.series.answers(teacher, here.data.train, here.data.classes, augmentation=views)
        return self.series.distil(
            name,
            model_maker(here.network(width, width), here.data),
            self.answers[key],
            here.data,
            training,
            temperature=temperature,
            augmentation=views,
            settings={"network": f"mlp {width} {width}", "teacher": taught_by},
        )


def _softened(here: Digits, networks: _Round, truth: NDArray[np.int64]) -> "Figure":
    assert here.whole.test is not None
    models = [
        Model(role, role, predict(cell.model, here.whole.test).numpy())
        for role, cell in (("teacher", networks.teacher), ("student", networks.distilled))
    ]
    drawing = draw_temperature(
        Contents(
            "MNIST",
            "",
            here.data.classes,
            tuple(models),
            labels=truth,
            images=here.whole.test.pixels()[:, 0].numpy(),
            temperature=_PAPER_TEMPERATURE,
        )
    )
    assert drawing is not None, "there are answers to draw"
    return drawing


def _bent_digits(here: Digits) -> "Figure":
    few = here.data.train.take(torch.arange(12))
    views, numbers = Views(few, _BENT), torch.arange(12)
    rows = {"as it is": few.pixels().float().div(255)}
    for view in range(4):
        views.prepare(view)
        rows[f"view {view + 1}"] = views.take(numbers)
    return draw_views({name: shown[:, 0].mul(255).round().byte().numpy() for name, shown in rows.items()})
