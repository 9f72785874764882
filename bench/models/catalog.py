"""The networks by name: their arguments, their layer tables, and the tables of their multi-member variants.

Nothing here imports torch for a built-in network. A network of the user's own, `package.module:factory`, is imported
and traced (bench.models.plugin), which does.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import assert_never

from bench.models.plugin import IMAGE_CHANNELS, Argument, Plugin, load_plugin
from bench.models.tables import (
    Layer,
    Rest,
    cifar_resnet_layers,
    imagenet_resnet_layers,
    resnet_blocks,
    wide_resnet_blocks,
    wide_resnet_layers,
)
from bench.spec.run import BatchEnsemble, McDropout, Mimo, ModelSpec, TreeNet

__all__ = ["NETWORKS", "Layer", "Network", "find_network", "inputs_per_image", "network_layers", "network_rest"]
__all__ += ["passes_per_image", "wide_resnet_layers"]


def _no_rest(classes: int, image_size: int, **arguments: Argument) -> Rest:  # noqa: ARG001, as of every network
    return Rest()


@dataclass(frozen=True)
class Network:
    """A network: `module:factory` to build it, arguments with their defaults, its tables, what it can be.

    arguments   name -> default
    layers      (classes, image_size, **arguments) -> weight layers in the order of the module's parameters; also takes
                channels, those of the input, where "mimo" is among the ensembles; ValueError for impossible arguments
    blocks      (**arguments) -> names of the residual blocks in order; empty where they are not known
    ensembles   the multi-member kinds (bench.spec.MULTI_MEMBER_KINDS) that it can be
    required    name -> type of the arguments without a default; built-in networks have none
    rest        takes what layers takes -> what the network has beside them
    """

    factory: str
    arguments: dict[str, Argument]
    layers: Callable[..., tuple[Layer, ...]]
    blocks: Callable[..., tuple[str, ...]]
    ensembles: tuple[str, ...]
    required: dict[str, type[Argument]] = field(default_factory=dict)
    rest: Callable[..., Rest] = _no_rest


RESNET_ENSEMBLES = ("mimo", "batch_ensemble", "tree_net")
NETWORKS: dict[str, Network] = {
    "wide_resnet": Network(
        "bench.models.wide_resnet:WideResNet",
        {"depth": 28, "width": 10},
        wide_resnet_layers,
        wide_resnet_blocks,
        ("mc_dropout", *RESNET_ENSEMBLES),
    ),
    "resnet_cifar": Network(
        "bench.models.resnet:cifar_resnet", {"depth": 18}, cifar_resnet_layers, resnet_blocks, RESNET_ENSEMBLES
    ),
    "resnet_imagenet": Network(
        "bench.models.resnet:imagenet_resnet",
        {"depth": 50, "init": "fan_out", "ghost_batch": 0},
        imagenet_resnet_layers,
        resnet_blocks,
        RESNET_ENSEMBLES,
    ),
}


def find_network(name: str) -> Network:
    """Return an entry of NETWORKS, or a network of the user's own by `package.module:factory`.

    ValueError, in a sentence, where there is no such network or the factory is none.
    """
    if name in NETWORKS:
        return NETWORKS[name]
    if ":" not in name:
        raise ValueError(f"there is no network {name!r}; allowed: {', '.join(NETWORKS)}, or package.module:factory")
    plugin: Plugin = load_plugin(name)
    # Dropout and a trunk need places inside the network; the tables of TreeNet need the names of its blocks.
    ensembles = ("mimo", "batch_ensemble") if plugin.takes_channels else ("batch_ensemble",)
    return Network(name, plugin.arguments, plugin.layers, plugin.blocks, ensembles, plugin.required, plugin.rest)


def network_layers(model: ModelSpec, classes: int, image_size: int) -> tuple[Layer, ...]:
    """Return the weight layers of the whole module that is built, its members included, in parameter order.

    ValueError for arguments that make no network, and for a kind that the network cannot be.
    """
    network, ensemble = find_network(model.name), model.ensemble
    if ensemble is not None and ensemble.kind not in network.ensembles:
        raise ValueError(f"{model.name} cannot be {ensemble.kind}; allowed: {', '.join(network.ensembles)}")
    match ensemble:
        case Mimo():
            channels = IMAGE_CHANNELS * ensemble.members
            return network.layers(classes * ensemble.members, image_size, channels=channels, **model.arguments)
        case TreeNet():
            layers = network.layers(classes, image_size, **model.arguments)
            return _tree(layers, network.blocks(**model.arguments), ensemble)
        case None | McDropout() | BatchEnsemble():  # rank-one factors are no layers
            return network.layers(classes, image_size, **model.arguments)
        case _:
            assert_never(ensemble)


def network_rest(model: ModelSpec, classes: int, image_size: int) -> Rest:
    """Return what the whole module has beside its weight layers; ValueError as for network_layers."""
    network, ensemble = find_network(model.name), model.ensemble
    if isinstance(ensemble, Mimo):
        channels = IMAGE_CHANNELS * ensemble.members
        return network.rest(classes * ensemble.members, image_size, channels=channels, **model.arguments)
    return network.rest(classes, image_size, **model.arguments)  # only networks without any can be a tree


def inputs_per_image(model: ModelSpec) -> int:
    """Return how many inputs of the network a training step makes of each image of its batch."""
    match model.ensemble:
        case Mimo(batch_repetitions=repetitions):
            return repetitions
        case BatchEnsemble(members=members):
            return members
        case None | McDropout() | TreeNet():
            return 1
        case _:
            assert_never(model.ensemble)


def passes_per_image(model: ModelSpec) -> int:
    """Return the number of forward passes of network_layers in which all members predict one image."""
    match model.ensemble:
        case McDropout(samples=samples):
            return samples
        case BatchEnsemble(members=members):
            return members
        case None | Mimo() | TreeNet():
            return 1
        case _:
            assert_never(model.ensemble)


def _tree(layers: tuple[Layer, ...], blocks: tuple[str, ...], tree: TreeNet) -> tuple[Layer, ...]:
    if tree.head_blocks > len(blocks):
        raise ValueError(f"head_blocks is at most {len(blocks)}, all residual blocks, not {tree.head_blocks}")
    if tree.head_blocks:
        first = blocks[-tree.head_blocks]
        cut = next(index for index, layer in enumerate(layers) if layer.name.startswith(f"{first}."))
    else:
        cut = 1 + max(index for index, layer in enumerate(layers) if layer.name.startswith(f"{blocks[-1]}."))
    trunk = [replace(layer, name=f"trunk.{layer.name}") for layer in layers[:cut]]
    heads = [
        replace(layer, name=f"heads.{member}.{layer.name}") for member in range(tree.members) for layer in layers[cut:]
    ]
    return (*trunk, *heads)
