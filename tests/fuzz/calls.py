"""Calls of the command lines in this process, counted: how they ended, what they said, how long they took."""

import os
import time
from collections import Counter
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from types import ModuleType

from hypothesis import HealthCheck, settings

# So many times as many inputs as in the gate, where each test tries half of its `count`; tox -e fuzz sets it.
TIMES = int(os.environ.get("FREETICKETS_FUZZ_TIMES", "1"))
# Of the processor. What takes longer hangs: a report took 20 s beside other tests, and everything else a second.
SECONDS = 300.0
COUNTS: Counter[str] = Counter()


@dataclass(frozen=True)
class Ended:
    """How a call ended."""

    code: int
    out: str
    err: str


def inputs(count: int) -> settings:
    """Return the settings of a test that tries half as many inputs in the gate; derandomized, as all tests here are."""
    return settings(max_examples=max(1, count * TIMES // 2), suppress_health_check=list(HealthCheck), print_blob=True)


def call(program: ModuleType, *arguments: str) -> Ended:
    """Run a command line; what escapes of it other than SystemExit is a traceback."""
    out, err = StringIO(), StringIO()
    began, code = time.process_time(), 0
    COUNTS["calls"] += 1
    with redirect_stdout(out), redirect_stderr(err):
        try:
            program.main(arguments)
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
        except BaseException:
            COUNTS["tracebacks"] += 1
            raise
    ended = Ended(code, out.getvalue(), err.getvalue())
    assert time.process_time() - began < SECONDS
    assert "Traceback" not in ended.out + ended.err
    assert code in (0, 1, 2), ended
    if code == 2:
        COUNTS["refused"] += 1
        assert ended.err.lower().startswith(("error: ", "usage: ")), ended
    return ended
