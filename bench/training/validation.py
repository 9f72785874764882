"""Validation after each epoch: every rank predicts its share of the images, and rank 0 scores the whole."""

import torch
from torch import Tensor, nn

from bench.data.augment import DeviceImages
from bench.data.dataset import at_once
from bench.models.arithmetic import Forward
from bench.models.predict import ensemble_scores, predict
from bench.spec.run import RunSpec
from bench.store.probe import encode, probe_images
from bench.training.ranks import Ranks

NOTHING: dict[str, float | str | None] = {
    "validation_loss": None,
    "validation_accuracy": None,
    "predictions": None,
}


class Validation:
    """The images that a run chooses its epochs by, and the ranks that predict them; without images no scores."""

    def __init__(self, spec: RunSpec, images: DeviceImages | None, ranks: Ranks) -> None:
        self._spec, self._images, self._ranks = spec, images, ranks

    def line(self, model: nn.Module, forward: Forward, epoch: int) -> dict[str, float | str | None]:
        """Return what the history says of validation after an epoch: the same on all ranks, to the bit of one alone."""
        images, spec = self._images, self._spec
        if images is None:
            return dict(NOTHING)
        draws = images.draw(spec.stream, "validation", epoch) if spec.validation_augmented else None
        share = self._ranks.share_of_batches(len(images), at_once(images.side))
        with self._ranks.buffers_of_first(model):
            if share.stop > share.start:
                mine = predict(model, forward, images, draws, part=share)
            else:
                mine = torch.empty(0, 0, 0, device=images.labels.device)
        logits = self._ranks.side_by_side(mine)

        def score() -> dict[str, float | str | None]:
            loss, accuracy = ensemble_scores(logits, images.labels)
            probe = logits[:, : probe_images(logits.shape[2], len(images))]
            if draws is not None:
                probe = predict(model, forward, images, part=slice(0, probe.shape[1]))
            return {"validation_loss": loss, "validation_accuracy": accuracy, "predictions": _encoded(probe)}

        return self._ranks.from_first(score)


def _encoded(logits: Tensor) -> str:
    return encode(logits.softmax(dim=-1).mean(dim=0).cpu().numpy())
