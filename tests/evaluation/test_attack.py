"""FGSM and PGD: the closed form of a linear model, a slow loop written out here, the budget in exact fractions."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from bench.evaluation import attack
from bench.evaluation.attack import Predictor, ball, fgsm, losses, pgd

BUDGETS = (0.5, 1, 2, 3, 4, 8, 12, 16)
# A step of one rounding, three times over: what two ways to compute a point may differ by.
ROUNDING = 4e-7


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def starts(images: Tensor, seed: int = 1) -> Tensor:
    return random(*images.shape, seed=seed) * 2 - 1


def levels(*shape: int, seed: int = 0) -> Tensor:
    """Return images of 8 bits, in [0, 1]."""
    return (random(*shape, seed=seed) * 256).floor() / 255


class Linear:
    """Logits of one linear layer, of as many members as there are weights [members, classes, pixels]."""

    def __init__(self, members: int, classes: int, pixels: int, seed: int = 0) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.weights = torch.randn(members, classes, pixels, generator=generator) / pixels**0.5

    def __call__(self, images: Tensor) -> Tensor:
        return torch.einsum("mcp,bp->mbc", self.weights, images.flatten(1))


def conv_members(count: int) -> list[nn.Module]:
    """Return small networks in float64, where no sign of a gradient is left to rounding."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return [
            nn.Sequential(
                nn.Conv2d(3, 4, 3), nn.Tanh(), nn.Conv2d(4, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 5)
            ).double()
            for _ in range(count)
        ]


def together(members: list[nn.Module]) -> Predictor:
    return lambda images: 3 * torch.stack([member(images.double()) for member in members])


# -- the loss ----------------------------------------------------------------------------------------------------------


def test_the_loss_is_that_of_the_mean_probability() -> None:
    logits = torch.randn(3, 50, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    labels = torch.arange(50) % 7
    expected = -logits.softmax(dim=-1).mean(dim=0)[range(50), labels].log()
    torch.testing.assert_close(losses(logits, labels), expected)
    torch.testing.assert_close(
        losses(logits[:1], labels), functional.cross_entropy(logits[0], labels, reduction="none")
    )


def test_the_loss_survives_probabilities_that_a_float_cannot_hold() -> None:
    logits = torch.tensor([[[0.0, 1000.0]], [[0.0, 500.0]]])
    assert losses(logits, torch.tensor([0])).item() == pytest.approx(500 + np.log(2))
    assert losses(logits, torch.tensor([1])).item() == 0


def test_the_gradient_is_of_the_mean_of_probabilities_not_of_losses() -> None:
    """One pixel x, two members: p1 = s(-4.6 - x) and p2 = s(x / 2), with slopes -p(1 - p) and p(1 - p) / 2.

    At 0: p1 = 0.01, p2 = 0.5. The mean probability has the slope (-0.0099 + 0.125) / 2 > 0, so a lower pixel does
    harm; the mean of the losses has the slope (0.99 - 0.25) / 2 > 0, so a higher one would.
    """

    def predict(images: Tensor) -> Tensor:
        x = images.mean(dim=(1, 2, 3)) - 0.5
        margins = torch.stack([-4.6 - x, x / 2])
        return torch.stack([margins, torch.zeros_like(margins)], dim=-1)

    images, label = torch.full((1, 3, 1, 1), 0.5), torch.tensor([0])
    assert (fgsm(predict, images, label, 0.1) < images).all()
    inputs = images.clone().requires_grad_()
    loss = functional.cross_entropy(predict(inputs).flatten(0, 1), label.repeat(2))
    assert (torch.autograd.grad(loss, inputs)[0] > 0).all()


# -- the budget --------------------------------------------------------------------------------------------------------


def assert_within(moved: Tensor, images: Tensor, budget: float) -> None:
    """Compare each pixel as the fraction that it is."""
    assert moved.dtype == torch.float32
    assert moved.min() >= 0
    assert moved.max() <= 1
    limit = Fraction(budget) / 255
    for after, before in zip(moved.flatten().tolist(), images.flatten().tolist(), strict=True):
        assert abs(Fraction(after) - Fraction(before)) <= limit


@pytest.mark.parametrize("budget", BUDGETS)
def test_the_ball_is_within_the_budget_of_every_pixel_exactly_and_no_smaller(budget: float) -> None:
    images = torch.cat([torch.arange(256) / 255, random(1000), random(500) * 0.1, torch.tensor([1e-9, 1 - 1e-7])])
    low, high = ball(images, budget / 255)
    for side in (low, high):
        assert_within(side, images, budget)
    # Two units in the last place of a number below 1.
    assert (low <= (images.double() - budget / 255).clamp(0, 1) + 2**-23).all()
    assert (high >= (images.double() + budget / 255).clamp(0, 1) - 2**-23).all()


@given(st.floats(0, 1, width=32), st.floats(1e-3, 255))
def test_the_ball_of_any_pixel_and_budget(pixel: float, budget: float) -> None:
    images = torch.tensor([pixel])
    low, high = ball(images, budget / 255)
    limit = Fraction(budget / 255)
    assert 0 <= low.item() <= pixel <= high.item() <= 1
    assert Fraction(pixel) - Fraction(low.item()) <= limit
    assert Fraction(high.item()) - Fraction(pixel) <= limit


@pytest.mark.parametrize("budget", [0, 1e-9])
def test_a_budget_below_the_precision_of_a_pixel_moves_nothing(budget: float) -> None:
    images = 0.5 + levels(3, 3, 4, 4) / 2
    predict, labels = Linear(2, 4, 48), torch.tensor([0, 1, 2])
    assert torch.equal(fgsm(predict, images, labels, budget), images)
    assert torch.equal(pgd(predict, images, labels, budget, 3, starts(images)), images)


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_black_and_white_pixels_only_move_inwards(value: float) -> None:
    images, labels = torch.full((4, 3, 8, 8), value), torch.tensor([0, 1, 2, 3])
    predict = together(conv_members(2))
    for moved in (fgsm(predict, images, labels, 8 / 255), pgd(predict, images, labels, 8 / 255, 5, starts(images))):
        assert_within(moved, images, 8)
        shift = (moved - value).abs()
        assert set(shift[shift > 7.99 / 255].sign().tolist()) == {1}
        assert (shift == 0).any()


@pytest.mark.parametrize("budget", BUDGETS)
def test_attacks_on_a_network_stay_within_the_budget_and_use_it(budget: float) -> None:
    images, labels = levels(4, 3, 8, 8), torch.tensor([0, 1, 2, 3])
    predict = together(conv_members(2))
    for moved in (
        fgsm(predict, images, labels, budget / 255),
        pgd(predict, images, labels, budget / 255, 5, starts(images)),
    ):
        assert_within(moved, images, budget)
        inner = (images > budget / 255) & (images < 1 - budget / 255)
        assert ((moved - images).abs()[inner] > 0.999 * budget / 255).double().mean() > 0.5


def test_the_images_given_stay_as_they_are() -> None:
    images, labels = levels(4, 3, 8, 8), torch.tensor([0, 1, 2, 3])
    before = images.clone()
    moved = pgd(together(conv_members(1)), images, labels, 8 / 255, 3, starts(images))
    assert torch.equal(images, before)
    assert not images.requires_grad
    assert not moved.requires_grad


# -- closed forms and a slow loop --------------------------------------------------------------------------------------


@pytest.mark.parametrize("budget", BUDGETS)
def test_on_a_linear_model_of_two_classes_both_find_the_worst_corner(
    budget: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The margin is w.x with w = w_other - w_label, so the worst point of the box is the corner that w points to."""
    predict, labels = Linear(1, 2, 48), torch.tensor([0, 1] * 3)
    images = levels(6, 3, 4, 4)
    towards = predict.weights[0, 1 - labels] - predict.weights[0, labels]
    corner = (images.double() + budget / 255 * towards.sign().view_as(images)).clamp(0, 1).float()
    torch.testing.assert_close(fgsm(predict, images, labels, budget / 255), corner, rtol=0, atol=ROUNDING)
    # By its own steps, without what FGSM found.
    monkeypatch.setattr(attack, "fgsm", lambda *arguments: arguments[1])
    moved = pgd(predict, images, labels, budget / 255, 10, starts(images))
    torch.testing.assert_close(moved, corner, rtol=0, atol=ROUNDING)


def test_fgsm_on_a_linear_softmax_follows_its_written_out_gradient() -> None:
    predict, labels = Linear(1, 7, 48), torch.arange(7)
    images = levels(7, 3, 4, 4)
    weights = predict.weights[0].double()
    probabilities = (images.flatten(1).double() @ weights.T).softmax(dim=1)
    gradient = (probabilities - torch.eye(7)) @ weights
    expected = (images.double() + 8 / 255 * gradient.sign().view_as(images)).clamp(0, 1).float()
    torch.testing.assert_close(fgsm(predict, images, labels, 8 / 255), expected, rtol=0, atol=ROUNDING)


def slow_loss(members: list[nn.Module], image: Tensor, label: int) -> tuple[Tensor, bool]:
    probabilities = torch.stack([(3 * member(image[None])[0]).softmax(dim=0) for member in members]).mean(dim=0)
    return -probabilities[label].log(), int(probabilities.argmax()) != label


def slow_gradient(members: list[nn.Module], image: Tensor, label: int) -> Tensor:
    image = image.clone().requires_grad_()
    loss, _ = slow_loss(members, image, label)
    return torch.autograd.grad(loss, image)[0]


def slow_pgd(members: list[nn.Module], image: Tensor, label: int, budget: float, start: Tensor, steps: int) -> Tensor:
    """All points in float64, one image; the worst of them in the end."""
    low, high = (image - budget).clamp(0, 1), (image + budget).clamp(0, 1)

    def clip(point: Tensor) -> Tensor:
        return torch.minimum(torch.maximum(point, low), high)

    points = [clip(image + budget * start)]
    for _ in range(steps):
        points.append(clip(points[-1] + 2.5 * budget / steps * slow_gradient(members, points[-1], label).sign()))
    points.append(clip(image + budget * slow_gradient(members, image, label).sign()))

    def harm(point: Tensor) -> tuple[bool, float]:
        loss, wrong = slow_loss(members, point, label)
        return wrong, loss.item()

    return max(points, key=harm)


@pytest.mark.parametrize("members", [1, 3])
@pytest.mark.parametrize("budget", [1, 4, 16])
def test_a_slow_loop_over_images_finds_the_same_images(members: int, budget: int) -> None:
    networks = conv_members(members)
    images, labels = levels(12, 3, 8, 8), torch.arange(12) % 5
    start = starts(images)
    simple = fgsm(together(networks), images, labels, budget / 255)
    projected = pgd(together(networks), images, labels, budget / 255, 6, start)
    assert not torch.allclose(simple, projected, atol=ROUNDING)
    for number, (image, label) in enumerate(zip(images.double(), labels.tolist(), strict=True)):
        step = (image + budget / 255 * slow_gradient(networks, image, label).sign()).clamp(0, 1)
        torch.testing.assert_close(simple[number], step.float(), rtol=0, atol=ROUNDING)
        worst = slow_pgd(networks, image, label, budget / 255, start[number].double(), 6)
        torch.testing.assert_close(projected[number], worst.float(), rtol=0, atol=5 * ROUNDING)


@pytest.mark.parametrize("members", [1, 3])
def test_pgd_is_never_weaker_than_fgsm_and_mostly_stronger(members: int) -> None:
    predict = together(conv_members(members))
    images = levels(64, 3, 8, 8)
    with torch.no_grad():
        labels = predict(images).softmax(dim=-1).mean(dim=0).argmax(dim=1)  # all right at first
    stronger = 0
    for budget in (1, 2, 4, 8, 16):
        simple = fgsm(predict, images, labels, budget / 255)
        for steps in (1, 5):
            projected = pgd(predict, images, labels, budget / 255, steps, starts(images, seed=steps))
            (simple_loss, simple_wrong), (loss, wrong) = (
                judged(predict, moved, labels) for moved in (simple, projected)
            )
            assert (wrong >= simple_wrong).all()
            assert (loss >= simple_loss)[wrong == simple_wrong].all()
            stronger += int((loss > simple_loss + 1e-6).sum())
    assert stronger > 200  # of 640


def judged(predict: Predictor, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    with torch.no_grad():
        probabilities = predict(images).softmax(dim=-1).mean(dim=0)
    return -probabilities[range(len(labels)), labels].log(), probabilities.argmax(dim=1) != labels


# Probabilities of class 0, the label, and of class 1; a third has the rest.
RIGHT_HIGH, RIGHT_LOW = (0.34, 0.33), (0.6, 0.2)
WRONG_LOW, WRONG_HIGH = (0.45, 0.55), (0.2, 0.7)
WRONG_HIGHER = (0.19999, 0.7)


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        (WRONG_LOW, RIGHT_HIGH),  # though its loss is lower
        (RIGHT_HIGH, RIGHT_LOW),
        (WRONG_HIGH, WRONG_LOW),
        (WRONG_HIGHER, WRONG_HIGH),
    ],
)
def test_of_the_points_passed_the_misclassified_one_counts_then_the_one_of_higher_loss(
    better: tuple[float, float], worse: tuple[float, float]
) -> None:
    """Without a slope FGSM stays at the image and PGD at its start, so there are these two points to choose from."""
    image, start = torch.full((1, 3, 1, 1), 0.25), torch.ones(1, 3, 1, 1)

    def predict_with(at_image: tuple[float, float], elsewhere: tuple[float, float]) -> Predictor:
        def predict(images: Tensor) -> Tensor:
            p, q = at_image if images.max() < 0.3 else elsewhere
            return torch.tensor([[[p, q, 1.0000001 - p - q]]]).log() + 0 * images.sum()

        return predict

    for predict, expected in ((predict_with(better, worse), 0.25), (predict_with(worse, better), 0.75)):
        moved = pgd(predict, image, torch.tensor([0]), 0.5, 2, start)
        torch.testing.assert_close(moved, torch.full((1, 3, 1, 1), expected))


def test_labels_decide_where_an_image_moves() -> None:
    predict, images = together(conv_members(2)), levels(3, 3, 8, 8)
    moved = [fgsm(predict, images, torch.full((3,), label), 8 / 255) for label in range(5)]
    assert all(not torch.allclose(a, b) for i, a in enumerate(moved) for b in moved[:i])


def test_images_are_attacked_independently_of_their_batch() -> None:
    predict, images, labels = together(conv_members(2)), levels(6, 3, 8, 8), torch.arange(6) % 5
    start = starts(images)
    whole = pgd(predict, images, labels, 8 / 255, 4, start)
    for index in range(6):
        part = slice(index, index + 1)
        alone = pgd(predict, images[part], labels[part], 8 / 255, 4, start[part])
        torch.testing.assert_close(alone, whole[part], rtol=0, atol=ROUNDING)
