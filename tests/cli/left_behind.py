"""What a command leaves in its folder, to be compared with what another left: all but times."""

__all__ = ["content"]

import json
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

from limbeck.system.checksums import digest_file, read_sums

TIMES = {"latency_ms", "images_per_second", "latency", "seconds", "created", "speed"}


def content(folder: Path) -> dict[str, object]:
    """What a run leaves, without times; of a search all that its study holds of its trials."""
    found: dict[str, object] = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.name == "study.db":
            found[name] = trials_of(path)
            continue
        if path.name == "SHA256SUMS":  # of files with times in them too: the names count, and that they are right
            listed = read_sums(path.parent) or {}
            assert all(digest_file(path.parent / known) == digest for known, digest in listed.items())
            found[name] = sorted(listed)
            continue
        passing = {".lock", "timings.jsonl", "config.toml", "parity.html"}  # the last shows what parity.json holds
        if path.is_dir() or path.name in passing or "checkpoints" in path.parts:
            continue
        found[name] = timeless(json.loads(path.read_bytes())) if path.suffix == ".json" else path.read_bytes()
    return found


def trials_of(path: Path) -> dict[str, object]:
    """Every trial's number, state, values, reports and notes, without times."""
    tables = {
        "trials": "state",
        "trial_params": "param_name, param_value",
        "trial_values": "value",
        "trial_intermediate_values": "step, intermediate_value",
        "trial_user_attributes": "key, value_json",
        "trial_system_attributes": "key, value_json",
    }
    found: dict[str, object] = {}
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        numbers = dict(database.execute("select trial_id, number from trials").fetchall())
        for name, columns in tables.items():
            rows = database.execute(f"select trial_id, {columns} from {name}").fetchall()
            found[name] = sorted((numbers[row[0]], *row[1:]) for row in rows if row[1] != "seconds")
    return found


def timeless(value: object) -> object:
    if isinstance(value, Mapping):
        return {name: timeless(part) for name, part in value.items() if name not in TIMES}
    return [timeless(part) for part in value] if isinstance(value, list) else value
