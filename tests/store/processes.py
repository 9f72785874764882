"""Real processes for the tests of the lock: one that holds it, and one that races for it."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

# Holds a lock; at each line of input says whether it still does; leaves at the end of input.
HOLDER = """
import sys
from pathlib import Path
from bench.store.lock import LockLostError, RunLock
with RunLock(Path(sys.argv[1]), heartbeat=float(sys.argv[2])) as lock:
    print("held", flush=True)
    for _ in sys.stdin:
        try:
            lock.check()
            print("held", flush=True)
        except LockLostError:
            print("lost", flush=True)
"""
# Tries one lock after another, each at an agreed time, keeps what it wins until the end of input.
CONTENDER = """
import json, sys, time
from pathlib import Path
from bench.store.lock import RunLock, RunLockedError
print("ready", flush=True)
start, outcomes, held = float(sys.stdin.readline()), [], []
for number in range(int(sys.argv[2])):
    time.sleep(max(0, start + 0.02 * number - time.time()))
    lock = RunLock(Path(sys.argv[1]) / str(number) / "lock")
    try:
        held.append(lock.__enter__())
        outcomes.append("won")
    except RunLockedError:
        outcomes.append("locked")
    except Exception as error:
        outcomes.append(repr(error))
print(json.dumps(outcomes), flush=True)
sys.stdin.read()
"""


class Process(subprocess.Popen[str]):
    """A Python process that answers a line to a line."""

    def __init__(self, script: str, *arguments: object) -> None:
        command = [sys.executable, "-c", script, *map(str, arguments)]
        super().__init__(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def tell(self, line: str) -> None:
        assert self.stdin is not None
        self.stdin.write(line + "\n")
        self.stdin.flush()

    def answer(self) -> str:
        assert self.stdout is not None
        return self.stdout.readline().strip()
