"""What a reader calls a method: its recipe, or the kind of network that makes an ensemble of a plain recipe."""

from bench.spec import ModelSpec


def method_of(method: str, model: ModelSpec) -> str:
    """Return the method of a cell in tables and figures: "dst", "mimo", or both where neither is plain."""
    if model.ensemble is None:
        return method
    kind = model.ensemble.kind
    return kind if method == "dense" else f"{method} {kind}"
