"""Beside a figure lie the numbers that it draws."""

import numpy as np


def test_every_figure_but_of_images_has_the_numbers_that_it_draws(all_of_it):
    for entry in all_of_it.figures():
        frames = entry.numbers()
        assert bool(frames) != entry.name.endswith("_sheet"), entry.name
        for name, frame in frames.items():
            assert len(frame), (entry.name, name)
            assert {"cell", "trajectory"} & set(frame.columns), (entry.name, name)


def test_the_numbers_of_a_figure_are_those_of_its_marks(loaded, drawn):
    entry, figure = drawn["scores_by_cell"]
    numbers = entry.numbers()["replicates"]
    marks = {float(x) for line in figure.axes[0].lines for x in np.atleast_1d(line.get_xdata())}
    for _, rows in numbers.groupby("cell"):
        assert {*(rows["accuracy"] * 100), rows["accuracy"].mean() * 100} <= marks
    assert set(numbers["cell"]) == set(loaded.results.replicates["cell"])
