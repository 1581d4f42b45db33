"""``limbeck export``."""

__all__ = ["export"]

from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from limbeck.cli.common import GROUPS, Json, Quiet, open_examples
from limbeck.cli.console import print_json, print_rows, say
from limbeck.system.progress import counting


def export(
    run: Annotated[Path, Parameter(help="A run folder.")],
    /,
    *,
    to: list[str],
    out: Path,
    with_preprocessing: Annotated[bool, Parameter(negative=())] = False,
    calibrate: Annotated[bool, Parameter(negative=())] = False,
    temperature: float | None = None,
    margin: float | None = None,
    finetune_epochs: int = 0,
    parity_examples: int | None = None,
    data: Annotated[str | None, Parameter(group=GROUPS["Data"])] = None,
    allow_pipes: Annotated[bool, Parameter(group=GROUPS["Data"], negative=())] = False,
    model: str | None = None,
    ort_web: Path | None = None,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Export a run's network to ONNX, int8, torch.export, a Hub folder or a web page, with a parity report.

    Each file is loaded in its own runtime and run on the test set (the validation set where there is none): parity.html
    and parity.json report how many predictions differ and why, the size, and the speed. An export that differs by more
    than rounding is refused: only the report is kept, in the folder OUT.refused.

    ```
    limbeck export runs/student --to onnx --out shipped
    limbeck export runs/student --to onnx torch hub --out shipped
    limbeck export runs/digits --to browser --out page
    limbeck export runs/student --to onnx int8 --margin 0.5 --out shipped
    limbeck export runs/student --to int8 --finetune-epochs 3 --out shipped
    limbeck export runs/student --to onnx --calibrate --out shipped
    limbeck export runs/photos --to onnx --with-preprocessing --out shipped
    limbeck export runs/student --to onnx --data new.npz --parity-examples 2000 --out shipped --json
    ```

    Args:
        run: A run folder.
        to: Formats: "onnx" (one ONNX file), "int8" (an ONNX file with 8-bit layers, calibrated on training examples),
            "torch" (a program of torch.export), "hub" (a folder in the layout of the Hugging Face Hub), "browser" (an
            HTML file in which a person tries the network), and those of installed packages.
        out: The folder to write, which must not exist.
        with_preprocessing: For images: the files take uint8 pixels and give probabilities; normalisation is inside.
        calibrate: Temperature scaling, fitted on the run's validation set: probabilities become calibrated, and no
            predicted class changes. Files are then compared with the calibrated network.
        temperature: Instead of calibrate: divide the logits by this temperature.
        margin: Non-inferiority margin in percentage points of the error rate: a file that is not shown to be as good
            within it is refused. Default: 0.5 for int8, and no margin for the others.
        finetune_epochs: For int8: epochs of quantisation-aware fine-tuning by self-distillation, where post-training
            quantisation loses too much.
        parity_examples: How many held-out examples to compare on; default: all.
        data: Held-out data instead of the run's own, read with the run's settings.
        allow_pipes: Run the shell commands in script files of the data: only for data you trust.
        model: The architecture if it is your own, as package.module:function.
        ort_web: For browser, where the network is neither mlp nor cnn: folder or archive of the npm package
            onnxruntime-web, which is embedded in the page (5 MB); default: fetched by npm.
        quiet: No progress bar.
        json: Print the contents of parity.json.
    """
    from limbeck.runs.export_request import checked_formats
    from limbeck.runs.folder import RunFolder
    from limbeck.runs.model_export import export as ship
    from limbeck.runs.model_export import run_options
    from limbeck.runs.models_for_data import load_module
    from limbeck.runs.unused import tell_own_unused, tell_unused

    checked_formats(
        to, out, margin=margin, parity_examples=parity_examples, finetune_epochs=finetune_epochs,
        calibrate=calibrate, temperature=temperature,
    )  # fmt: skip
    examples = open_examples(run_options(run, data=data, allow_pipes=allow_pipes), quiet=quiet)
    if ort_web is not None and "browser" not in to:
        tell_unused([("--ort-web", str(ort_web), "it is for the format browser")], None)
    tell_own_unused("--model", model, [run])
    network = load_module(run, data=examples, own=model)
    finished = RunFolder(run).finished
    with counting("comparing", not quiet) as show:
        done = ship(
            network,
            out=out,
            formats=to,
            data=examples,
            with_preprocessing=with_preprocessing,
            calibrate=calibrate,
            temperature=temperature,
            margin=margin,
            finetune_epochs=finetune_epochs,
            parity_examples=parity_examples,
            metrics=RunFolder(run).metrics() if finished else None,
            source=run,
            ort_web=ort_web,
            progress=show,
        )
    if json:
        print_json(done.parity)
        return
    print_rows(_HEADING, [_row(name, found) for name, found in done.parity["formats"].items()])
    for sentence in done.sentences:
        say(sentence)
    for name, found in done.parity["formats"].items():
        if "float_layers" in found:
            say(f"{name}: {_rounded(found)}")
    say(f"The files are in {out}, the parity report is {out / 'parity.html'}")


_HEADING = (
    "format", "file", "bytes", "predictions that differ", "largest difference", "accuracy", "ms at batch 1",
    "PyTorch's ms",
)  # fmt: skip


def _rounded(found: dict[str, Any]) -> str:
    """Which layers are quantised, and which stay float."""
    divergence, kept = found["calibration_divergence"], found["float_layers"]
    said = f"{found['layers'] - len(kept)} of {found['layers']} layers have 8 bits"
    if kept:
        said += f"; {', '.join(kept)} stay float (divergence {divergence['all_int8']:.2g} with all rounded)"
    said += f"; divergence {divergence['chosen']:.2g} nats on {found['calibration_examples']} training examples"
    if "finetuning" in found:
        tuned = found["finetuning"]
        without = f"{tuned['divergence']['without']:.2g} without fine-tuning, {tuned['divergence']['with']:.2g} with"
        said += f" ({without}{'' if tuned['used'] else ', which is therefore left out'})"
    return said


def _row(name: str, measured: dict[str, Any]) -> tuple[str, ...]:
    """The cells of a file's row in the table."""
    if "not_run" in measured:
        return (name, measured["file"], f"{measured['bytes']:,}", "not run here", "-", "-", "-", "-")
    differences = measured.get("logit_differences") or measured["probability_differences"]
    accuracy, speed = measured["exported"]["accuracy"], measured["speed"]
    return (
        name,
        measured["file"],
        f"{measured['bytes']:,}",
        f"{measured['flips']['count']:,} of {measured['examples']:,}",
        f"{differences['max']:.2g}",
        "-" if accuracy is None else f"{accuracy:.2%}",
        f"{speed['exported']['p50_ms']:.3f}",
        f"{speed['original']['p50_ms']:.3f}",
    )
