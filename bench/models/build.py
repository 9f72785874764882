"""From a ModelSpec to a module, initialised from the run's seed and from nothing else."""

from functools import partial
from typing import assert_never

from torch import nn

from bench.models.batch_ensemble import build_batch_ensemble
from bench.models.catalog import find_network
from bench.models.draws import seeded_generators
from bench.models.dropout import build_mc_dropout
from bench.models.mimo import build_mimo
from bench.models.plugin import call_factory
from bench.models.tree_net import build_tree_net
from bench.spec.run import BatchEnsemble, McDropout, Mimo, ModelSpec, TreeNet
from bench.spec.seeds import derived_seed


def build_model(spec: ModelSpec, classes: int, seed: int) -> nn.Module:
    """Return the network on the CPU in float32; the same seed gives the same weights on every device.

    With an ensemble it is a MultiMember (bench.models.members). ValueError where the spec names no network, or a kind
    that the network cannot be.
    """
    network, ensemble = find_network(spec.name), spec.ensemble
    if ensemble is not None and ensemble.kind not in network.ensembles:
        raise ValueError(f"{spec.name} cannot be {ensemble.kind}; allowed: {', '.join(network.ensembles)}")
    factory = partial(_build, network.factory, spec.arguments)
    with seeded_generators(derived_seed(seed, "weights")):
        match ensemble:
            case None:
                return factory(classes=classes)
            case McDropout():
                return build_mc_dropout(factory, classes, ensemble)
            case Mimo():
                return build_mimo(factory, classes, ensemble)
            case BatchEnsemble():
                return build_batch_ensemble(factory, classes, ensemble)
            case TreeNet():
                return build_tree_net(factory, classes, ensemble)
            case _:
                assert_never(ensemble)


def _build(name: str, arguments: dict[str, int | float | bool | str], *, classes: int, **ours: int) -> nn.Module:
    model = call_factory(name, classes, **ours, **arguments)
    if not isinstance(model, nn.Module):
        raise TypeError(f"{name} returned {type(model).__name__}, not a torch.nn.Module")
    return model
