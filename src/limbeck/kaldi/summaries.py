"""Summaries of files and folders as plain values, for ``limbeck info``."""

__all__ = ["summarise"]

from collections.abc import Callable, Iterable
from dataclasses import asdict, replace
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limbeck.errors import DataError, FormatError
from limbeck.kaldi.convert import read_network
from limbeck.kaldi.formats.compact_lattice import CompactLattice, read_lattice_entries, read_lattices
from limbeck.kaldi.formats.lines import read_table
from limbeck.kaldi.formats.nnet1 import Nnet
from limbeck.kaldi.formats.nnet1_record import read_arrays, records_of
from limbeck.kaldi.formats.opened import Table
from limbeck.kaldi.formats.openfst import read_graphs, summarise_fst
from limbeck.kaldi.formats.piped import is_once
from limbeck.kaldi.formats.post import PAIR
from limbeck.kaldi.formats.scp import ScpEntry, read_entries, read_scp
from limbeck.kaldi.formats.sniff import FileKind, identify, identify_entry
from limbeck.kaldi.formats.specifiers import parse_reading
from limbeck.kaldi.formats.table import Kind, open_stream, read_ark, read_matrix_file
from limbeck.kaldi.formats.transition_model import read_topology, read_transition_model
from limbeck.kaldi.forward import read_pdf_counts
from limbeck.kaldi.nnet3.components import Component
from limbeck.kaldi.nnet3.model import read_nnet3
from limbeck.kaldi.nnet3.planning import context_of
from limbeck.system.files import read_json

_KINDS: dict[str, Kind] = {"matrices": "matrix", "vectors": "vector", "integers": "integers",
                           "posteriors": "posterior"}  # fmt: skip


def summarise(given: str | PathLike[str], *, allow_pipes: bool = False) -> dict[str, Any]:
    """Describe a file or folder.

    Args:
        given: A network of any format, a Kaldi archive, script file, alignment, final.mdl, vector of counts or graph; a
            run, a store of soft targets or a data directory. Or a specifier of a table, such as ``ark:-``.
        allow_pipes: Run lines of a script file that are commands.

    Returns:
        ``kind``, and what there is to say about it; networks have ``components``, a row each.

    Raises:
        FormatError: If it is of no known kind, or is damaged.
    """
    reading = parse_reading(given)
    if reading.kind or reading.is_pipe or is_once(reading.source):
        in_file = reading.kind == "ark" and not reading.is_pipe and not is_once(reading.source)
        if not (in_file and identify(reading.source) in {"lattices", "graphs"}):
            return _opened(Table(given, allow_pipes=allow_pipes))
    path = Path(reading.source)
    kind = identify(path)
    if kind in {"nnet1 binary", "nnet1 text", "nnet1 legacy", "hdf5", "safetensors", "run"}:
        return {"kind": kind, **_network(path, kind)}
    if kind == "scp" or kind == "data directory":
        script = path / "feats.scp" if kind == "data directory" else path
        return {"kind": kind, **_script(script, read_scp(script, allow_pipes=allow_pipes), allow_pipes)}
    if kind in _KINDS:
        return {"kind": kind, **_table(_KINDS[kind], read_ark(path, _KINDS[kind]))}
    others: dict[str, Callable[[Path], dict[str, Any]]] = {
        "transition model": _transitions,
        "nnet3": _nnet3,
        "nnet3 model": lambda place: _transitions(place) | _nnet3(place),
        "counts": _counts,
        "fst": lambda place: asdict(summarise_fst(place)) | {"kind": "fst"},
        "ensemble": _ensemble,
        "store": _store,
        "graphs": _graphs,
        "lattices": _lattices,
        "matrix": _matrix,
        "topology": lambda place: {"phones": len(read_topology(place))},
        "tree": _tree,
        "words": _words,
    }
    return {"kind": kind, **others[kind](path)}


def _opened(table: Table) -> dict[str, Any]:
    """What a table holds that may be read once only."""
    if table.entries is not None:
        return {"kind": table.kind, **_script(Path(table.name), table.entries, table.allow_pipes)}
    if table.holds is None:
        raise FormatError(table.name, f"looks like {table.kind}, and a table is read from there: give it as a file")
    return {"kind": table.kind, **_table(table.holds, table.read(table.holds))}


def _network(path: Path, kind: FileKind) -> dict[str, Any]:
    try:
        return _components(read_network(path, activation="linear" if kind == "hdf5" else None).nnet)
    except DataError as error:  # a run of another architecture; damaged files stay errors
        if kind != "run":
            raise
        found = _arrays(path, str(error))
    except FormatError:
        if kind != "safetensors":
            raise
        found = _arrays(path, "tensors that are no nnet1 network")
    return found


def _components(nnet: Nnet) -> dict[str, Any]:
    rows = []
    for component, record in zip(nnet.components, records_of(nnet), strict=True):
        more = {
            name: value
            for name, value in record.items()
            if name not in {"tag", "dim", "inputs", "outputs"} and value not in (1.0, 0.0)
        }
        rows.append(
            {
                "component": component.tag,
                "inputs": component.input_dim,
                "outputs": component.output_dim,
                "parameters": component.parameter_count,
                "settings": {
                    name: value if not isinstance(value, list) else value[:32] for name, value in more.items()
                },
            }
        )
    return {
        "inputs": nnet.input_dim,
        "outputs": nnet.output_dim,
        "parameters": nnet.parameter_count,
        "components": rows,
    }


def _arrays(path: Path, note: str) -> dict[str, Any]:
    place = path
    if path.is_dir():
        place = next(
            (found for found in (path / "model" / "model.safetensors", path / "model.safetensors") if found.exists()),
            path / "model" / "model.safetensors",
        )
    arrays, _ = read_arrays(place)
    rows = [
        {"component": name, "shape": list(value.shape), "parameters": int(value.size)} for name, value in arrays.items()
    ]
    return {"note": note, "parameters": sum(value.size for value in arrays.values()), "tensors": rows}


def _script(script: Path, entries: list[ScpEntry], allow_pipes: bool) -> dict[str, Any]:
    """What the objects hold that a script file points at."""
    if not entries:
        raise FormatError(script, "an empty script file")
    pointed = identify_entry(entries[0])
    if pointed == "graphs":
        raise FormatError(script, f"points at graphs in {entries[0].source}: give that archive itself")
    if pointed == "lattices":
        return {"holds": "lattices", **_counted(read_lattice_entries(entries))}
    found = _script_kind(entries, allow_pipes)
    return _table(found, read_entries(entries, found, allow_pipes=allow_pipes))


def _script_kind(entries: list[ScpEntry], allow_pipes: bool) -> Kind:
    first = [replace(entries[0], rows=None, columns=None)]  # a range that does not fit says nothing of the kind
    for kind in ("matrix", "vector"):
        try:
            next(read_entries(first, kind, allow_pipes=allow_pipes))
        except FormatError:
            continue
        return kind
    try:
        next(read_entries(first, "posterior", allow_pipes=allow_pipes))
    except FormatError:
        return "integers"
    return "posterior"


def _table(kind: Kind, pairs: Any) -> dict[str, Any]:
    """Count over entries, one in memory at a time."""
    count = rows = not_finite = held = 0
    widths: set[int] = set()
    shortest, longest = None, 0
    low, high = np.inf, -np.inf
    first = last = ""
    for key, value in pairs:
        if value.dtype == PAIR:
            widths.add(int(value["pdf"].max(initial=-1)) + 1)
            frames = int(value["frame"].max(initial=-1)) + 1
            count, rows, first, last = count + 1, rows + frames, first or key, key
            held, longest = held + len(value), max(longest, frames)
            shortest = frames if shortest is None else min(shortest, frames)
            continue
        count, rows, first, last = count + 1, rows + len(value), first or key, key
        shortest = len(value) if shortest is None else min(shortest, len(value))
        longest = max(longest, len(value))
        if value.ndim == 2:
            widths.add(value.shape[1])
        if value.size:
            bad = 0 if value.dtype == np.int32 else int(value.size - np.isfinite(value).sum())
            not_finite += bad
            kept: NDArray[Any] = value[np.isfinite(value)] if bad else value
            if kept.size:
                low, high = min(low, float(kept.min())), max(high, float(kept.max()))
    found: dict[str, Any] = {"holds": kind, "entries": count, "rows": rows, "first": first, "last": last}
    if count:
        found |= {"shortest": shortest, "longest": longest}
    if held:
        found |= {"pairs": held, "pdfs": max(widths)}
    elif widths:
        found["columns"] = sorted(widths)[0] if len(widths) == 1 else sorted(widths)
    if low <= high:
        found |= {"smallest": low, "largest": high}
    if not_finite:
        found["not_finite"] = not_finite
    return found


def _transitions(path: Path) -> dict[str, Any]:
    model = read_transition_model(path)
    return {
        "pdfs": model.pdf_count,
        "transition_ids": model.transition_count,
        "phones": len(np.unique(model.tid_to_phone[1:])),
    }


def _nnet3(path: Path) -> dict[str, Any]:
    model = read_nnet3(path)
    nnet = model.nnet
    rows = []
    for part in nnet.components:
        inputs, outputs = nnet.component_dims[part.name] or ("?", "?")
        row = {"component": f"{part.name} {part.kind}", "inputs": inputs, "outputs": outputs}
        rows.append({**row, "parameters": part.parameter_count, "settings": _settings(part)})
    known = {**nnet.inputs, **nnet.outputs}
    found: dict[str, Any] = {
        "inputs": " ".join(f"{name} {dim}" for name, dim in nnet.inputs.items()),
        "outputs": " ".join(f"{name} {'?' if dim is None else dim}" for name, dim in nnet.outputs.items()),
        "parameters": nnet.parameter_count,
        "components": rows,
        "nodes": len(nnet.nodes) - len(known),
    }
    try:
        for output in nnet.outputs:
            left, right = context_of(nnet, output)
            found |= {f"left context of {output}": left, f"right context of {output}": right}
    except DataError as error:
        found["note"] = str(error)
    if model.priors is not None:
        found["priors"] = int(model.priors.size)
    return found


def _settings(part: Component) -> dict[str, Any]:
    """What is said of a component in a few numbers, but for what only training looks at."""
    shown = ("TimeOffsets", "BlockDim", "TargetRms", "AddLogStddev", "OrthonormalConstraint", "DropoutProportion",
             "LearningRateFactor")  # fmt: skip
    found = {field.tag: field.values[0].content for field in part.fields if field.tag in shown and field.values}
    return {tag: value.tolist()[:32] if isinstance(value, np.ndarray) else value for tag, value in found.items()}


def _counts(path: Path) -> dict[str, Any]:
    counts = read_pdf_counts(path)
    return {
        "pdfs": int(counts.size),
        "frames": float(counts.sum(dtype=np.float64)),
        "commonest": int(counts.argmax()),
        "commonest_share": float(counts.max() / counts.sum(dtype=np.float64)) if counts.any() else 0.0,
        "never_seen": int((counts < 1).sum()),
    }


def _graphs(path: Path) -> dict[str, Any]:
    found = [summary for _, summary in read_graphs(path)]
    return {
        "graphs": len(found),
        "states": sum(summary.states for summary in found),
        "arcs": sum(summary.arcs for summary in found),
        "largest_input": max(summary.largest_input for summary in found),
    }


def _lattices(path: Path) -> dict[str, Any]:
    return _counted(read_lattices(path))


def _counted(lattices: Iterable[tuple[str, CompactLattice]]) -> dict[str, Any]:
    found = [lattice for _, lattice in lattices]
    arcs = [arc for lattice in found for arc in lattice.arcs]
    return {
        "utterances": len(found),
        "states": sum(len(lattice.finals) for lattice in found),
        "arcs": len(arcs),
        "largest_word": max((arc.word for arc in arcs), default=0),
    }


def _matrix(path: Path) -> dict[str, Any]:
    matrix = read_matrix_file(path)
    found = {"rows": matrix.shape[0], "columns": matrix.shape[1]}
    return found if not matrix.size else {**found, "smallest": float(matrix.min()), "largest": float(matrix.max())}


def _tree(path: Path) -> dict[str, Any]:
    with open_stream(path) as stream:
        stream.take(2, "header")
        stream.binary = True
        stream.expect("ContextDependency")
        return {"context_width": stream.int32("context width"), "central_position": stream.int32("central position")}


def _words(path: Path) -> dict[str, Any]:
    table = read_table(path)
    words = [word for line in table.values() for word in line]
    return {"lines": len(table), "words": len(words), "different_words": len(set(words)), "first": next(iter(table))}


def _ensemble(path: Path) -> dict[str, Any]:
    listed = read_json(path / "ensemble.json")
    members = listed.get("members") if isinstance(listed, dict) else None
    if not isinstance(members, int):
        raise FormatError(path / "ensemble.json", "must hold the number of members")
    first = path / "members" / "1"
    return {"members": members, "mean": listed.get("mean"), **_network(first, "run")}


def _store(path: Path) -> dict[str, Any]:
    manifest = read_json(path / "manifest.json")
    if not isinstance(manifest, dict):
        raise FormatError(path / "manifest.json", "is not a JSON object")
    plan = manifest.get("plan")
    found: dict[str, Any] = {}
    for name, value in {**(plan if isinstance(plan, dict) else {}), **manifest}.items():
        if isinstance(value, str | int | float | bool):
            found[name] = value
        elif isinstance(value, list):
            found[f"{name} (count)"] = len(value)
        elif name == "encoding" and isinstance(value, dict):
            found[name] = " ".join(str(each) if key == "name" else f"{key}={each}" for key, each in value.items())
    if isinstance(plan, dict) and plan.get("temperature", 0) is None:
        found["temperature"] = "any"
    return found
