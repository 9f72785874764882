"""Processes that train together, as a launcher would start them: python -m tests.training.together JOB FOLDER.

A job's results are compared by tests.training.test_ranks with those of a process alone, which calls the same functions.
"""

import gc
import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import bench.models.predict
import bench.training.trainer
import bench.training.validation
from bench.data.augment import DeviceImages
from bench.data.catalog import DATASETS
from bench.data.dataset import LabelledImages
from bench.data.loading import ImageLoader
from bench.recipes import RELEASED, STANDARD, Semantics, Setting
from bench.recipes.dynamic import dst, edst
from bench.recipes.fixed import step_decay
from bench.recipes.pruning import gradual_pruning, lottery_rewinding
from bench.spec.run import BatchEnsemble, Execution, McDropout, ModelSpec, RunSpec, TreeNet
from bench.store.lock import RunLock
from bench.store.records import Failure
from bench.store.store import Store
from bench.training.checkpoint import load_checkpoint, save_checkpoint
from bench.training.ranks import ALONE, RankFailedError, Ranks, RanksDifferError
from bench.training.sync_norm import synchronise
from bench.training.trainer import Trainer
from bench.training.validation import Validation
from bench.work.options import Options
from bench.work.summary import summarise
from bench.work.worker import run_worker
from tests.training.runs import (
    CPU,
    DATA,
    WRN_10_1,
    MemoryWriter,
    child_spec,
    dense_spec,
    noise,
    nothing,
    run_spec,
    with_parent,
    work_of,
)

ROOT = Path(__file__).resolve().parents[2]
TIMED = ("seconds", "images_per_second")


SMALL = DATA.model_copy(update={"train_images": 60, "validation_images": 30, "test_images": 30})
ONE_LEFT = SMALL.model_copy(update={"train_images": 61})
SMALL_BATCHES: dict[str, Any] = {"data": SMALL, "batch_size": 16}  # 16, 16, 16 and 12 images
FEW = Setting(members=2, learning_rate=0.05)


def dst_spec(**changes: Any) -> RunSpec:
    phases = dst(Setting(members=1, learning_rate=0.05), epochs=2, decay_epochs=[1], update_every=3)
    return run_spec(phases, density=0.2, **{**SMALL_BATCHES, **changes})


def short_edst(semantics: Semantics, **changes: Any) -> RunSpec:
    """An update every 3rd of 20 steps, a global exploration after the 12th."""
    phases = edst(
        Setting(members=2, learning_rate=0.05, semantics=semantics),
        exploration_epochs=1,
        refinement_epochs=2,
        update_every=3,
    )
    augmented = semantics.validation_augmented
    return run_spec(phases, density=0.2, validation_augmented=augmented, **SMALL_BATCHES, **changes)


def members(kind: BatchEnsemble | TreeNet) -> RunSpec:
    return dst_spec(model=WRN_10_1.model_copy(update={"ensemble": kind}))


SPECS: dict[str, Callable[[], RunSpec]] = {
    "dense": lambda: run_spec(step_decay(FEW, epochs=2, decay_epochs=[1]), density=None, **SMALL_BATCHES),
    "dst": dst_spec,
    "edst": lambda: short_edst(STANDARD),
    "edst released": lambda: short_edst(RELEASED, execution=Execution(channels_last=True)),
    "gradual pruning": lambda: run_spec(gradual_pruning(FEW, epochs=3, update_every=2), density=0.2, **SMALL_BATCHES),
    "odd batch": lambda: dst_spec(batch_size=17),
    "one image left": lambda: dst_spec(data=ONE_LEFT, batch_size=20),
    "batch ensemble": lambda: members(BatchEnsemble(members=2)),
    "tree net": lambda: members(TreeNet(members=2, head_blocks=1)),
}
STORED: dict[str, Callable[[], RunSpec]] = {
    "edst": SPECS["edst"],
    "mc dropout": lambda: dst_spec(model=WRN_10_1.model_copy(update={"ensemble": McDropout(rate=0.2, samples=2)})),
    "rewinding": lambda: child_spec(lottery_rewinding(FEW, epochs=3), **SMALL_BATCHES),
}
GHOSTS = ModelSpec(name="resnet_imagenet", arguments={"depth": 18, "ghost_batch": 8})
VALIDATED: dict[str, Callable[[], RunSpec]] = {
    "dense": SPECS["dense"],
    "one batch": SPECS["dense"],
    "edst released": SPECS["edst released"],
    "batch ensemble": SPECS["batch ensemble"],
    "ghosts": lambda: dst_spec(model=GHOSTS, data=SMALL.model_copy(update={"train_images": 64})),
}
INTERRUPTED_AT = {"edst": 14, "mc dropout": 6}
HAND_OVER = 6  # step after which another number of processes goes on, in the middle of an epoch
NORM_INPUTS = {"images": (7, 5, 4, 3), "features": (9, 3), "sequences": (5, 4, 6)}
ROWS_OF_FIRST = 2


# -- what one process and several do alike -----------------------------------------------------------------------------


def make_trainer(spec: RunSpec, ranks: Ranks) -> Trainer:
    facts, images = DATASETS["digits"], noise(spec.data)

    def place(source: LabelledImages) -> DeviceImages:
        layout = spec.execution.channels_last
        return DeviceImages(source, facts.mean, facts.std, augmentation=spec.augmentation, channels_last=layout)

    writer = MemoryWriter({})
    return Trainer(spec, place(images.train), place(images.validation), CPU, writer, classes=10, ranks=ranks)


@contextmanager
def double_precision() -> Iterator[None]:
    """Train in float64, where rounding decides no mask."""
    prepare = bench.training.trainer.prepare

    def prepare_double(model: nn.Module, *arguments: Any, **options: Any) -> nn.Module:
        model = prepare(model.double(), *arguments, **options)
        model.register_forward_pre_hook(lambda _, inputs: (inputs[0].double(),))
        return model

    bench.training.trainer.prepare = prepare_double  # type: ignore[assignment]
    try:
        yield
    finally:
        bench.training.trainer.prepare = prepare


def outcome(trainer: Trainer) -> dict[str, Any]:
    """Train to the end; return the history without its times, all weights, buffers and masks, and the tickets."""
    while not trainer.finished:
        trainer.train_epoch(nothing)
    history = [{key: value for key, value in line.items() if key not in TIMED} for line in trainer.at.history]
    return {"history": history, "tensors": trainer.snapshot(), "tickets": trainer.at.tickets}


def begin(spec: RunSpec, ranks: Ranks, checkpoint: Path) -> None:
    """Train to HAND_OVER and leave a checkpoint, as training does."""

    class OverError(Exception):
        pass

    trainer = make_trainer(spec, ranks)

    def between_steps() -> None:
        if trainer.at.steps == HAND_OVER:
            state = trainer.state_dict()
            ranks.from_first(lambda: save_checkpoint(checkpoint, state))
            raise OverError

    with suppress(OverError):
        while True:
            trainer.train_epoch(between_steps)


def proceed(spec: RunSpec, ranks: Ranks, checkpoint: Path) -> dict[str, Any]:
    """Train from a checkpoint to the end."""
    state = load_checkpoint(checkpoint, CPU, spec.run_id)
    assert state is not None
    trainer = make_trainer(spec, ranks)
    trainer.load_state_dict(state)
    return outcome(trainer)


def first_step(spec: RunSpec, ranks: Ranks) -> dict[str, Tensor]:
    """Return all weights after one step in float32."""
    snapshots: list[dict[str, Tensor]] = []
    trainer = make_trainer(spec, ranks)
    trainer.train_epoch(lambda: snapshots.append(trainer.snapshot()))
    return snapshots[0]


@dataclass(frozen=True)
class NormResult:
    """What a batch norm made of an input, and the gradients of a loss that weighs its outputs at random."""

    output: Tensor
    input_gradient: Tensor
    weight_gradient: Tensor
    bias_gradient: Tensor
    state: dict[str, Tensor]


def normalise(shape: tuple[int, ...], part: slice, *, synchronised: bool) -> NormResult:
    """Normalise some rows of a batch far from zero, where a variance by the mean of squares would cancel."""
    generator = torch.Generator().manual_seed(len(shape))
    batch, upstream = 2 * torch.randn(shape, generator=generator) + 100, torch.randn(shape, generator=generator)
    norm: nn.Module = nn.BatchNorm2d(shape[1]) if len(shape) == 4 else nn.BatchNorm1d(shape[1])
    for parameter in norm.parameters():
        parameter.data.uniform_(generator=generator)
    if synchronised:
        norm = synchronise(norm, CPU)
    rows = batch[part].clone().requires_grad_()
    output = norm(rows)
    output.mul(upstream[part]).sum().backward()
    assert rows.grad is not None
    gradients = [parameter.grad for parameter in norm.parameters()]
    return NormResult(output.detach(), rows.grad, *gradients, norm.state_dict())  # type: ignore[arg-type]


def stop_at(step: int) -> Callable[[Trainer, Tensor, Tensor], None]:
    """Return a Trainer._step after whose `step`-th call of the run a signal arrives."""
    real = Trainer._step

    def stepping(self: Trainer, images: Tensor, labels: Tensor) -> None:
        real(self, images, labels)
        if self.at.steps == step:
            signal.raise_signal(signal.SIGUSR1)

    return stepping


# -- jobs --------------------------------------------------------------------------------------------------------------


def train_all(ranks: Ranks, folder: Path) -> None:
    """Train every spec in memory, and keep what each rank has."""
    with double_precision():
        for name, make in SPECS.items():
            torch.save(outcome(make_trainer(make(), ranks)), folder / f"{name}-{ranks.rank}.pt")
        begin(SPECS["dst"](), ranks, folder / "of two.pt")
        proceeded = proceed(SPECS["dst"](), ranks, folder / "of one.pt")
        torch.save(proceeded, folder / f"proceeded-{ranks.rank}.pt")
    torch.save(first_step(SPECS["dense"](), ranks), folder / f"first step-{ranks.rank}.pt")


def normalise_all(ranks: Ranks, folder: Path) -> None:
    part = slice(ROWS_OF_FIRST) if ranks.first else slice(ROWS_OF_FIRST, None)
    for name, shape in NORM_INPUTS.items():
        result = normalise(shape, part, synchronised=True)
        torch.save(vars(result), folder / f"norm {name}-{ranks.rank}.pt")


def differ(ranks: Ranks, folder: Path) -> None:
    """Alter one mask of rank 1, before an update and in a checkpoint; keep what each rank raises."""
    messages = []
    for when in ("update", "checkpoint"):
        trainer = make_trainer(dst_spec(), ranks)
        assert trainer.masking.sparse is not None
        name, mask = next(iter(trainer.masking.sparse.masks.items()))
        state = trainer.state_dict()
        altered = mask.clone()
        altered.view(-1)[0] ^= True
        try:
            if when == "update":
                if not ranks.first:
                    trainer.masking.sparse._set(name, altered)
                trainer.train_epoch(nothing)
            else:
                masks = state["masks"] if ranks.first else {**state["masks"], name: altered}
                trainer.load_state_dict({**state, "masks": masks})
        except RanksDifferError as error:
            messages.append(str(error))
    torch.save(messages, folder / f"differ-{ranks.rank}.pt")


def validate_all(ranks: Ranks, folder: Path) -> None:
    """Validate runs after an epoch, in batches of 7; keep what all ranks find together and each by itself.

    Also how many images this rank predicts, and the buffers of its network before and after.
    """
    found = {}
    for name, make in VALIDATED.items():
        with batches_of(500 if name == "one batch" else 7):
            spec = make()
            trainer = make_trainer(spec, ranks)
            trainer.train_epoch(nothing)
            model, seen, before = trainer.model, [], [buffer.clone() for buffer in trainer.model.buffers()]
            hook = model.register_forward_pre_hook(lambda _, inputs, seen=seen: seen.append(len(inputs[0])))
            line = trainer._validation.line(model, trainer.forward, 1)
            hook.remove()
            alone = Validation(spec, trainer._validation._images, ALONE).line(model, trainer.forward, 1)
            found[name] = {"line": line, "alone": alone, "seen": sum(seen), "before": before}
            found[name]["after"] = [buffer.clone() for buffer in model.buffers()]
    torch.save(found, folder / f"validate-{ranks.rank}.pt")


@contextmanager
def batches_of(images: int) -> Iterator[None]:
    modules = (bench.training.validation, bench.models.predict)
    before = [module.at_once for module in modules]
    for module in modules:
        module.at_once = lambda _: images  # type: ignore[attr-defined]
    try:
        yield
    finally:
        for module, at_once in zip(modules, before, strict=True):
            module.at_once = at_once  # type: ignore[attr-defined]


def decide(ranks: Ranks, folder: Path) -> None:
    """Keep what each rank learns of what rank 0 and the others do and find."""

    def refuse() -> None:
        raise RanksDifferError("ours")

    def fail() -> None:
        raise KeyError("not ours")

    learnt: list[Any] = [
        ranks.from_first(lambda: {"of": ranks.rank}),
        ranks.any(ranks.first, not ranks.first, False),
        int(ranks.total(torch.tensor(ranks.rank + 1))),
    ]
    for action in (refuse, fail):
        try:
            ranks.from_first(action)
        except (RanksDifferError, RankFailedError, KeyError) as error:
            learnt.append(f"{type(error).__name__}: {error}")
    torch.save(learnt, folder / f"decide-{ranks.rank}.pt")


def execute(ranks: Ranks, store: Path, spec: RunSpec) -> int:
    work = work_of(with_parent(spec))
    code = run_worker(work, Store(store), Options(device="cpu"), ranks)
    return code or ranks.from_first(lambda: summarise(work, Store(store)))


def execute_all(ranks: Ranks, folder: Path) -> None:
    """Train into stores: without interruption; interrupted by a signal to rank 1 alone, and continued."""
    codes = [execute(ranks, folder / "two", make()) for make in STORED.values()]
    step = Trainer._step
    for name, at in INTERRUPTED_AT.items():
        if not ranks.first:
            Trainer._step = stop_at(at)  # type: ignore[method-assign]
        codes.append(execute(ranks, folder / "resumed", STORED[name]()))
        Trainer._step = step  # type: ignore[method-assign]
        codes.append(execute(ranks, folder / "resumed", STORED[name]()))
    torch.save(codes, folder / f"codes-{ranks.rank}.pt")


def go_on(ranks: Ranks, folder: Path) -> None:
    """Find a run that another process failed in meanwhile; lose the lock of the next one once, and train it."""
    store, failed, lost = Store(folder / "on"), SPECS["dst"](), SPECS["dense"]()
    load, step = ImageLoader.load, Trainer._step

    def loads(*arguments: Any) -> Any:
        ImageLoader.load = load  # type: ignore[method-assign]
        if ranks.first:
            with RunLock(store.run(failed.run_id).path / "lock"):
                store.run(failed.run_id).write_failure(Failure(type="ValueError", message="elsewhere", attempt=1))
        return load(*arguments)

    def stepping(self: Trainer, images: Tensor, labels: Tensor) -> None:
        if self.at.steps == 2:
            Trainer._step = step  # type: ignore[method-assign]
            if ranks.first:
                (store.run(lost.run_id).path / "lock").unlink()
        step(self, images, labels)

    ImageLoader.load, Trainer._step = loads, stepping  # type: ignore[assignment, method-assign]
    gc.collect()
    gc.disable()
    code = run_worker(work_of([failed, lost]), store, Options(device="cpu", checkpoint_seconds=0), ranks)
    alive = sum(isinstance(something, Trainer) for something in gc.get_objects())
    gc.enable()
    torch.save([code, alive], folder / f"on-{ranks.rank}.pt")


def execute_but(ranks: Ranks, folder: Path, act: Callable[[], None]) -> int:
    """Train a run in which rank 1 does something instead of the 6th step."""
    step = Trainer._step

    def stepping(self: Trainer, images: Tensor, labels: Tensor) -> None:
        if self.at.steps == 5 and not ranks.first:
            act()
        step(self, images, labels)

    Trainer._step = stepping  # type: ignore[method-assign]
    return execute(ranks, folder, dense_spec())


def fail() -> None:
    raise ArithmeticError("of rank 1 alone")


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def join() -> AbstractContextManager[Ranks]:
    return Ranks.join("cpu", timeout=timedelta(seconds=600))


def work_and_fail(folder: Path) -> int:
    """Do all of the above; last, rank 1 fails in a run."""
    with join() as ranks:
        for job in (train_all, normalise_all, validate_all, differ, decide, execute_all, go_on):
            job(ranks, folder)
        return execute_but(ranks, folder / "failed", fail)


def diverge_and_die(folder: Path) -> int:
    """Diverge on both ranks, which ends their group; in another one, rank 1 is killed in a run."""
    with join() as ranks:
        torch.save(execute(ranks, folder / "diverged", HOPELESS), folder / f"diverged-{ranks.rank}.pt")
    os.environ["MASTER_PORT"] = os.environ["SECOND_PORT"]
    with join() as ranks:
        keep_messages(folder / "killed.log")
        return execute_but(ranks, folder / "killed", die)


def die_in_between(folder: Path) -> int:
    """Rank 1 is killed before the next run is chosen."""
    with join() as ranks:
        keep_messages(folder / "between.log")
        if not ranks.first:
            die()
        return execute(ranks, folder / "between", dense_spec())


def keep_messages(file: Path) -> None:
    logging.basicConfig(filename=file, level=logging.WARNING)


HOPELESS = dense_spec(learning_rate=1e4)
JOBS: dict[str, Callable[[Path], int]] = {
    "work and fail": work_and_fail,
    "diverge and die": diverge_and_die,
    "die in between": die_in_between,
}


def start(job: str, folder: Path, **options: Any) -> list[subprocess.Popen[bytes]]:
    """Start the two processes of a job, on ports that were free a moment ago."""
    with socket.socket() as first, socket.socket() as second:
        for probe in (first, second):
            probe.bind(("127.0.0.1", 0))
        ports = {"MASTER_PORT": str(first.getsockname()[1]), "SECOND_PORT": str(second.getsockname()[1])}
    common = {**os.environ, **ports, "MASTER_ADDR": "127.0.0.1", "WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "tests.training.together", job, str(folder)]
    return [subprocess.Popen(command, cwd=ROOT, env={**common, "RANK": str(rank)}, **options) for rank in range(2)]


if __name__ == "__main__":
    name, place = sys.argv[1:]
    torch.set_num_threads(1)
    sys.exit(JOBS[name](Path(place)))
