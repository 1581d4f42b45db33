"""``limbeck info``."""

__all__ = ["info"]

from typing import Annotated, Any

from cyclopts import Parameter

from limbeck.cli.common import GROUPS, Json
from limbeck.cli.console import print_json, print_pairs, print_rows, print_text


def info(
    file: Annotated[
        str,
        Parameter(
            allow_leading_hyphen=True, help="A file, folder or specifier; the format is detected from its content."
        ),
    ],
    /,
    *,
    allow_pipes: Annotated[bool, Parameter(group=GROUPS["Run"], negative=())] = False,
    json: Json = False,
) -> None:
    """Describe a file: the layers of a network, the utterances of an archive, the pdfs of a model.

    Supports nnet1 (binary, text, older text), HDF5, safetensors, runs, Kaldi archives, script files, alignments,
    final.mdl, counts of pdfs, HCLG.fst, data directories and stores of soft targets.

    ```
    limbeck info final.nnet
    limbeck info data/train/feats.scp
    limbeck info ali_train/final.mdl --json
    ```

    Args:
        file: A file, folder or specifier such as ark:-; the format is detected from its content.
        allow_pipes: Run the shell commands in script files and specifiers.
        json: Print as JSON.
    """
    from limbeck.kaldi.summaries import summarise

    found = summarise(file, allow_pipes=allow_pipes)
    if json:
        print_json(found)
        return
    print_text(f"{file}: {found.pop('kind')}")
    components, tensors = found.pop("components", None), found.pop("tensors", None)
    if components is not None:
        rows = [_row(place, row) for place, row in enumerate(components)]
        rows.append(("", "", found.pop("inputs"), found.pop("outputs"), f"{found.pop('parameters'):,}", ""))
        print_rows(("#", "component", "inputs", "outputs", "parameters", "settings"), rows)
    elif tensors is not None:
        rows = [(row["component"], "x".join(map(str, row["shape"])), f"{row['parameters']:,}") for row in tensors]
        print_rows(("tensor", "shape", "parameters"), rows)
    print_pairs([(name.replace("_", " "), _shown(value)) for name, value in found.items()])


def _row(place: int, row: dict[str, Any]) -> tuple[object, ...]:
    settings = ", ".join(f"{name} {_shown(value)}" for name, value in row["settings"].items())
    return place, row["component"], row["inputs"], row["outputs"], f"{row['parameters']:,}", settings


def _shown(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list):
        return " ".join(map(str, value))
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
