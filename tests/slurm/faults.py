"""Faults that tests plant in the Python of jobs: a sitecustomize in their folder, which PYTHONPATH names.

It does nothing outside of jobs, so that `bench run` computes the same without it.
"""

from pathlib import Path

HEAD = """
import os

def once(name):
    try:
        os.close(os.open(os.path.join({folder!r}, name), os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True

if "SLURM_JOB_ID" in os.environ:
"""
# Each fails once: reading a record or lock, flushing a checkpoint, and renaming a set of logits to its name.
STALE = """
    import errno

    def stale(name, function, matches):
        def call(*arguments, **options):
            if matches(*arguments) and once(name):
                raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
            return function(*arguments, **options)
        return call

    os.open = stale("read", os.open, lambda path, *_: str(path).endswith("/lock"))
    os.fsync = stale("checkpoint", os.fsync, lambda file: "checkpoint" in os.readlink(f"/proc/self/fd/{{file}}"))
    os.replace = stale("set", os.replace, lambda _, to: "/logits/" in str(to))
"""
# The first checkpoint, and the first set of logits, are renamed to their names when the test says `go`.
HELD_WRITES = """
    import time

    replaced = os.replace

    def held(source, to, **options):
        name = {{"checkpoint.pt": "writing"}}.get(os.path.basename(to), "evaluating" if "/logits/" in str(to) else None)
        if name is not None and once(name):
            end = time.monotonic() + 60
            while not os.path.exists(os.path.join({folder!r}, "go " + name)) and time.monotonic() < end:
                time.sleep(0.05)
        replaced(source, to, **options)

    os.replace = held
"""
# The clock of one node is three minutes ahead, as Python's time.time has it: in the heartbeats of its locks.
WRONG_CLOCK = """
    import time

    true_time = time.time
    if os.uname().nodename == "n2":
        time.time = lambda: true_time() + 180.0
"""


def plant(folder: Path, fault: str) -> None:
    """Let every job of a test, whose modules are in the folder, have a fault."""
    (folder / "sitecustomize.py").write_text((HEAD + fault).format(folder=str(folder)))
