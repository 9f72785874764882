"""What a trace says of any network: the weights that can be masked, those that cannot and why, and torch's FLOPs."""

import warnings
from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from bench.models.trace import trace_network
from bench.sparsity.maskable import maskable_weights
from tests.models import networks

NO_LAYER = "is no weight of a convolution or linear layer"
COMPUTED = "is not multiplied as it is"
MEMORY = "is a view of memory that is not its own alone"
IN_PROJECTIONS = [f"encoder.layers.encoder_layer_{layer}.self_attention.in_proj_weight" for layer in (0, 1)]
# Factory -> the parameters that cannot be masked, and why.
UNMASKABLE: dict[Callable[[int], nn.Module], dict[str, str]] = {
    networks.plain: {},
    networks.Volume: {},
    networks.shared: {},
    networks.vision_transformer: dict.fromkeys(["class_token", "encoder.pos_embedding", *IN_PROJECTIONS], NO_LAYER),
    networks.weight_norm: dict.fromkeys([f"0.parametrizations.weight.original{i}" for i in (0, 1)], NO_LAYER),
    networks.old_weight_norm: {"0.weight_g": NO_LAYER, "0.weight_v": NO_LAYER},
    networks.spectral_norm: {"0.parametrizations.weight.original": NO_LAYER},
    networks.old_spectral_norm: {"0.weight_orig": NO_LAYER},
    networks.orthogonal: {"0.parametrizations.weight.original": NO_LAYER},
    networks.transposed: {},
    networks.gru: {"rows.weight_ih_l0": NO_LAYER, "rows.weight_hh_l0": NO_LAYER},
    networks.Bare: dict.fromkeys(["matrix", "flat", "pair.weight", "token.weight"], NO_LAYER),
    networks.standardised: {"0.weight": COMPUTED},
    networks.unused: {"0.spare.weight": COMPUTED},
    networks.frozen: {"0.weight": "is frozen"},
    networks.Tied: {"token.weight": NO_LAYER},
    networks.with_gaps: {"0.weight": MEMORY},
    networks.one_memory: {"1.weight": MEMORY, "2.weight": MEMORY},
}
each_network = pytest.mark.parametrize("factory", UNMASKABLE, ids=lambda factory: factory.__name__)
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")  # of the old weight norm


@each_network
def test_every_matrix_is_a_layers_or_named_with_the_reason(factory: Callable[[int], nn.Module]) -> None:
    layers, rest = trace_network(partial(factory, 10), (3, 32, 32), 10)
    assert {found.name: found.why for found in rest.parameters} == UNMASKABLE[factory]
    model = factory(10)
    matrices = {name for name, parameter in model.named_parameters() if parameter.ndim >= 2 or name == "flat"}
    assert {layer.name for layer in layers} | UNMASKABLE[factory].keys() == matrices
    assert {layer.name: layer.shape for layer in layers} == {
        name: tuple(weight.shape) for name, weight in maskable_weights(model).items() if name not in UNMASKABLE[factory]
    }


@each_network
def test_its_flops_are_those_torch_counts(factory: Callable[[int], nn.Module]) -> None:
    layers, rest = trace_network(partial(factory, 10), (3, 32, 32), 10)
    model = factory(10).eval()
    with FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, 3, 32, 32))
    assert sum(layer.flops for layer in layers) + rest.flops == counter.get_total_flops() > 0


def test_a_weight_that_two_layers_share_counts_the_positions_of_both() -> None:
    layers, _ = trace_network(partial(networks.shared, 10), (3, 32, 32), 10)
    assert [(layer.name, layer.positions) for layer in layers] == [
        ("0.weight", 30 * 30),
        ("1.weight", 2 * 30 * 30),
        ("5.weight", 1),
    ]


def test_what_the_counter_does_not_see_is_named() -> None:
    _, rest = trace_network(partial(networks.Bare, 10), (3, 32, 32), 10)
    assert rest.uncounted == ("pair.weight", "token.weight", "aten._trilinear")
    _, rest = trace_network(partial(networks.vision_transformer, 10), (3, 32, 32), 10)
    assert rest.uncounted == ("class_token", "encoder.pos_embedding")


def test_a_lazy_module_is_refused() -> None:
    with warnings.catch_warnings(action="ignore"), pytest.raises(ValueError, match=r"0\.weight has no shape before"):
        trace_network(partial(networks.lazy, 10), (3, 32, 32), 10)


class Uncounted(nn.Module):
    """Classifies without a product that torch's counter knows."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3, classes))

    def forward(self, x: Tensor) -> Tensor:
        return (x.mean((2, 3)).unsqueeze(2) * self.weight).sum(dim=1)


def test_a_network_without_a_product_is_refused() -> None:
    with pytest.raises(ValueError, match="knows the FLOPs of none of its operations"):
        trace_network(partial(Uncounted, 10), (3, 32, 32), 10)
