"""Attacks on an ensemble: crafted on each of its members and on the whole, seen by each of its members."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from bench.data.augment import Normalise
from bench.data.dataset import LabelledImages, at_once
from bench.evaluation.attack import Predictor, fgsm, pgd
from bench.evaluation.networks import Network
from bench.evaluation.predict import Predictions
from bench.evaluation.sets import AttackSet
from bench.spec.seeds import derived_seed


@dataclass(frozen=True)
class Members:
    """The first `count` members of networks side by side, as functions of images in [0, 1], float32 [B, 3, H, W]."""

    networks: Sequence[Network]
    count: int
    normalise: Normalise

    @property
    def present(self) -> int:
        """How many members there are: fewer than `count` where a run left fewer tickets than it was to leave."""
        return min(self.count, sum(network.members for network in self.networks))

    def all(self, images: Tensor, *names: str | int) -> Tensor:
        """Return the logits [present, B, classes]; of networks that draw members, the draws depend on the names."""
        batch = self.normalise.unit(images)
        return torch.cat([network.logits(batch, *names) for network in self.networks])[: self.count]

    def one(self, member: int, images: Tensor, *names: str | int) -> Tensor:
        """Return the logits [1, B, classes] of one member, computing its network alone."""
        for network in self.networks:
            if member < network.members:
                return network.logits(self.normalise.unit(images), *names)[member : member + 1]
            member -= network.members
        raise IndexError("no such member")


def attack_ensemble(
    members: Members,
    source: LabelledImages,
    asked: AttackSet,
    device: torch.device,
    *,
    singly: bool,
    between_batches: Callable[[], None] = lambda: None,
) -> Predictions:
    """Return logits [crafted on, members, images, classes]: member 1, 2, ..., last the whole ensemble.

    Not `singly`, or of one member, only the whole is attacked. source: images uint8 [N, H, W, 3] with labels.
    """
    started = time.perf_counter()
    single = range(members.present) if singly and members.present > 1 else range(0)
    # The gradient needs what every member computed at once, so many members mean few images.
    batch_size = max(1, at_once(source.images.shape[1]) // members.present)
    parts = []
    for start in range(0, len(source.labels), batch_size):
        between_batches()
        part = slice(start, start + batch_size)
        images = torch.from_numpy(source.images[part].copy()).to(device).permute(0, 3, 1, 2).float().div_(255)
        labels = torch.from_numpy(source.labels[part]).to(device)
        # Members that are drawn are the same in every attack, so that one can be compared with another.
        predictors = [_one(members, member, "attack", start) for member in single]
        predictors.append(_all(members, "attack", start))
        crafted = [_craft(predict, images, labels, asked, start) for predict in predictors]
        with torch.no_grad():
            parts.append(torch.stack([predictors[-1](moved) for moved in crafted]).cpu().numpy())
    seconds = time.perf_counter() - started
    return Predictions(np.concatenate(parts, axis=2), seconds, seconds)


def _one(members: Members, member: int, *names: str | int) -> Predictor:
    return lambda images: members.one(member, images, *names)


def _all(members: Members, *names: str | int) -> Predictor:
    return lambda images: members.all(images, *names)


def _craft(predict: Predictor, images: Tensor, labels: Tensor, asked: AttackSet, first: int) -> Tensor:
    budget = asked.budget / 255
    if not asked.steps:
        return fgsm(predict, images, labels, budget)
    # On the host and image by image, so that a start depends on nothing but the image's place in its set.
    starts = [
        torch.rand(
            images.shape[1:], generator=torch.Generator().manual_seed(derived_seed(asked.attack, "start", first + i))
        )
        for i in range(len(images))
    ]
    return pgd(predict, images, labels, budget, asked.steps, (torch.stack(starts) * 2 - 1).to(images.device))
