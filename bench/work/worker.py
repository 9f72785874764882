"""The worker: takes the first work item that may start, until there is none. It is the only scheduler there is.

`bench run` is one worker, `--parallel N` is N of them, a SLURM submission is an array of identical ones. They agree
through the store alone: its locks, results and records. An error ends its item and not the others; a signal ends the
worker politely, with exit code 75.
"""

import errno
import logging
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from itertools import takewhile
from math import inf
from pathlib import Path
from typing import Literal, assert_never

from bench.errors import UserError
from bench.evaluation.sets import OwnSet
from bench.store.files import PASSING, TRIES
from bench.store.lock import LockLostError, RunLock, RunLockedError, has_moved, is_live
from bench.store.logits import ensemble_folder
from bench.store.store import Store
from bench.training.ranks import ALONE, RankFailedError, Ranks, lost_connection
from bench.work.attempts import was_begun
from bench.work.context import Context
from bench.work.evaluate import Evaluator
from bench.work.failure import record_failure
from bench.work.items import AttackEnsemble, EvaluateRun, Item, RunWork, TrainRun, Work
from bench.work.options import Options
from bench.work.peers import Peers
from bench.work.readiness import StoreView
from bench.work.signals import AHEAD_OF_LIMIT, EXIT_INTERRUPTED, InterruptedRunError, StopRequest
from bench.work.together import share_of, sharing
from bench.work.train import train_run
from bench.work.weights import BlockedRunError

log = logging.getLogger(__name__)

# How long a worker that waits for others sleeps before it looks again.
POLL_SECONDS = 2.0
# It sleeps twice as often each time before it looks again, this many times at most: a look asks for files of every run.
MOST_SLEEPS = 4
WAIT: Literal["wait"] = "wait"

# locked: another process has the item; blocked: what it needs is not done
Outcome = Literal["done", "failed", "interrupted", "locked", "blocked"]


def run_worker(
    work: Work, store: Store, options: Options, ranks: Ranks = ALONE, say_left: Callable[[], str] = str
) -> int:
    """Do all the work that may be done; return 75 after a signal, else 0, whatever is left.

    ranks      the processes that train each run together; 1 is returned when one of them fails
    say_left   what says how long the rest takes, "" for nothing: for the line between two runs
    """
    with StopRequest() as stop:
        code = Worker(work, Context.make(store, options, stop, ranks), say_left=say_left).work()
        if code == EXIT_INTERRUPTED and ranks.first:
            log.warning(
                "stopped by %s; the same command continues", stop.received.name if stop.received else "a signal"
            )
    return code


class Worker:
    """Takes items one after another; all ranks of a group take the same, as rank 0 says.

    leaves   whether to end, rather than wait, when all that is left is waiting for other live processes
    anchor   what is there as long as nobody moves or deletes the store; None: its folder, once it has been used
    """

    def __init__(
        self,
        work: Work,
        context: Context,
        *,
        leaves: bool = False,
        say_left: Callable[[], str] = str,
        anchor: Path | None = None,
    ) -> None:
        self._anchor = anchor
        self._items = list(work.items())
        self._work, self._context, self._leaves, self._say_left = work, context, leaves, say_left
        self._evaluator = Evaluator(context)
        self._peers = Peers(context.store)
        self._tried: set[Item] = set()
        self._sleeps = 1  # before it looks again
        self._doubts = 0  # how often it did so since the file system was away
        self._look: tuple[StoreView, int] | None = None  # at the store, that found a run to train; the item behind it
        self._workers = 1.0  # those that evaluated when runs were last shared out
        self._trained: RunWork | None = None  # whose own sets are next
        self._runs = sum(isinstance(item, TrainRun) for item in self._items)

    def work(self) -> int:
        """Return 75 after a signal, 1 if the ranks lost each other, else 0: nothing is left that this worker may do."""
        ranks = self._context.ranks
        try:
            return self._take_all()
        except Exception as error:
            if ranks.size == 1 or not lost_connection(error):
                raise
            log.warning("%s", _lost(ranks, error))
            ranks.abandon()
            return 1
        finally:
            self._peers.leave()

    def _take_all(self) -> int:
        ranks = self._context.ranks
        while not self._stopped():
            items = ranks.from_first(self._next)
            if not items:
                break
            if items == WAIT:
                self._sleep()
                continue
            self._sleeps, self._doubts = 1, 0
            outcome = self._take(items)
            if outcome != "locked":
                self._look = None
            if outcome == "failed" and ranks.size > 1:
                return 1  # the group is no more
            if outcome == "done" and isinstance(items[0], TrainRun):
                self._trained = items[0].run
        if self._context.stop.received is not None:
            return EXIT_INTERRUPTED
        if ranks.first:
            self._evaluator.write_samples(list(self._first_done()))
            self._remove_stale_locks()
        return 0

    def _remove_stale_locks(self) -> None:
        """Remove the locks that killed processes left on what is given up: other machines take them for live ones."""
        for folder in {self._path(item) for item in self._work.items()}:
            lock = folder / "lock"
            with suppress(RunLockedError, OSError):
                if lock.exists() and not is_live(lock):
                    with RunLock(lock):
                        pass

    def _path(self, item: Item) -> Path:
        if isinstance(item, AttackEnsemble):
            return ensemble_folder(self._context.store, item.ensemble.ensemble)
        return self._context.store.run(item.run.id).path

    def _sleep(self) -> None:
        for _ in range(self._sleeps):
            if self._context.stop.received is None:
                time.sleep(POLL_SECONDS)
        self._sleeps = min(2 * self._sleeps, MOST_SLEEPS)

    def _stopped(self) -> bool:
        """Let every rank know of a signal that one of them got; of two signals, of that ahead of the time limit."""
        stop = self._context.stop
        limit, stopped = self._context.ranks.any(stop.received in AHEAD_OF_LIMIT, stop.received is not None)
        if limit:
            stop.received = signal.SIGUSR2
        elif stopped:
            stop.received = stop.received or signal.SIGTERM
        return stopped

    # -- choosing ------------------------------------------------------------------------------------------------------

    def _next(self) -> Sequence[Item] | Literal["wait"]:
        """Return the first item that may start, with those that are best done along with it; nothing at the end.

        Where another was faster to take a run, the look goes on behind it. From the first item on, a hundred workers
        that begin at once would ask for files of every run in progress, for each run that one of them gets.
        """
        self._require_store()
        view, begin = self._look or (StoreView(self._context.store), 0)
        self._look = None
        if self._trained is not None and (own := self._own_sets(self._trained, view)):
            return own
        self._trained = None
        left = self._items[:begin]
        first: Item | None = None
        for place, item in enumerate(self._items[begin:], start=begin):
            readiness = view.may_start(item)
            if readiness.state == "done":
                continue
            left.append(item)
            if readiness.state in ("failed", "damaged", "blocked", "waiting"):
                self._tried.discard(item)  # who sees to that, such as by --retry, may leave it to this worker
            if readiness.now and item not in self._tried:
                first = item
                if isinstance(item, TrainRun):
                    self._look = view, len(left)
                left += self._items[place + 1 :]
                break
        self._items = left
        if first is None and begin:
            return self._next()  # what was passed over may have been left behind meanwhile
        if isinstance(first, EvaluateRun):
            return self._evaluated_with(first, left, view)
        if first is not None:
            rest = takewhile(lambda item: _folder(item) == _folder(first), left[left.index(first) :])
            # Ranks that only look on wait for one set at a time, not for so long that they give up.
            batch = [item for item in rest if type(item) is type(first) and item not in self._tried]
            return batch if self._context.ranks.size == 1 else batch[:1]
        self._peers.join()  # others leave a share to one that waits
        # The lock of a process that was killed on another node looks alive until its heartbeat is old.
        all_alive = all(has_moved(folder / "lock") for folder in view.held)
        leaves = self._leaves and all_alive and not self._gets_a_share(view)
        if view.away and self._doubts < TRIES:
            self._doubts += 1
            return WAIT
        return WAIT if view.held and not leaves else ()

    def _own_sets(self, run: RunWork, view: StoreView) -> Sequence[Item]:
        """Return the sets that follow the training of a run, which nobody else is as near to.

        Hundreds of workers would look for what others have just trained, and for whose images are read along with it:
        each would ask for files of every run in progress, to find that another was faster.
        """
        own = [
            item
            for item in self._items
            if isinstance(item, EvaluateRun) and item.run is run and isinstance(item.asked, OwnSet)
            if item not in self._tried and view.may_start(item).now
        ]
        if own:
            self._peers.join()
            self._workers = inf  # nothing of it is shared out
        return own if self._context.ranks.size == 1 else own[:1]

    def _require_store(self) -> None:
        """UserError if the store was moved or deleted: nobody looks for what is trained at its old place."""
        anchor = self._anchor or (self._context.store.root if self._tried else None)
        try:
            gone = anchor is not None and not anchor.exists()
        except OSError:  # a file server that does not answer for a moment
            gone = False
        if gone:
            raise UserError(
                f"{anchor}: gone, as somebody moved or deleted it, and this worker ends; give the same command --store "
                "with the new place of the store, and it goes on"
            )

    def _evaluated_with(
        self, first: EvaluateRun, items: Sequence[Item], view: StoreView
    ) -> Sequence[Item] | Literal["wait"]:
        """Return this worker's share of the items whose images can be read along with those of `first`."""

        def begun(item: EvaluateRun) -> bool:
            return was_begun(self._context.store.run(item.run.id).path, item.name)

        if begun(first):  # it may be what killed that process: by itself it takes no other along
            return [first]
        folders = self._context.store.begun()
        together = sharing(first, (item for item in items if _folder(item) in folders))
        if self._context.ranks.size > 1:
            together = [item for item in together if item.name == first.name]
        found = [(item, view.may_start(item)) for item in together]
        trained = {item.run.id for item in together if view.run(item.run.spec).state == "done"}
        made = {item for item, readiness in found if readiness.state == "done"}
        self._items = [
            item for item in items if item not in made and not (isinstance(item, TrainRun) and item.run.id in trained)
        ]
        found = [
            (item, readiness)
            for item, readiness in found
            if readiness.state in ("missing", "running") and item not in self._tried and not begun(item)
        ]
        self._peers.join()
        running = {item.run.id for item, readiness in found if readiness.state == "running"}
        self._workers = self._peers.count()
        share = share_of([item for item, readiness in found if readiness.now], len(running), self._workers)
        return share or WAIT  # others have taken all of it since the first look, and there may be other work

    def _gets_a_share(self, view: StoreView) -> bool:
        """Whether others evaluate more runs than they are workers, this one included: they leave it some."""
        runs = {i.run.id for i in self._items if isinstance(i, EvaluateRun) and view.may_start(i).state == "running"}
        return self._peers.count() <= len(runs)

    # -- doing ---------------------------------------------------------------------------------------------------------

    def _take(self, items: Sequence[Item]) -> Outcome:
        self._tried.update(items)
        first = items[0]
        try:
            match first:
                case TrainRun():
                    self._peers.leave()
                    with ExitStack() as held:  # a failure is on record before anybody else can take the run
                        return self._train(first, held)
                case EvaluateRun():
                    if self._context.ranks.first:
                        asked = [item for item in items if isinstance(item, EvaluateRun)]
                        left = self._evaluator.evaluate(asked, lambda: self._peers.count() > self._workers)
                        self._tried.difference_update(left)
                        if len(left) == len(asked):  # all are in the hands of a process that has just taken them
                            time.sleep(POLL_SECONDS)
                case AttackEnsemble(ensemble, specs):
                    self._peers.leave()
                    if self._context.ranks.first:
                        attacks = [item.attack for item in items if isinstance(item, AttackEnsemble)]
                        title = f"{ensemble.cell} {ensemble.ensemble.id[:8]}"
                        self._evaluator.attack(ensemble, specs, attacks, title)
                case _:
                    assert_never(first)
        except InterruptedRunError:
            return "interrupted"
        return "done"

    def _train(self, item: TrainRun, held: ExitStack) -> Outcome:
        """Train one run, record and return how it ended; UserError if no run could do better.

        All ranks return the same. The first that fails records why; of a lost connection nobody does, since whoever is
        gone was killed, or has recorded it. Then their group is no more.
        """
        run, context, ranks = item.run, self._context, self._context.ranks
        title = f"[{self._place(item)}/{self._runs}] {run.cell} {run.id[:8]}"
        started = time.monotonic()
        try:
            train_run(run, context, title, held)
            seconds = time.monotonic() - started
            left = f"; left: {said}" if ranks.first and (said := self._say_left()) else ""
            log.log(_level(ranks, logging.INFO), "%s: done in %.0f s%s", title, seconds, left)
            return "done"
        except InterruptedRunError:
            log.log(_level(ranks), "%s: interrupted, checkpoint written", title)
            return "interrupted"
        except (RunLockedError, LockLostError) as locked:
            log.log(_level(ranks), "%s: left to another process: %s", title, locked)
            self._tried.discard(item)  # it may leave the run behind
            return "locked"
        except BlockedRunError as blocked:
            log.log(_level(ranks), "%s: blocked, %s", title, blocked)
            return "blocked"
        except Exception as error:
            lost = ranks.size > 1 and lost_connection(error)
            first = not lost and not isinstance(error, RankFailedError) and ranks.claim_failure()
            try:
                if isinstance(error, UserError):
                    raise
                self._require_store()  # its absence is no failure of the run
                folder = context.store.run(run.id)
                if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                    raise UserError(
                        f"{folder.path}: the disk is full; free some space, then run the same command"
                    ) from None
                # Not the run's fault. Its attempts are counted, so that one which never gets further is given up.
                if lost:
                    log.warning("%s: %s", title, _lost(ranks, error))
                    return "failed"
                on = f" on rank {ranks.rank}" if ranks.size > 1 else ""
                if isinstance(error, OSError) and error.errno in PASSING:
                    log.warning("%s: %s%s; it goes on from its checkpoint", title, error, on)
                    self._tried.discard(item)
                    return "failed"
                log.error("%s: failed%s: %s: %s", title, on, type(error).__name__, error)
                if first or (ranks.first and folder.error() is None):  # before rank 0 gives the lock back
                    record_failure(folder, error, ranks.rank if ranks.size > 1 else None)
            finally:
                ranks.abandon()
            return "failed"

    def _place(self, item: TrainRun) -> int:
        """Return the place of a run among all runs of the plan, counted from 1."""
        return 1 + [run.id for run in self._work.runs].index(item.run.id)

    def _first_done(self) -> Iterator[RunWork]:
        """Yield the first finished run of each data set: the images of no other are shown."""
        shown = set()
        for run in self._work.runs:
            data = run.spec.data.name, run.spec.data.variant
            if data not in shown and self._context.store.run(run.id).status() == "done":
                shown.add(data)
                yield run


def _folder(item: Item) -> str:
    match item:
        case TrainRun(run) | EvaluateRun(run):
            return run.id
        case AttackEnsemble(ensemble):
            return ensemble.ensemble.id
        case _:
            assert_never(item)


def _lost(ranks: Ranks, error: Exception) -> str:
    reason = str(error).partition(". ")[0]
    return (
        f"rank {ranks.rank} of {ranks.size} lost another, which failed, was killed, or is on a node that died: {reason}"
    )


def _level(ranks: Ranks, level: int = logging.WARNING) -> int:
    """Return the level of what every rank would say, and rank 0 says for all."""
    return level if ranks.first else logging.DEBUG
