"""Logits of a network on a set of images, in batches, without gradients."""

import torch
from torch import Tensor, nn

from bench.data.augment import DeviceImages, EpochDraws
from bench.training.arithmetic import Forward

BATCH = 500


@torch.inference_mode()
def predict(model: nn.Module, forward: Forward, images: DeviceImages, draws: EpochDraws | None = None) -> Tensor:
    """Return float32 logits [images, classes] on the device, in evaluation mode.

    With draws the images are augmented, in their order (released code: validation passes the training augmentation).
    """
    model.eval()
    logits = []
    for start in range(0, len(images), BATCH):
        stop = min(start + BATCH, len(images))
        if draws is None:
            batch = images.plain(start, stop)
        else:
            index = torch.arange(start, stop, device=images.labels.device)
            batch = images.batch(index, draws.offsets[start:stop], draws.flips[start:stop])
        logits.append(forward(batch).float())
    return torch.cat(logits)
