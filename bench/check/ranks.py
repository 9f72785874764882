"""Whether processes reach each other: one for each GPU over NCCL, or two over Gloo, as the ranks of a run."""

import os
import socket
import time
from datetime import timedelta
from multiprocessing import get_context

import torch

from bench.check.finding import NotHereError
from bench.store.measured import Finding

SECONDS = 120
NUMBERS = 2**22
NAME = "ranks"


def ranks(device: torch.device) -> Finding:
    """Let as many processes as there are devices add a tensor up, and return how fast they were."""
    gpus = torch.cuda.device_count() if device.type == "cuda" else 0
    if gpus == 1:
        available = "is" if torch.distributed.is_nccl_available() else "is not"
        raise NotHereError(f"one GPU: nothing to join it with. NCCL {available} in this build of torch")
    size, backend = (gpus, "NCCL") if gpus else (2, "Gloo")
    context = get_context("spawn")
    answers = context.Queue()
    port = _free_port()
    processes = [
        context.Process(target=_join, args=(rank, size, port, device.type, answers), daemon=True)
        for rank in range(size)
    ]
    started = time.monotonic()
    for process in processes:
        process.start()
    try:
        for process in processes:
            process.join(max(0.0, SECONDS + started - time.monotonic()))
        found = [answers.get(timeout=1) for process in processes if process.exitcode == 0]
    finally:
        for process in processes:
            process.kill()
            process.join()
    failed = [rank for rank, process in enumerate(processes) if process.exitcode != 0]
    if failed:
        reason = f"rank {', '.join(map(str, failed))} of {size} did not finish within {SECONDS} s, or failed"
        return Finding(name=NAME, state="wrong", detail=f"{backend}: {reason}; see its messages above")
    right = all(total == size * (size + 1) / 2 for total, _ in found)
    if not right:
        return Finding(name=NAME, state="wrong", detail=f"{backend}: a sum over {size} ranks came out wrong")
    rate = 4 * NUMBERS / max(seconds for _, seconds in found) / 1e9
    return Finding(name=NAME, state="ok", detail=f"{backend}: {size} processes add tensors up, {rate:.2g} GB/s")


def _join(rank: int, size: int, port: int, device: str, answers: "object") -> None:
    """Be one of the processes; its answer is the sum of the ranks, counted from 1, and the seconds of an addition."""
    from bench.training.ranks import Ranks

    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "RANK": str(rank), "WORLD_SIZE": str(size)}
    if device == "cuda":  # each process sees its own GPU alone, as the ranks of a run do
        visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
        os.environ["CUDA_VISIBLE_DEVICES"] = visible[rank] if len(visible) == size else str(rank)
    torch.set_num_threads(1)
    with Ranks.join(device, timedelta(seconds=SECONDS)) as joined:
        values = torch.full((NUMBERS,), rank + 1.0, device=device)
        joined.total(values)  # the first sets connections up
        started = time.perf_counter()
        total = float(joined.total(values)[0])
        answers.put((total, time.perf_counter() - started))  # type: ignore[attr-defined]


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
