"""What a worker works with: store, images, device, how often to write checkpoints, when to stop, its ranks."""

from dataclasses import dataclass, field

import torch

from bench.data.loading import ImageLoader
from bench.errors import UserError
from bench.store.store import Store
from bench.training.ranks import ALONE, Ranks
from bench.work.options import CHECKPOINT_SECONDS, Options, most_decoders
from bench.work.signals import StopRequest


@dataclass(frozen=True)
class Context:
    """One worker's surroundings; loaded images stay in memory from item to item."""

    store: Store
    images: ImageLoader
    device: torch.device
    stop: StopRequest = field(default_factory=StopRequest)
    checkpoint_seconds: float = CHECKPOINT_SECONDS
    deterministic: bool = False
    bars: bool = True
    ranks: Ranks = ALONE
    decoders: int = 0

    @classmethod
    def make(cls, store: Store, options: Options, stop: StopRequest, ranks: Ranks = ALONE) -> "Context":
        """Return the surroundings that options ask for; UserError for a device that is not there."""
        if options.threads is not None:
            torch.set_num_threads(options.threads)
        return cls(
            store,
            ImageLoader(store, options.data, progress=ranks.first),
            find_device(options.device),
            stop,
            options.checkpoint_seconds,
            options.deterministic,
            options.bars,
            ranks,
            most_decoders() if options.decoders is None else options.decoders,
        )


def find_device(name: str) -> torch.device:
    """Return the device that a name means here, "auto" a GPU if there is one; UserError for a GPU that is not there."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: torch sees no GPU here; use --device cpu or auto")
    return torch.device(name)
