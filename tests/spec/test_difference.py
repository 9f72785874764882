"""Where two specs differ is said field by field; a part that only one of them has is one field."""

import json

import pytest

from bench.spec.difference import ABSENT, differences
from tests.store.runs import run_spec


def test_equal_specs_do_not_differ() -> None:
    spec = run_spec().model_dump(mode="json")
    assert list(differences(spec, json.loads(json.dumps(spec)))) == []


def test_fields_are_named_by_path() -> None:
    one, other = (run_spec(seed=seed, batch_size=size).model_dump(mode="json") for seed, size in ((1, 64), (2, 128)))
    other["phases"][1]["rewire"]["every"] = 7
    other["phases"][0]["lr"]["values"] = [0.5]
    assert list(differences(one, other)) == [
        ("phases[0].lr.values", [0.1], [0.5]),
        ("phases[1].rewire.every", 1000, 7),
        ("batch_size", 64, 128),
        ("seed", 1, 2),
    ]


def test_a_part_that_one_lacks_is_one_field() -> None:
    one = run_spec().model_dump(mode="json")
    other = {**one, "topology": None, "phases": one["phases"][:2]}
    assert list(differences(one, other)) == [
        ("topology", one["topology"], None),
        ("phases[2]", one["phases"][2], ABSENT),
    ]


@pytest.mark.parametrize(
    ("first", "second", "found"),
    [
        ({"a": None}, {}, [("a", None, ABSENT)]),
        ({}, {"a": None}, [("a", ABSENT, None)]),
        ({"a": []}, {"a": [{"b": 1}]}, [("a[0]", ABSENT, {"b": 1})]),
        ({"a": [1]}, {"a": [1, 2]}, [("a", [1], [1, 2])]),
        ({"a": {"b": 1}}, {"a": 1}, [("a", {"b": 1}, 1)]),
    ],
)
def test_what_is_absent_differs_from_what_is_null(first: object, second: object, found: list[object]) -> None:
    assert list(differences(first, second)) == found
