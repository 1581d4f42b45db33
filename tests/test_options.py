"""Settings: flags, TOML and Python spell the same things, and contradictions are refused by name."""

import dataclasses
import typing

import pytest

from limbeck.errors import ConfigError
from limbeck.options import Augmentation, DataOptions, Distillation, ModelOptions, Training, TrainingKeywords


def test_keyword_arguments_are_the_fields_of_training():
    assert typing.get_type_hints(TrainingKeywords) == typing.get_type_hints(Training)
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
        (lambda: Training(warmup_epochs=50), "warmup_epochs must be at most epochs"),
        (lambda: Training(keep="first"), "keep must be best or last, and is first"),
        (lambda: Training(optimizer="adam"), "optimizer must be sgd or adamw, and is adam"),
        (lambda: Training(precision="fp16"), "precision must be"),
        (lambda: Training(seed=-1), "seed must be"),
        (lambda: Distillation(temperature=0), "temperature must be positive"),
        (lambda: Distillation(temperature=float("inf")), "temperature must be positive and finite"),
        (lambda: Distillation(loss="mse"), "loss must be kl or logits, and is mse"),
        (lambda: Distillation(hard_weight=1.1), "hard_weight must be in"),
        (lambda: ModelOptions(model="mlp", channels=(4,)), "channels has no meaning for model mlp"),
        (lambda: ModelOptions(model="transformer"), "model must be mlp, cnn or package.module:function"),
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
