import sys
from typing import TYPE_CHECKING, Any

if sys.version_info < (3, 11):  # noqa: UP036, as this is what an older one is told before it fails on anything else
    sys.stderr.write(f"error: freetickets-bench needs Python 3.11 or newer; this is Python {sys.version.split()[0]}\n")
    raise SystemExit(2)

if TYPE_CHECKING:
    from bench.evaluation.networks import load_ticket

__all__ = ["load_ticket"]


def __getattr__(name: str) -> Any:
    if name == "load_ticket":  # imported when it is asked for: it needs torch, and most of bench does not
        from bench.evaluation.networks import load_ticket

        return load_ticket
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
