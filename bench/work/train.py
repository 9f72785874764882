"""Train one run to its tickets, under its lock, from wherever an earlier process left it.

A run that starts from another run's weights reads them from the store. When several processes train a run together,
rank 0 alone holds the lock and writes to the store, and tells the others what it found.
"""

import logging
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, nullcontext
from typing import Any, cast

import torch
from safetensors.numpy import load_file

from bench.data.augment import NONE, DeviceImages, TrainingImages
from bench.data.catalog import facts_of
from bench.data.dataset import LabelledImages, Split
from bench.data.streamed.crew import Crew
from bench.data.streamed.files import ImageFiles
from bench.data.streamed.images import FileImages
from bench.errors import UserError
from bench.evaluation.networks import normaliser
from bench.spec.run import Augmentation, ResizedCrop, RunSpec
from bench.store.files import remove_temporaries
from bench.store.lock import LockLostError, RunLock
from bench.store.records import Resumed, Session
from bench.store.run_folder import RunFolder
from bench.training.checkpoint import load_checkpoint, save_checkpoint
from bench.training.trainer import Trainer
from bench.work import provenance
from bench.work.attempts import GIVEN_UP, begin_attempt, forget_attempts, given_up
from bench.work.claims import check_density, check_layers
from bench.work.context import Context
from bench.work.items import RunWork
from bench.work.meter import Meter
from bench.work.progress import RunProgress
from bench.work.provenance import SessionLog
from bench.work.readiness import StoreView
from bench.work.signals import InterruptedRunError
from bench.work.weights import BlockedRunError, StoreParent, StoreWriter, damaged_weights

log = logging.getLogger(__name__)


def train_run(run: RunWork, context: Context, title: str, held: ExitStack) -> None:
    """Bring one run to its tickets; its lock stays taken for as long as `held`, so that the caller records an error.

    RunLockedError if another process has it; InterruptedRunError after a signal; BlockedRunError while its parent is
    not done, and if it failed elsewhere before the lock was taken; other exceptions are the run's own.
    """
    ranks = context.ranks
    folder = context.store.run(run.id)
    # Rank 0 reads the images first, so that no two ranks decode them at the same time.
    ranks.from_first(lambda: bool(context.images.load(run.spec.data)))
    split = context.images.load(run.spec.data)
    lock = RunLock(folder.path / "lock")  # rank 0 takes it; as the others see it, it is never lost
    log_of_rank_0: list[SessionLog] = []
    begun = ranks.from_first(lambda: _begin(run.spec, folder, context, held, lock, log_of_rank_0))
    if begun is None:
        return  # another process did it in the meantime
    (state,) = begun
    try:
        trainer = _trainer(run.spec, split, folder, context, lock, held, resumes=state is not None)
        check_layers(run.spec, trainer.masking.sparse.masks if trainer.masking.sparse else ())
        if state is not None:
            trainer.load_state_dict(state)
        for session in log_of_rank_0:
            session.resumed(_resumed(trainer, folder, from_checkpoint=state is not None))
        del begun, state  # weights and momenta, which the trainer now has
        _train(trainer, folder, context, lock, log_of_rank_0, title)
    except Exception as error:
        if isinstance(error, InterruptedRunError | BlockedRunError):  # on all ranks
            ranks.from_first(lambda: forget_attempts(folder.path, "train"))
        for session in log_of_rank_0:
            lock.check()  # that the run failed is for whoever has it to say
            session.ended()
        raise
    initial = trainer.initial_weights() if trainer.masking.sparse else None
    ranks.from_first(lambda: _check(trainer, folder, initial))
    ranks.from_first(lambda: _finish(trainer, folder, context, lock, log_of_rank_0[0]))


def _begin(
    spec: RunSpec, folder: RunFolder, context: Context, held: ExitStack, lock: RunLock, sessions: list[SessionLog]
) -> tuple[dict[str, Any] | None] | None:
    """Take the lock and begin a session; return the checkpoint, or None in it. None if the run is done.

    Whoever had the lock before may have done the run since this process found that it may start, or failed in it.
    """
    _require_no_failure(folder)  # nor would it look like running while this process has its lock
    held.enter_context(lock)
    found = folder.look()
    if found == "done" and not context.store.is_stale(spec):
        return None
    if found in ("done", "damaged"):
        raise BlockedRunError("another process left it damaged meanwhile")
    _require_no_failure(folder)
    if given_up(folder.path, "train"):
        raise BlockedRunError(f"other processes {GIVEN_UP}")
    remove_temporaries(folder.path)
    folder.write_spec(spec)
    state = _checkpoint(spec, folder, context.device)
    if state is None and spec.parent is not None:
        parent = StoreView(context.store).run(spec.parent)
        if parent.state != "done":
            raise BlockedRunError(f"its parent {spec.parent.run_id} is not done ({parent.state})")
    begin_attempt(folder.path, "train")
    session = provenance.session(context.device, deterministic=context.deterministic, processes=context.ranks.size)
    # Written whatever becomes of it: it names the job, and so the log.
    sessions.append(SessionLog(folder, _sessions(folder), session, Meter(context.device)))
    return (state,)


def _require_no_failure(folder: RunFolder) -> None:
    if folder.error() is not None:
        raise BlockedRunError("another process left it failed meanwhile")


def _trainer(
    spec: RunSpec,
    split: Split,
    folder: RunFolder,
    context: Context,
    lock: RunLock,
    held: ExitStack,
    *,
    resumes: bool,
) -> Trainer:
    validation = None
    if spec.data.validation_images:
        validation = _on_device(spec, split.validation, context, augmented=spec.validation_augmented)
    parent = None
    if spec.parent is not None:
        parent = StoreParent(context.store.run(spec.parent.run_id), context.device, context.ranks)
    return Trainer(
        spec,
        _training_images(spec, split.train, context, held),
        validation,
        context.device,
        StoreWriter(folder, lock, context.ranks),
        classes=facts_of(spec.data).classes,
        parent=parent,
        resumes=resumes,
        deterministic=context.deterministic,
        ranks=context.ranks,
    )


def _training_images(spec: RunSpec, train: LabelledImages, context: Context, held: ExitStack) -> TrainingImages:
    """Return the images to train on: on the device, or decoded by processes that end with `held`."""
    if not isinstance(spec.augmentation, ResizedCrop):
        return _on_device(spec, train, context, augmented=True)
    size = facts_of(spec.data).image_size
    files = cast("ImageFiles", train.images)
    crew = held.enter_context(Crew(files, spec.augmentation, size, context.decoders))
    return FileImages(crew, train.labels, spec.augmentation.flip, normaliser(spec, context.device))


def _on_device(spec: RunSpec, source: LabelledImages, context: Context, *, augmented: bool) -> DeviceImages:
    facts, layout = facts_of(spec.data), spec.execution.channels_last
    augmentation = spec.augmentation if augmented and isinstance(spec.augmentation, Augmentation) else NONE
    return DeviceImages(
        source, facts.mean, facts.std, augmentation=augmentation, device=context.device, channels_last=layout
    )


def _checkpoint(spec: RunSpec, folder: RunFolder, device: torch.device) -> dict[str, Any] | None:
    """Return the state to continue from, None if there is none or something it relies on was damaged."""
    state = load_checkpoint(folder.path / "checkpoint.pt", device, spec.run_id)
    if state is not None and (damaged := damaged_weights(folder, state["at"])):
        log.warning("%s was lost, truncated or altered; the run starts over", ", ".join(map(str, damaged)))
        return None
    return state


def _train(
    trainer: Trainer,
    folder: RunFolder,
    context: Context,
    lock: RunLock,
    sessions: Sequence[SessionLog],
    title: str,
) -> None:
    ranks, stop = context.ranks, context.stop
    saved = time.monotonic()
    begun_with = trainer.at.steps

    def save() -> None:
        """Write the checkpoint; no rank goes on, or ends, before it is there."""
        state = trainer.state_dict()

        def write() -> None:
            lock.check()
            save_checkpoint(folder.path / "checkpoint.pt", state)
            for session in sessions:
                session.used()

        ranks.from_first(write)

    def between_steps() -> None:
        nonlocal saved
        if progress is not None:
            progress.step()
        due = time.monotonic() - saved >= context.checkpoint_seconds
        lost, stopped, due = ranks.any(lock.lost, stop.received is not None, due)
        if lost:
            lock.check()
            raise LockLostError(f"{lock.path} now belongs to another process, says rank 0")
        if due or stopped:
            save()
            saved = time.monotonic()
        if stopped:
            stop.check()
            raise InterruptedRunError("stopped by a signal to another rank")

    shown = RunProgress(title, trainer.spec, trainer.at.steps, bars=context.bars) if ranks.first else nullcontext()
    with shown as progress:
        while not trainer.finished:
            line = trainer.train_epoch(between_steps)
            if ranks.first:
                folder.append_history(line)
            if progress is not None:
                progress.epoch(line, trainer.at.steps)
            between_steps()
        if trainer.at.steps > begun_with:
            save()
        if ranks.first:
            folder.write_history(trainer.at.history)  # whole, whatever a process that lost its lock appended


def _check(trainer: Trainer, folder: RunFolder, initial: Mapping[str, torch.Tensor] | None) -> None:
    """Count the weights of the tickets as they are on disk; DensityError if they are not as sparse as is said."""
    if trainer.spec.topology is None:
        return
    zeros = None if initial is None else {name: int((value == 0).sum()) for name, value in initial.items()}
    for record in trainer.at.tickets:
        ticket = load_file(folder.tensor_file("tickets", record["index"]))
        check_density(ticket, trainer.spec, record, trainer.at.history, zeros)


def _finish(trainer: Trainer, folder: RunFolder, context: Context, lock: RunLock, session: SessionLog) -> None:
    """Write the result, which says that the run is done."""
    at, spec = trainer.at, trainer.spec
    if not at.tickets:
        raise RuntimeError("the run left no ticket at all: no epoch of a ticket's phase beat those before it")
    session.ended()
    # Validation included, since plans estimate hours from it; the median, since a resumed epoch timed only its end.
    rates = sorted(spec.data.train_images / line["seconds"] for line in at.history)
    sparse = trainer.masking.sparse
    lock.check()
    folder.finish(
        run=spec.run_id,
        parent=spec.parent.run_id if spec.parent else None,
        inherited=at.inherited,
        tickets=tuple(at.tickets),
        tickets_expected=spec.tickets,
        members_a_ticket=spec.model.members,
        kept=tuple(at.kept),
        checks={
            "density": sparse.density() if sparse else 1.0,
            "density_wanted": spec.topology.density if spec.topology else 1.0,
            "nonzeros": sum(sparse.nonzeros().values()) if sparse else None,
        },
        seconds=sum(line["seconds"] for line in at.history),
        images_per_second=rates[len(rates) // 2],
        model=spec.model,
        execution=spec.execution,
        batch_size=spec.batch_size,
        processes=context.ranks.size,
        device=context.device.type,
        device_name=provenance.device_name(context.device),
        warnings=tuple(warning for line in at.history for warning in line.get("warnings", ())),
    )
    forget_attempts(folder.path)


def _resumed(trainer: Trainer, folder: RunFolder, *, from_checkpoint: bool) -> Resumed | None:
    """Write what the trainer knows into the history; return where a resumed one stands, None of one that starts."""
    folder.write_history(trainer.at.history)
    if not from_checkpoint:
        return None
    log.info("resuming at epoch %d, step %d", trainer.at.epoch + 1, trainer.at.step)
    return Resumed(epoch=trainer.at.epoch + 1, step=trainer.at.step)


def _sessions(folder: RunFolder) -> list[Session]:
    """Return the sessions so far; provenance that was altered is no reason to stop, but is said."""
    try:
        return list(folder.sessions())
    except UserError:
        log.warning("%s: truncated or altered: earlier sessions of the run are lost", folder.path / "provenance.json")
        return []
