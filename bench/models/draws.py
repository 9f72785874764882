"""The global generators that a network of the user's own may draw from: torch's, NumPy's and Python's.

Networks of the suite draw from generators of their own. Whatever another draws, when it is built and in a forward pass,
is a function of a seed; a generator that a network makes itself is its own affair.
"""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


@contextmanager
def seeded_generators(seed: int, device: torch.device | None = None) -> Iterator[None]:
    """Seed the global generators for the block, those of a CUDA device included; then they are as they were."""
    numpys, pythons = np.random.get_state(), random.getstate()  # noqa: NPY002, the legacy one is the global one
    devices = [device] if device is not None and device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        try:
            seed_generators(seed, device)
            yield
        finally:
            np.random.set_state(numpys)  # noqa: NPY002
            random.setstate(pythons)


def seed_generators(seed: int, device: torch.device | None = None) -> None:
    """Seed torch on the CPU and on a CUDA device, NumPy and Python."""
    torch.default_generator.manual_seed(seed)  # torch.manual_seed looks for every kind of device, and is slow
    if device is not None and device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002
    random.seed(seed)
