"""Types and functions that several commands share."""

__all__ = [
    "GROUPS",
    "Config",
    "Data",
    "DataOfRun",
    "Jobs",
    "Json",
    "Log",
    "NetworkSizes",
    "Out",
    "Quiet",
    "Ray",
    "Resume",
    "SaveHdf5",
    "Train",
    "Views",
    "callbacks_for",
    "kept_settings",
    "open_examples",
]

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

from cyclopts import Group, Parameter

from limbeck.cli.console import Told, say
from limbeck.options import Augmentation, DataOptions, Network, Training
from limbeck.options.data import OWN_DATA
from limbeck.options.kinds import every_option, option_classes
from limbeck.system.callbacks import Callback

if TYPE_CHECKING:
    from limbeck.data import DataSet

_ORDER = (
    "Model", "Data", "Teacher", "Store", "Network", "Ensemble", "Ranks", "8 bits", "Distillation", "Comparison",
    "Search", "Fine-tuning", "Training", "Augmentation", "Run",
)  # fmt: skip
"""Groups of flags in the order of a command's help: the commonest come first."""
GROUPS = {name: Group(name, sort_key=place) for place, name in enumerate(_ORDER)}
_ROWS = Group("CSV, JSON lines and parquet: texts, tables, lists of images", sort_key=90)
_OF_ROWS = frozenset(
    {
        "text_column", "pair_column", "words_column", "next_token", "tokenizer", "max_length", "vocabulary",
        "image_column", "label_column", "label_columns", "label_separator", "group_column", "id_column",
        "category_columns", "leave_out",
    }
)  # fmt: skip


def _grouped_options(data: str | None = None) -> type[DataOptions]:
    """The settings of all kinds of data, with those that few people need in groups of their own, which come last.

    Args:
        data: The default data set; None for that of the settings.

    Returns:
        A class whose fields are flags.
    """
    whole = every_option()
    groups: dict[str, Group] = dict.fromkeys(_OF_ROWS, _ROWS)
    plain = {field.name for field in dataclasses.fields(DataOptions)}
    for place, kind in enumerate(option_classes(), 91):
        group = Group(getattr(kind, "title", kind.__name__), sort_key=place)
        groups |= {field.name: group for field in dataclasses.fields(kind) if field.name not in plain}
    hints = get_type_hints(whole)
    fields: list[Any] = [
        (
            field.name,
            Annotated[hints[field.name], Parameter(group=groups[field.name])],
            dataclasses.field(default=field.default),
        )
        for field in dataclasses.fields(whole)
        if field.name in groups
    ]
    if data is not None:
        fields.append(("data", str, dataclasses.field(default=data)))
    named = {"__doc__": whole.__doc__, "__module__": __name__}  # else its module would be dataclasses
    made: type[DataOptions] = dataclasses.make_dataclass(
        "EveryOption", fields, bases=(whole,), namespace=named, frozen=True, kw_only=True
    )
    return made


if TYPE_CHECKING:
    Data = Annotated[DataOptions, Parameter(name="*", group=GROUPS["Data"])]
    DataOfRun = Annotated[DataOptions, Parameter(name="*", group=GROUPS["Data"])]
else:  # with the settings of all kinds of data; opening takes those of the kind, and refuses the rest
    Data = Annotated[_grouped_options(), Parameter(name="*", group=GROUPS["Data"])]
    DataOfRun = Annotated[_grouped_options(OWN_DATA), Parameter(name="*", group=GROUPS["Data"])]
NetworkSizes = Annotated[Network, Parameter(name="*", group=GROUPS["Network"])]
Train = Annotated[Training, Parameter(name="*", group=GROUPS["Training"])]
Views = Annotated[Augmentation, Parameter(name="*", group=GROUPS["Augmentation"])]
Out = Annotated[Path, Parameter(group=GROUPS["Run"])]
Resume = Annotated[bool, Parameter(group=GROUPS["Run"], negative=())]
Json = Annotated[bool, Parameter(name="--json", group=GROUPS["Run"], negative=())]
Quiet = Annotated[bool, Parameter(group=GROUPS["Run"], negative=())]
SaveHdf5 = Annotated[bool, Parameter(group=GROUPS["Run"], negative=())]
Config = Annotated[Path | None, Parameter(group=GROUPS["Run"])]
Jobs = Annotated[int, Parameter(group=GROUPS["Run"])]
Ray = Annotated[str | None, Parameter(group=GROUPS["Run"])]
Log = Annotated[list[str] | None, Parameter(group=GROUPS["Run"])]


def open_examples(options: DataOptions, *, quiet: bool = False) -> "DataSet":
    """Open the data set, with a progress bar where that takes long, and print its notes.

    Args:
        options: Which data.
        quiet: No bar.

    Returns:
        The data set.
    """
    from limbeck.data import open_data
    from limbeck.system.progress import counting

    with counting("reading", not quiet) as show:
        examples = open_data(options, progress=show)
    for note in examples.notes:
        say(note)
    return examples


def kept_settings(options: DataOptions) -> dict[str, Any]:
    """The data settings that a run saves: those that its kind of data has.

    Args:
        options: Which data; they exist.

    Returns:
        Values by name.
    """
    from limbeck.data.registry import claimed

    return dataclasses.asdict(claimed(options.data, options)[1])


def callbacks_for(folder: Path, log: Sequence[str] | None = None) -> list[Callback]:
    """What a command tells how a run goes: the person, and the trackers that ``--log`` names.

    Args:
        folder: The run's folder; TensorBoard's logs go to ``tensorboard/`` in it where no other is named.
        log: As ``--log`` gives them.

    Returns:
        Callbacks.
    """
    if not log:
        return [Told()]
    from limbeck.system.tracking import logger_named

    return [Told(), *(logger_named(name, folder=folder) for name in log)]
