"""Distances between the predictions of members, against SciPy, and as they are drawn."""

import itertools

import numpy as np
import pytest
import scipy.optimize
import scipy.spatial.distance
import scipy.special
import scipy.stats

from tests.analysis.lookup import IMAGES, probabilities
from tests.analysis.stores import of
from tests.analysis.synthetic import labels_of


def test_pairs_are_all_ordered_pairs(loaded):
    pairs = of(loaded.numbers("diversity").pairs, cell="EDST M=3 S=0.9", replicate=1)
    assert sorted(zip(pairs["first"], pairs["second"], strict=True)) == list(itertools.permutations((1, 2, 3), 2))


@pytest.mark.parametrize("name", ["dense ensemble M=2", "EDST M=3 S=0.9"])
def test_distances_of_every_pair_equal_those_of_scipy(loaded, name):
    members, labels = probabilities(loaded.plan, name, 2), labels_of(IMAGES)
    right = members.argmax(axis=2) == labels
    for row in of(loaded.numbers("diversity").pairs, cell=name, replicate=2).to_dict("records"):
        i, j = row["first"] - 1, row["second"] - 1
        differs = (members[i].argmax(axis=1) != members[j].argmax(axis=1)).mean()
        assert row["disagreement"] == pytest.approx(differs)
        assert row["normalised_disagreement"] == pytest.approx(differs / (1 - (right[i].mean() + right[j].mean()) / 2))
        # The direction: what the second predicts, coded by the first.
        assert row["kl"] == pytest.approx(scipy.stats.entropy(members[j], members[i], axis=-1).mean())
        both = list(zip(members[i], members[j], strict=True))
        assert row["cosine"] == pytest.approx(np.mean([scipy.spatial.distance.cosine(p, q) for p, q in both]))
        distances = [scipy.spatial.distance.jensenshannon(p, q) for p, q in both]
        assert row["jensen_shannon"] == pytest.approx(np.mean(distances))
        same = (right[i] & right[j]).sum() * (~right[i] & ~right[j]).sum()
        other = (right[i] & ~right[j]).sum() * (~right[i] & right[j]).sum()
        assert row["q_statistic"] == pytest.approx((same - other) / (same + other))


def test_means_over_pairs_and_ambiguity_are_those_of_a_replicate(loaded):
    keys = ("disagreement", "normalised_disagreement", "kl", "cosine", "jensen_shannon", "q_statistic")
    for row in loaded.results.replicates.to_dict("records"):
        pairs = of(loaded.numbers("diversity").pairs, cell=row["cell"], replicate=row["replicate"])
        for key in keys:
            assert row[key] == pytest.approx(pairs[key].mean(), nan_ok=True)
        assert row["ambiguity"] == pytest.approx(row["member_nll"] - row["nll"], abs=1e-12)


def test_disagreement_has_one_colour_scale_from_zero(loaded, drawn):
    pairs = loaded.numbers("diversity").pairs
    figure = drawn["disagreement"][1]
    meshes = [axes.collections[0] for axes in figure.axes if axes.get_title()]
    assert len(meshes) == 3  # every cell with several members
    assert {mesh.get_clim()[0] for mesh in meshes} == {0.0}
    highest = 100 * pairs.groupby(["cell", "first", "second"])["disagreement"].mean().max()
    assert [mesh.get_clim()[1] for mesh in meshes] == [pytest.approx(highest)] * 3


def test_disagreement_shows_the_mean_over_replicates(loaded, drawn):
    axes = next(axes for axes in drawn["disagreement"][1].axes if axes.get_title().startswith("EDST M=3 S=0.9\n"))
    values = axes.collections[0].get_array().filled(np.nan).reshape(2, 2)  # members 2 and 3 beside 1 and 2
    rows = of(loaded.numbers("diversity").pairs, cell="EDST M=3 S=0.9", first=1, second=3)
    assert values[1, 0] == pytest.approx(100 * rows["disagreement"].mean())
    assert np.isnan(values[0, 1])
