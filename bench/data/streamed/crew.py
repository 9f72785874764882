"""Processes that decode images ahead of the steps into memory they share with the training process.

Tasks go to the workers in turn and come back in the same order, so that which worker does which, and how many there
are, shows in nothing but the time. A worker whose pipe closes ends: nothing is left of a training process that is
killed, since the shared memory has no name that could outlive it.
"""

import mmap
import os
import signal
import tempfile
from collections import deque
from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from multiprocessing import get_context, resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from multiprocessing.reduction import DupFd
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from bench.data.streamed.decode import augmented, evaluated
from bench.data.streamed.files import ImageFiles
from bench.data.streamed.tasks import AHEAD, PIECE, Task
from bench.data.streamed.windows import uniforms
from bench.errors import UserError
from bench.spec.run import ResizedCrop

# A step of SLURM signals all its processes; the training process decides what comes of it.
IGNORED = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP)


class Decoder:
    """Decodes tasks in the process that calls it."""

    def __init__(self, files: ImageFiles, crop: ResizedCrop, size: int) -> None:
        self._files, self._crop, self._size = files, crop, size

    def decode(self, task: Task, into: Tensor) -> str | None:
        """Write the images of a task into uint8 [N, size, size, 3]; return what is wrong with one, None if nothing."""
        draws = None if task.seed is None else uniforms(task.seed, task.first, len(task.index))
        for place, index in enumerate(task.index):
            try:
                data = self._files.read(index)
                if draws is None:
                    into[place] = evaluated(data, self._size)
                else:
                    flip = task.flips is not None and bool(task.flips[place])
                    into[place] = augmented(data, draws[place], flip, self._crop, self._size)
            except ValueError as error:
                return f"{self._files.path(index)}: {error}"
        return None


class SharedImages:
    """Memory uint8 [slots, PIECE, size, size, 3] without a name, which the processes that are given it share."""

    def __init__(self, slots: int, size: int, descriptor: int | None = None) -> None:
        self._shape = (slots, PIECE, size, size, 3)
        length = int(np.prod(self._shape))
        if descriptor is None:
            descriptor = _anonymous_file()
            os.ftruncate(descriptor, length)
        self._descriptor = descriptor
        self.images = torch.frombuffer(mmap.mmap(descriptor, length), dtype=torch.uint8).view(self._shape)

    def close(self) -> None:
        """Give it to no further process; the memory goes with the last tensor of it, here and in those that have it."""
        os.close(self._descriptor)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return _shared_again, (self._shape[0], self._shape[2], DupFd(self._descriptor))


def _shared_again(slots: int, size: int, descriptor: Any) -> SharedImages:
    return SharedImages(slots, size, descriptor.detach())


def _anonymous_file() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("images")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


class Crew:
    """Decodes tasks in order, ahead of whoever takes them; a context that ends its processes.

    workers   processes that decode; none: the process itself does, when an image is asked for
    """

    def __init__(self, files: ImageFiles, crop: ResizedCrop, size: int, workers: int) -> None:
        self._decoder = Decoder(files, crop, size)
        self._shared = SharedImages(max(1, workers * AHEAD), size)
        self.processes: list[BaseProcess] = []
        self._pipes: list[Connection] = []
        self._running: deque[tuple[int, int]] = deque()
        try:
            self._start(workers)
        finally:
            self._shared.close()

    def _start(self, workers: int) -> None:
        if not workers:
            return
        context = get_context("forkserver")
        context.set_forkserver_preload([__name__])
        resource_tracker.ensure_running()  # starting it later would unblock the signals
        before = signal.pthread_sigmask(signal.SIG_BLOCK, IGNORED)
        try:
            for number in range(workers):
                ours, theirs = context.Pipe()
                arguments = (theirs, self._decoder, self._shared)
                process = context.Process(target=_work, args=arguments, name=f"decoder {number}", daemon=True)
                process.start()
                theirs.close()
                self.processes.append(process)
                self._pipes.append(ours)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width and channels of an image."""
        _, _, height, width, channels = self._shared.images.shape
        return height, width, channels

    def decoded(self, tasks: Sequence[Task]) -> Generator[Tensor]:
        """Yield the images of each task, uint8 [N, size, size, 3]: valid until the next is asked for.

        UserError that names an image that cannot be read or decoded, or says that a worker died.
        """
        if not self._pipes:
            for task in tasks:
                yield self._checked(self._decoder.decode(task, self._shared.images[0]), task, 0)
            return
        try:
            slots = len(self._shared.images)
            for number in range(min(slots, len(tasks))):
                self._send(number, tasks[number])
            for number, task in enumerate(tasks):
                yield self._checked(self._receive(), task, number % slots)
                if number + slots < len(tasks):
                    self._send(number + slots, tasks[number + slots])
        finally:
            while self._running:  # what was begun is waited for, so that the next call finds its slots free
                with suppress(UserError):
                    self._receive()

    @property
    def bytes(self) -> int:
        """Size of the shared memory."""
        return self._shared.images.numel()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the processes."""
        for pipe in self._pipes:
            pipe.close()
        for process in self.processes:
            process.join()
        self.processes.clear()
        self._pipes.clear()
        self._running.clear()

    def _send(self, number: int, task: Task) -> None:
        slot = number % len(self._shared.images)
        worker = slot % len(self._pipes)
        try:
            self._pipes[worker].send((slot, task))
        except OSError:
            raise _died() from None
        self._running.append((worker, slot))

    def _receive(self) -> str | None:
        worker, _ = self._running.popleft()
        try:
            problem: str | None = self._pipes[worker].recv()
        except (EOFError, OSError):
            self._running.clear()
            raise _died() from None
        return problem

    def _checked(self, problem: str | None, task: Task, slot: int) -> Tensor:
        if problem is not None:
            raise UserError(f"{problem}; put it right, or remove it")
        return self._shared.images[slot, : len(task.index)]


def _died() -> UserError:
    return UserError("a process that decodes images died: killed, or out of memory? Fewer `--decoders` need less of it")


def _work(pipe: Connection, decoder: Decoder, shared: SharedImages) -> None:
    for number in IGNORED:
        signal.signal(number, signal.SIG_IGN)
    torch.set_num_threads(1)
    with suppress(EOFError, OSError):  # the training process is gone, or has closed the crew
        while True:
            slot, task = pipe.recv()
            pipe.send(decoder.decode(task, shared.images[slot]))
