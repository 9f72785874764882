"""Ctrl-C while a program starts: one line and exit code 130 at once, whatever is being imported.

Imports of torch and what analysis needs take seconds, and some of these libraries catch the interrupt and go on, or
fail later on a half of themselves. This module imports nothing that takes time, and is the first that programs import.
"""

import os
import signal
from types import FrameType

# 128 + SIGINT: what shells say of a program that Ctrl-C ended.
EXIT_CTRL_C = 130


def end_imports_at_once() -> None:
    """Let Ctrl-C end this process during an import; at any other time it is Python's KeyboardInterrupt, as before.

    Where the signal is ignored, as under nohup, it stays so.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _end)


def _end(number: int, frame: FrameType | None) -> None:
    at = frame
    while at is not None:
        if at.f_code.co_filename == "<frozen importlib._bootstrap>":
            os.write(2, b"interrupted\n")
            os._exit(EXIT_CTRL_C)
        at = at.f_back
    signal.default_int_handler(number, frame)
