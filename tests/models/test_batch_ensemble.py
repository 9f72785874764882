"""BatchEnsemble against its definition: a plain network whose activations are scaled before and after every layer."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from bench.models.batch_ensemble import BatchEnsembleNetwork
from bench.models.build import build_model
from bench.spec.run import BatchEnsemble, ModelSpec

NETWORKS = [ModelSpec(name="wide_resnet", arguments={"depth": 10, "width": 2})]
NETWORKS += [ModelSpec(name="resnet_cifar", arguments={"depth": 18})]
each_network = pytest.mark.parametrize("plain", NETWORKS, ids=lambda spec: spec.name)
MEMBERS = 3
IMAGES = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def build(plain: ModelSpec, members: int = MEMBERS, **settings: float) -> BatchEnsembleNetwork:
    """Return the network in float64, the biases of its members unlike."""
    kind = BatchEnsemble(members=members, **settings)
    model = build_model(plain.model_copy(update={"ensemble": kind}), 10, seed=0)
    assert isinstance(model, BatchEnsembleNetwork)
    with torch.no_grad():
        model.get_parameter("fc.bias").normal_(generator=torch.Generator().manual_seed(1))
    return model.double()


def weighted(model: nn.Module) -> Iterator[tuple[str, nn.Conv2d | nn.Linear]]:
    return ((name, module) for name, module in model.named_modules() if isinstance(module, nn.Conv2d | nn.Linear))


def shared_state(model: BatchEnsembleNetwork) -> dict[str, Tensor]:
    state = {name: tensor for name, tensor in model.state_dict().items() if not name.endswith((".alpha", ".gamma"))}
    return state | {"fc.bias": torch.zeros(10)}


def by_definition(plain: ModelSpec, model: BatchEnsembleNetwork) -> nn.Module:
    """Return the plain network, gamma * layer(alpha * x) + bias as hooks that share the model's fast weights."""
    reference = build_model(plain, 10, seed=1).double()
    reference.load_state_dict(shared_state(model))
    for name, module in weighted(reference):
        alpha, gamma = (model.get_parameter(f"{name}.{kind}") for kind in ("alpha", "gamma"))
        bias = model.get_parameter(f"{name}.bias") if module.bias is not None else torch.zeros_like(gamma)

        def rows(factors: Tensor, x: Tensor) -> Tensor:
            return factors.repeat_interleave(len(x) // len(factors), 0).view(len(x), -1, *[1] * (x.ndim - 2))

        def before(_: nn.Module, args: tuple[Tensor], alpha: Tensor = alpha) -> Tensor:
            return args[0] * rows(alpha, args[0])

        def after(_: nn.Module, __: object, y: Tensor, gamma: Tensor = gamma, bias: Tensor = bias) -> Tensor:
            return y * rows(gamma, y) + rows(bias, y)

        module.register_forward_pre_hook(before)
        module.register_forward_hook(after)
    return reference


@each_network
def test_it_is_the_plain_network_with_scaled_activations_and_shared_batch_norm(plain: ModelSpec) -> None:
    model = build(plain)
    reference = by_definition(plain, model)
    inputs, targets = model.training_batch(IMAGES, torch.tensor([1, 2, 3, 4]), seed=0)
    torch.testing.assert_close(model(inputs), reference(inputs))
    gradients = []
    for network in (model, reference):
        model.zero_grad()
        model.loss(network(inputs), targets, 0.0).backward()
        fast = [parameter.grad for name, parameter in model.named_parameters() if name.endswith((".alpha", ".gamma"))]
        slow = [module.weight.grad for _, module in weighted(network)]
        gradients.append([gradient.clone() for gradient in fast + slow if gradient is not None])
    assert len(gradients[0]) == 3 * len(list(weighted(model)))
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs)
    for name, buffer in reference.named_buffers():
        torch.testing.assert_close(model.get_buffer(name), buffer)


@each_network
@pytest.mark.parametrize("member", range(MEMBERS))
def test_a_member_is_a_plain_network_with_a_rank_one_factor_on_each_weight(plain: ModelSpec, member: int) -> None:
    model = build(plain)
    model(model.training_batch(IMAGES, torch.zeros(4, dtype=torch.int64), 0)[0])  # moves the running statistics
    alone = build_model(plain, 10, seed=1).double()
    state = shared_state(model)
    for name, _ in weighted(alone):
        alpha, gamma = (model.get_parameter(f"{name}.{kind}")[member] for kind in ("alpha", "gamma"))
        state[f"{name}.weight"] = torch.einsum("oi...,o,i->oi...", state[f"{name}.weight"], gamma, alpha)
    state["fc.bias"] = model.get_parameter("fc.bias")[member]
    alone.load_state_dict(state)
    logits = model.eval().member_logits(model, IMAGES, seed=None)
    torch.testing.assert_close(logits[member], alone.eval()(IMAGES))


def test_one_member_trains_as_the_plain_network_with_its_factors() -> None:
    model = build(NETWORKS[0], members=1)
    alone = build_model(NETWORKS[0], 10, seed=1).double()
    state = shared_state(model)
    for name, _ in weighted(alone):
        alpha, gamma = (model.get_parameter(f"{name}.{kind}")[0] for kind in ("alpha", "gamma"))
        state[f"{name}.weight"] = torch.einsum("oi...,o,i->oi...", state[f"{name}.weight"], gamma, alpha)
    alone.load_state_dict(state | {"fc.bias": model.get_parameter("fc.bias")[0]})
    torch.testing.assert_close(model(IMAGES), alone(IMAGES))


@each_network
def test_shared_weights_start_as_those_of_the_plain_network(plain: ModelSpec) -> None:
    model = build_model(plain.model_copy(update={"ensemble": BatchEnsemble(fast_std=0.0)}), 10, seed=3)
    reference = build_model(plain, 10, seed=3)
    for name, parameter in reference.named_parameters():
        expected = parameter.expand(4, -1) if name == "fc.bias" else parameter
        assert model.get_parameter(name).equal(expected), name
    assert all((p == 1).all() for n, p in model.named_parameters() if n.endswith((".alpha", ".gamma")))


def test_fast_weights_start_from_a_normal_distribution_around_one() -> None:
    spec = NETWORKS[1].model_copy(update={"ensemble": BatchEnsemble(fast_std=0.5)})
    model = build_model(spec, 10, seed=0)
    for kind in ("alpha", "gamma"):
        drawn = torch.cat([p.detach().flatten() for n, p in model.named_parameters() if n.endswith(kind)])
        assert drawn.mean().item() == pytest.approx(1, abs=5 * 0.5 / len(drawn) ** 0.5)
        assert drawn.std().item() == pytest.approx(0.5, rel=5 / (2 * len(drawn)) ** 0.5)
        assert (drawn < 0).double().mean().item() == pytest.approx(0.02275, abs=0.005)  # beyond two deviations


def test_every_member_sees_every_image_one_member_after_the_other() -> None:
    model = build(NETWORKS[0])
    inputs, targets = model.training_batch(IMAGES, torch.tensor([5, 6, 7, 8]), seed=0)
    assert inputs.view(MEMBERS, *IMAGES.shape).equal(torch.stack([IMAGES] * MEMBERS))
    assert targets.tolist() == [5, 6, 7, 8] * MEMBERS


def test_what_is_a_members_own_learns_slower_and_only_its_bias_decays() -> None:
    model = build(NETWORKS[0], fast_learning_rate=0.25)
    own = {name for name, _ in model.named_parameters() if name.endswith((".alpha", ".gamma"))}
    assert len(own) == 2 * len(list(weighted(model)))
    assert model.undecayed() == own
    assert model.learning_rate_factors() == dict.fromkeys({*own, "fc.bias"}, 0.25)
    assert build(NETWORKS[0], fast_learning_rate=1.0).learning_rate_factors() == {}


@pytest.mark.parametrize(("groups", "mode"), [(1, "zeros"), (2, "zeros"), (4, "reflect")])
def test_convolutions_of_any_configuration(groups: int, mode: str) -> None:
    conv = nn.Conv2d(4, 8, 3, stride=2, padding=1, dilation=1, groups=groups, padding_mode=mode).double()
    weight, bias = conv.weight.detach().clone(), conv.bias.detach().clone()
    model = BatchEnsembleNetwork(nn.Sequential(conv), BatchEnsemble(members=2)).double()
    plain = nn.Conv2d(4, 8, 3, stride=2, padding=1, groups=groups, padding_mode=mode, bias=False).double()
    plain.weight = nn.Parameter(weight)
    images = torch.randn(2 * 3, 4, 9, 9, dtype=torch.float64)
    alpha, gamma = model.get_parameter("0.alpha"), model.get_parameter("0.gamma")
    expected = torch.cat(
        [
            plain(x * alpha[m, :, None, None]) * gamma[m, :, None, None] + bias[:, None, None]
            for m, x in enumerate(images.split(3))
        ]
    )
    torch.testing.assert_close(model(images), expected)


def test_a_layer_used_in_two_places_is_divided_once() -> None:
    layer = nn.Linear(3, 3)
    model = BatchEnsembleNetwork(nn.Sequential(layer, layer), BatchEnsemble(members=2))
    assert [name for name, _ in model.named_parameters()] == ["0.weight", "0.bias", "0.alpha", "0.gamma"]
    assert model(torch.zeros(4, 3)).shape == (4, 3)
