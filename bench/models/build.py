"""From a ModelSpec to a module, initialised from the run's seed and from nothing else."""

import importlib

import torch
from torch import nn

from bench.models.catalog import NETWORKS
from bench.seeds import derived_seed
from bench.spec import ModelSpec


def build_model(spec: ModelSpec, classes: int, seed: int) -> nn.Module:
    """Return the network on the CPU in float32; the same seed gives the same weights on every device."""
    module, _, attribute = NETWORKS[spec.name].factory.partition(":")
    factory = getattr(importlib.import_module(module), attribute)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derived_seed(seed, "weights"))
        model = factory(classes=classes, **spec.arguments)
    if not isinstance(model, nn.Module):
        raise TypeError(f"{NETWORKS[spec.name].factory} returned {type(model).__name__}, not a torch.nn.Module")
    return model
