"""One pass over an evaluation set: every batch is read once, while the one before it is seen by all tickets."""

import time
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from bench.data.dataset import at_once
from bench.data.stream import Batches
from bench.evaluation.networks import Network
from bench.store.run_folder import Array

K = TypeVar("K", bound=Hashable)


@dataclass(frozen=True)
class Predictions:
    """Logits float32 [members, images, classes] on the host, and the seconds of the pass and in these networks."""

    logits: Array
    seconds: float
    forward_seconds: float


def predict_all(
    networks: Sequence[Network], images: Batches, name: str, between_batches: Callable[[], None] = lambda: None
) -> Predictions:
    """Return what all members of all networks, side by side, predict of the images of the set `name`.

    between_batches   is called before each batch, and may raise to end the pass
    """
    return predict_together({None: networks}, images, name, between_batches)[None]


@torch.inference_mode()
def predict_together(
    runs: Mapping[K, Sequence[Network]],
    images: Batches,
    name: str,
    between_batches: Callable[[], None] = lambda: None,
    guarded: Callable[[K, Callable[[], Array]], Array | None] = lambda _, predict: predict(),
) -> dict[K, Predictions]:
    """Return what the networks of each run predict of the images, to the bits of a pass for that run alone.

    guarded   is called with a run and what predicts a batch, and returns that prediction; None leaves the run out from
              then on
    """
    started = time.perf_counter()
    logits: dict[K, Array] = {}
    forward_seconds = dict.fromkeys(runs, 0.0)
    left = dict(runs)
    for start, batch in _read_ahead(images):
        between_batches()
        for run in list(left):
            before = time.perf_counter()
            made = guarded(run, partial(_logits, left[run], batch, name, start))
            if made is None:
                del left[run]
                logits.pop(run, None)
                continue
            forward_seconds[run] += time.perf_counter() - before
            if run not in logits:
                logits[run] = np.empty((len(made), len(images), made.shape[2]), np.float32)
            logits[run][:, start : start + made.shape[1]] = made
        if not left:
            break
    seconds = time.perf_counter() - started
    return {run: Predictions(logits[run], seconds, forward_seconds[run]) for run in left}


def _logits(networks: Sequence[Network], batch: Tensor, name: str, start: int) -> Array:
    logits = torch.cat([network.logits(batch, name, start) for network in networks])
    made: Array = logits.cpu().numpy()  # waits for the device, so that clocks are right
    return made


def _read_ahead(images: Batches) -> Iterator[tuple[int, Tensor]]:
    """Yield batches with the place of their first image, each read while the caller works with the one before it."""
    size = at_once(images.side)
    with ThreadPoolExecutor(1) as reader:
        starts = range(0, len(images), size)
        reads = (reader.submit(images.plain, start, min(start + size, len(images))) for start in starts)
        following = next(reads, None)
        for start in starts:
            assert following is not None
            batch, following = following.result(), next(reads, None)
            yield start, batch
