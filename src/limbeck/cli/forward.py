"""``limbeck forward``."""

__all__ = ["forward"]

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from limbeck.cli.acoustic import open_acoustic
from limbeck.cli.common import GROUPS, Quiet
from limbeck.cli.console import say
from limbeck.cli.kaldi import Features, Outputs, Overwrite, PriorCutoff, archive_to_write, with_cutoff
from limbeck.errors import ConfigError
from limbeck.kaldi.decoding.options import FeatureOptions, OutputOptions
from limbeck.kaldi.nnet3.options import Nnet3Options
from limbeck.system.progress import counting


def forward(
    *models: Annotated[Path, Parameter(name="MODEL", group="Parameters", required=True)],
    feats: Annotated[str, Parameter(group="Features", allow_leading_hyphen=True)],
    out: Annotated[str, Parameter(group=GROUPS["Run"], allow_leading_hyphen=True)],
    scp: Annotated[Path | None, Parameter(group=GROUPS["Run"])] = None,
    text: Annotated[bool, Parameter(group=GROUPS["Run"], negative=())] = False,
    features: Features = FeatureOptions(),  # noqa: B008
    outputs: Outputs = OutputOptions(),  # noqa: B008
    nnet3: Annotated[Nnet3Options, Parameter(name="*", group="nnet3")] = Nnet3Options(),  # noqa: B008
    prior_cutoff: PriorCutoff = None,
    mean: Annotated[Literal["arithmetic", "geometric"] | None, Parameter(group=GROUPS["Ensemble"])] = None,
    weights: Annotated[list[float] | None, Parameter(group=GROUPS["Ensemble"])] = None,
    activation: str | None = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    r"""Write a network's outputs as a Kaldi archive, like nnet-forward and nnet3-compute.

    The model may be an nnet1 file, HDF5, safetensors, or a run folder, which knows how its features are made.
    Posteriors of several models, or of an ensemble, are averaged. Or it is one nnet3 network, raw or in a final.mdl,
    with the flags of nnet3-compute.

    ```
    limbeck forward runs/student --feats data/test --out post.ark
    limbeck forward runs/a runs/b runs/c --mean geometric --feats data/test --out post.ark
    limbeck forward final.nnet --feats data/test/feats.scp --feature-transform final.feature_transform --out post.ark
    apply-cmvn ... ark:- | limbeck forward final.nnet --feats ark:- --no-softmax --out ark:- | latgen-faster-mapped ...
    limbeck forward final.nnet --feats data/test --cmvn speaker --left-context 5 --right-context 5 \
        --no-softmax --class-frame-counts ali_train_pdf.counts --out loglikes.ark --scp loglikes.scp
    limbeck forward exp/chain/final.mdl --feats data/test_hires --frame-subsampling-factor 3 \
        --online-ivectors exp/ivectors_test/ivector_online.scp --out output.ark
    ```

    Args:
        models: A network of any format, or several.
        feats: A script file, an archive, a data directory, or a Kaldi specifier, such as ark:- for stdin or, with
            --allow-pipes, "ark:command |".
        out: The archive to write, or a specifier, such as ark,t:- for stdout or ark,scp:post.ark,post.scp.
        scp: A script file to write beside it.
        text: Write text, not binary.
        prior_cutoff: The name of --prior-floor in older Kaldi.
        mean: How several models are averaged; default: as in the ensemble's run, else arithmetic.
        weights: Weight of each model in the mean; default: equal weights.
        activation: For an HDF5 file that does not name its activations: relu, sigmoid, tanh or linear.
        overwrite: Replace existing files.
        quiet: No progress bar.
    """
    from limbeck.kaldi.decoding.utterances import Utterances

    target = archive_to_write(out, scp, text=text, overwrite=overwrite, allow_pipes=features.allow_pipes)
    network = open_acoustic(
        models, with_cutoff(outputs, prior_cutoff), nnet3, features, activation=activation, mean=mean, weights=weights
    )
    if features.utt2spk is not None and network.front.cmvn == "none" and nnet3.ivectors is None:
        raise ConfigError("utt2spk belongs to cmvn speaker or utterance, and cmvn is none: give --cmvn")
    for note in network.notes:
        say(f"note: {note}")
    utterances = Utterances(feats, features, front=network.front)
    count = frames = 0
    with counting("forward", not quiet) as show, target.open() as writer:
        for key, values in network.run(utterances):
            writer.write(key, values)
            count, frames = count + 1, frames + len(values)
            show(count, utterances.count or count)
    say(f"{out}: {count:,} utterances, {frames:,} frames, {network.outputs:,} outputs")
