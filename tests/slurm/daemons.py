"""Daemons started by hand in one folder: until they answer, until they end, and what they said if they do not."""

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path

START_SECONDS = 180.0
LAST_LINES = 40


class Daemons:
    """The daemons of one cluster by name; their messages and logs are in `folder`, their environment has `env`."""

    def __init__(self, folder: Path, env: Mapping[str, str]) -> None:
        self.folder, self.env = folder, env
        self.running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, *command: str | Path) -> int:
        """Start a daemon, whose first word is a program; returns its pid."""
        program_name, *options = [str(word) for word in command]
        with (self.folder / f"{name}.messages").open("ab") as messages:
            self.running[name] = subprocess.Popen(
                # Daemons end with the tests, even where these are killed (SIGKILL) and end nothing themselves.
                ["setpriv", "--pdeathsig", "TERM", program(program_name) or program_name, *options],
                cwd=self.folder,
                env=os.environ | self.env,
                stdin=subprocess.DEVNULL,
                stdout=messages,
                stderr=messages,
                start_new_session=True,  # Ctrl-C is for the tests, which then end the daemons in order
            )
        return self.running[name].pid

    def until_up(self, is_up: Callable[[], bool], what: str) -> None:
        """Return once a daemon answers; RuntimeError with the ends of all logs if one ends, or none does in time."""
        deadline = time.monotonic() + START_SECONDS
        while not is_up():
            ended = [name for name, daemon in self.running.items() if daemon.poll() is not None]
            if ended or time.monotonic() > deadline:
                why = f"{', '.join(ended)} ended" if ended else f"not up in {START_SECONDS:g} s"
                raise RuntimeError(f"the private SLURM cluster did not start: {what}: {why}\n{self.logs()}")
            time.sleep(0.05)

    def kill(self, name: str) -> None:
        """Kill a daemon as a crash of it would (SIGKILL)."""
        daemon = self.running.pop(name)
        daemon.kill()
        daemon.wait()

    def end(self, *names: str) -> None:
        """End daemons one after another, with SIGKILL where SIGTERM takes more than 10 s."""
        for name in names:
            daemon = self.running.pop(name)
            daemon.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                daemon.wait(10)
            daemon.kill()
            daemon.wait()

    def logs(self) -> str:
        """Return the last lines of the daemons' logs."""
        names = dict.fromkeys(path.stem for path in sorted(self.folder.glob("*.messages")))
        return "\n".join(f"--- {name}\n{self._last_lines(name)}" for name in names)

    def _last_lines(self, name: str) -> str:
        """Return the end of a daemon's log, or of what it said before it opened one."""
        files = (self.folder / f"{name}.log", self.folder / f"{name}.messages")
        text = next((file.read_text(errors="replace") for file in files if file.exists()), "")
        return "\n".join(text.splitlines()[-LAST_LINES:])


def program(name: str) -> str | None:
    """Return the path of a program; daemons are where only root's PATH leads."""
    return shutil.which(name, path=os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin")))


def kill_all(processes: Callable[[], list[int]]) -> None:
    """Kill processes until there are none: one may start another before its turn comes."""
    while pids := processes():
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)
