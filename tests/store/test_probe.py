"""Predictions in the history: what is encoded comes back, a line stays small, other text is refused."""

import base64

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from bench.store.probe import decode, encode, probe_images


@given(arrays(np.float32, array_shapes(min_dims=2, max_dims=2, max_side=12), elements=st.floats(0, 1, width=16)))
def test_half_precision_comes_back_as_it_was(probabilities: np.ndarray) -> None:
    back = decode(encode(probabilities), probabilities.shape[1])
    assert back.dtype == np.float32
    assert np.array_equal(back, probabilities)


def test_probabilities_come_back_to_half_precision_in_their_order() -> None:
    probabilities = np.random.default_rng(0).dirichlet(np.ones(7), size=20)
    for layout in (probabilities, np.asfortranarray(probabilities)):
        back = decode(encode(layout), 7)
        assert back.shape == (20, 7)
        np.testing.assert_allclose(back, probabilities, rtol=2**-11, atol=2**-24)


def test_the_text_is_base64_of_little_endian_halves() -> None:
    """Written out by hand, for whoever reads a history without this module: 1 is 0x3c00, 0.5 is 0x3800."""
    text = encode(np.array([[1.0, 0.0], [0.5, 0.5]]))
    assert base64.b64decode(text) == bytes([0x00, 0x3C, 0x00, 0x00, 0x00, 0x38, 0x00, 0x38])
    assert text == "ADwAAAA4ADg="


@pytest.mark.parametrize(
    ("classes", "available", "probed"),
    [
        (10, 5000, 128),
        (10, 60, 60),
        (100, 5000, 128),
        (101, 5000, 126),
        (1000, 10_000, 12),
        (20_000, 50, 1),
        (10, 1, 1),
    ],
)
def test_how_many_images_are_probed(classes: int, available: int, probed: int) -> None:
    assert probe_images(classes, available) == probed


@pytest.mark.parametrize("classes", [1, 2, 10, 99, 100, 101, 1000, 12_800])
def test_a_line_of_the_history_stays_small(classes: int) -> None:
    images = probe_images(classes, 10**6)
    assert len(encode(np.zeros((images, classes)))) < 35_000


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("ADwAAAA4ADg", "not base64"),  # cut short
        ("ADwAAAA4!ADg=", "not base64"),
        ("ADwAAAA4\u00e4ADg=", "ASCII"),
        ("ADwA", "multiple"),  # three bytes are no halves
        ("ADwAADwA", "reshape"),  # three numbers are no rows of two
    ],
)
def test_text_of_something_else_is_refused(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        decode(text, 2)
