"""``limbeck forward``."""

__all__ = ["forward"]

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from limbeck.cli.common import Quiet
from limbeck.cli.console import Bar, say
from limbeck.cli.kaldi import Features, Outputs, Overwrite, refuse_taken
from limbeck.decoding.options import FeatureOptions, OutputOptions


def forward(
    model: Annotated[Path, Parameter(help="A network of any format.")],
    /,
    *,
    feats: Annotated[Path, Parameter(group="Features")],
    out: Annotated[Path, Parameter(group="Run")],
    scp: Annotated[Path | None, Parameter(group="Run")] = None,
    text: Annotated[bool, Parameter(group="Run", negative=())] = False,
    features: Features = FeatureOptions(),  # noqa: B008
    outputs: Outputs = OutputOptions(),  # noqa: B008
    activation: str | None = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    r"""Write a network's posteriors, or log-likelihoods, as a Kaldi archive: what nnet-forward does.

    The model may be an nnet1 file, HDF5, safetensors, or the folder of a run.

    ```
    limbeck forward final.nnet --feats data/test/feats.scp --feature-transform final.feature_transform --out post.ark
    limbeck forward final.nnet --feats data/test --cmvn speaker --left-context 5 --right-context 5 \
        --no-softmax --class-frame-counts ali_train_pdf.counts --out loglikes.ark --scp loglikes.scp
    ```

    Args:
        model: A network of any format.
        feats: A script file, an archive, or a data directory.
        out: The archive to write.
        scp: A script file to write beside it.
        text: Write text in place of binary.
        activation: For an HDF5 file that does not name its activations: relu, sigmoid, tanh or linear.
        overwrite: Replace files that exist.
        quiet: No progress bar.
    """
    from limbeck.decoding.outputs import AcousticModel
    from limbeck.decoding.utterances import Utterances
    from limbeck.formats.kaldi_write import ArkWriter

    refuse_taken(out, scp, overwrite=overwrite)
    network = AcousticModel(model, outputs, activation=activation)
    for note in network.notes:
        say(f"note: {note}")
    utterances = Utterances(feats, features)
    count = frames = 0
    with Bar("forward", quiet=quiet) as bar, ArkWriter(out, scp=scp, text=text) as writer:
        for key, values in network.run(utterances):
            writer.write(key, values)
            count, frames = count + 1, frames + len(values)
            bar.show(count, utterances.count or count)
    say(f"{out}: {count:,} utterances, {frames:,} frames, {network.nnet.output_dim:,} outputs")
