"""Attacks on ensembles: crafted on each member and on the whole, in that order, seen by all, reproducible."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from bench.data.dataset import LabelledImages
from bench.evaluation import attack, ensembles
from bench.evaluation.ensembles import Members, attack_ensemble
from bench.evaluation.networks import Network, normaliser
from bench.evaluation.sets import AttackSet
from bench.spec.run import RunSpec
from bench.spec.seeds import derived_seed
from tests.evaluation.stored import SPECS, networks_of, normalised, random_images, random_model
from tests.training.runs import CPU, edst_spec

FGSM, PGD = AttackSet(steps=0, budget=2), AttackSet(steps=4, budget=2)


def members_of(root: Path, spec: RunSpec, count: int | None = None) -> Members:
    count = count or spec.tickets * spec.model.members
    return Members(networks_of(root, spec, samples=count), count, normaliser(spec, CPU))


def attacked(members: Members, source: LabelledImages, asked: AttackSet, *, singly: bool = True) -> np.ndarray:
    return attack_ensemble(members, source, asked, CPU, singly=singly).logits


def classified(members: Members, images: LabelledImages) -> LabelledImages:
    """Return images with the labels that the ensemble gives them, so that every one is right before an attack."""
    with torch.no_grad():
        logits = members.all(pixels(images), "attack", 0)
    return LabelledImages(images.images, logits.softmax(dim=-1).mean(dim=0).argmax(dim=1).numpy())


def pixels(images: LabelledImages) -> Tensor:
    return torch.from_numpy(images.images / np.float32(255)).permute(0, 3, 1, 2)


def fake_network(member: Callable[[Tensor], Tensor], index: int = 0) -> Network:
    """Return a network that computes its one member's logits [B, 10] with a function of normalised images."""
    return Network(nn.Identity(), member, 1, 0, index)


def linear(seed: int) -> Callable[[Tensor], Tensor]:
    """Return a linear layer in float64, where no sign of a gradient is left to rounding."""
    weights = torch.randn(10, 3 * 32 * 32, generator=torch.Generator().manual_seed(seed)).double() / 50
    return lambda images: images.flatten(1).double() @ weights.T


def linear_members(count: int, *, asked_for: int | None = None) -> Members:
    networks = [fake_network(linear(seed), seed) for seed in range(count)]
    return Members(networks, asked_for or count, normaliser(edst_spec(), CPU))


# -- members -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", SPECS)
def test_each_member_alone_is_the_one_of_all_together(tmp_path: Path, kind: str) -> None:
    members = members_of(tmp_path, SPECS[kind])
    images = pixels(random_images(4))
    together = members.all(images, "attack", 0)
    assert together.shape == (members.count, 4, 10)
    for member in range(members.count):
        assert torch.equal(members.one(member, images, "attack", 0), together[member : member + 1])
    with pytest.raises(IndexError):
        members.one(members.count, images)


def test_members_read_normalised_images(tmp_path: Path) -> None:
    spec = SPECS["two tickets"]
    images = random_images(4)
    for member in range(2):
        with torch.no_grad():
            expected = random_model(spec, member)(normalised(images))
        torch.testing.assert_close(members_of(tmp_path, spec).one(member, pixels(images))[0], expected)


def test_members_of_several_networks_of_several_are_counted_through(tmp_path: Path) -> None:
    networks = [*networks_of(tmp_path, SPECS["mimo"]), *networks_of(tmp_path, SPECS["tree net"])]
    images = pixels(random_images(3))
    four, three = (Members(networks, count, normaliser(SPECS["mimo"], CPU)) for count in (4, 3))
    expected = torch.cat([network.logits(normalised(random_images(3))) for network in networks])
    torch.testing.assert_close(four.all(images), expected)
    assert torch.equal(three.all(images), four.all(images)[:3])
    torch.testing.assert_close(four.one(2, images)[0], expected[2])
    torch.testing.assert_close(four.one(3, images)[0], expected[3])


def test_of_drawn_members_the_first_are_counted(tmp_path: Path) -> None:
    spec = SPECS["mc dropout"]
    source = random_images(5)
    all_three, two = (members_of(tmp_path, spec, count) for count in (3, 2))
    images = pixels(source)
    assert torch.equal(two.all(images, "attack", 0), all_three.all(images, "attack", 0)[:2])
    assert attacked(two, source, FGSM, singly=False).shape == (1, 2, 5, 10)


# -- what is crafted on whom -------------------------------------------------------------------------------------------


def slow_fgsm(members: list[Callable[[Tensor], Tensor]], source: LabelledImages, budget: float) -> Tensor:
    """Return images moved along the sign of the gradient of -log of the mean probability, normalised by NumPy."""
    images, labels = pixels(source).double(), torch.from_numpy(source.labels)
    inputs = images.clone().requires_grad_()
    probabilities = torch.stack([member(normal(inputs)).softmax(dim=1) for member in members]).mean(dim=0)
    (gradient,) = torch.autograd.grad(-probabilities[range(len(labels)), labels].log().sum(), inputs)
    return (images + budget / 255 * gradient.sign()).clamp(0, 1)


def normal(images: Tensor) -> Tensor:
    return (images - 0.3060) / 0.3241  # of digits


def test_logits_are_of_images_crafted_on_each_member_then_on_all(tmp_path: Path) -> None:
    spec = SPECS["two tickets"]
    source = random_images(7)
    logits = attacked(members_of(tmp_path, spec), source, AttackSet(steps=0, budget=8))
    models = [random_model(spec, ticket).double() for ticket in range(2)]
    assert logits.shape == (3, 2, 7, 10)
    assert logits.dtype == np.float32
    crafted = [slow_fgsm([models[0]], source, 8), slow_fgsm([models[1]], source, 8), slow_fgsm(list(models), source, 8)]
    assert all(not torch.allclose(a, b) for i, a in enumerate(crafted) for b in crafted[:i])
    for position, images in enumerate(crafted):
        for member, model in enumerate(models):
            with torch.no_grad():
                expected = model(normal(images)).float()
            # A gradient of almost nothing may have another sign in float32, and then almost nothing follows from it.
            torch.testing.assert_close(torch.from_numpy(logits[position, member]), expected, rtol=0, atol=2e-3)


def test_crafting_on_a_member_computes_no_other() -> None:
    """While FGSM has a gradient on, the networks note who was computed; two members and the whole make three rounds."""
    computed: list[list[int]] = []

    def noting(member: int) -> Callable[[Tensor], Tensor]:
        function = linear(member)

        def logits(images: Tensor) -> Tensor:
            if images.requires_grad:
                computed.append([member])
            return function(images)

        return logits

    members = Members([fake_network(noting(0)), fake_network(noting(1))], 2, normaliser(edst_spec(), CPU))
    attacked(members, random_images(3), FGSM)
    assert computed == [[0], [1], [0], [1]]


def test_on_linear_members_the_crafted_images_are_those_of_the_closed_form() -> None:
    source = random_images(4)
    logits = attacked(linear_members(1), source, AttackSet(steps=0, budget=8))
    assert logits.shape == (1, 1, 4, 10)
    function = linear(0)
    identity = torch.eye(3 * 32 * 32).view(-1, 3, 32, 32)
    slopes = function(identity).T  # [classes, pixels]; normalisation divides all of them by the same number
    probabilities = function(normalised(source)).softmax(dim=1)
    gradient = (probabilities - functional.one_hot(torch.from_numpy(source.labels), 10)) @ slopes
    moved = (pixels(source) + 8 / 255 * gradient.sign().view(-1, 3, 32, 32)).clamp(0, 1)
    expected = function(normal(moved)).float()
    torch.testing.assert_close(torch.from_numpy(logits[0, 0]), expected, rtol=1e-4, atol=1e-4)


def test_only_the_whole_is_attacked_unless_each_is() -> None:
    source = random_images(3)
    members = linear_members(3)
    singly, whole = (attacked(members, source, PGD, singly=flag) for flag in (True, False))
    assert (singly.shape, whole.shape) == ((4, 3, 3, 10), (1, 3, 3, 10))
    assert np.array_equal(singly[-1], whole[0])


def test_a_ticket_that_was_never_left_is_not_counted() -> None:
    logits = attacked(linear_members(2, asked_for=3), random_images(3), FGSM)
    assert logits.shape == (3, 2, 3, 10)
    assert np.array_equal(logits, attacked(linear_members(2), random_images(3), FGSM))


# -- strength ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", SPECS)
def test_pgd_is_never_weaker_than_fgsm_where_it_was_crafted(tmp_path: Path, kind: str) -> None:
    members = members_of(tmp_path, SPECS[kind])
    singly = kind != "mc dropout"
    source = classified(members, random_images(24))
    labels = source.labels
    stronger = 0
    for budget in (0.5, 2):
        judged = []
        for steps in (0, 4):
            logits = attacked(members, source, AttackSet(steps, budget), singly=singly)
            own = [*(logits[m, m : m + 1] for m in range(len(logits) - 1)), logits[-1]]
            probabilities = np.stack([functional.softmax(torch.from_numpy(one), dim=-1).mean(dim=0) for one in own])
            loss = -np.log(probabilities[:, range(24), labels])
            judged.append((loss, probabilities.argmax(axis=2) != labels))
        (simple_loss, simple_wrong), (loss, wrong) = judged
        assert (wrong >= simple_wrong).all()
        same = wrong == simple_wrong
        assert (loss[same] >= simple_loss[same] - 1e-5).all()
        stronger += int((loss > simple_loss + 1e-5).sum())
    assert stronger > 0


@pytest.mark.parametrize("kind", SPECS)
def test_attacks_do_harm(tmp_path: Path, kind: str) -> None:
    members = members_of(tmp_path, SPECS[kind])
    source = classified(members, random_images(24))
    accuracies = []
    for budget in (0.01, 1, 16):
        (whole,) = attacked(members, source, AttackSet(4, budget), singly=False)
        mean = torch.from_numpy(whole).softmax(dim=-1).mean(dim=0).argmax(dim=1).numpy()
        accuracies.append(float(np.mean(mean == source.labels)))
    assert accuracies[0] > 0.8
    assert accuracies[0] >= accuracies[1] >= accuracies[2]
    assert accuracies[2] < 0.2


# -- batches, draws and determinism ------------------------------------------------------------------------------------


@pytest.fixture
def noted_starts(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """Return a list of the starts that PGD is given, batch by batch."""
    noted: list[Tensor] = []

    def pgd(*arguments: object) -> Tensor:
        assert isinstance(arguments[-1], Tensor)
        noted.append(arguments[-1])
        return attack.pgd(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(ensembles, "pgd", pgd)
    return noted


def test_a_start_depends_on_the_images_place_alone(noted_starts: list[Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    source = random_images(7)
    logits, starts = [], []
    for size in (500, 6, 3):
        monkeypatch.setattr(ensembles, "at_once", lambda _, size=size: size)
        torch.manual_seed(size)
        noted_starts.clear()
        logits.append(attacked(linear_members(2), source, PGD, singly=False))
        starts.append(torch.cat(noted_starts))
    assert len(noted_starts) == 7  # three inputs a batch are one image and two members
    for other, moved in zip(starts[1:], logits[1:], strict=True):
        assert torch.equal(starts[0], other)
        np.testing.assert_allclose(moved, logits[0], rtol=1e-4, atol=1e-4)
    assert starts[0].abs().max() <= 1
    assert starts[0].min() < -0.99
    assert starts[0].max() > 0.99
    assert all(not torch.equal(a, b) for i, a in enumerate(starts[0]) for b in starts[0][:i])


def test_every_member_and_budget_starts_at_the_same_place(noted_starts: list[Tensor]) -> None:
    state = torch.get_rng_state()
    for budget in (2, 8):
        attacked(linear_members(2), random_images(3), AttackSet(steps=2, budget=budget))
    assert len(noted_starts) == 6
    assert all(torch.equal(noted_starts[0], other) for other in noted_starts)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("kind", SPECS)
def test_an_attack_made_again_is_the_same_to_the_bit(tmp_path: Path, kind: str) -> None:
    source = random_images(6)
    singly = kind != "mc dropout"
    first, again = (attacked(members_of(tmp_path, SPECS[kind]), source, PGD, singly=singly) for _ in range(2))
    assert np.array_equal(first, again)


def test_draws_are_the_same_in_every_attack_and_others_in_the_next_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else FGSM might seem stronger than PGD, by its samples alone. So small a budget leaves the images as they are."""
    monkeypatch.setattr(ensembles, "at_once", lambda _: 6)  # two images a batch
    half = random_images(2)
    source = LabelledImages(np.tile(half.images, (2, 1, 1, 1)), np.tile(half.labels, 2))
    spec = SPECS["mc dropout"]
    simple, projected = (
        attacked(members_of(tmp_path, spec), source, AttackSet(steps, 1e-12), singly=False)[0] for steps in (0, 3)
    )
    assert np.array_equal(simple, projected)
    assert not np.allclose(simple[:, :2], simple[:, 2:])
    (network,) = networks_of(tmp_path, spec)
    batch = normaliser(spec, CPU).unit(pixels(half))
    for start in (0, 2):
        seed = derived_seed(spec.stream, "sampling", "attack", start, 0)
        expected = network.model.member_logits(network.forward, batch, seed)  # type: ignore[operator]
        np.testing.assert_allclose(simple[:, start : start + 2], expected, rtol=1e-4, atol=1e-4)


def test_many_members_mean_few_images_and_a_signal_is_looked_for_before_each_batch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ensembles, "at_once", lambda _: 10)
    sizes: list[int] = []

    def noting(images: Tensor) -> Tensor:
        sizes.append(len(images))
        return linear(0)(images)

    members = Members([fake_network(noting), fake_network(noting)], 2, normaliser(edst_spec(), CPU))
    calls: list[int] = []
    made = attack_ensemble(
        members, random_images(12), FGSM, CPU, singly=False, between_batches=lambda: calls.append(len(sizes))
    )
    assert made.logits.shape == (1, 2, 12, 10)
    assert made.seconds >= made.forward_seconds > 0
    # A gradient and a prediction of both members for each batch, of five, five and two images.
    assert calls == [0, 4, 8]
    assert sizes == [5] * 8 + [2] * 4

    class StoppedError(Exception):
        pass

    def stop() -> None:
        raise StoppedError

    with pytest.raises(StoppedError):
        attack_ensemble(members, random_images(12), FGSM, CPU, singly=False, between_batches=stop)
    assert len(sizes) == 12


def test_images_may_be_a_read_only_map_and_stay_as_they_are(tmp_path: Path) -> None:
    source = random_images(5)
    file = tmp_path / "images.npy"
    np.save(file, source.images)
    mapped = LabelledImages(np.load(file, mmap_mode="r"), source.labels)
    before = file.read_bytes()
    assert np.array_equal(attacked(linear_members(2), mapped, PGD), attacked(linear_members(2), source, PGD))
    assert file.read_bytes() == before
    assert np.array_equal(source.images, random_images(5).images)
