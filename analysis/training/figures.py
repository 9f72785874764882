"""The figures of training, and their captions."""

from collections.abc import Iterator
from functools import cache

from analysis.results import Results
from analysis.topic import FigureEntry
from analysis.training.curves import training_curves
from analysis.training.density import density_by_layer
from analysis.training.embedding import embed
from analysis.training.function_space import function_space
from analysis.training.numbers import Training
from bench.errors import counted


def figures(training: Training, results: Results) -> Iterator[FigureEntry]:
    """Yield the figures of what runs recorded while they trained."""
    if not training.epochs.empty:
        runs = training.epochs["run"].nunique()
        yield FigureEntry(
            "training_curves",
            "Training curves",
            "Mean loss and accuracy by epoch as recorded while training, one line a run; shaded bands are every other "
            "phase of the recipe, stars the epochs that became tickets (best validation accuracy of their phase). "
            f"n = {counted(runs, 'run')}.",
            lambda: training_curves(training.epochs, training.events, training.tickets),
            lambda: {"epochs": training.epochs, "events": training.events, "tickets": training.tickets},
        )
    if len(training.predictions) > 1:
        runs = len({prediction.run for prediction in training.predictions})
        # Only if it is drawn, since it takes seconds that tables need not wait for.
        paths = cache(lambda: embed(training.predictions))
        yield FigureEntry(
            "function_space",
            "Trajectories in function space",
            "t-SNE of the predictions that runs made on the same validation images after every epoch, one embedding "
            "for all panels (paper, trajectories of free tickets; Fort et al. 2019): a line is a run from its first "
            "epoch to its last, stars are tickets. Look where the stars of an ensemble lie: runs from different seeds "
            "should end in different places, and so should the tickets of one EDST run, whose members would hardly "
            "differ if they lay together. Where there are very many epochs, some are left out. Only "
            f"neighbourhoods have a meaning in this plane; lengths and axes have none. n = {counted(runs, 'run')}.",
            lambda: function_space(paths()),
            lambda: {"points": paths()},
        )
    if not training.densities.empty:
        count = len(training.densities[["run", "ticket"]].drop_duplicates())
        yield FigureEntry(
            "density_by_layer",
            "Density by layer",
            "Share of weights that are not masked in each layer of the finished tickets: mean, and the range over "
            f"tickets where they differ. n = {counted(count, 'ticket')}.",
            lambda: density_by_layer(results.cells, training.densities),
            lambda: {"tickets": training.densities},
        )
