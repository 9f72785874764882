"""A contact sheet of the corruptions: one test image under every type and severity, to be looked at before any number.

The images are those that the evaluation kept in the store.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from analysis.reading import StoreView
from analysis.style import WIDTH, rows_of, styled
from bench.evaluation.sets import CorruptedSet
from bench.store.samples import SEVERITIES

Images = npt.NDArray[np.uint8]

# More types than these stand in two blocks side by side, so that a sheet fits on a page.
MOST_IN_A_BLOCK = 8
# White lines between images, as a share of an image.
GAP = 0.06
# How the row of the image without corruption is called.
CLEAN = "clean"
# Inches that the names of types take, and that an image takes at most.
NAMES, LARGEST = 1.0, 1.0


@dataclass(frozen=True)
class Samples:
    """Images uint8 [1 + severities, H, W, 3] by type of corruption, the clean one first, and the severities."""

    images: Mapping[str, Images]
    severities: tuple[int, ...]


def load_samples(view: StoreView) -> dict[str, Samples]:
    """Return the samples of each family that the plan asks for; absent ones are left out, damaged ones noted."""
    asked = {
        (run.spec.data.name, corrupted.family)
        for run in view.plan.runs
        for corrupted in run.evaluations
        if isinstance(corrupted, CorruptedSet)
    }
    found = {}
    for dataset, family in sorted(asked):
        tensors = view.samples(dataset, family)
        if tensors is not None:
            severities = tensors.pop(SEVERITIES)
            found[family] = Samples(tensors, tuple(int(severity) for severity in severities))
    return found


def gap_of(height: int, width: int) -> int:
    """Return the white pixels between images of this size."""
    return max(1, round(GAP * max(height, width)))


def mosaic(rows: Sequence[Images]) -> Images:
    """Return images [rows][columns, height, width, 3] beside and below each other in one array, white lines between."""
    gap = gap_of(*rows[0].shape[1:3])
    padded = np.pad(np.stack(rows), [(0, 0), (0, 0), (0, gap), (0, gap), (0, 0)], constant_values=255)
    return np.concatenate([np.concatenate(list(row), axis=1) for row in padded])[:-gap, :-gap]


@styled
def contact_sheet(sheet: Mapping[str, Images], severities: Sequence[int], title: str) -> Figure:
    """Return the clean image in a row of its own, then a row a type of corruption, the same image at each severity.

    sheet: a uint8 array [1 + severities, height, width, 3] a type, the one clean image first, drawn as they are.
    ValueError if one has another number of images.
    """
    for name, images in sheet.items():
        if len(images) != 1 + len(severities):
            raise ValueError(f"{name}: {len(images)} images, not the clean one and {len(severities)} severities")
    clean = next(iter(sheet.values()))[:1]
    nothing = np.full_like(clean, 255).repeat(len(severities) - 1, axis=0)
    rows = {CLEAN: np.concatenate([clean, nothing]), **{name: images[1:] for name, images in sheet.items()}}
    names = list(rows)
    # As many beside each other as the width has room for.
    widest = NAMES + LARGEST * len(severities)
    blocks = max(1 if len(names) <= MOST_IN_A_BLOCK else 2, min(int(WIDTH // widest), rows_of(names, 2)))
    in_block = rows_of(names, blocks)
    starts = range(0, len(names), in_block)
    drawn = [mosaic([rows[name] for name in names[start : start + in_block]]) for start in starts]
    height, width = clean.shape[1:3]
    gap = gap_of(height, width)
    # The names of the types stand beside the images of a block.
    side = min(LARGEST, (WIDTH / len(drawn) - NAMES) / len(severities))
    figure = Figure(figsize=(WIDTH, 0.75 + side * in_block * height / width))
    panels = figure.subplots(1, len(drawn), squeeze=False)[0]
    for axes, start, block in zip(panels, starts, drawn, strict=True):
        axes.imshow(block, interpolation="nearest")
        types = [name.replace("_", " ") for name in names[start : start + in_block]]
        axes.set_yticks(np.arange(len(types)) * (height + gap) + (height - 1) / 2, types, fontsize=7)
        axes.set_xticks(np.arange(len(severities)) * (width + gap) + (width - 1) / 2, [*map(str, severities)])
        # A last block of fewer rows has the scale of the others.
        axes.set_ylim(drawn[0].shape[0] - 0.5, -0.5)
        axes.set_xlabel("Severity")
        axes.xaxis.set_label_position("top")
        axes.tick_params(length=0, pad=2, labeltop=True, labelbottom=False)
        axes.grid(visible=False)
        axes.spines[:].set_visible(False)
    figure.suptitle(title, fontsize=9)
    return figure
