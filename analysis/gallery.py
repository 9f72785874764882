"""All figures of a grid, in the order of the report: a name, a title, a caption, and how it is drawn.

Adding a figure is a function in analysis.figures and an entry here.
"""

from collections.abc import Iterator
from pathlib import Path

from analysis.context import describe_replicates
from analysis.figures.calibration import reliability_diagrams
from analysis.figures.density import density_by_layer
from analysis.figures.diversity import disagreement_maps
from analysis.figures.scores import accuracy_against_cost, scores_by_cell
from analysis.figures.style import save, with_foot
from analysis.figures.training import training_curves
from analysis.picture import Picture
from analysis.robustness_gallery import diversity_pictures, robustness_pictures
from analysis.sources import Sources
from bench.store.files import write_text


def pictures(sources: Sources) -> Iterator[Picture]:
    """Yield the figures for which there is something to draw."""
    results, trajectories = sources.results, sources.trajectories
    cells, replicates = results.cells, results.replicates
    n = describe_replicates(cells)
    if not replicates.empty:
        yield Picture(
            "scores_by_cell",
            "Accuracy, NLL and ECE",
            "Test accuracy, negative log-likelihood (nats) and expected calibration error (15 bins) of each cell's "
            "ensemble: dots are replicates, the marker is their mean, the bar the 95% Student-t interval, the tick the "
            f"mean accuracy of single members. {n}",
            lambda: scores_by_cell(cells, replicates),
        )
        yield Picture(
            "accuracy_against_cost",
            "Accuracy against training cost",
            "Test accuracy (mean over replicates, 95% Student-t interval) against the training FLOPs of all members "
            "together, counted from layers, densities and epochs and divided by those of one dense run; up and to the "
            f"left is better. {n}",
            lambda: accuracy_against_cost(cells, replicates),
        )
        yield Picture(
            "reliability",
            "Reliability",
            "Accuracy in 15 equal bins of confidence of the ensemble's prediction, test images of all replicates "
            "together; the hatched gap to the bin's mean confidence is what ECE averages, and above the diagonal a "
            f"network is underconfident. Below, the share of images in each bin. ECE is the mean over replicates. {n}",
            lambda: reliability_diagrams(cells, replicates, results.reliability),
        )
    if not results.pairs.empty:
        yield Picture(
            "disagreement",
            "Disagreement between members",
            "Share of test images on which two members of an ensemble predict different classes, mean over replicates; "
            f"one colour scale for all cells. {n}",
            lambda: disagreement_maps(cells, results.pairs),
        )
    yield from diversity_pictures(sources)
    yield from robustness_pictures(sources)
    if not trajectories.epochs.empty:
        runs = trajectories.epochs["run"].nunique()
        yield Picture(
            "training_curves",
            "Training curves",
            "Mean loss and accuracy by epoch as recorded while training, one line a run; shaded bands are every other "
            "phase of the recipe, stars the epochs that became tickets (best validation accuracy of their phase). "
            f"n = {runs} runs.",
            lambda: training_curves(trajectories.epochs, trajectories.events, trajectories.tickets),
        )
    if not trajectories.densities.empty:
        count = len(trajectories.densities[["run", "ticket"]].drop_duplicates())
        yield Picture(
            "density_by_layer",
            "Density by layer",
            "Share of weights that are not masked in each layer of the finished tickets: mean, and the range over "
            f"tickets where they differ. n = {count} tickets.",
            lambda: density_by_layer(cells, trajectories.densities),
        )


def write_pictures(sources: Sources, folder: Path) -> list[Picture]:
    """Draw every figure as PNG and PDF with the context at its foot, and the captions beside; return what was drawn."""
    context = sources.context
    drawn = []
    captions = [f"# Figures\n\n{context.sentence}\n"]
    for picture in pictures(sources):
        save(with_foot(picture.draw(), context.sentence), folder, picture.name)
        captions.append(f"## {picture.name}: {picture.title}\n\n{picture.caption}\n")
        drawn.append(picture)
    write_text(folder / "captions.md", "\n".join(captions))
    return drawn
