"""The weight layers of a network for the images of a data set, each table made once."""

from functools import cache
from typing import Any, NamedTuple

from bench.data.catalog import facts_of
from bench.models.catalog import Layer, network_layers, network_rest
from bench.models.tables import Rest
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


class ImageKey(NamedTuple):
    """What of a data set decides the layers of a network."""

    classes: int
    image_size: int

    @classmethod
    def of(cls, data: DataSpec) -> "ImageKey":
        """Return the key of a data set."""
        facts = facts_of(data)
        return cls(facts.classes, facts.image_size)


def layers_of(model: ModelSpec, data: DataSpec) -> tuple[Layer, ...]:
    """Return the weight layers of a network for the images of a data set; ValueError if there is no such network."""
    return cached_layers(ModelKey.of(model), ImageKey.of(data))


@cache
def cached_layers(key: ModelKey, images: ImageKey) -> tuple[Layer, ...]:
    """Return the weight layers of a network for images of a data set."""
    return network_layers(key.model(), images.classes, images.image_size)


def rest_of(model: ModelSpec, data: DataSpec) -> Rest:
    """Return what a network has beside its weight layers; ValueError if there is no such network."""
    return cached_rest(ModelKey.of(model), ImageKey.of(data))


@cache
def cached_rest(key: ModelKey, images: ImageKey) -> Rest:
    """Return what a network for images of a data set has beside its weight layers."""
    return network_rest(key.model(), images.classes, images.image_size)


def weights_in(model: ModelSpec, data: DataSpec) -> int:
    """Return how many weights a network has, those of norms left out; ValueError if there is no such network."""
    return sum(layer.size for layer in layers_of(model, data)) + sum(o.size for o in rest_of(model, data).parameters)
