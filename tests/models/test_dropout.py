"""MC dropout: where it acts, how much it drops, its masks as a function of the seed, the network without it."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor, nn

from bench.models.build import build_model
from bench.models.dropout import Dropout, MaskDraws, McDropoutNetwork
from bench.spec.run import McDropout, ModelSpec

PLAIN = ModelSpec(name="wide_resnet", arguments={"depth": 16, "width": 1})
IMAGES = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([1, 2, 3, 4])
CONTIGUOUS, CHANNELS_LAST = torch.contiguous_format, torch.channels_last
each_layout = pytest.mark.parametrize("layout", [CONTIGUOUS, CHANNELS_LAST], ids=["contiguous", "channels_last"])


def build(rate: float, samples: int = 3) -> McDropoutNetwork:
    spec = PLAIN.model_copy(update={"ensemble": McDropout(rate=rate, samples=samples)})
    model = build_model(spec, 10, seed=0)
    assert isinstance(model, McDropoutNetwork)
    return model


@contextmanager
def branches(model: nn.Module) -> Iterator[dict[str, tuple[Tensor, Tensor]]]:
    """Yield, by block, what its first convolution returns and what the batch norm that follows reads."""
    seen: dict[str, Tensor] = {}
    pairs: dict[str, tuple[Tensor, Tensor]] = {}
    handles = []
    for name, module in model.named_modules():
        block, _, child = name.rpartition(".")
        if block and child == "conv1":
            handles.append(module.register_forward_hook(lambda _, __, y, block=block: seen.update({block: y.clone()})))
        if block and child == "bn2":
            handles.append(
                module.register_forward_pre_hook(
                    lambda _, args, block=block: pairs.update({block: (seen[block], args[0].clone())})
                )
            )
    yield pairs
    for handle in handles:
        handle.remove()


def test_without_a_rate_it_is_the_plain_network() -> None:
    model, reference = build(0.0), build_model(PLAIN, 10, seed=0)
    assert model.state_dict().keys() == reference.state_dict().keys()
    assert all(tensor.equal(reference.state_dict()[name]) for name, tensor in model.state_dict().items())
    with torch.no_grad():
        assert model(IMAGES).equal(reference(IMAGES))
        logits = model.eval().member_logits(model, IMAGES, seed=5)
        expected = reference.eval()(IMAGES)
    assert len(logits) == 3
    assert all(sample.equal(expected) for sample in logits)


@pytest.mark.parametrize("training", [True, False])
def test_it_acts_after_the_first_convolution_of_every_block_and_nowhere_else(training: bool) -> None:
    model, reference = build(0.3).train(training), build_model(PLAIN, 10, seed=0).train(training)
    model.training_batch(IMAGES, LABELS, seed=1)
    with torch.no_grad(), branches(model) as pairs:
        logits = model(IMAGES)
    assert set(pairs) == {f"block{group}.{block}" for group in (1, 2, 3) for block in (0, 1)}
    factors = {block: after / before for block, (before, after) in pairs.items()}
    for factor in factors.values():
        kept = factor != 0
        torch.testing.assert_close(factor[kept], torch.full_like(factor[kept], 1 / 0.7))
        assert kept.double().mean().item() == pytest.approx(0.7, abs=5 * (0.21 / kept.numel()) ** 0.5)
    # With the same masks on the same places, the plain network computes the same: nothing else was dropped.
    for block, factor in factors.items():
        reference.get_submodule(f"{block}.conv1").register_forward_hook(lambda _, __, y, factor=factor: y * factor)
    with torch.no_grad():
        torch.testing.assert_close(reference(IMAGES), logits, rtol=1e-4, atol=1e-5)


@each_layout
def test_masks_are_element_wise_and_independent(layout: torch.memory_format) -> None:
    model = build(0.5).to(memory_format=layout)
    model.training_batch(IMAGES, LABELS, seed=1)
    with torch.no_grad(), branches(model) as pairs:
        model(IMAGES.contiguous(memory_format=layout))
    masks = {block: (after != 0).double() for block, (_, after) in pairs.items()}
    for mask in masks.values():
        for axis in range(4):  # neighbours along any axis agree as often as a fair coin with itself
            steps = mask.diff(dim=axis).abs()
            assert steps.mean().item() == pytest.approx(0.5, abs=5 * 0.5 / steps.numel() ** 0.5)
    first, second = masks["block1.0"], masks["block1.1"]
    assert (first == second).double().mean().item() == pytest.approx(0.5, abs=5 * 0.5 / first.numel() ** 0.5)


def test_samples_differ_and_are_a_function_of_the_seed() -> None:
    model = build(0.2, samples=3).eval()
    with torch.no_grad():
        first = model.member_logits(model, IMAGES, seed=1)
        model(IMAGES)  # draws in between change nothing
        again, other = model.member_logits(model, IMAGES, seed=1), model.member_logits(model, IMAGES, seed=2)
    assert first.equal(again)
    for one in range(3):
        assert not any(first[one].equal(first[two]) for two in range(one))
        assert not any(first[one].equal(sample) for sample in other)


def test_a_sample_does_not_depend_on_how_many_there_are() -> None:
    few, many = build(0.2, samples=2).eval(), build(0.2, samples=5).eval()
    with torch.no_grad():
        assert few.member_logits(few, IMAGES, 1).equal(many.member_logits(many, IMAGES, 1)[:2])


def test_without_a_seed_it_predicts_once_without_masks() -> None:
    model, reference = build(0.2).eval(), build_model(PLAIN, 10, seed=0).eval()
    with torch.no_grad():
        assert model.member_logits(model, IMAGES, seed=None).equal(reference(IMAGES).unsqueeze(0))
        assert not model(IMAGES).equal(reference(IMAGES))  # and drops again afterwards


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.5, 0.9])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_mean_stays_what_it_was(rate: float, dtype: torch.dtype) -> None:
    draws = MaskDraws()
    draws.reseed(torch.device("cpu"), 3)
    x = torch.ones(101, 3, 33, 7, dtype=dtype)  # no multiple of 4 elements
    out = Dropout(rate, draws)(x)
    assert out.dtype == dtype
    kept = (out != 0).double().mean().item()
    assert kept == pytest.approx(1 - rate, abs=5 * (rate * (1 - rate) / x.numel()) ** 0.5 + 1e-5)
    assert out.double().mean().item() == pytest.approx(1, rel=0.05 if rate == 0.9 else 0.01)


def test_gradients_pass_where_activations_did() -> None:
    draws = MaskDraws()
    draws.reseed(torch.device("cpu"), 3)
    x = torch.ones(1000, requires_grad=True)
    out = Dropout(0.25, draws)(x)
    out.sum().backward()
    assert x.grad is not None
    assert x.grad.equal(out.detach())  # of ones: the mask itself
    assert set(out.tolist()) == {0.0, (torch.ones(1) / 0.75).item()}


def test_a_network_without_a_place_for_it_is_refused() -> None:
    with pytest.raises(ValueError, match="no residual branch with a submodule 'dropout'"):
        McDropoutNetwork(nn.Sequential(nn.Linear(3, 3)), McDropout())
