"""Training images that a crew decodes while the network trains on those before them."""

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager

import torch
from torch import Tensor

from bench.data.augment import Normalise, draw_flips, draw_order
from bench.data.dataset import Array
from bench.data.streamed.crew import Crew
from bench.data.streamed.tasks import PIECE, Task
from bench.spec.seeds import derived_seed


class FileImages:
    """TrainingImages (bench.data.augment) whose files `crew` decodes, cropped and resized at random.

    labels   int64 [N], on the host
    """

    def __init__(self, crew: Crew, labels: Array, flip: bool, normalise: Normalise) -> None:
        self._crew, self._flip, self._normalise = crew, flip, normalise
        self.labels = torch.as_tensor(labels, device=normalise.device)
        device = self.labels.device
        self._copies = torch.cuda.Stream(device) if self.labels.is_cuda else None  # type: ignore[no-untyped-call]

    def __len__(self) -> int:
        return len(self.labels)

    @contextmanager
    def epoch(self, parts: Sequence[slice], *draws: str | int) -> Iterator[Iterator[tuple[Tensor, Tensor]]]:
        """Give batches of an epoch, as TrainingImages; what is decoded ahead is dropped when the context ends."""
        order = draw_order(len(self), *draws)
        flips = draw_flips(len(self), self._flip, *draws).numpy()
        tasks = _Tasks(parts, order.numpy(), flips, derived_seed(*draws, "windows"))
        with closing(self._crew.decoded(tasks)) as pieces:
            yield self._batches(pieces, parts, order.to(self.labels.device))

    def _batches(
        self, pieces: Iterator[Tensor], parts: Sequence[slice], order: Tensor
    ) -> Iterator[tuple[Tensor, Tensor]]:
        for part in parts:
            pixels = self._decoded(pieces, part.stop - part.start).permute(0, 3, 1, 2)
            yield self._normalise(pixels), self.labels[order[part]]

    def _decoded(self, pieces: Iterator[Tensor], count: int) -> Tensor:
        """Return the next `count` images on the device, uint8 [count, size, size, 3]."""
        # On a stream of their own copies wait for no step, and this process waits for the copies alone. The memory that
        # decoders share is not page-locked: that would save the driver a copy on the host. An image costs this process
        # 27 us in all, beside the step, and no GPU has shown yet that less is worth an error that CUDA does not forget.
        with torch.cuda.stream(self._copies):
            pixels = torch.empty((count, *self._crew.image_shape), dtype=torch.uint8, device=self.labels.device)
            for first in range(0, count, PIECE):
                pixels[first : first + PIECE].copy_(next(pieces), non_blocking=True)
                if self._copies is not None:
                    self._copies.synchronize()  # then the memory of the piece may be written again
        if self._copies is not None:
            pixels.record_stream(torch.cuda.current_stream(self.labels.device))
        return pixels


class _Tasks(Sequence[Task]):
    """The tasks of an epoch: pieces of each part of its order, made when they are asked for."""

    def __init__(self, parts: Sequence[slice], order: Array, flips: Array, seed: int) -> None:
        self._places = [
            (first, min(first + PIECE, part.stop)) for part in parts for first in range(part.start, part.stop, PIECE)
        ]
        self._order, self._flips, self._seed = order, flips, seed

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, number):  # type: ignore[no-untyped-def]
        first, stop = self._places[number]
        return Task(self._order[first:stop], self._seed, first, self._flips[first:stop])
