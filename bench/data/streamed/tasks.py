"""What a crew is asked for: images in pieces. Without torch, so that memory can be planned."""

from dataclasses import dataclass

from bench.data.dataset import Array

# A task is at most so many images, so that the shared memory does not grow with the batch.
PIECE = 64
# So many tasks wait at each process that decodes.
AHEAD = 2


@dataclass(frozen=True)
class Task:
    """Images to decode: indices into the files; as an epoch sees them from `first` on, or as evaluation does.

    seed, first, flips   of an epoch: of its windows, place of the first image in its order, bool [N]; None: evaluation
    """

    index: Array
    seed: int | None = None
    first: int = 0
    flips: Array | None = None
