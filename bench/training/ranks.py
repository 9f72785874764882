"""The processes that train one run together: torch.distributed's ranks, and what they decide as one.

Like threads they are no part of a run: the batch of a step is divided among them, gradients and batch norm are those of
the whole batch (bench.training.sync_norm), and rank 0 alone reads and writes the store. Signals, times and locks can
differ from rank to rank, so whatever follows from them is agreed on first.
"""

import math
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.distributed_c10d import Store, _abort_process_group
from torch.distributed.rendezvous import rendezvous
from torch.nn.parallel import DistributedDataParallel

# A process that ends is noticed at once; this is for one that hangs, longer than rank 0 may evaluate or load images.
TIMEOUT = timedelta(minutes=30)
FAILURE = "failed first"

T = TypeVar("T")


class RanksDifferError(Exception):
    """Ranks that should hold the same do not; the message says which."""


class RankFailedError(Exception):
    """Rank 0 failed at what it does for all, as it has recorded itself."""


def lost_connection(error: Exception) -> bool:
    """Return whether an error says that another rank is out of reach: it failed, was killed, or its node died.

    NCCL's errors have a type. Gloo's are RuntimeErrors whose message begins with a file of Gloo.
    """
    return isinstance(error, dist.DistError) or (isinstance(error, RuntimeError) and "gloo/transport" in str(error))


@dataclass(frozen=True)
class BatchShare:
    """The images of an epoch's order that a rank takes of a batch.

    weight    what the mean loss of the share is multiplied with, so that the mean over ranks is that of the batch
    counted   whether the history counts it: of a batch that every rank takes whole, the first one's
    """

    part: slice
    weight: float
    counted: bool


class Ranks:
    """This process among those of a run; as it stands here a process alone, which sends nothing.

    Unless said otherwise a method is collective: every rank calls it, and in the same order.
    """

    def __init__(self, rank: int = 0, size: int = 1) -> None:
        self.rank = rank
        self.size = size

    @staticmethod
    @contextmanager
    def join(device: str = "auto", timeout: timedelta = TIMEOUT) -> Iterator["Ranks"]:
        """Meet the others, as many as the environment says, and take leave at the end.

        MASTER_ADDR, MASTER_PORT, RANK and WORLD_SIZE are those of torch's env:// (ValueError without them). NCCL if the
        device is, or comes to, "cuda", of which each process sees its own alone; Gloo otherwise.
        """
        if os.environ.get("WORLD_SIZE") == "1":
            yield ALONE
            return
        backend = "nccl" if device != "cpu" and torch.cuda.is_available() else "gloo"
        store, rank, size = next(rendezvous("env://", timeout=timeout))
        dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=timeout)
        control = cast(dist.ProcessGroup, dist.new_group(backend="gloo", timeout=timeout))
        ranks = _Joined(rank, size, store, control)
        try:
            yield ranks
        except BaseException:
            ranks.abandon()
            raise
        finally:
            if dist.is_initialized():
                dist.destroy_process_group()

    @property
    def first(self) -> bool:
        """Whether this is rank 0; not collective."""
        return self.rank == 0

    @property
    def own_draws(self) -> tuple[str | int, ...]:
        """What this rank adds to the name of its random draws, nothing of a process alone; not collective."""
        return () if self.size == 1 else ("rank", self.rank)

    def share(self, start: int, stop: int) -> BatchShare:
        """Return this rank's images of the batch start..stop - 1, as many as the others' or one more; not collective.

        Of a batch of fewer images than ranks every rank takes all.
        """
        images = stop - start
        if images < self.size:
            return BatchShare(slice(start, stop), 1.0, counted=self.first)
        each, over = divmod(images, self.size)
        mine = each + (self.rank < over)
        begin = start + self.rank * each + min(self.rank, over)
        return BatchShare(slice(begin, begin + mine), mine * self.size / images, counted=True)

    def share_of_batches(self, images: int, size: int) -> slice:
        """Return this rank's images to predict, whole batches of `size` so that no bit changes; not collective.

        Where there are fewer batches than ranks, some predict nothing.
        """
        batches = math.ceil(images / size)
        first, following = (rank * batches // self.size * size for rank in (self.rank, self.rank + 1))
        return slice(min(first, images), min(following, images))

    def data_parallel(self, model: nn.Module) -> nn.Module:
        """Return the network whose backward pass leaves, on every rank, the mean of all ranks' gradients."""
        return model

    def total(self, values: Tensor) -> Tensor:
        """Return the sum over ranks."""
        return values

    @contextmanager
    def buffers_of_first(self, model: nn.Module) -> Iterator[None]:  # noqa: ARG002
        """Give the network rank 0's buffers, which those of ghost batches differ from, for as long as the context."""
        yield

    def side_by_side(self, logits: Tensor) -> Tensor:
        """Return the logits [members, images, classes] of all ranks in order; one without images gives [0, 0, 0]."""
        return logits

    def any(self, *flags: bool) -> tuple[bool, ...]:
        """Return of each flag whether it is set on any rank."""
        return flags

    def from_first(self, compute: Callable[[], T]) -> T:
        """Return what `compute` returns on rank 0, where alone it is called.

        What it raises there, all raise if it is an exception of bench's own, which says how the run ended; for any
        other the others raise RankFailedError.
        """
        return compute()

    def check_same(self, digest: bytes, what: str) -> None:
        """Raise RanksDifferError, on every rank, if `digest` (32 bytes) is not the same on all; `what` it is of."""

    def claim_failure(self) -> bool:
        """Return whether this rank is the first to fail, which records why; not collective."""
        return True

    def abandon(self) -> None:
        """Give the group up after a failure, so that nobody waits for this rank; not collective."""


ALONE = Ranks()


class _Joined(Ranks):
    """A process among several; `control` carries what is no tensor of the device."""

    def __init__(self, rank: int, size: int, store: Store, control: dist.ProcessGroup) -> None:
        super().__init__(rank, size)
        self._store, self._control = store, control

    def data_parallel(self, model: nn.Module) -> nn.Module:
        # Buffers are equal already: batch norm sees the whole batch on every rank. Unused parameters are looked for
        # since a user's network may have some, and since otherwise the first step is reduced in other portions than the
        # rest: among three ranks or more that rounds otherwise, and a resumed run would not come to the same bits.
        with warnings.catch_warnings(action="ignore", category=FutureWarning):  # newer names are unknown to older torch
            return DistributedDataParallel(model, broadcast_buffers=False, find_unused_parameters=True)

    def total(self, values: Tensor) -> Tensor:
        total = values.clone()
        dist.all_reduce(total)
        return total

    @contextmanager
    def buffers_of_first(self, model: nn.Module) -> Iterator[None]:
        own = [buffer.clone() for buffer in model.buffers()]
        for buffer in model.buffers():
            sent = buffer.to(torch.uint8) if buffer.dtype == torch.bool else buffer.clone().contiguous()
            dist.broadcast(sent, src=0)
            buffer.copy_(sent)
        try:
            yield
        finally:
            for buffer, before in zip(model.buffers(), own, strict=True):
                buffer.copy_(before)

    def side_by_side(self, logits: Tensor) -> Tensor:
        shapes = [torch.empty(3, dtype=torch.int64) for _ in range(self.size)]
        dist.all_gather(shapes, torch.tensor(logits.shape), group=self._control)
        members, most, classes = torch.stack(shapes).amax(dim=0).tolist()
        padded = logits.new_zeros(members, most, classes)
        padded[: logits.shape[0], : logits.shape[1], : logits.shape[2]] = logits
        parts = [torch.empty_like(padded) for _ in range(self.size)]
        dist.all_gather(parts, padded)
        return torch.cat([part[:, : int(shape[1])] for part, shape in zip(parts, shapes, strict=True)], dim=1)

    def any(self, *flags: bool) -> tuple[bool, ...]:
        votes = torch.tensor(flags, dtype=torch.uint8)
        dist.all_reduce(votes, dist.ReduceOp.MAX, group=self._control)
        return tuple(bool(vote) for vote in votes.tolist())

    def from_first(self, compute: Callable[[], T]) -> T:
        message: list[Any] = [None, None]
        failure: Exception | None = None
        if self.first:
            try:
                message[0] = compute()
            except Exception as error:
                failure = error
                ours = type(error).__module__.startswith("bench.")
                message[1] = error if ours else RankFailedError(f"rank 0: {type(error).__name__}: {error}")
        dist.broadcast_object_list(message, src=0, group=self._control)
        failure = failure or message[1]
        if failure is not None:
            try:
                raise failure
            finally:  # a frame and the error it raises would keep each other, and with them what the run has in memory
                del failure, message
        result: T = message[0]
        return result

    def check_same(self, digest: bytes, what: str) -> None:
        mine = torch.tensor(list(digest), dtype=torch.uint8)
        all_digests = [torch.empty_like(mine) for _ in range(self.size)]
        dist.all_gather(all_digests, mine, group=self._control)
        others = [str(rank) for rank, found in enumerate(all_digests) if not found.equal(all_digests[0])]
        if others:
            raise RanksDifferError(f"{what}: rank {', '.join(others)} of {self.size} differs from rank 0")

    def claim_failure(self) -> bool:
        try:
            return int(self._store.compare_set(FAILURE, "", str(self.rank))) == self.rank
        except RuntimeError:  # rank 0, which holds the store, has ended: what there was to record, it has
            return self.first

    def abandon(self) -> None:
        # Not destroy_process_group, which waits for what NCCL has in flight.
        with suppress(Exception):
            _abort_process_group()
