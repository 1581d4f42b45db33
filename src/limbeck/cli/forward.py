"""``limbeck forward``."""

__all__ = ["forward"]

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from limbeck.cli.common import Quiet
from limbeck.cli.console import Bar, say
from limbeck.cli.kaldi import Features, Outputs, Overwrite, PriorCutoff, refuse_taken, with_cutoff
from limbeck.kaldi.decoding.options import FeatureOptions, OutputOptions


def forward(
    *models: Annotated[Path, Parameter(name="MODEL", group="Parameters", required=True)],
    feats: Annotated[Path, Parameter(group="Features")],
    out: Annotated[Path, Parameter(group="Run")],
    scp: Annotated[Path | None, Parameter(group="Run")] = None,
    text: Annotated[bool, Parameter(group="Run", negative=())] = False,
    features: Features = FeatureOptions(),  # noqa: B008
    outputs: Outputs = OutputOptions(),  # noqa: B008
    prior_cutoff: PriorCutoff = None,
    mean: Annotated[Literal["arithmetic", "geometric"] | None, Parameter(group="Ensemble")] = None,
    weights: Annotated[list[float] | None, Parameter(group="Ensemble")] = None,
    activation: str | None = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    r"""Write a network's posteriors, or log-likelihoods, as a Kaldi archive: what nnet-forward does.

    The model may be an nnet1 file, HDF5, safetensors, or the folder of a run, which knows how its features are made.
    Posteriors of several models, or of the run of an ensemble, are averaged.

    ```
    limbeck forward runs/student --feats data/test --out post.ark
    limbeck forward runs/a runs/b runs/c --mean geometric --feats data/test --out post.ark
    limbeck forward final.nnet --feats data/test/feats.scp --feature-transform final.feature_transform --out post.ark
    limbeck forward final.nnet --feats data/test --cmvn speaker --left-context 5 --right-context 5 \
        --no-softmax --class-frame-counts ali_train_pdf.counts --out loglikes.ark --scp loglikes.scp
    ```

    Args:
        models: A network of any format, or several.
        feats: A script file, an archive, or a data directory.
        out: The archive to write.
        scp: A script file to write beside it.
        text: Write text in place of binary.
        prior_cutoff: What older Kaldi calls --prior-floor.
        mean: How several models are averaged; default: as the run of an ensemble says, else arithmetic.
        weights: How much each model counts in the mean; default: all alike.
        activation: For an HDF5 file that does not name its activations: relu, sigmoid, tanh or linear.
        overwrite: Replace files that exist.
        quiet: No progress bar.
    """
    from limbeck.kaldi.decoding.outputs import AcousticModel
    from limbeck.kaldi.decoding.utterances import Utterances
    from limbeck.kaldi.formats.write import ArkWriter

    refuse_taken(out, scp, overwrite=overwrite)
    network = AcousticModel(
        models, with_cutoff(outputs, prior_cutoff), features=features, activation=activation, mean=mean, weights=weights
    )
    for note in network.notes:
        say(f"note: {note}")
    utterances = Utterances(feats, features, front=network.front)
    count = frames = 0
    with Bar("forward", quiet=quiet) as bar, ArkWriter(out, scp=scp, text=text) as writer:
        for key, values in network.run(utterances):
            writer.write(key, values)
            count, frames = count + 1, frames + len(values)
            bar.show(count, utterances.count or count)
    say(f"{out}: {count:,} utterances, {frames:,} frames, {network.outputs:,} outputs")
