"""One process a run: real processes race, die and freeze, and exactly one of them holds the lock."""

import errno
import json
import logging
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

import bench.store.lock
from bench.store.files import remove_temporaries
from bench.store.lock import LockLostError, RunLock, RunLockedError, has_moved, is_live
from bench.store.run_folder import RunFolder
from tests.store.processes import CONTENDER, HOLDER, Process

PATIENCE = 120.0


@pytest.fixture
def start() -> Iterator[Callable[..., Process]]:
    """Return a function that starts a process, which is ended with the test."""
    with ExitStack() as processes:

        def started(script: str, *arguments: object) -> Process:
            process = processes.enter_context(Process(script, *arguments))
            processes.callback(process.kill)
            return process

        yield started


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run" / "lock"


def eventually(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + PATIENCE
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    return condition()


def content(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text()))


def lock_of(path: Path, **changes: object) -> None:
    """Leave a lock as this process would write it, changed: another host, another process, another time."""
    path.unlink(missing_ok=True)
    with RunLock(path):
        text = content(path)
    path.write_text(json.dumps({**text, **changes}))


def foreign_lock(path: Path, ahead: float = 0.0) -> None:
    """Leave a lock of another machine, whose clock is ahead of ours."""
    lock_of(path, host="another-host", heartbeat=time.time() + ahead)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Return a function that lets time pass by this process's own clock."""
    passed = 0.0
    monotonic = time.monotonic
    monkeypatch.setattr(bench.store.lock.time, "monotonic", lambda: monotonic() + passed)

    def wait(seconds: float) -> None:
        nonlocal passed
        passed += seconds

    return wait


def assert_taken_over(path: Path, caplog: pytest.LogCaptureFixture, *words: object) -> None:
    caplog.clear()
    with caplog.at_level(logging.WARNING), RunLock(path) as lock:
        assert is_live(path)
        lock.check()
        [message] = [record.getMessage() for record in caplog.records]
        assert all(str(word) in message for word in (path, *words))
    assert not path.exists()


class TestHolding:
    def test_a_lock_says_who_holds_it_since_when_and_leaves_nothing(self, path: Path) -> None:
        assert not is_live(path)
        before = time.time()
        with RunLock(path) as lock:
            lock.check()
            assert is_live(path)
            assert content(path)["pid"] == os.getpid()
            assert content(path)["host"]
            assert before <= content(path)["heartbeat"] <= time.time()
            assert RunFolder(path.parent).status() == "running"
        assert list(path.parent.iterdir()) == []
        assert RunFolder(path.parent).status() == "missing"

    def test_a_lock_is_released_by_an_exception(self, path: Path) -> None:
        with pytest.raises(KeyboardInterrupt), RunLock(path):
            raise KeyboardInterrupt
        assert not path.exists()

    def test_a_second_lock_in_this_process_is_refused(self, path: Path) -> None:
        with RunLock(path):
            with pytest.raises(RunLockedError, match=str(os.getpid())):
                RunLock(path).__enter__()
            assert is_live(path)
        with RunLock(path):
            assert is_live(path)

    def test_the_lock_of_another_process_is_refused_by_name_until_it_leaves(
        self, path: Path, start: Callable[..., Process]
    ) -> None:
        holder = start(HOLDER, path, 15)
        assert holder.answer() == "held"
        with pytest.raises(RunLockedError, match=str(holder.pid)):
            RunLock(path).__enter__()
        holder.communicate()
        with RunLock(path) as lock:
            lock.check()

    def test_the_heartbeat_is_refreshed(self, path: Path) -> None:
        with RunLock(path, heartbeat=0.02):
            for _ in range(3):
                last = content(path)["heartbeat"]
                assert eventually(lambda last=last: content(path)["heartbeat"] > last)
        assert list(path.parent.iterdir()) == []

    def test_a_heartbeat_that_cannot_be_written_is_tried_again(
        self, path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        def full(*_: object, **__: object) -> int:
            raise OSError("disk full")

        with RunLock(path, heartbeat=0.02) as lock:
            before = content(path)
            with monkeypatch.context() as patch:
                patch.setattr(Path, "write_text", full)
                assert eventually(lambda: "disk full" in caplog.text)
            assert eventually(lambda: content(path)["heartbeat"] > before["heartbeat"])
            lock.check()

    @pytest.mark.parametrize("number", [errno.EIO, errno.EACCES])
    def test_a_lock_that_cannot_be_removed_costs_nothing_that_was_done_under_it_and_goes_stale(
        self,
        number: int,
        path: Path,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
        clock: Callable[[float], None],
    ) -> None:
        unlink = Path.unlink

        def refused(file: Path, *, missing_ok: bool = False) -> None:
            if file == path:
                raise OSError(number, os.strerror(number))
            unlink(file, missing_ok=missing_ok)

        with monkeypatch.context() as patch, caplog.at_level(logging.WARNING), RunLock(path):
            patch.setattr(Path, "unlink", refused)
        assert f"{path}: not removed: [Errno {number}]" in caplog.text
        assert is_live(path)
        clock(bench.store.lock.STALE_SECONDS)
        assert not is_live(path)


class TestRaces:
    ROUNDS, PROCESSES = 30, 3

    def race(self, folder: Path, start: Callable[..., Process]) -> list[tuple[str, ...]]:
        contenders = [start(CONTENDER, folder, self.ROUNDS) for _ in range(self.PROCESSES)]
        assert [contender.answer() for contender in contenders] == ["ready"] * self.PROCESSES
        for contender in contenders:
            contender.tell(str(time.time() + 0.1))
        outcomes = [json.loads(contender.answer()) for contender in contenders]
        return [tuple(sorted(of_round)) for of_round in zip(*outcomes, strict=True)]

    ONE_WINNER = ("locked", "locked", "won")

    def test_of_processes_that_race_for_a_lock_exactly_one_wins(
        self, tmp_path: Path, start: Callable[..., Process]
    ) -> None:
        assert set(self.race(tmp_path, start)) == {self.ONE_WINNER}

    def test_of_processes_that_take_over_one_stale_lock_exactly_one_wins(
        self, tmp_path: Path, start: Callable[..., Process]
    ) -> None:
        for number in range(self.ROUNDS):
            lock_of(tmp_path / str(number) / "lock", started="1")  # of a process that is no more
        assert set(self.race(tmp_path, start)) == {self.ONE_WINNER}

    def test_a_lock_released_and_taken_again_while_one_looks_is_not_stolen(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        first, second, third = RunLock(path), RunLock(path), RunLock(path)
        look = bench.store.lock.is_live

        def first_leaves_and_third_comes(*arguments: Any) -> bool:
            monkeypatch.setattr(bench.store.lock, "is_live", look)
            first.__exit__()
            live = look(*arguments)
            third.__enter__()
            return live

        first.__enter__()
        monkeypatch.setattr(bench.store.lock, "is_live", first_leaves_and_third_comes)
        with pytest.raises(RunLockedError):
            second.__enter__()
        third.__exit__()

    def test_the_holder_clearing_leftovers_does_not_break_a_process_that_tries_the_lock(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        link = os.link

        def link_late(*arguments: Any) -> None:
            monkeypatch.setattr(os, "link", link)
            holder.__enter__()
            remove_temporaries(path.parent)
            link(*arguments)

        holder = RunLock(path)
        monkeypatch.setattr(os, "link", link_late)
        with pytest.raises(RunLockedError):
            RunLock(path).__enter__()
        holder.check()
        holder.__exit__()


class TestTakeover:
    def test_the_lock_of_a_killed_process_is_taken_over_at_once_and_that_is_logged(
        self, path: Path, start: Callable[..., Process], caplog: pytest.LogCaptureFixture
    ) -> None:
        holder = start(HOLDER, path, 15)
        assert holder.answer() == "held"
        holder.kill()
        holder.wait()
        assert RunFolder(path.parent).status() == "missing"
        assert_taken_over(path, caplog, holder.pid)

    def test_so_is_that_of_a_killed_process_whose_parent_has_not_noticed(
        self, path: Path, start: Callable[..., Process], caplog: pytest.LogCaptureFixture
    ) -> None:
        holder = start(HOLDER, path, 15)
        assert holder.answer() == "held"
        holder.kill()
        os.waitid(os.P_PID, holder.pid, os.WEXITED | os.WNOWAIT)  # dead, and still in the process table
        assert_taken_over(path, caplog, holder.pid)

    @pytest.mark.parametrize("ahead", [0, 180, -180, 365 * 86400, -3600])
    def test_another_machines_lock_is_taken_over_once_its_heartbeat_has_stood_still_while_we_looked(
        self, path: Path, ahead: float, clock: Callable[[float], None], caplog: pytest.LogCaptureFixture
    ) -> None:
        """Two machines whose clocks were three minutes apart trained one run twice."""
        foreign_lock(path, ahead)
        before = path.read_bytes()
        for _ in range(2):
            assert is_live(path)
            with pytest.raises(RunLockedError, match="another-host"):
                RunLock(path).__enter__()
            clock(bench.store.lock.STALE_SECONDS * 0.6)
        assert path.read_bytes() == before
        assert list(path.parent.iterdir()) == [path]
        assert not is_live(path)
        assert_taken_over(path, caplog, "another-host")

    def test_a_heartbeat_that_moves_is_respected_however_wrong_its_clock(
        self, path: Path, clock: Callable[[float], None]
    ) -> None:
        for beat in range(4):
            foreign_lock(path, ahead=-86400 - 60 * beat)  # a clock that even runs backwards
            assert is_live(path)
            clock(bench.store.lock.STALE_SECONDS * 0.9)
        assert is_live(path)

    def test_a_lock_that_changed_since_a_look_of_long_ago_is_not_known_to_move(
        self, path: Path, clock: Callable[[float], None]
    ) -> None:
        seen = []
        for beat, passed in enumerate((0, 15, 3600, 15, bench.store.lock.STALE_SECONDS - 1)):
            clock(passed)
            foreign_lock(path, ahead=beat)
            assert is_live(path)
            seen.append(has_moved(path))
        assert seen == [False, True, False, True, True]

    def test_a_pid_that_now_belongs_to_another_process_is_taken_over(
        self, path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        lock_of(path, started="1")
        assert_taken_over(path, caplog, os.getpid())

    def test_the_same_pid_in_another_container_may_be_alive(self, path: Path) -> None:
        lock_of(path, namespace="another container", started="1")
        with pytest.raises(RunLockedError):
            RunLock(path).__enter__()

    @pytest.mark.parametrize("left", [b"", b"{", b"[]", bytes(64), b"\xff\xfe"])
    def test_a_lock_that_a_crash_left_unreadable_is_taken_over(self, path: Path, left: bytes) -> None:
        path.parent.mkdir()
        path.write_bytes(left)
        with RunLock(path) as lock:
            lock.check()
            assert is_live(path)

    def test_a_process_killed_while_taking_over_blocks_no_one_for_long(
        self, path: Path, clock: Callable[[float], None]
    ) -> None:
        lock_of(path, started="1")
        path.with_name("lock.takeover").touch()
        for _ in range(2):
            with pytest.raises(RunLockedError):
                RunLock(path).__enter__()
            clock(bench.store.lock.STALE_SECONDS * 0.6)
        with RunLock(path) as lock:
            lock.check()
        assert list(path.parent.iterdir()) == []

    @pytest.mark.parametrize("number", [errno.ESTALE, errno.ENOENT, errno.ENOTDIR])
    def test_a_lock_that_another_machine_just_removed_is_not_there(
        self, path: Path, number: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def gone(*_: object, **__: object) -> str:
            raise OSError(number, os.strerror(number))

        foreign_lock(path)
        monkeypatch.setattr("bench.store.lock.regular_bytes", gone)
        assert not is_live(path)


class TestLosing:
    def test_a_holder_whose_lock_was_taken_notices_and_leaves_it_alone(self, path: Path) -> None:
        with RunLock(path, heartbeat=0.02) as lock:
            path.write_text(json.dumps({**content(path), "token": "another"}))
            taken = path.read_bytes()
            assert eventually(lambda: lock.lost)
        assert path.read_bytes() == taken

    def test_what_is_about_to_write_looks_at_the_lock_itself(self, path: Path) -> None:
        with RunLock(path) as lock:
            path.write_text(json.dumps({**content(path), "token": "another"}))
            assert not lock.lost, "no heartbeat was due yet"
            assert has_lost(lock)
            assert lock.lost

    def test_a_holder_whose_lock_is_gone_notices(self, path: Path) -> None:
        with RunLock(path, heartbeat=0.02) as lock:
            path.unlink()
            assert eventually(lambda: lock.lost)
        assert not path.exists()

    def test_a_suspended_process_loses_its_lock_and_notices_when_it_wakes(
        self, path: Path, start: Callable[..., Process]
    ) -> None:
        holder = start(HOLDER, path, 0.25)
        assert holder.answer() == "held"
        holder.send_signal(signal.SIGSTOP)
        assert eventually(lambda: not is_live(path, 0.5))
        with RunLock(path, stale_after=0.5) as lock:
            token = content(path)["token"]
            holder.send_signal(signal.SIGCONT)

            def answers_lost() -> bool:
                holder.tell("do you hold it?")
                return holder.answer() == "lost"

            assert eventually(answers_lost)
            holder.communicate()
            lock.check()
            assert content(path)["token"] == token


def has_lost(lock: RunLock) -> bool:
    try:
        lock.check()
    except LockLostError:
        return True
    return False
