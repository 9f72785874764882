"""The weight layers of a network for the images of a data set, each table made once."""

from functools import cache
from typing import Any, NamedTuple

from bench.data.catalog import DATASETS
from bench.models.catalog import Layer, network_layers
from bench.spec.run import DataSpec, ModelSpec


class ModelKey(NamedTuple):
    """A model as the key of a cache, which a dict of arguments cannot be."""

    name: str
    arguments: tuple[tuple[str, Any], ...]
    ensemble: Any

    @classmethod
    def of(cls, model: ModelSpec) -> "ModelKey":
        """Return the key of a model."""
        return cls(model.name, tuple(model.arguments.items()), model.ensemble)

    @classmethod
    def plain(cls, model: ModelSpec) -> "ModelKey":
        """Return the key of the network without what makes it an ensemble."""
        return cls(model.name, tuple(model.arguments.items()), None)

    def model(self) -> ModelSpec:
        """Return the model."""
        return ModelSpec(name=self.name, arguments=dict(self.arguments), ensemble=self.ensemble)


def layers_of(model: ModelSpec, data: DataSpec) -> tuple[Layer, ...]:
    """Return the weight layers of a network for the images of a data set; ValueError if there is no such network."""
    return cached_layers(ModelKey.of(model), data.name)


@cache
def cached_layers(key: ModelKey, dataset: str) -> tuple[Layer, ...]:
    """Return the weight layers of a network by the name of its data set."""
    facts = DATASETS[dataset]
    return network_layers(key.model(), facts.classes, facts.image_size)
