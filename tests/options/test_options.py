"""Settings: flags, TOML and Python spell the same things, and contradictions are refused by name."""

import dataclasses
import typing
from collections.abc import Callable

import numpy as np
import pytest

import limbeck
from limbeck.errors import ConfigError
from limbeck.options import (
    Augmentation,
    DataOptions,
    Distillation,
    FineTuning,
    ModelOptions,
    RankRule,
    Training,
    TrainingKeywords,
)
from limbeck.options.checks import from_keywords
from limbeck.options.search_space import Search


def test_keyword_arguments_are_the_fields_of_training():
    hints = typing.get_type_hints(TrainingKeywords)
    # A function is kept under its name.
    assert hints.pop("optimizer") == str | Callable[..., typing.Any]
    assert hints | {"optimizer": str} == typing.get_type_hints(Training)
    assert Training(**{field.name: field.default for field in dataclasses.fields(Training)}) == Training()


def test_no_two_groups_of_settings_share_a_name():
    groups = (DataOptions, ModelOptions, Training, Augmentation, Distillation)
    names = [field.name for group in groups for field in dataclasses.fields(group)]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Training(epochs=0), "epochs must be at least 1, and is 0"),
        (lambda: Training(learning_rate=0.0), "learning_rate must be positive"),
        (lambda: Training(momentum=1.0), "momentum must be in"),
        (lambda: Training(decay=0.9), "decay belongs to schedule exponential, and schedule is cosine"),
        (lambda: Training(plateau_patience=2), "plateau_patience belongs to schedule plateau"),
        (lambda: Training(momentum=0.5), "momentum and nesterov belong to optimizer sgd"),
        (lambda: Training(warmup_epochs=50), r"warmup_epochs must be in \[0, epochs\]"),
        (lambda: Training(keep="first"), "keep must be best or last, and is first"),
        (lambda: Training(optimizer="adam"), "optimizer must be sgd, adamw or package.module:function, and is adam"),
        (lambda: Training(precision="fp16"), "precision must be"),
        (lambda: Training(seed=-1), "seed must be"),
        (lambda: Distillation(temperature=0), "temperature must be positive"),
        (lambda: Distillation(temperature=float("inf")), "temperature must be positive and finite"),
        (lambda: Distillation(method="dkb"), "there is no method 'dkb': did you mean dkd?"),
        (lambda: Distillation(method="kl"), "there is no method 'kl': kl is called kd now"),
        (lambda: Distillation(hard_weight=1.1), "hard_weight must be in"),
        (lambda: ModelOptions(model="mlp", channels=(4,)), "channels has no meaning for model mlp"),
        (
            lambda: ModelOptions(model="transformer"),
            "model must be mlp, cnn, hf:FOLDER, timm:NAME or package",
        ),
        (lambda: ModelOptions(model="resnet18"), "and is 'resnet18': did you mean timm:resnet18?"),
        (lambda: ModelOptions(model="mpl"), "and is 'mpl': did you mean mlp?"),
        (lambda: ModelOptions(model="my.nets:small", hidden=(3,)), "hidden has no meaning for my.nets:small"),
        (lambda: ModelOptions(dropout=1.0), "dropout must be in"),
        (lambda: ModelOptions(hidden=(3, 0)), "hidden must be a list of positive widths"),
        (lambda: Augmentation(shift=-1), "shift must be at least 0"),
        (lambda: Augmentation(rotate=200), "rotate must be"),
        (lambda: DataOptions(validation=-0.1), "validation must be"),
    ],
)
def test_impossible_settings_are_refused_by_name(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Training(epochs=2.5), "epochs must be a whole number, and is 2.5"),
        (lambda: Training(epochs=True), "epochs must be a whole number, and is True"),
        (lambda: Training(batch_size="64"), "batch_size must be a whole number, and is '64'"),
        (lambda: Training(learning_rate="0.1"), "learning_rate must be a number, and is '0.1'"),
        (lambda: Training(momentum=True, optimizer="sgd"), "momentum must be a number, and is True"),
        (lambda: Training(nesterov=1, optimizer="sgd"), "nesterov must be True or False, and is 1"),
        (lambda: Training(optimizer=["sgd"]), r"optimizer must be text, and is \['sgd'\]"),
        (lambda: Training(epochs=None), "epochs must be a whole number, and is None"),
        (lambda: Distillation(temperature="4"), "temperature must be a number"),
        (lambda: Augmentation(views=1.5), "views must be a whole number"),
        (lambda: ModelOptions(hidden=300), "hidden must be a list, and is 300"),
        (lambda: ModelOptions(hidden=(300, 2.5)), "hidden must be a whole number, and is 2.5"),
        (lambda: RankRule(rank=3), "rank must be a list, and is 3"),
        (lambda: FineTuning(finetune_epochs="2"), "finetune_epochs must be a whole number"),
        (lambda: Search(trials=2.5), "trials must be a whole number"),
        (lambda: from_keywords(Training, {"epoch": 3}), "no setting 'epoch': did you mean epochs"),
        (lambda: from_keywords(Training, {"colour": 3}), "no setting 'colour'$"),
    ],
)
def test_values_of_another_type_are_refused_by_the_field_s_name(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


def test_numbers_of_numpy_and_whole_floats_become_python_s():
    given = {"epochs": np.int64(3), "batch_size": 64.0, "learning_rate": np.float32(0.5)}
    training = Training(**given, skip_nonfinite=np.bool_(True))
    assert (training.epochs, training.batch_size, training.learning_rate) == (3, 64, 0.5)
    kinds = [type(value) for value in (training.epochs, training.batch_size, training.learning_rate)]
    assert kinds == [int, int, float] and training.skip_nonfinite is True
    assert RankRule(rank=[np.int32(3)]).rank == (3,) and Training(learning_rate=1).learning_rate == 1
    for make in (
        lambda: limbeck.train(None, None, members=2.5),
        lambda: limbeck.train(None, None, epochs=2.5),
        lambda: limbeck.distill(None, None, None, epoch=2),
    ):
        with pytest.raises(ConfigError, match="whole number, and is 2.5|did you mean epochs"):
            make()


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (lambda: ModelOptions(model="mpl"), r"and is 'mpl': did you mean mlp\?"),
        (lambda: ModelOptions(model="CNN"), r"and is 'CNN': did you mean cnn\?"),
        (lambda: ModelOptions(model="resnet"), r"and is 'resnet'$"),
        (lambda: ModelOptions(hidden=(-5,)), r"positive widths, and is -5$"),
    ],
)
def test_a_near_miss_is_named_and_lists_are_shown_as_they_are_typed(made, words):
    with pytest.raises(ConfigError, match=words):
        made()
