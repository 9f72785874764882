"""The `model` of a cell: a network by name or `package.module:factory`, its arguments, how it holds several members."""

from functools import lru_cache
from typing import Annotated, Any

from pydantic import Field, create_model

from bench.errors import UserError, did_you_mean
from bench.grid.entry import MOST_BATCH, CellEntry
from bench.models.catalog import NETWORKS, Network, find_network
from bench.spec.messages import Key, Locate, key_path, shown, validated
from bench.spec.record import Record
from bench.spec.run import MULTI_MEMBER_KINDS, McDropout, ModelSpec, MultiMemberSpec

# Of a network's depth and width, in which its table of layers grows.
MOST_LAYERS = 10_000
MOST = {"depth": MOST_LAYERS, "width": MOST_LAYERS, "ghost_batch": MOST_BATCH}
# Keys of `model` that are not arguments of the network.
KEYS = ("name", "ensemble")


def resolve_model(choice: dict[str, Any], members: int, locate: Locate) -> ModelSpec:
    """Return the network of a cell; a kind that holds several members has as many as the cell, unless it says so."""
    name = choice.get("name", CellEntry.model_fields["model"].default["name"])
    network = _network(name, locate)
    given = {key: value for key, value in choice.items() if key not in KEYS}
    arguments = validated(arguments_of(network), given, lambda *keys: locate("model", *keys))
    ensemble = _ensemble(choice.get("ensemble"), name, network, members, locate)
    return _model_spec(name, arguments, ensemble)


def _network(name: object, locate: Locate) -> Network:
    if isinstance(name, str) and ":" in name:
        try:
            return find_network(name)
        except ValueError as error:
            raise UserError(f"{locate('model', 'name')}: {name!r}: {error}") from None
    if not isinstance(name, str) or name not in NETWORKS:
        other = ", or a function elsewhere as package.module:factory"
        raise UserError(f"{locate('model', 'name')}: found {shown(name)}{did_you_mean(name, NETWORKS)}{other}")
    return NETWORKS[name]


def _ensemble(choice: object, name: str, network: Network, members: int, locate: Locate) -> MultiMemberSpec | None:
    if choice is None:
        return None
    place = locate("model", "ensemble")

    def at(*keys: Key) -> str:
        if not short:
            return locate("model", "ensemble", *keys)
        return place if keys == ("kind",) else key_path(place, *keys)  # the kind alone was written

    short = isinstance(choice, str)
    choice = {"kind": choice} if short else choice
    if not isinstance(choice, dict):
        raise UserError(f"{place}: found {shown(choice)}; allowed: a mapping (kind: ...), or a kind alone")
    kind = choice.get("kind")
    if not isinstance(kind, str) or kind not in MULTI_MEMBER_KINDS:
        raise UserError(f"{at('kind')}: found {shown(kind)}{did_you_mean(kind, MULTI_MEMBER_KINDS)}")
    if kind not in network.ensembles:
        allowed = ", ".join(network.ensembles) or "none"
        raise UserError(f"{at('kind')}: {name} cannot be {kind}; allowed: {allowed}")
    record = MULTI_MEMBER_KINDS[kind]
    given = choice if record is McDropout else {"members": members, **choice}
    return validated(record, given, at)


@lru_cache(maxsize=4096)
def _model_spec(name: str, arguments: Record, ensemble: MultiMemberSpec | None) -> ModelSpec:
    return ModelSpec(name=name, arguments=arguments.model_dump(), ensemble=ensemble)


def arguments_of(network: Network) -> type[Record]:
    """Return a record with one field for each argument of a network."""
    return _record(tuple(network.arguments.items()), tuple(network.required.items()))


@lru_cache
def _record(defaults: tuple[tuple[str, Any], ...], required: tuple[tuple[str, Any], ...]) -> type[Record]:
    fields: dict[str, Any] = {key: (_bounded(key, type(value)), value) for key, value in defaults}
    fields |= {key: (_bounded(key, kind), ...) for key, kind in required}
    return create_model("Arguments", __base__=Record, **fields)


def _bounded(key: str, kind: type) -> Any:
    return Annotated[int, Field(ge=0, le=MOST[key])] if kind is int and key in MOST else kind
