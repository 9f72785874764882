"""Images alone, without a network: cut and augmented on the device, or decoded from files beside it."""

import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

import torch

from bench.check.finding import NotHereError
from bench.data.augment import TrainingImages
from bench.data.cache import default_root
from bench.data.catalog import facts_of
from bench.data.sources import load
from bench.data.streamed.crew import Crew
from bench.data.streamed.files import ImageFiles
from bench.data.streamed.images import FileImages
from bench.errors import UserError, counted
from bench.evaluation.clock import wait
from bench.evaluation.networks import normaliser
from bench.spec.run import ResizedCrop, RunSpec
from bench.store.measured import Finding, MeasuredStep
from bench.work.options import most_decoders

# Batches taken, after the first; fewer where that takes longer than SECONDS.
BATCHES, SECONDS = 50, 10.0


def images_per_second(images: TrainingImages, size: int, device: torch.device) -> float:
    """Return how fast batches of a size are made, without a network."""
    most = max(1, min(BATCHES, len(images) // size - 1))
    parts = [slice(number * size, (number + 1) * size) for number in range(most + 1)]
    with images.epoch(parts, 0, "train", 0) as batches:
        next(batches)
        wait(device)
        started, taken = time.perf_counter(), 0
        for _, labels in batches:
            taken += len(labels)
            if time.perf_counter() - started > SECONDS:
                break
        wait(device)
    return taken / (time.perf_counter() - started)


def pipeline(spec: RunSpec, steps: Sequence[MeasuredStep], device: torch.device, places: Mapping[str, Path]) -> Finding:
    """Return whether the images of a data set come as fast as its fastest step takes them.

    steps    what was measured of the set
    places   where the images of a data set are, of those that are not the data folder's
    """
    if not steps:
        raise NotHereError("no step that takes them was measured")
    fastest = max(step.images_per_second for step in steps)
    if isinstance(spec.augmentation, ResizedCrop):
        rate, decoders = decoded_per_second(spec, device, places.get(spec.data.name)), most_decoders()
        by = f"decoded by {counted(decoders, 'decoder') if decoders else 'the training process itself'}"
        wanted = math.ceil(max(1, decoders) * fastest / rate)
        advice = f"; about {counted(wanted, 'decoder')} would keep up"
    else:
        rate = max(step.input_images_per_second or 0.0 for step in steps)
        by, advice = "cut and augmented on the device", ""
    detail = f"{rate:,.0f} images/s alone, {by}; the fastest step takes {fastest:,.0f}"
    slow = rate < fastest
    name = f"images of {spec.data.name}"
    return Finding(name=name, state="slow" if slow else "ok", detail=detail + advice if slow else detail)


def decoded_per_second(spec: RunSpec, device: torch.device, place: Path | None) -> float:
    """Return how fast files are decoded, by as many processes as a run would use; NotHereError without the files."""
    size = facts_of(spec.data).image_size
    try:
        dataset = load(spec.data.name, place, root=default_root(), progress=False, size=size)
    except UserError as error:
        raise NotHereError(f"decoding was not tried, and steps read made-up pixels: {error}") from None
    assert isinstance(spec.augmentation, ResizedCrop)
    files, labels = cast("ImageFiles", dataset.train_images), dataset.train_labels
    batch = min(spec.batch_size, len(labels) // 2)
    with Crew(files, spec.augmentation, size, most_decoders()) as crew:
        images = FileImages(crew, labels, spec.augmentation.flip, normaliser(spec, device))
        return images_per_second(images, batch, device)
