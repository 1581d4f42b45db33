"""The catalogue of recipes: claims, the paper's numbers, and the modules.

Nothing here imports torch, so that ``limbeck reproduce --list`` is quick. A new recipe is an entry here, and a module
with a function ``run(series, order)`` that gives :class:`~limbeck.recipes.findings.Findings`.
"""

__all__ = ["RECIPES", "Claim", "Recipe", "Replication", "recipe_named"]

import difflib
from dataclasses import dataclass

from limbeck.errors import ConfigError


@dataclass(frozen=True)
class Replication:
    """An earlier replication of an experiment of the paper.

    Attributes:
        who: As a table names it.
        source: Where it can be read.
        how: What was done differently, in a sentence.
    """

    who: str
    source: str
    how: str


FOFFANO = Replication(
    "Foffano et al.",
    "https://github.com/pradyot-09/DL-Reproducibility-Project",
    "Teacher and student were trained for 1,000 epochs with SGD and the test set in sight, the student on labels and "
    "soft targets.",
)
SHRIRAMSB = Replication(
    "shriramsb",
    "https://github.com/shriramsb/Distilling-the-Knowledge-in-a-Neural-Network",
    "The student has one hidden layer of 400 units, and weight decay.",
)
HINTON_PROBLEMS = Replication(
    "hinton-problems",
    "https://github.com/cybertronai/hinton-problems",
    "Teacher without dropout, 12 epochs, 161 test errors; student 20 epochs at T = 20; the bias, raised by 2.7, "
    "matches the share of threes among the training digits.",
)


@dataclass(frozen=True)
class Claim:
    """One row of a recipe's table.

    Attributes:
        key: Names the measurement; the recipe's code gives its values under it.
        what: What is measured, in words.
        paper: The paper's number, or None where it has none.
        aim: What ours must not exceed (``unit`` "errors") or stay below ("%" of accuracy), or None.
        unit: "errors" (fewer is better), "% errors" (fewer is better too), "%" (accuracy) or "% share" (of
            something else).
        others: What older replications have, each with whose it is.
    """

    key: str
    what: str
    paper: float | None = None
    aim: float | None = None
    unit: str = "errors"
    others: tuple[tuple[Replication, float], ...] = ()

    @property
    def fewer_is_better(self) -> bool:
        """Whether the numbers count mistakes."""
        return self.unit.endswith("errors")


@dataclass(frozen=True)
class Recipe:
    """One experiment of the paper.

    Attributes:
        name: On the command line.
        title: In a few words.
        section: Of the paper.
        claims: The rows of its table.
        module: Where its code is.
        about: What was done in the paper, and what is done here, in a paragraph.
        data: A file or folder such as it needs, given with ``--data``; None for MNIST, which is inside the package. The
            paper's numbers then are of the same data.
        stand_in: Whether MNIST stands in for the data in the small version.
        paper: The paper whose experiment it is, where that is another than Hinton, Vinyals and Dean's.
    """

    name: str
    title: str
    section: str
    claims: tuple[Claim, ...]
    module: str
    about: str
    data: str | None = None
    stand_in: bool = True
    paper: str | None = None

    @property
    def origin(self) -> str:
        """Where the experiment is from, in a sentence."""
        return f"Section {self.section} of the paper." if self.paper is None else f"After {self.paper}."

    @property
    def replications(self) -> tuple[Replication, ...]:
        """Whose numbers stand in its table, in their order."""
        return tuple(dict.fromkeys(who for claim in self.claims for who, _ in claim.others))

    def claim(self, key: str) -> Claim:
        """The row of a key."""
        return next(claim for claim in self.claims if claim.key == key)


RECIPES: tuple[Recipe, ...] = (
    Recipe(
        "mnist",
        "A large network's knowledge in a smaller one",
        "3",
        (
            Claim(
                "teacher",
                "teacher 2x1200: dropout, limited norms, jitter of 2 pixels",
                67,
                75,
                others=((FOFFANO, 64), (SHRIRAMSB, 108)),
            ),
            Claim("alone", "2x800 on labels alone, no regularisation", 146, others=((SHRIRAMSB, 181),)),
            Claim(
                "distilled",
                "2x800 distilled at T = 20, no jitter, soft targets alone",
                74,
                74,
                others=((FOFFANO, 67), (SHRIRAMSB, 134)),
            ),
            Claim("chosen", "2x800 distilled so, T chosen on validation"),
            Claim("jittered", "2x800 distilled with jitter, patiently", None, 65),
            Claim("bent_teacher", "teacher 2x1200 with rotation, scaling and elastic deformation"),
            Claim("bent_alone", "2x800 on labels alone, with that augmentation"),
            Claim("bent", "2x800 distilled from such a teacher and labels, with that augmentation", None, 65),
            Claim("committee", "an ensemble of three such teachers and three CNNs"),
            Claim("committee_800", "2x800 distilled from the ensemble, with that augmentation", None, 49),
            Claim("committee_300", "2x300 distilled from the ensemble, with that augmentation", None, 74),
        ),
        "limbeck.recipes.mnist",
        "The paper distils a regularised network of two layers of 1200 units into one of 800 without any "
        "regularisation. Beside its three networks there is a student that sees jittered digits, and there "
        "are teachers and students that see digits with translation, rotation, scaling and elastic deformation.",
    ),
    Recipe(
        "width-temperature",
        "Which temperature for which width",
        "3",
        (
            Claim("wide_spread", "300 units: worst less best of T = 8, 12, 20"),
            Claim("widest_spread", "800 units: worst less best of T = 8, 12, 20"),
            Claim("narrow_low", "30 units: best of T = 2.5, 4"),
            Claim("narrow_high", "30 units: best of T = 8, 12, 20"),
        ),
        "limbeck.recipes.width_temperature",
        "The paper finds that with 300 or more units a layer all temperatures above 8 do about the same, and that with "
        "30 units temperatures from 2.5 to 4 do much better than higher or lower ones. Here students of four widths "
        "are distilled at seven temperatures, without jitter and on soft targets alone.",
    ),
    Recipe(
        "missing-digit",
        "A digit that the student never saw",
        "3",
        (
            Claim("plain", "no 3 in the transfer set", 206, others=((FOFFANO, 161), (HINTON_PROBLEMS, 217))),
            Claim("plain_threes", "of these on the 1,010 threes", 133, others=((FOFFANO, 2), (HINTON_PROBLEMS, 82))),
            Claim("labels", "bias of 3 raised: by labels", 109),
            Claim("labels_threes", "of these on threes", 14),
            Claim("prior", "bias of 3 raised: by its share of unlabelled digits", others=((HINTON_PROBLEMS, 193),)),
            Claim("prior_threes", "of these on threes", others=((HINTON_PROBLEMS, 22),)),
            Claim("all", "all biases fitted to shares of unlabelled digits"),
            Claim("all_threes", "of these on threes"),
        ),
        "limbeck.recipes.missing_digit",
        "The student learns from soft targets alone, of digits among which there is no 3. The paper then raises its "
        "bias for 3 by 3.5, which is best on the test set. Here the bias is found on validation labels, and without "
        "any label: so that the predictions for unlabelled digits hold as many threes as there are.",
    ),
    Recipe(
        "seven-eight",
        "A student that saw two digits only",
        "3",
        (
            Claim("plain", "only 7s and 8s in the transfer set", 47.3, None, "% errors"),
            Claim("labels", "biases of 7 and 8 lowered: by labels", 13.2, None, "% errors"),
            Claim("prior", "biases of 7 and 8 lowered: by their share of unlabelled digits", None, None, "% errors"),
            Claim("all", "all biases fitted to shares of unlabelled digits", None, None, "% errors"),
        ),
        "limbeck.recipes.missing_digit",
        "The student learns from soft targets alone, and of 7s and 8s alone. The paper then lowers both biases by 7.6, "
        "which is best on the test set. Here that number is found on validation labels, and without any label.",
    ),
    Recipe(
        "soft-regulariser",
        "Soft targets instead of most of the data",
        "6",
        (
            Claim("all_hard", "all of the data, hard targets", 58.9, None, "%"),
            Claim("few_hard", "3 % of the data, hard targets, stopped early", 44.5, None, "%"),
            Claim("few_hard_train", "the same on its own training examples", 67.3, None, "%"),
            Claim("few_soft", "3 % of the data, soft targets of the first", 57.0, None, "%"),
        ),
        "limbeck.recipes.soft_regulariser",
        "The paper's data are frames of speech, and its numbers frame accuracies; here they are images of letters. "
        "Numbers can only be compared in kind: how much of the loss that comes with a thirtieth of the data do soft "
        "targets undo?",
        "emnist-letters.mat",
    ),
    Recipe(
        "ensemble",
        "Ten networks in one",
        "4",
        (
            Claim("single", "a single network", 58.9, None, "%"),
            Claim("ensemble", "the ensemble of ten", 61.1, None, "%"),
            Claim("distilled", "one network distilled from the ensemble", 60.8, None, "%"),
            Claim("kept", "share of the ensemble's gain that it keeps", 86, None, "% share"),
        ),
        "limbeck.recipes.ensemble",
        "The paper's data are frames of speech, and its numbers frame accuracies; here they are images of letters: "
        "only the share of the gain can be compared. All networks have the same architecture.",
        "emnist-letters.mat",
    ),
    Recipe(
        "specialists",
        "Specialists for classes that are easily confused",
        "5",
        (
            Claim("generalist", "the generalist", 25.0, None, "%"),
            Claim("specialists", "with its specialists", 26.1, None, "%"),
            Claim("distilled", "one network distilled from both", None, None, "%"),
            Claim("control", "the same network distilled from the generalist alone", None, None, "%"),
        ),
        "limbeck.recipes.specialists",
        "The paper's data are 100 million images of 15,000 classes, and its gain 4.4 % of the generalist's accuracy; "
        "here they are letters, or any data set. Specialists for groups of classes that the generalist confuses start "
        "from its weights, and are combined with it by minimising the summed divergence of the paper's equation 5. "
        "What the paper left open is done too: generalist and specialists are distilled back into one network.",
        "emnist-letters.mat",
    ),
    Recipe(
        "born-again",
        "A network distilled into itself",
        "–",
        (
            Claim("generation_0", "the network on labels", None, None, "%"),
            Claim("longer", "the network on labels, with the epochs of all four", None, None, "%"),
            Claim("generation_1", "distilled from it: self-distillation", None, None, "%"),
            Claim("generation_2", "distilled from that", None, None, "%"),
            Claim("generation_3", "and once more", None, None, "%"),
            Claim("chain_ensemble", "all four as an ensemble", None, None, "%"),
            Claim("labels_ensemble", "four networks on labels as an ensemble", None, None, "%"),
        ),
        "limbeck.recipes.born_again",
        "There a chain of networks of one size, each taught by the one before and by labels, gains on its first, and "
        "its ensemble on an ensemble of networks on labels. Here it is done with letters, or any data set, beside a "
        "network that has the whole chain's epochs on labels.",
        "emnist-letters.mat",
        paper="Furlanello, Lipton, Tschannen, Itti and Anandkumar 2018, arXiv 1805.04770",
    ),
    Recipe(
        "assistants",
        "A teacher's assistant",
        "–",
        (
            Claim("teacher", "the teacher", None, None, "%"),
            Claim("assistant", "the assistant, distilled from it", None, None, "%"),
            Claim("labels", "the student on labels", None, None, "%"),
            Claim("direct", "the student distilled from the teacher", None, None, "%"),
            Claim("assisted", "the student distilled from the assistant", None, None, "%"),
        ),
        "limbeck.recipes.assistants",
        "There a student far smaller than its teacher learns more from a network of a size in between than from the "
        "teacher itself. The authors' public code averages the divergence over classes, which makes the soft term as "
        "many times too small as there are classes; here it is the sum.",
        "emnist-letters.mat",
        paper="Mirzadeh, Farajtabar, Li, Levine, Matsukawa and Ghasemzadeh 2020, arXiv 1902.03393",
    ),
    Recipe(
        "speech",
        "Several acoustic models in one",
        "4 and 6",
        (
            Claim("teacher", "one teacher on labels: frame accuracy", 58.9, None, "%"),
            Claim("ensemble", "the ensemble", 61.1, None, "%"),
            Claim("distilled", "one network of their size distilled from it", 60.8, None, "%"),
            Claim("kept", "share of the ensemble's gain that it keeps", 86, 80, "% share"),
            Claim("small_labels", "a network a sixth the size, on labels", None, None, "%"),
            Claim("small_soft", "the same, distilled", None, None, "%"),
            Claim("few_labels", "the same on 3 % of the data, labels, stopped early", 44.5, None, "%"),
            Claim("few_soft", "the same on 3 % of the data, soft targets", 57.0, None, "%"),
            Claim("closed", "share of the gap to all of the data that soft targets close", 87, 80, "% share"),
            Claim("teacher_wer", "one teacher: word error rate", 10.9, None, "% errors"),
            Claim("ensemble_wer", "the ensemble: word error rate", 10.7, None, "% errors"),
            Claim("distilled_wer", "one of their size, distilled: word error rate", 10.7, None, "% errors"),
            Claim("small_labels_wer", "a sixth the size, labels: word error rate", None, None, "% errors"),
            Claim("small_soft_wer", "a sixth the size, distilled: word error rate", None, None, "% errors"),
            Claim("few_labels_wer", "the same on 3 % of the data, labels: word error rate", None, None, "% errors"),
            Claim("few_soft_wer", "the same on 3 % of the data, soft targets: word error rate", None, None, "% errors"),
        ),
        "limbeck.recipes.speech",
        "The paper's models have 85 million parameters and learn from 2,000 hours of speech; here they are as small as "
        "the corpus, so only shares and differences can be compared. The corpus is a folder of Kaldi's directories: "
        "train, dev and test, ali_train with final.mdl, ali_dev and ali_test, and for word error rates graph with "
        "HCLG.fst and words.txt. Two of the paper's experiments are done with it: an ensemble in one network, and soft "
        "targets in place of most of the data.",
        "so762",
        stand_in=False,
    ),
)


def recipe_named(name: str) -> Recipe:
    """The recipe of a name.

    Args:
        name: As ``limbeck reproduce --list`` shows it.

    Returns:
        The recipe.

    Raises:
        ConfigError: If there is none.

    Example:
        >>> recipe_named("mnist").claim("teacher").paper
        67
    """
    for recipe in RECIPES:
        if recipe.name == name:
            return recipe
    names = [recipe.name for recipe in RECIPES]
    near = difflib.get_close_matches(name, names, 1)
    hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(names)}"
    raise ConfigError(f"there is no recipe {name!r}: {hint}")
