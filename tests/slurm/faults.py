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


def plant(folder: Path, fault: str) -> None:
    """Let every job of a test, whose modules are in the folder, have a fault."""
    (folder / "sitecustomize.py").write_text((HEAD + fault).format(folder=str(folder)))
