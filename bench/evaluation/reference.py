"""A check of all that lies between image files and an accuracy: torchvision's own weights on ImageNet's test images.

The same reader, the same decoding and the same prediction as for the networks of a store; only the weights come from
elsewhere.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from bench.data.augment import Normalise
from bench.data.catalog import find_data_set
from bench.data.dataset import Array, LabelledImages, at_once
from bench.data.files import regular
from bench.data.progress import tracked
from bench.data.record import DataSet
from bench.data.rows import Row
from bench.data.stream import StreamedImages
from bench.errors import UserError
from bench.evaluation.networks import Network
from bench.evaluation.predict import predict_all
from bench.models.arithmetic import forward_function, prepare
from bench.models.build import build_model
from bench.spec.run import Execution, ModelSpec

DATA = "imagenet"
# Of torchvision's ResNet50_Weights.IMAGENET1K_V1 by its documentation, in percent; and how far off is still right.
ACCURACY, TOLERANCE = 76.13, 0.1


def verify_with_model(weights: Path, root: Path, device: torch.device) -> Row:
    """Return whether a state_dict of torchvision's ResNet-50 has its published accuracy on the images in a folder.

    "damaged" if it has not, or if they are not all of the test images. UserError for a file that holds no such weights,
    for images that are not there, and for one that cannot be decoded.
    """
    data = find_data_set(DATA)
    network = _network(weights, data, device)
    read = data.read(root, download=False)
    test = LabelledImages(read.test_images, read.test_labels)
    found = 100 * float(np.mean(predicted(network, test, data, device).argmax(axis=1) == test.labels))
    note = (
        f"top-1 accuracy {found:.2f}% on {len(test.labels):,} test images; torchvision's ResNet-50 (IMAGENET1K_V1) has "
        f"{ACCURACY:.2f}% on {data.test_images:,}, allowed: within {TOLERANCE:g}"
    )
    row = Row(DATA, read.variant, "intact", weights, len(test.labels), note)
    right = len(test.labels) == data.test_images and abs(found - ACCURACY) <= TOLERANCE
    return row if right else replace(row, state="damaged")


def predicted(network: Network, images: LabelledImages, data: DataSet, device: torch.device) -> Array:
    """Return the logits of images of a data set, float32 [images, classes]."""
    side = data.image_size
    normalise = Normalise(data.mean, data.std, (side, side), device=device, layout=torch.channels_last)
    batches = tracked(range(0, len(images.labels), at_once(side)), "predicting", progress=True)

    def step() -> None:
        next(batches, None)

    logits: Array = predict_all([network], StreamedImages(images, normalise), "test", step).logits[0]
    return logits


def _network(weights: Path, data: DataSet, device: torch.device) -> Network:
    regular(weights)
    model = build_model(ModelSpec(name="resnet_imagenet", arguments={"depth": 50}), data.classes, 0)
    try:
        state = torch.load(weights, map_location="cpu", weights_only=True)
    except Exception:  # torch raises what it likes at other files, and advises to run what is in them
        raise UserError(f"{weights}: no state_dict that can be read without running code, or cut short") from None
    try:
        model.load_state_dict(state)
    except (RuntimeError, TypeError, AttributeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{weights}: no state_dict of torchvision's ResNet-50 ({reason})") from None
    execution = Execution()
    model = prepare(model, execution, device, deterministic=False).eval().requires_grad_(False)
    return Network(model, forward_function(model, execution, device), 1, 0, 0)
