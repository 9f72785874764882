"""Adversarial images: FGSM and PGD within an L-infinity budget, crafted on a single member or on a whole ensemble.

Images are float32 in [0, 1], never rounded to 8 bits, and normalised inside of what is attacked. FGSM is Goodfellow et
al. 2015, PGD is Madry et al. 2018 with a random start and a step of 2.5 x budget / steps; unlike theirs, ours keeps for
each image the most harmful point it passed, that of FGSM among them, so that PGD is never the weaker of the two. An
ensemble is attacked through the negative log-likelihood of its mean probability (SeBayS, Liu et al. follow-up work, has
FGSM at 8/255 on such images).
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

# Images in [0, 1], float32 [B, 3, H, W] -> logits [members, B, classes], differentiable; the same images and
# the same draws give the same logits.
Predictor = Callable[[Tensor], Tensor]
STEP = 2.5


def losses(logits: Tensor, labels: Tensor) -> Tensor:
    """Return -log of the members' mean probability of the label, float32 [B], in nats; logits [members, B, classes]."""
    log_mean = functional.log_softmax(logits, dim=-1).logsumexp(dim=0) - math.log(len(logits))
    return functional.nll_loss(log_mean, labels, reduction="none")


def fgsm(predict: Predictor, images: Tensor, labels: Tensor, budget: float) -> Tensor:
    """Return images moved by one step of the size of the budget along the sign of the gradient.

    images float32 [B, 3, H, W] in [0, 1]; labels int64 [B]; budget in the units of the images, such as 8 / 255. The
    result is within [0, 1], and no pixel moved by more than the budget, to the last bit.
    """
    low, high = ball(images, budget)
    _, _, gradient = _evaluate(predict, images, labels)
    return torch.clamp(images + budget * gradient.sign(), low, high)


def pgd(predict: Predictor, images: Tensor, labels: Tensor, budget: float, steps: int, start: Tensor) -> Tensor:
    """Return for each image the most harmful point of `steps` projected steps from a random start, and of FGSM's.

    Arguments as fgsm; start float32, as images, uniform in [-1, 1]: where in the budget the first point lies. Harmful
    is first to be misclassified, then to have a high loss.
    """
    low, high = ball(images, budget)
    worst = fgsm(predict, images, labels, budget)
    harm = _harm(predict, worst, labels)
    point = torch.clamp(images + budget * start, low, high)
    for _ in range(steps):
        loss, wrong, gradient = _evaluate(predict, point, labels)
        worst, harm = _worse(worst, harm, point, loss + wrong * HARMFUL)
        point = torch.clamp(point + STEP * budget / steps * gradient.sign(), low, high)
    worst, _ = _worse(worst, harm, point, _harm(predict, point, labels))
    return worst


def ball(images: Tensor, budget: float) -> tuple[Tensor, Tensor]:
    """Return the lowest and highest images allowed: within the budget of each pixel, exactly, and in [0, 1]."""
    # In float64, since float32 would round the budget itself. The sum rounded to float32 may lie beyond the budget by
    # half a unit in the last place; its neighbour towards the image does not.
    low = torch.nextafter((images.double() - budget).float(), images).clamp_(0, 1)
    high = torch.nextafter((images.double() + budget).float(), images).clamp_(0, 1)
    return low, high


# More than the loss of any image that is classified rightly, which is at most the logarithm of the number of classes,
# and little enough that its sum with a loss still tells two losses apart.
HARMFUL = 100.0


def _evaluate(predict: Predictor, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the loss of each image, whether it is misclassified, and the gradient with respect to the images."""
    with torch.enable_grad():
        inputs = images.detach().clone().requires_grad_()
        logits = predict(inputs)
        loss = losses(logits, labels)
        (gradient,) = torch.autograd.grad(loss.sum(), inputs)
    return loss.detach(), _wrong(logits.detach(), labels), gradient


@torch.no_grad()
def _harm(predict: Predictor, images: Tensor, labels: Tensor) -> Tensor:
    logits = predict(images)
    return losses(logits, labels) + _wrong(logits, labels) * HARMFUL


def _wrong(logits: Tensor, labels: Tensor) -> Tensor:
    return logits.softmax(dim=-1).mean(dim=0).argmax(dim=1) != labels


def _worse(worst: Tensor, harm: Tensor, point: Tensor, new: Tensor) -> tuple[Tensor, Tensor]:
    better = new > harm
    return torch.where(better.view(-1, 1, 1, 1), point, worst), torch.where(better, new, harm)
