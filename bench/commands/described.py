"""What `list` and `show` say of a stored run in a few words; what cannot be read is None."""

from typing import Any

from bench.plan.records import method_of_run
from bench.spec.run import ModelSpec
from bench.store.contents import StoredRun


def described(run: StoredRun) -> dict[str, Any]:
    """Return id, method, network, data, sparsity, seed and state of a run."""
    spec = run.spec
    facts: dict[str, Any] = dict.fromkeys(("method", "network", "data", "sparsity", "seed"))
    if spec is not None:
        variant = "" if spec.data.variant == "official" else f" ({spec.data.variant})"
        facts = {
            "method": method_of_run(spec),
            "network": network_of(spec.model),
            "data": f"{spec.data.name}{variant}",
            "sparsity": 0.0 if spec.topology is None else round(1 - spec.topology.density, 10),
            "seed": spec.seed,
        }
    return {"id": run.id, **facts, "state": run.state}


def network_of(model: ModelSpec) -> str:
    """Return a network by its name and the values of its arguments, such as "wide_resnet 28-10"."""
    return f"{model.name} {'-'.join(map(str, model.arguments.values()))}".strip()
