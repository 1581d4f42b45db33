"""Which examples, and which views of them."""

__all__ = ["Augmentation", "DataKeywords", "DataOptions", "OwnAugmentation", "TeacherView"]

import math
from dataclasses import dataclass, replace
from typing import Literal, TypedDict

from limbeck.errors import ConfigError
from limbeck.options.checks import check_types, require

TeacherView = Literal["consistent", "fixed", "independent"]
"""Which view of an example a teacher answers, beside the one that the student sees."""


@dataclass(frozen=True, kw_only=True)
class DataOptions:
    """Which examples, and how they are divided. Kinds of data with settings of their own have a class based on this.

    Attributes:
        data: A data set: "mnist" (inside the package), or the path of one; limbeck data lists the kinds.
        validation: How much of the training set is set aside to choose by: a share below 1, or a count. It is the
            same for every seed, and stratified by class.
        image_size: Images are resized to this many pixels without squashing, and their middle square is kept; none: as
            they are where all have one size, 224 for large ones.
        layout: Where images in an .npz file have their channels: NHWC on the last axis, NCHW on the second.
        train_examples: Use this many training examples only, stratified: a share below 1, or a count.
        validation_data: A file, or Kaldi directory, of the same kind to choose by; without it examples are set aside.
        test_data: Likewise, to judge on; without it a tenth is cut out where none comes with the data.
        text_column: Of a file of rows, the column that holds each example's text: it is then read as texts.
        pair_column: The column of a second text, for models that answer about two.
        words_column: Of a file of rows, the column that holds the list of each sentence's words: each word then has a
            class. Of a CoNLL file, the number of the column of words, from 1.
        next_token: Read texts for language models: each position has the next token as its class.
        tokenizer: Of texts, a tokenizer's folder or name, for hf: models that have none beside them.
        max_length: Tokens of a text, of which more are cut off; of texts for language models those of a window.
            Default: 256, or as many as the hf: model takes where that is less.
        vocabulary: With --next-token, how many tokens the models know; default: as the hf: model does.
        image_column: Of a file of rows, the column that holds the path of each example's image.
        label_column: The column of the labels; default "label", of words "tags". Where it holds lists, several labels
            may hold at a time.
        label_columns: Columns of 0 and 1, one per label, where several labels may hold at a time.
        label_separator: What separates the labels of an example in the label column, such as ";": several may hold.
        group_column: A column whose equal values stay together when examples are set aside, and are the clusters of
            verdicts, such as an author.
        id_column: A column that names the rows, which is not seen by models: answers of a file are matched by it.
        leave_out: Columns of a table that models do not see.
    """

    data: str = "mnist"
    validation: float = 0.1
    image_size: int | None = None
    layout: Literal["NCHW", "NHWC"] | None = None
    train_examples: float | None = None
    validation_data: str | None = None
    test_data: str | None = None
    text_column: str | None = None
    pair_column: str | None = None
    words_column: str | None = None
    next_token: bool = False
    tokenizer: str | None = None
    max_length: int | None = None
    vocabulary: int | None = None
    image_column: str | None = None
    label_column: str | None = None
    label_columns: tuple[str, ...] | None = None
    label_separator: str | None = None
    group_column: str | None = None
    id_column: str | None = None
    leave_out: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        check_types(self)
        self._refuse_contradictions()
        require(0 <= self.validation < math.inf, "validation", self.validation, "a share below 1, or a count")
        require(self.layout in {None, "NCHW", "NHWC"}, "layout", self.layout, "NCHW or NHWC")
        require(self.image_size is None or self.image_size > 0, "image_size", self.image_size, "positive")
        require(
            self.train_examples is None or 0 < self.train_examples < math.inf,
            "train_examples",
            self.train_examples,
            "a share below 1, or a count",
        )

    def _refuse_contradictions(self) -> None:
        """Refuse settings of which only one can hold, by name."""
        kinds = [name for name in ("text_column", "words_column", "image_column") if getattr(self, name) is not None]
        if len(kinds) > 1:
            raise ConfigError(
                f"{kinds[0]} and {kinds[1]} say that rows are two different things: leave one of them out"
            )
        if self.next_token and self.words_column is not None:
            raise ConfigError("next_token is for texts, and words_column for words with classes: leave one of them out")
        for name in ("label_column", "label_separator"):
            if self.label_columns is not None and getattr(self, name) is not None:
                raise ConfigError(f"label_columns are a column per label, and {name} is for a single one: leave it out")
        require(self.label_columns != (), "label_columns", "none", "at least one column")
        require(self.label_separator != "", "label_separator", "''", "at least one character")
        if self.vocabulary is not None and not self.next_token:
            raise ConfigError("vocabulary belongs to next_token, where it says what the classes are: give both")
        require(self.max_length is None or self.max_length > 0, "max_length", self.max_length, "positive")
        require(self.vocabulary is None or self.vocabulary > 1, "vocabulary", self.vocabulary, "at least 2")


class DataKeywords(TypedDict, total=False):
    """The fields of :class:`DataOptions` but ``data``, as keyword arguments."""

    validation: float
    image_size: int | None
    layout: Literal["NCHW", "NHWC"] | None
    train_examples: float | None
    validation_data: str | None
    test_data: str | None
    text_column: str | None
    pair_column: str | None
    words_column: str | None
    next_token: bool
    tokenizer: str | None
    max_length: int | None
    vocabulary: int | None
    image_column: str | None
    label_column: str | None
    label_columns: tuple[str, ...] | None
    label_separator: str | None
    group_column: str | None
    id_column: str | None
    leave_out: tuple[str, ...] | None


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """Random views of a picture. Each is a function of its seed, the view's number and the example alone.

    Attributes:
        shift: Largest shift in pixels in each direction. Alone, shifts are whole pixels, as in the paper's jitter.
        rotate: Largest rotation in degrees.
        scale: Largest change of size, as a share: 0.1 gives sizes from 1/1.1 to 1.1.
        shear: Largest shear, as a share of the height.
        elastic: Largest displacement in pixels of a smooth random bend; 3 to 5 suit digits and letters.
        augment: Augmentation of images as they are read: "standard" for random resized crops and horizontal flips;
            "trivial" or "rand" for these and TrivialAugment or RandAugment; "none". It goes with none of those above.
        crop_area: Smallest share of the image that a random resized crop keeps.
        erasing: Share of the views in which a random rectangle is erased; needs augment.
        mixup: Each view is mixed with that of another training example, in a share drawn from Beta(mixup, mixup);
            labels and soft targets are mixed likewise. 0: none.
        cutmix: Each view has a box from that of another training example, whose share of the area is drawn from
            Beta(cutmix, cutmix). 0: none. With mixup too, each view has one of both, with equal chances.
        views: How many different views of each example; training cycles through them. None: a new one each epoch.
        view_seed: Seed of the views, apart from that of training, so that a teacher's answers to them serve any seed.
    """

    shift: float = 0.0
    rotate: float = 0.0
    scale: float = 0.0
    shear: float = 0.0
    elastic: float = 0.0
    augment: Literal["none", "standard", "trivial", "rand"] = "none"
    crop_area: float = 0.08
    erasing: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0
    views: int | None = None
    view_seed: int = 0

    def __post_init__(self) -> None:
        check_types(self)
        for name in ("shift", "rotate", "scale", "shear", "elastic"):
            value, limit = getattr(self, name), 180.0 if name == "rotate" else math.inf
            require(0 <= value <= limit and math.isfinite(value), name, value, "at least 0 and finite")
        known = ("none", "standard", "trivial", "rand")
        require(self.augment in known, "augment", repr(self.augment), f"one of {', '.join(known)}")
        require(0 < self.crop_area <= 1, "crop_area", self.crop_area, "in (0, 1]")
        require(0 <= self.erasing <= 1, "erasing", self.erasing, "in [0, 1]")
        for name in ("mixup", "cutmix"):
            alpha = getattr(self, name)
            require(alpha == 0 or 0.01 <= alpha <= 100, name, alpha, "0 for none, or from 0.01 to 100")
        if self.augment == "none" and (self.erasing or self.crop_area != 0.08):
            raise ConfigError("erasing and crop_area belong to augment: give augment, such as augment standard")
        if self.augment != "none" and self.distorts:
            raise ConfigError(
                f"augment {self.augment} crops and flips, and goes with no shift, rotate, scale, shear or elastic: "
                "leave these out"
            )
        require(self.views is None or self.views >= 1, "views", self.views, "at least 1")
        require(0 <= self.view_seed < 1 << 63, "view_seed", self.view_seed, "in [0, 2**63)")

    @property
    def active(self) -> bool:
        """Whether any view differs from the example itself."""
        return self.alters or self.mixes

    @property
    def alters(self) -> bool:
        """Whether images are distorted, or cropped and flipped, before any are mixed."""
        return self.distorts or self.augment != "none"

    @property
    def mixes(self) -> bool:
        """Whether views are mixed with those of other examples."""
        return bool(self.mixup or self.cutmix)

    @property
    def distorts(self) -> bool:
        """Whether images in memory are shifted, turned or bent."""
        return any((self.shift, self.rotate, self.scale, self.shear, self.elastic))

    @property
    def whole_pixels(self) -> bool:
        """Whether views are shifts by whole pixels and nothing else."""
        return not any((self.rotate, self.scale, self.shear, self.elastic)) and float(self.shift).is_integer()

    def for_teacher(self, teacher_view: TeacherView) -> "Augmentation":
        """What a teacher sees where a student sees these views.

        Args:
            teacher_view: "consistent" for the same views, "independent" for those of the next view seed, "fixed" for
                the examples as they are.

        Returns:
            The teacher's augmentation.

        Raises:
            ConfigError: If the teacher is to see other views than the student, and there are none, or they are mixed
                with other examples, or nobody knows the examples as they are.

        Example:
            >>> Augmentation(shift=2).for_teacher("independent").view_seed
            1
        """
        if teacher_view == "consistent":
            return self
        if not self.active:
            raise ConfigError(
                f"teacher_view is {teacher_view}, and there is no augmentation, so that all views are the same: set "
                "augment, shift or another, or leave teacher_view out"
            )
        if self.mixes:
            raise ConfigError(
                f"teacher_view is {teacher_view}, and mixup and cutmix need a teacher that sees the same mixture as "
                "the student: leave teacher_view or them out"
            )
        if teacher_view == "independent":
            return replace(self, view_seed=(self.view_seed + 1) % (1 << 63))
        return self._plain()

    def _plain(self) -> "Augmentation":
        return Augmentation()

    def view_of(self, epoch: int) -> int:
        """Which view an epoch shows.

        Args:
            epoch: From 0.

        Returns:
            The view, from 0.

        Example:
            >>> [Augmentation(shift=1, views=3).view_of(epoch) for epoch in range(5)]
            [0, 1, 2, 0, 1]
        """
        return epoch if self.views is None else epoch % self.views


@dataclass(frozen=True, kw_only=True)
class OwnAugmentation(Augmentation):
    """Random transforms of a data set of the user's own, drawn anew for each view, and what is drawn beside them.

    Attributes:
        own: Always true: what tells stored answers to such views from others.
    """

    own: bool = True

    @property
    def active(self) -> bool:
        """True: each view is another."""
        return True

    @property
    def alters(self) -> bool:
        """False: the data set's own transforms do that."""
        return False

    @property
    def whole_pixels(self) -> bool:
        """False: nobody knows what the transforms do."""
        return False

    def _plain(self) -> Augmentation:
        raise ConfigError(
            "teacher_view is fixed, and the data set transforms its examples at random by itself, so that nobody knows "
            "them as they are: set teacher_view to consistent or independent, or transform by augment"
        )
