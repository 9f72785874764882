"""Colours and markers: contrast with what they stand on, and what readers without red or green cones tell apart."""

from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb

from analysis.style import COLORS, DARK, FAMILIES, GREY, MARKERS, OTHER, SHADES, contrast, family_of, ink_on, looks
from bench.recipes import METHODS
from bench.spec.run import MULTI_MEMBER_KINDS

# Machado, Oliveira and Fernandes 2009, severity 1, on linear RGB.
SIGHT = {
    "normal": np.eye(3),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
}
# sRGB to XYZ, and the white point D65 (IEC 61966-2-1).
TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
WHITE = np.array([0.95047, 1.0, 1.08883])
# About ten times what is just noticed (CIELAB 1976).
APART = 20


def lab(color, sight):
    """CIELAB of a colour as it is seen with this sight."""
    part = np.array(to_rgb(color))
    linear = np.where(part <= 0.04045, part / 12.92, ((part + 0.055) / 1.055) ** 2.4)
    xyz = TO_XYZ @ np.clip(SIGHT[sight] @ linear, 0, 1) / WHITE
    root = np.where(xyz > 216 / 24389, np.cbrt(xyz), (24389 / 27 * xyz + 16) / 116)
    return np.array([116 * root[1] - 16, 500 * (root[0] - root[1]), 200 * (root[1] - root[2])])


def difference(one, other, sight):
    return float(np.linalg.norm(lab(one, sight) - lab(other, sight)))


def test_the_simulation_makes_red_and_green_alike_and_leaves_grey_alone():
    assert difference("#c03030", "#6a6a00", "deuteranopia") < 0.4 * difference("#c03030", "#6a6a00", "normal")
    for sight in SIGHT:
        assert lab("0.5", sight) == pytest.approx(lab("0.5", "normal"), abs=0.1)


@pytest.mark.parametrize("sight", SIGHT)
def test_families_have_colours_that_are_told_apart(sight):
    assert len(set(COLORS)) == len(FAMILIES) + 1
    for one, other in combinations(COLORS, 2):
        assert difference(one, other, sight) >= APART, (one, other)


def test_contrast_is_that_of_the_guidelines():
    assert contrast("black", "white") == pytest.approx(21)
    assert contrast("#777777", "white") == contrast("white", "#777777") == pytest.approx(4.48, abs=0.005)


def cells_of(method, count):
    return pd.DataFrame({"cell": [f"cell {number}" for number in range(count)], "method": method})


@pytest.mark.parametrize("method", ["dense", "mimo", "static", "prune_finetune", "fge", "dst", "edst", "my.own:method"])
def test_every_look_contrasts_with_white(method):
    chosen = looks(cells_of(method, len(MARKERS) * len(SHADES))).values()
    assert len({(look.color, look.marker) for look in chosen}) == len(MARKERS) * len(SHADES)
    assert min(contrast(look.color, "white") for look in chosen) >= 3


def test_words_contrast_with_white_and_with_every_colour_of_a_map():
    assert contrast(GREY, "white") >= 4.5
    shades = np.random.default_rng(0).uniform(size=(500, 3))
    assert min(contrast(ink_on(tuple(shade)), tuple(shade)) for shade in shades) >= 4.5
    assert DARK > 4.5


def test_every_method_and_every_kind_of_several_members_has_a_family():
    assert all(family_of(method) != OTHER for method in METHODS)
    assert {family_of(kind) for kind in MULTI_MEMBER_KINDS} == {"one network"}
    assert family_of("dst tree_net") == "one network"
    assert family_of("mypackage.recipes:warm_restarts") == OTHER


def test_cells_of_a_family_have_its_colour_and_markers_of_their_own():
    cells = pd.DataFrame({"cell": list("abcd"), "method": ["edst", "dense", "superposed_edst", "fge"]})
    chosen = looks(cells)
    assert chosen["a"].color == chosen["c"].color == to_rgb(FAMILIES["EDST"][0])
    assert len({look.marker for look in chosen.values()}) == 4


def test_what_must_not_be_hidden_lies_on_top():
    cells = pd.DataFrame({"cell": list("abcd"), "method": ["edst", "fge", "dst", "dense"]})
    layers = [look.zorder for look in looks(cells).values()]
    assert sorted(layers, reverse=True) == [layers[0], layers[2], layers[3], layers[1]]
