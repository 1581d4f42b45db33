"""``limbeck evaluate``."""

__all__ = ["evaluate"]

import dataclasses
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from limbeck.cli.common import DataOfRun, Json, open_examples
from limbeck.cli.console import print_json, print_metrics, say
from limbeck.errors import ConfigError
from limbeck.options import DataOptions
from limbeck.options.data import OWN_DATA


def evaluate(
    run: Annotated[Path, Parameter(help="A run folder or a model folder; or hf:FOLDER.")],
    /,
    *,
    data: DataOfRun = DataOptions(data=OWN_DATA),  # noqa: B008
    teacher: Path | None = None,
    model: str | None = None,
    device: str = "auto",
    json: Json = False,
) -> None:
    """Evaluate a model on a test set: errors, size, speed.

    Without --data it is evaluated on the run's own test set. Column names default to those of the run's own data. Where
    --data has no test set, and without --test-data, a tenth of it is held out for testing.

    ```
    limbeck evaluate runs/student
    limbeck evaluate runs/student --data mnist
    limbeck evaluate runs/text --data reviews.csv --test-data held_out.csv
    limbeck evaluate runs/student --data letters.mat --teacher runs/teacher --json
    limbeck evaluate runs/dnn --data data/test --ali exp/tri_ali_test --mdl exp/tri_ali/final.mdl
    ```

    Args:
        run: A run folder or a model folder; or a model of Hugging Face, as hf:FOLDER.
        teacher: Another run, to compare the predictions with.
        model: The architecture if it is your own, as package.module:function.
        device: "auto", "cpu", "cuda", "cuda:1", "mps".
        json: Print the metrics as JSON.
    """
    from limbeck.kaldi.options import SpeechOptions, is_kaldi
    from limbeck.kaldi.source.opening import judged_alone
    from limbeck.runs import evaluate as judge
    from limbeck.runs.data_settings import options_as_read, own_data, require_own_test
    from limbeck.runs.measure import title_of
    from limbeck.runs.models_for_data import load_teacher, options_as_trained
    from limbeck.runs.named_models import require_models
    from limbeck.runs.unused import tell_own_unused

    if data.data == OWN_DATA:
        require_models(DataOptions(), teachers=[run])  # a missing model is told before missing data
    own, data = data.data == OWN_DATA and data.test_data is None, own_data(data, run)
    if own and is_kaldi(data.data) and data.test_data is None:
        raise ConfigError(f"{run} was trained on {data.data} without a test directory: name one with --data")
    beside = [] if teacher is None else [teacher]
    data = require_models(options_as_read(data, run), teachers=[run, *beside], own=model)
    tell_own_unused("--model", model, [run, *beside])
    data = options_as_trained(data, run, context=True)
    if is_kaldi(data.data) and isinstance(data, SpeechOptions):
        # Only the data to evaluate on are read: the test directory, or the one that --data names.
        examples = open_examples(judged_alone(data))
        examples = dataclasses.replace(examples, test=examples.train)
    else:
        examples = open_examples(data)
        if own:
            require_own_test(run, examples, data)
    subject = load_teacher([run], own=model, data=examples, role="model", reading=data)
    guide = None if teacher is None else load_teacher([teacher], own=model, data=examples, reading=data)
    scores = judge(subject, examples, teacher=guide, device=device)
    test = examples.test
    cut_out = test is not examples.train and examples.train.origin is not None
    if test is not None and cut_out and test.origin == examples.train.origin:
        say(
            f"on {len(test):,} test examples, the tenth of {data.data} that trainings on it leave out: to evaluate on "
            "all examples of a file, name it with --test-data beside the training data"
        )
    if json:
        print_json({"title": title_of(subject), **scores})
    else:
        print_metrics({str(run): {"title": title_of(subject), **scores}})
