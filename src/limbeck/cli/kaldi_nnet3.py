"""``limbeck kaldi``: commands for Kaldi users, with Kaldi's names of commands and flags."""

__all__ = ["app"]

import dataclasses
from pathlib import Path
from typing import Annotated

import cyclopts
from cyclopts import Parameter

from limbeck.cli.console import say
from limbeck.cli.kaldi import Overwrite, refuse_taken
from limbeck.cli.kaldi_features import add_deltas, apply_cmvn_online, apply_cmvn_sliding
from limbeck.cli.kaldi_finetune import nnet1_finetune, nnet3_finetune
from limbeck.errors import ConfigError

app = cyclopts.App(name="kaldi", help="Commands for Kaldi users, under Kaldi's names.")

app.command(apply_cmvn_sliding)
app.command(apply_cmvn_online)
app.command(add_deltas)
app.command(nnet1_finetune)
app.command(nnet3_finetune)

_Source = Annotated[Path, Parameter(help="An nnet3 network, raw or in a final.mdl, text or binary.")]
_Target = Annotated[Path, Parameter(help="The file or folder to write.")]


@app.command
def nnet3_copy(
    source: _Source,
    target: _Target,
    /,
    *,
    edits: str | None = None,
    edits_config: Path | None = None,
    binary: bool | None = None,
    raw: Annotated[bool, Parameter(negative=())] = False,
    overwrite: Overwrite = False,
) -> None:
    r"""Copy an nnet3 network, with edits, like nnet3-copy and nnet3-am-copy.

    Low-rank factorisation is the edit apply-svd, as in Kaldi: each affine component becomes a linear and an affine one,
    with the square roots of the singular values in both.

    ```
    limbeck kaldi nnet3-copy final.mdl small.mdl \
        --edits "apply-svd name=* energy-threshold=0.81 shrinkage-threshold=0.64"
    limbeck kaldi nnet3-copy final.mdl final.txt --no-binary
    limbeck kaldi nnet3-copy final.mdl xent.raw --raw --edits "remove-output-nodes name=output; \
        rename-node old-name=output-xent new-name=output; remove-orphans"
    ```

    Args:
        source: An nnet3 network, raw or in a final.mdl, text or binary.
        target: The file or folder to write.
        edits: Edits, separated by semicolons: apply-svd, reduce-rank, convert-to-fixed-affine,
            set-learning-rate-factor, rename-node, remove-output-nodes, remove-orphans.
        edits_config: A file of edits, one per line.
        binary: Write binary, or text with --no-binary; default: as the source.
        raw: Write only the network of a final.mdl.
        overwrite: Replace the file if it exists.
    """
    from limbeck.kaldi.nnet3.edits import apply_edits
    from limbeck.kaldi.nnet3.model import Nnet3Model, read_nnet3, write_nnet3

    if edits is not None and edits_config is not None:
        raise ConfigError("--edits and --edits-config exclude each other: give one of them")
    refuse_taken(target, overwrite=overwrite)
    model = read_nnet3(source)
    wanted = edits
    if edits_config is not None:
        try:
            wanted = edits_config.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"--edits-config {edits_config} cannot be read: {error}") from error
    before = model.nnet.parameter_count
    if wanted is not None:
        nnet, notes = apply_edits(model.nnet, wanted)
        for note in notes:
            say(f"note: {note}")
        model = dataclasses.replace(model, nnet=nnet)
    if raw:
        model = Nnet3Model(model.nnet, binary=model.binary)
    write_nnet3(target, model, binary=binary)
    after = model.nnet.parameter_count
    say(f"{target}: {after:,} parameters" + (f", before {before:,}" if after != before else ""))
