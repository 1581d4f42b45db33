"""Settings of data and augmentation."""

__all__ = ["OWN_DATA", "Augmentation", "DataKeywords", "DataOptions", "OwnAugmentation", "TeacherView"]

import math
from dataclasses import dataclass, replace
from typing import Literal, TypedDict

from limbeck.errors import ConfigError
from limbeck.options.checks import check_types, require

TeacherView = Literal["consistent", "fixed", "independent"]
"""Which view of an example the teacher sees, relative to the student's."""

OWN_DATA = "the run's own"
"""In place of a data set: the one that a run was trained on."""


@dataclass(frozen=True, kw_only=True)
class DataOptions:
    """The data set and its splits. Kinds of data with settings of their own have a subclass.

    Attributes:
        data: A data set: "mnist" (inside the package), or a path; limbeck data lists the supported kinds.
        validation: How much of the training set to set aside for validation: a share below 1, or a count. The split is
            the same for every seed, and stratified by class.
        image_size: Resize images so that the shorter side has this many pixels, and centre-crop to a square; default:
            no resizing where all have one size, 224 for large ones.
        layout: Axes of the images in an .npz file: NHWC or NCHW.
        train_examples: Use only this many training examples, stratified: a share below 1, or a count.
        validation_data: Validation data of the same kind: a file, or a Kaldi directory; default: set aside from
            training.
        test_data: Test data of the same kind; default: the data set's own, or a tenth of it set aside.
        text_column: In CSV, JSON lines or parquet, the column of texts: the file is then read as texts.
        pair_column: The column of second texts, for text-pair models.
        words_column: For token classification: in JSON lines or parquet the column of lists of words, in a CoNLL file
            the number of the column of words, from 1.
        next_token: Read texts for language modelling: the class of each position is the next token.
        tokenizer: A tokenizer's folder or name, for hf: models that have none of their own.
        max_length: Longest text in tokens; longer texts are truncated. For language modelling, the length of a window.
            Default: 256, or the hf: model's maximum if that is less.
        vocabulary: With --next-token, the vocabulary size of the models; default: that of the hf: model.
        image_column: In CSV, JSON lines or parquet, the column of image paths.
        label_column: The column of the labels; default "label", for words "tags". A column of lists is multi-label.
        label_columns: Columns of 0 and 1, one per label, for multi-label data.
        label_separator: Separator of the labels in the label column of multi-label data, such as ";".
        group_column: A column of groups, such as authors: a group is never split between training and validation, and
            is a cluster in verdicts.
        id_column: A column that identifies the rows, to match the outputs of a file by; models do not see it.
        category_columns: Columns of a table whose numbers are categories, such as postcodes, and not quantities.
        leave_out: Columns of a table to ignore.
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
    category_columns: tuple[str, ...] | None = None
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
        """Refuse settings that exclude each other, by name."""
        kinds = [name for name in ("text_column", "words_column", "image_column") if getattr(self, name) is not None]
        if len(kinds) > 1:
            raise ConfigError(f"{kinds[0]} and {kinds[1]} contradict each other: leave one of them out")
        if self.next_token and self.words_column is not None:
            raise ConfigError(
                "next_token is for language modelling, and words_column for token classification: leave one of them out"
            )
        for name in ("label_column", "label_separator"):
            if self.label_columns is not None and getattr(self, name) is not None:
                raise ConfigError(
                    f"label_columns are one column per label, and {name} is for a single column: leave it out"
                )
        for name in ("data", "validation_data", "test_data"):
            require(getattr(self, name) != "", name, "an empty text", "a name or a path")
        require(self.label_columns != (), "label_columns", "none", "at least one column")
        require(self.label_separator != "", "label_separator", "''", "at least one character")
        if self.vocabulary is not None and not self.next_token:
            raise ConfigError("vocabulary belongs to next_token: give both")
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
    category_columns: tuple[str, ...] | None
    leave_out: tuple[str, ...] | None


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """Data augmentation of images. Each view is a function of the seed, the view's number and the example.

    Attributes:
        shift: Largest translation in pixels in each direction. Alone, it is by whole pixels, as in the paper's jitter.
        rotate: Largest rotation in degrees.
        scale: Largest relative scaling: 0.1 scales by 1/1.1 to 1.1.
        shear: Largest shear, relative to the height.
        elastic: Largest displacement in pixels of an elastic deformation; 3 to 5 suit digits and letters.
        augment: Augmentation policy, applied when images are read: "standard" for random resized crops and horizontal
            flips; "trivial" or "rand" for these and TrivialAugment or RandAugment; "none". It excludes those above.
        crop_area: Smallest share of the image that a random resized crop keeps.
        erasing: Probability of random erasing; needs augment.
        mixup: Parameter of mixup: each view is mixed with that of another training example, with a ratio from
            Beta(mixup, mixup); labels and soft targets are mixed with the same ratio. 0: none.
        cutmix: Parameter of CutMix: a box from another training example's view is pasted in, with an area from
            Beta(cutmix, cutmix). 0: none. With mixup too, each view gets one of the two, with equal probability.
        views: Number of different views per example; training cycles through them. Default: a new one each epoch.
        view_seed: Seed of the views, separate from the training seed, so that stored soft targets serve any seed.
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
                f"augment {self.augment} crops and flips, and excludes shift, rotate, scale, shear and elastic: "
                "leave these out"
            )
        require(self.views is None or self.views >= 1, "views", self.views, "at least 1")
        require(0 <= self.view_seed < 1 << 63, "view_seed", self.view_seed, "in [0, 2**63)")

    @property
    def active(self) -> bool:
        """Whether views differ from the examples themselves."""
        return self.alters or self.mixes

    @property
    def alters(self) -> bool:
        """Whether single images are transformed, apart from mixing."""
        return self.distorts or self.augment != "none"

    @property
    def mixes(self) -> bool:
        """Whether views are mixed with those of other examples."""
        return bool(self.mixup or self.cutmix)

    @property
    def distorts(self) -> bool:
        """Whether images in memory are shifted, rotated or deformed."""
        return any((self.shift, self.rotate, self.scale, self.shear, self.elastic))

    @property
    def whole_pixels(self) -> bool:
        """Whether views are only shifts by whole pixels."""
        return not any((self.rotate, self.scale, self.shear, self.elastic)) and float(self.shift).is_integer()

    def for_teacher(self, teacher_view: TeacherView) -> "Augmentation":
        """The teacher's augmentation, given the student's.

        Args:
            teacher_view: "consistent" for the same views, "independent" for those of the next view seed, "fixed" for
                the unaugmented examples.

        Returns:
            The teacher's augmentation.

        Raises:
            ConfigError: If the teacher is to see other views than the student, and there are none, or they are mixed
                with other examples, or the unaugmented examples are not known.

        Example:
            >>> Augmentation(shift=2).for_teacher("independent").view_seed
            1
        """
        if teacher_view == "consistent":
            return self
        if not self.active:
            raise ConfigError(
                f"teacher_view is {teacher_view}, and there is no augmentation: set "
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
    """The random transforms of a user's data set, drawn for each view, and the mixing on top.

    Attributes:
        own: Always true: distinguishes stored outputs for such views from others.
    """

    own: bool = True

    @property
    def active(self) -> bool:
        """Always True: each view is different."""
        return True

    @property
    def alters(self) -> bool:
        """Always False: the data set's own transforms do that."""
        return False

    @property
    def whole_pixels(self) -> bool:
        """Always False: the transforms are unknown."""
        return False

    def _plain(self) -> Augmentation:
        raise ConfigError(
            "teacher_view is fixed, and the data set's own random transforms hide the unaugmented examples: set "
            "teacher_view to consistent or independent, or transform by augment"
        )
