"""Hugging Face's transformers, imported where it is used."""

__all__ = ["file_of", "filler", "from_hub", "load_tokenizer", "transformers"]

import importlib
import os
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit
from urllib.request import getproxies

from limbeck.errors import ConfigError, MissingExtraError

T = TypeVar("T")

_PATIENCE = 3.0
"""Seconds to wait for the hub to accept a connection."""


@cache
def transformers() -> Any:
    """The package transformers, also beside a torchvision that cannot be imported.

    A torchvision whose operators belong to another build of PyTorch raises when it is imported, and with it nearly
    every model of transformers. To transformers such a torchvision is one that is not installed.

    Returns:
        The module.

    Raises:
        MissingExtraError: If it is not installed.
    """
    with _without_broken("torchvision"):
        try:
            found = importlib.import_module("transformers")
        except ImportError as error:
            raise MissingExtraError("transformers", "text") from error
        for name in ("is_torchvision_available", "is_torchvision_v2_available"):
            known: Any = getattr(found.utils.import_utils, name, None)
            if hasattr(known, "cache_clear"):
                known.cache_clear()
                known()  # remembers what it finds now
    return found


@contextmanager
def _without_broken(package: str) -> Iterator[None]:
    """Hide a package, for the time, that is installed and raises when it is imported."""
    try:
        importlib.import_module(package)
    except ImportError:
        pass
    except Exception:  # any error of a mismatched build
        before = sys.modules.get(package)
        sys.modules[package] = None  # type: ignore[assignment]
        try:
            yield
        finally:
            if before is None:
                del sys.modules[package]
            else:
                sys.modules[package] = before
        return
    yield


@contextmanager
def _quiet() -> Iterator[None]:
    """Without progress bars and notes on new weights, which the loader reports."""
    logging = transformers().utils.logging
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def from_hub(loading: Callable[..., T], name: str, what: str, **settings: Any) -> T:
    """What a ``from_pretrained`` gives, never with code out of a file.

    Args:
        loading: The method.
        name: A folder, or a name on the hub, of which the files are taken where the variables of Hugging Face's
            libraries say, such as ``HF_HOME`` and ``HF_HUB_OFFLINE``.
        what: What to call it in a message.
        **settings: Further arguments.

    Returns:
        The result of the method.

    Raises:
        ConfigError: If it is not there or cannot be read.
        MissingExtraError: If transformers is not installed, or what it needs for this model.
    """
    if not os.path.isdir(name) and _is_path(name):
        raise ConfigError(f"{what} {name}: there is no such folder")
    away = None if os.path.isdir(name) else _hub_away()
    if away is not None:  # the libraries would try again and again, for half a minute
        settings["local_files_only"] = True
    try:
        with _quiet():
            return loading(name, trust_remote_code=False, **settings)
    except MissingExtraError:
        raise
    except Exception as error:  # any error of the library on unusable files
        reason = " ".join(str(error).split())
        if not os.path.isdir(name) and isinstance(error, OSError):
            hub = " or to be had from the hub" if away is None else f", and {away} cannot be reached"
            raise ConfigError(
                f"{what} {name}: there is no such folder, and no model of that name on the disk{hub}: give a folder, "
                "or download it first and set HF_HOME to where it is"
            ) from error
        if "trust_remote_code" in reason:
            reason = "it needs remote code, and Limbeck executes no code from files"
        raise ConfigError(f"{what} {name} cannot be loaded: {type(error).__name__}: {reason[:300]}") from error


def _hub_away() -> str | None:
    """The hub's host where it is to be asked and does not answer; None where it does, or is not asked directly."""
    constants: Any = importlib.import_module("huggingface_hub.constants")
    place = urlsplit(str(constants.ENDPOINT))
    if constants.HF_HUB_OFFLINE or place.hostname is None or getproxies().keys() & {place.scheme, "all"}:
        return None
    port = place.port or (80 if place.scheme == "http" else 443)
    try:
        socket.create_connection((place.hostname, port), _PATIENCE).close()
    except OSError:
        return place.hostname
    return None


def _is_path(name: str) -> bool:
    """Whether a name cannot be one on the hub, which is ``name`` or ``owner/name``."""
    return name.startswith((".", "/", "~", os.sep)) or len(Path(name).parts) > 2


def file_of(name: str, file: str) -> Path | None:
    """A file of a folder, or of what is on the disk of a name on the hub.

    Args:
        name: A folder, or a name on the hub.
        file: The file's name.

    Returns:
        Where it is; None where it is not there.
    """
    if os.path.isdir(name):
        place = Path(name) / file
        return place if place.is_file() else None
    from_cache = transformers().utils.hub.try_to_load_from_cache(name, file)
    return Path(from_cache) if isinstance(from_cache, str) else None


@lru_cache(maxsize=8)
def load_tokenizer(name: str) -> Any:
    """Load a Hugging Face tokenizer.

    Args:
        name: A folder, or a name on the hub.

    Returns:
        The tokenizer; the same one each time.

    Raises:
        ConfigError: If it is not there, or cannot be read.
        MissingExtraError: If transformers is not installed.
    """  # noqa: DOC502
    return from_hub(transformers().AutoTokenizer.from_pretrained, name, "tokenizer")


def filler(tokenizer: Any) -> int:
    """What fills up shorter texts, which the mask leaves out; of a tokenizer without one, any token that there is.

    Args:
        tokenizer: From :func:`load_tokenizer`.

    Returns:
        The number of a token.
    """
    known = (tokenizer.pad_token_id, tokenizer.eos_token_id, tokenizer.unk_token_id)
    return next((int(number) for number in known if number is not None), 0)
