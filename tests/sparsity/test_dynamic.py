"""DynamicSparsity in loops of one's own: any layers, any optimiser, an interruption, and every mistake named."""

import copy
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from bench.errors import UserError
from bench.sparsity import DynamicSparsity
from tests.models import networks

QUICK: dict[str, Any] = {"sparsity": 0.8, "update_every": 3, "total_steps": 30}


class Layers(nn.Module):
    """Every kind of layer that is masked: grouped, 1-d and transposed convolutions, and one linear layer used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.grouped = nn.Conv2d(4, 8, 3, groups=2)
        self.norm = nn.BatchNorm2d(8)
        self.up = nn.ConvTranspose2d(8, 6, 2, stride=2)
        self.line = nn.Conv1d(6, 8, 3)
        self.first = nn.Linear(8, 8)
        self.again = nn.Linear(8, 8)
        self.again.weight = self.first.weight

    def forward(self, x: Tensor) -> Tensor:
        x = self.line(self.up(torch.relu(self.norm(self.grouped(x)))).flatten(2)).mean(dim=2)
        return self.again(torch.relu(self.first(x)))


class Sequences(nn.Module):
    """Attention with packed projections over embedded tokens, classified by the table of the embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Embedding(12, 8)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.hidden = nn.Linear(8, 16)
        self.out = nn.Linear(16, 8)
        self.head = nn.Linear(8, 12)
        self.head.weight = self.token.weight

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.token(tokens)
        x = x + self.attention(x, x, x, need_weights=False)[0]
        return self.head(self.out(torch.relu(self.hidden(x))).mean(dim=1))


def seeded(make: Callable[[], nn.Module], seed: int = 0) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return make()


def small() -> nn.Module:
    return seeded(lambda: nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 8)))


def inputs(model: nn.Module, step: int, dtype: torch.dtype = torch.float32) -> Tensor:
    draws = torch.Generator().manual_seed(step)
    if isinstance(model, Sequences):
        return torch.randint(12, (16, 5), generator=draws)
    shape = (16, 4, 8, 8) if isinstance(model, Layers) else (16, 8)
    return torch.randn(shape, generator=draws).to(dtype)


def train(model: nn.Module, optimizer: torch.optim.Optimizer, sparse: DynamicSparsity, steps: range) -> list[float]:
    """Take these steps; inactive weights are zero after each."""
    losses = []
    dtype = next(model.parameters()).dtype
    for step in steps:
        optimizer.zero_grad()
        labels = torch.arange(16) % 8
        loss = functional.cross_entropy(model(inputs(model, step % 4, dtype)).float(), labels)
        loss.backward()
        losses.append(loss.item())
        sparse.step()
        weights = dict(model.named_parameters())
        for name, mask in sparse.masks.items():
            assert not weights[name][~mask].any(), name
    return losses


def sgd(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)


@pytest.mark.parametrize("semantics", ["standard", "released"])
def test_convolutions_of_all_kinds_and_a_shared_layer_learn_under_masks(semantics: str) -> None:
    model = seeded(Layers)
    optimizer = sgd(model)
    sparse = DynamicSparsity(model, optimizer, **QUICK, semantics=semantics, example=inputs(model, 0))
    assert list(sparse.masks) == ["grouped.weight", "up.weight", "line.weight", "first.weight"]
    first = sparse.masks
    losses = train(model, optimizer, sparse, range(30))
    assert losses[-1] < losses[0]
    assert all(not mask.equal(first[name]) for name, mask in sparse.masks.items() if not first[name].all())
    if semantics == "standard":
        assert sparse.density() == pytest.approx(0.2, abs=1 / sum(mask.numel() for mask in first.values()))


def test_packed_projections_and_embeddings_stay_dense_where_that_is_said() -> None:
    model = seeded(Sequences)
    optimizer = sgd(model)
    example = inputs(model, 0)
    with pytest.raises(UserError) as refused:
        DynamicSparsity(model, optimizer, **QUICK, example=example)
    assert str(refused.value) == (
        "DynamicSparsity: dense: token.weight of Sequences cannot be masked: it is no weight of a convolution or "
        'linear layer. Say that it stays dense: dense=["token.weight", "attention.in_proj_weight"]; patterns such as '
        '"encoder.*" are allowed'
    )
    sparse = DynamicSparsity(model, optimizer, **QUICK, dense=["token", "*.in_proj_weight"], example=example)
    assert list(sparse.masks) == ["attention.out_proj.weight", "hidden.weight", "out.weight"]
    train(model, optimizer, sparse, range(9))
    assert model.get_parameter("attention.in_proj_weight").all()
    assert list(DynamicSparsity(model, optimizer, **QUICK, dense=("token", "attention", "out")).masks) == [
        "hidden.weight"
    ]


@pytest.mark.parametrize("make", [torch.optim.Adam, torch.optim.AdamW, torch.optim.RMSprop])
def test_what_any_optimiser_remembers_of_inactive_weights_is_zero(make: Callable[..., torch.optim.Optimizer]) -> None:
    model = small()
    optimizer = make(model.parameters(), lr=0.01)
    sparse = DynamicSparsity(model, optimizer, **QUICK)
    train(model, optimizer, sparse, range(7))
    sparse.explore(0.5)
    seen = 0
    for name, mask in sparse.masks.items():
        for key, state in optimizer.state[model.get_parameter(name)].items():
            if state.shape == mask.shape:
                assert not state[~mask].any(), key
                assert state[mask].any(), key
                seen += 1
    assert seen >= 2


def test_half_precision_is_masked_like_any_other() -> None:
    model = small().bfloat16()
    optimizer = sgd(model)
    sparse = DynamicSparsity(model, optimizer, **QUICK)
    counts = {name: int(mask.sum()) for name, mask in sparse.masks.items()}
    train(model, optimizer, sparse, range(7))
    sparse.explore(0.8)
    assert {name: int(mask.sum()) for name, mask in sparse.masks.items()} == counts


@pytest.mark.parametrize("semantics", ["standard", "released"])
def test_a_loop_that_is_interrupted_continues_to_the_same_bits(semantics: str) -> None:
    def begin() -> tuple[nn.Module, torch.optim.Optimizer, DynamicSparsity]:
        model = small()
        optimizer = sgd(model)
        return model, optimizer, DynamicSparsity(model, optimizer, **QUICK, growth="random", semantics=semantics)

    model, optimizer, sparse = begin()
    train(model, optimizer, sparse, range(10))
    states = copy.deepcopy([part.state_dict() for part in (model, optimizer, sparse)])
    train(model, optimizer, sparse, range(10, 20))
    again = begin()
    for part, state in zip(again, states, strict=True):
        part.load_state_dict(state)
    train(*again, range(10, 20))
    assert again[2].steps == 20
    for name, value in model.state_dict().items():
        assert again[0].state_dict()[name].equal(value), name
    for name, mask in sparse.masks.items():
        assert again[2].masks[name].equal(mask), name


def test_the_topology_stays_after_the_last_step_and_gradients_are_left_as_they_were() -> None:
    model = small()
    optimizer = sgd(model)
    sparse = DynamicSparsity(model, optimizer, sparsity=0.8, update_every=2, total_steps=5, drop_schedule="constant")
    train(model, optimizer, sparse, range(5))
    masks = sparse.masks
    train(model, optimizer, sparse, range(5, 11))
    assert all(mask.equal(masks[name]) for name, mask in sparse.masks.items())
    for name, mask in masks.items():
        gradient = model.get_parameter(name).grad
        assert gradient is not None
        assert gradient[~mask].any()
    change = sparse.explore(0.8)
    assert (change.kind, change.step, change.dropped) == ("global_exploration", 11, change.grown)
    assert not sparse.masks["2.weight"].equal(masks["2.weight"])


def test_masks_follow_a_model_that_is_given_another_memory_format() -> None:
    results = []
    for moved_at in (0, 4):
        model = seeded(Layers).double()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
        sparse = DynamicSparsity(model, optimizer, **QUICK)
        train(model, optimizer, sparse, range(moved_at))
        model.to(memory_format=torch.channels_last)
        train(model, optimizer, sparse, range(moved_at, 7))
        assert sparse.masks["grouped.weight"].stride() == model.get_parameter("grouped.weight").stride()
        results.append(sparse.masks)
    # at a rate of 0 in float64 nothing hangs on the layout but the order in which sums are rounded
    assert results[0].keys() == results[1].keys()
    assert all(results[0][name].equal(mask) for name, mask in results[1].items())


def test_no_global_generator_is_used() -> None:
    state = torch.random.get_rng_state()
    model = small()
    optimizer = sgd(model)
    sparse = DynamicSparsity(model, optimizer, **QUICK, growth="random", example=torch.zeros(1, 8))
    train(model, optimizer, sparse, range(4))
    assert torch.random.get_rng_state().equal(state)
    masks = [DynamicSparsity(model, optimizer, **QUICK, seed=seed).masks["0.weight"] for seed in (18, 18, 19)]
    assert masks[0].equal(masks[1])
    assert not masks[0].equal(masks[2])


def test_the_example_changes_nothing_of_the_model() -> None:
    model = seeded(Layers)
    assert isinstance(model.norm, nn.BatchNorm2d)
    model.norm.eval()
    before = copy.deepcopy(model.state_dict())
    DynamicSparsity(model, sgd(model), **QUICK, dense="up", example=(inputs(model, 0),))
    assert model.training
    assert not model.norm.training
    unmasked = ("norm.running_mean", "norm.num_batches_tracked", "up.weight", "first.bias")
    assert all(model.state_dict()[name].equal(before[name]) for name in unmasked)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"sparsity": 80}, "DynamicSparsity: sparsity: found 80; allowed: more than 0 and less than 1"),
        ({"sparsity": 1e-9}, "DynamicSparsity: sparsity: a sparsity of"),
        ({"sparsity": 0.999}, "DynamicSparsity: sparsity: a sparsity of 0.999 leaves none of the"),
        ({"growth": "gradeint"}, "DynamicSparsity: growth: found 'gradeint'; did you mean 'gradient'?"),
        ({"semantics": "relased"}, "DynamicSparsity: semantics.preset: found 'relased'; did you mean 'released'?"),
        ({"semantics": {"tise": "all"}}, "DynamicSparsity: semantics.tise: unknown key; did you mean 'ties'?"),
        ({"distribution": "global"}, "DynamicSparsity: distribution: found 'global'"),
        ({"drop_fraction": 1.0}, "DynamicSparsity: drop_fraction: found 1.0; allowed: more than 0 and less than 1"),
        ({"total_steps": None}, "DynamicSparsity: total_steps: missing; drop_schedule cosine falls until the last"),
        (
            {"update_every": 30},
            "DynamicSparsity: update_every: found 30, so the topology would never change in",
        ),
        ({"update_every": 1}, "DynamicSparsity: update_every: found 1; updates would take the place of all"),
        ({"explorations": [9, 30]}, "DynamicSparsity: explorations: found [9, 30]; allowed: rising steps below"),
        ({"dense": ["0.wieght"]}, "DynamicSparsity: dense: '0.wieght' is no weight of two or more dimensions"),
        ({"dense": "*"}, "DynamicSparsity: dense: all weights of Sequential are left dense"),
    ],
)
def test_settings_that_cannot_be_are_refused_in_the_words_of_a_grid(given: dict[str, Any], message: str) -> None:
    model = small()
    with pytest.raises(UserError) as refused:
        DynamicSparsity(model, sgd(model), **{**QUICK, **given})
    assert str(refused.value).startswith(message)


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize(
    ("factory", "why"),
    [
        (networks.standardised, "0.weight of Sequential cannot be masked: it is not multiplied as it is"),
        (networks.unused, "0.spare.weight of "),
        (networks.weight_norm, "0.parametrizations.weight.original0 of "),
        (networks.gru, "rows.weight_ih_l0 of "),
        (networks.frozen, "0.weight of Sequential cannot be masked: it is frozen"),
        (networks.one_memory, "1.weight of Sequential cannot be masked: it is a view of memory"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_a_weight_that_cannot_be_masked_is_named(factory: Callable[[int], nn.Module], why: str) -> None:
    model = factory(10)
    with pytest.raises(UserError) as refused:
        DynamicSparsity(model, sgd(model), **QUICK, example=torch.zeros(1, 3, 32, 32))
    assert str(refused.value).startswith(f"DynamicSparsity: dense: {why}")


def test_a_lazy_module_is_named() -> None:
    with warnings.catch_warnings(action="ignore"):
        model = networks.lazy(10)
        with pytest.raises(UserError, match=r"0\.weight has no shape before the first image"):
            DynamicSparsity(model, sgd(model), **QUICK)


def test_steps_at_the_wrong_moment_are_refused() -> None:
    model = small()
    optimizer = sgd(model)
    sparse = DynamicSparsity(model, optimizer, **QUICK)
    with pytest.raises(UserError, match=r"0\.weight has no gradient; call step\(\) after backward\(\)"):
        sparse.step()
    assert sparse.steps == 0
    train(model, optimizer, sparse, range(1))
    with pytest.raises(UserError, match="explore: found 0; allowed: more than 0"):
        sparse.explore(0)
    optimizer.zero_grad()
    with pytest.raises(UserError, match=r"before zero_grad\(\)"):
        sparse.explore(0.8)
    restarts = DynamicSparsity(model, optimizer, **QUICK, semantics="released_imagenet", explorations=[10, 20])
    with pytest.raises(UserError, match=r"explore: found step 0; allowed: the steps of explorations \(10, 20\)"):
        restarts.explore(0.8)


def test_what_belongs_to_another_network_is_refused() -> None:
    model = small()
    with pytest.raises(UserError, match=r"2\.weight is no parameter of the optimizer"):
        DynamicSparsity(model, torch.optim.SGD(model[0].parameters(), lr=0.1), **QUICK)
    sparse = DynamicSparsity(model, sgd(model), **QUICK)
    state = sparse.state_dict()
    with pytest.raises(UserError, match="no state of DynamicSparsity; steps is missing"):
        sparse.load_state_dict({"masks": {}})
    with pytest.raises(UserError, match=r"masks of another network; 2\.weight: found None, needed \(8, 32\)"):
        sparse.load_state_dict({**state, "masks": {"0.weight": state["masks"]["0.weight"]}})
    with pytest.raises(UserError, match=r"0\.weight: found \(3,\), needed \(32, 8\)"):
        sparse.load_state_dict({**state, "masks": {**state["masks"], "0.weight": torch.ones(3)}})


@pytest.mark.parametrize("broken", ["weight", "gradient"])
def test_the_topology_never_changes_by_numbers_that_are_not_finite(broken: str) -> None:
    model = small()
    optimizer = sgd(model)
    sparse = DynamicSparsity(model, optimizer, **QUICK)
    train(model, optimizer, sparse, range(2))
    masks = {name: mask.clone() for name, mask in sparse.masks.items()}
    model(inputs(model, 2)).sum().backward()
    weight = model[0].weight
    (weight.data if broken == "weight" else weight.grad)[0, 0] = float("nan")
    with pytest.raises(UserError, match=r"0\.weight is not finite, and the topology would change by it; leave out"):
        sparse.step()
    with pytest.raises(UserError, match="is not finite"):
        sparse.explore()
    assert sparse.steps == 2
    assert all(torch.equal(mask, masks[name]) for name, mask in sparse.masks.items())


def test_a_step_that_a_scaler_would_skip_can_be_left_out() -> None:
    """The recipe of docs/python-api.md: the same weights as without a scaler, for its factors are powers of two."""
    ended = []
    for scaled in (False, True):
        model = small()
        optimizer = sgd(model)
        sparse = DynamicSparsity(model, optimizer, **QUICK)
        scaler = torch.amp.GradScaler("cpu", enabled=scaled)
        for step in range(12):
            optimizer.zero_grad()
            loss = functional.mse_loss(model(inputs(model, step)), torch.zeros(16, 8))
            scaler.scale(loss * float("inf") if scaled and step == 5 else loss).backward()
            scaler.unscale_(optimizer)
            if all(bool(p.grad.isfinite().all()) for p in model.parameters() if p.grad is not None) and step != 5:
                sparse.step()
            scaler.update()
        ended.append([p.detach() for p in model.parameters()])
        assert sparse.steps == 11
    assert all(torch.equal(one, other) for one, other in zip(*ended, strict=True))


def test_gradients_that_were_set_to_zero_choose_nothing() -> None:
    model = small()
    optimizer = sgd(model)
    sparse = DynamicSparsity(model, optimizer, **QUICK)
    train(model, optimizer, sparse, range(2))
    optimizer.zero_grad(set_to_none=False)
    with pytest.raises(UserError, match="explore: all gradients are zero; call it after step"):
        sparse.explore()


def test_two_optimisers_have_their_own_sparsity_and_the_mistake_says_so() -> None:
    model = small()
    first, second = (torch.optim.Adam(model[place].parameters()) for place in (0, 2))
    with pytest.raises(UserError, match=r"2\.weight is no parameter of the optimizer.*dense=\[\"2\.weight\"\]"):
        DynamicSparsity(model, first, **QUICK)
    both = DynamicSparsity(model, first, dense=["2"], **QUICK), DynamicSparsity(model, second, dense=["0"], **QUICK)
    for step in range(6):
        model.zero_grad()
        model(inputs(model, step)).square().mean().backward()
        assert [sparse.step() is not None for sparse in both] == [step in (2, 5)] * 2
    assert [list(sparse.masks) for sparse in both] == [["0.weight"], ["2.weight"]]
    assert both[0].masks["0.weight"].sum() == round(0.2 * 8 * 32)


def test_an_optimiser_that_takes_a_closure_is_refused() -> None:
    model = small()
    with pytest.raises(UserError, match="LBFGS takes a closure"):
        DynamicSparsity(model, torch.optim.LBFGS(model.parameters()), **QUICK)


def test_an_example_is_shown_with_gradients_without_which_attention_hides_its_weights() -> None:
    model = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    example = torch.ones(2, 3, 8)
    with torch.no_grad():
        sparse = DynamicSparsity(model, sgd(model), dense=["*.in_proj_weight"], example=example, **QUICK)
    assert list(sparse.masks) == ["self_attn.out_proj.weight", "linear1.weight", "linear2.weight"]


@pytest.mark.parametrize("state", [None, {"steps": 3, "masks": None}, {"steps": -1, "masks": {}}])
def test_what_is_no_state_is_refused(state: Any) -> None:
    model = small()
    sparse = DynamicSparsity(model, sgd(model), **QUICK)
    with pytest.raises(UserError, match="load_state_dict: no state of DynamicSparsity"):
        sparse.load_state_dict(state)


def test_a_weight_in_the_place_of_another_is_pointed_at() -> None:
    model = small()
    optimizer = sgd(model)
    sparse = DynamicSparsity(model, optimizer, **QUICK)
    model.load_state_dict(small().state_dict(), assign=True)
    model(inputs(model, 0)).sum().backward()
    with pytest.raises(UserError, match=r"load_state_dict\(assign=True\)\), make optimizer and DynamicSparsity anew"):
        sparse.step()
