"""Tasks that other processes import by name, from a folder that is on their path as it is on pytest's."""

import os
import signal
from pathlib import Path

import torch

from limbeck.errors import DataError
from limbeck.system.callbacks import warn_user


def dies_once(marker):
    """Killed at its first attempt, as for want of memory."""
    if not Path(marker).exists():
        Path(marker).write_text("")
        os.kill(os.getpid(), signal.SIGKILL)
    return torch.get_num_threads()


def dies():
    os.kill(os.getpid(), signal.SIGKILL)


def errs():
    raise DataError("this is odd")


def warns():
    warn_user("something is odd")
    warn_user("something is odd")
    return 3
