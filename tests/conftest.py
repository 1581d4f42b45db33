"""Shared by all tests: one thread, and the same examples each time, so that results do not depend on the machine."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch  # noqa: E402
from hypothesis import settings  # noqa: E402

torch.set_num_threads(1)

# What a commit passes once it passes always; `make test-slow` looks for new examples (`HYPOTHESIS_PROFILE=explore`).
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.register_profile("explore", deadline=None, max_examples=500)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))
