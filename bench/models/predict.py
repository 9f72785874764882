"""Logits of a network on a set of images, in batches, without gradients."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from bench.data.augment import DeviceImages, EpochDraws
from bench.data.dataset import at_once
from bench.models.arithmetic import Forward
from bench.models.draws import seeded_generators
from bench.models.members import MultiMember
from bench.spec.seeds import derived_seed


@torch.inference_mode()
def predict(
    model: nn.Module,
    forward: Forward,
    images: DeviceImages,
    draws: EpochDraws | None = None,
    *,
    sampling: int | None = None,
    part: slice | None = None,
) -> Tensor:
    """Return float32 logits [members, images, classes] on the device, in evaluation mode.

    draws      augment the images, in their order (released code: validation passes the training augmentation)
    sampling   seed of a network that draws its members (MC dropout); None takes its one deterministic prediction
    part       only these images, from the first of a batch on
    """
    model.eval()
    logits = []
    begin, end = (0, len(images)) if part is None else (part.start, part.stop)
    size = at_once(images.side)
    for start in range(begin, end, size):
        stop = min(start + size, end)
        if draws is None:
            batch = images.plain(start, stop)
        else:
            index = torch.arange(start, stop, device=images.labels.device)
            batch = images.batch(index, draws.offsets[start:stop], draws.flips[start:stop])
        logits.append(member_logits(model, forward, batch, None if sampling is None else derived_seed(sampling, start)))
    return torch.cat(logits, dim=1)


def member_logits(model: nn.Module, forward: Forward, batch: Tensor, seed: int | None) -> Tensor:
    """Return float32 logits [members, B, classes] of a batch; differentiable. The model is in evaluation mode.

    seed   of a network that draws its members, and of whatever else one draws; None takes the deterministic prediction
           of the first, and draws as of seed 0
    """
    with seeded_generators(seed or 0, batch.device):
        if isinstance(model, MultiMember):
            return model.member_logits(forward, batch, seed).float()
        return forward(batch).float().unsqueeze(0)


def ensemble_scores(logits: Tensor, labels: Tensor) -> tuple[float, float]:
    """Return mean NLL (nats) and accuracy of the members' mean prediction; logits [members, images, classes]."""
    # One member: the same bits as without any. Of several, cross-entropy normalises the sum of probabilities.
    mean = logits[0] if len(logits) == 1 else functional.log_softmax(logits, dim=-1).logsumexp(dim=0)
    loss = functional.cross_entropy(mean, labels)
    return float(loss), float((mean.argmax(dim=1) == labels).double().mean())
