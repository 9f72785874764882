from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from analysis.frames import load_results

__all__ = ["load_results"]


def __getattr__(name: str) -> Any:
    if name == "load_results":  # imported when it is asked for, with pandas and matplotlib
        from analysis.frames import load_results

        return load_results
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
