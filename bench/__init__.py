from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bench.evaluation.networks import load_ticket

__all__ = ["load_ticket"]


def __getattr__(name: str) -> Any:
    if name == "load_ticket":  # imported when it is asked for: it needs torch, and most of bench does not
        from bench.evaluation.networks import load_ticket

        return load_ticket
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
