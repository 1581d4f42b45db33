"""The study: Optuna's record of a search, in a database that any number of processes may work on.

Trials are planned ahead: a place for each trial, with its values if they are chosen already (a grid), and without if
the sampler chooses. A free process takes the next waiting trial. A trial whose process crashed waits again, so that it
comes before those after it and the search is that of a process that was never stopped; in a shared database, where
others have gone on meanwhile, another of the same values takes its place.
"""

__all__ = [
    "address_of",
    "agree",
    "connect",
    "finished",
    "hidden_password",
    "open_study",
    "optuna_here",
    "plan",
    "told_of_storage",
    "unfinished",
    "waiting",
]

import glob
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from limbeck.errors import ConfigError, LimbeckError, MissingExtraError, RunError
from limbeck.system.files import sync_folder

if TYPE_CHECKING:
    from optuna import Study
    from optuna.storages import BaseStorage
    from optuna.trial import FrozenTrial

_BEAT_SECONDS, _GRACE_SECONDS = 30, 120
"""Heartbeat interval of trials in a shared database, and the grace period after which one counts as failed."""
_WAIT_SECONDS = 60
"""How long a process waits for another's write to an SQLite file."""


def optuna_here() -> ModuleType:
    """Optuna, quiet.

    Returns:
        The module.

    Raises:
        MissingExtraError: If it, or the database library it needs, is not installed.
    """
    try:
        import optuna
        import sqlalchemy  # noqa: F401  (optuna imports it when a study is opened)
    except ImportError as error:
        raise MissingExtraError("optuna", "tune") from error
    optuna.logging.set_verbosity(optuna.logging.CRITICAL)
    return optuna


def address_of(path: Path) -> str:
    """The address of an SQLite file, whatever signs its path holds.

    Args:
        path: The file.

    Returns:
        The address.

    Example:
        >>> address_of(Path("/runs/100 % ?/study.db"))
        'sqlite:////runs/100 %25 %3F/study.db'
    """
    optuna_here()
    from sqlalchemy.engine import URL

    return URL.create("sqlite", database=str(path.resolve())).render_as_string(hide_password=False)


def hidden_password(url: str) -> str:
    """A database's address as it may be shown and kept.

    Args:
        url: Such as ``postgresql://me:secret@host/db``.

    Returns:
        The address with stars for the password; what is no address comes back as it is.
    """
    optuna_here()
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        return make_url(url).render_as_string(hide_password=True)
    except ArgumentError:
        return url


def connect(url: str | None, *, shared: bool) -> "BaseStorage":
    """Open the database of studies.

    Args:
        url: As SQLAlchemy has them, such as ``sqlite:///study.db`` or ``postgresql://host/db``; None for memory.
        shared: Whether others, unknown here, may work on it too: trials then say that they are alive.

    Returns:
        The storage.

    Raises:
        ConfigError: If it cannot be opened; the message says why, without the password.
    """
    optuna = optuna_here()
    if url is None:
        storage: BaseStorage = optuna.storages.InMemoryStorage()
        return storage
    wait = {"connect_args": {"timeout": _WAIT_SECONDS}} if url.startswith("sqlite") else {}
    beat: dict[str, Any] = {}
    if shared:
        beat = {"heartbeat_interval": _BEAT_SECONDS, "grace_period": _GRACE_SECONDS}
        beat["heartbeat_stale_trial_callback"] = _again
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # signs of life are marked as experimental
            if url.startswith("sqlite"):
                _make_tables(url, shared=shared)
            opened: BaseStorage = optuna.storages.RDBStorage(url, engine_kwargs=wait, **beat)
        if url.startswith("sqlite"):
            _one_at_a_time(opened)
    except Exception as error:  # whatever SQLAlchemy or a database's driver raises
        reason = " ".join(str(error).split())
        shown = hidden_password(url)
        raise ConfigError(
            f"storage {shown} cannot be used: {reason.replace(url, shown)[:200]}; an address looks like "
            "sqlite:///study.db or postgresql://user@host/name"
        ) from error
    return opened


def _make_tables(url: str, *, shared: bool) -> None:
    """Make an SQLite file with all of Optuna's tables, whole or not at all.

    A kill between a table and its index would leave a file without the index, in which one study becomes two.
    """
    from sqlalchemy.engine import make_url

    name = make_url(url).database or ":memory:"
    if name.startswith((":", "file:")):
        return
    path = Path(name)
    made = path.with_name(f".{path.name}.{os.getpid()}.partial")
    # What a kill left, with SQLite's journals; in a shared folder it may be somebody's at work.
    for left in path.parent.glob(glob.escape(made.name if shared else f".{path.name}.") + "*"):
        left.unlink(missing_ok=True)
    if path.exists() and path.stat().st_size:
        return
    try:
        storage: Any = optuna_here().storages.RDBStorage(address_of(made))
        storage.engine.dispose()
        if path.exists() and not path.stat().st_size:  # opened by somebody, and nothing written
            made.replace(path)
        else:
            _link(made, path)
        sync_folder(path.parent)
    except FileExistsError:
        pass
    finally:
        made.unlink(missing_ok=True)


def _link(made: Path, path: Path) -> None:
    """Put a file in its place and, unlike a renaming, replace nothing that another process made meanwhile."""
    try:
        os.link(made, path)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        if not path.exists():
            made.replace(path)


@contextmanager
def told_of_storage(url: str | None) -> Iterator[None]:
    """Tell of a database that fails, as on a full disk or where its folder is gone, in a line.

    Args:
        url: The database.

    Yields:
        Nothing.

    Raises:
        RunError: If the database failed; what it held before is as it was.
    """
    from sqlalchemy.exc import SQLAlchemyError

    internal = optuna_here().exceptions.StorageInternalError
    try:
        yield
    except Exception as error:
        # Optuna stumbles over its own storage's errors, which then stand behind another. Errors may go in a circle.
        behind: list[BaseException] = [error]
        while (before := behind[-1].__cause__ or behind[-1].__context__) is not None and before not in behind:
            behind.append(before)
        found = next((one for one in behind if isinstance(one, SQLAlchemyError | internal)), None)
        if found is None or url is None or isinstance(error, LimbeckError):
            raise
        reason = " ".join(str(found.__cause__ or found).split()).split(" [SQL")[0][:200]
        raise RunError(
            f"the study in {hidden_password(url)} cannot be kept: {reason}: is the disk full, or the folder deleted? "
            f"Finished trials are kept; resume=True (--resume) continues"
        ) from error


def _one_at_a_time(storage: Any) -> None:
    """Let every transaction of an SQLite file begin as a writer.

    Else two processes read at the same moment that a trial waits, and both take it: SQLite has no lock on a row.
    """
    from sqlalchemy import event

    def leave_to_us(connection: Any, _: Any) -> None:
        connection.isolation_level = None

    def begin(connection: Any) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    storage.engine.dispose()
    event.listen(storage.engine, "connect", leave_to_us)
    event.listen(storage.engine, "begin", begin)


def open_study(storage: "BaseStorage", name: str, settings: Mapping[str, Any]) -> "Study":
    """Open a study, or begin it, with the settings that each of its trials has in common.

    Args:
        storage: The database.
        name: The study's name in it.
        settings: Plain values.

    Returns:
        The study.

    Raises:
        RunError: If it is there with other settings.
    """
    optuna = optuna_here()
    study: Study = optuna.create_study(
        storage=storage, study_name=name, direction="minimize", load_if_exists=True, pruner=optuna.pruners.NopPruner()
    )
    found = study.user_attrs.get("settings")
    if found is None:
        if study.get_trials(deepcopy=False):
            raise RunError(
                f"the study {name!r} in the storage is not one of limbeck tune: give another study (--study)"
            )
        study.set_user_attr("settings", dict(settings))
    else:
        agree(name, found, settings)
    return study


def agree(name: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Refuse to go on with a study whose trials had other settings or data.

    Args:
        name: The study's name.
        before: What it was begun with.
        now: What is asked for.

    Raises:
        RunError: If they differ; the message names the first setting that does.
    """
    for key in sorted(set(before) | set(now)):
        if before.get(key) != now.get(key):
            raise RunError(
                f"the study {name!r} was begun with {key} = {before.get(key)!r}, and now it is {now.get(key)!r}: its "
                "trials could not be compared; go on with the same, or begin another with another out (--out)"
            )


def plan(study: "Study", storage: "BaseStorage", points: Sequence[Mapping[str, Any]], *, alone: bool) -> None:
    """Let trials wait for every place that has none, or only such as failed.

    Args:
        study: The study.
        storage: Where it is kept.
        points: What to try at each place; an empty mapping leaves the choice to the sampler.
        alone: Whether nobody else works on the study, so that a trial which seems to run has died; else it has when
            it gave no sign of life for a while.
    """
    from optuna.trial import TrialState

    if alone:
        kept = storage.get_study_id_from_name(study.study_name)
        for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            again = TrialState.WAITING if "place" in trial.user_attrs else TrialState.FAIL
            storage.set_trial_state_values(storage.get_trial_id_from_study_id_trial_number(kept, trial.number), again)
    else:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # signs of life are marked as experimental
            optuna_here().storages.fail_stale_trials(study)
    latest: dict[int, FrozenTrial] = {}
    for trial in study.get_trials(deepcopy=False):
        place = trial.user_attrs.get("place")
        if place is not None and (place not in latest or latest[place].state == TrialState.FAIL):
            latest[place] = trial
    for place, point in enumerate(points):
        if place not in latest:
            study.enqueue_trial(dict(point), user_attrs={"place": place})
        elif latest[place].state == TrialState.FAIL:
            _again(study, latest[place])


def _again(study: "Study", trial: "FrozenTrial") -> None:
    """Requeue a failed trial, with its values as far as they were chosen."""
    if "place" in trial.user_attrs:
        point = {**trial.system_attrs.get("fixed_params", {}), **trial.params}
        study.enqueue_trial(point, user_attrs={"place": trial.user_attrs["place"]})


def waiting(study: "Study") -> int:
    """Number of waiting trials."""
    from optuna.trial import TrialState

    return len(study.get_trials(deepcopy=False, states=(TrialState.WAITING,)))


def unfinished(study: "Study") -> int:
    """Number of trials waiting or running, here or elsewhere."""
    from optuna.trial import TrialState

    return len(study.get_trials(deepcopy=False, states=(TrialState.WAITING, TrialState.RUNNING)))


def finished(study: "Study") -> int:
    """Number of finished trials, complete or pruned."""
    from optuna.trial import TrialState

    return len(study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED)))
