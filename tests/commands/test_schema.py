"""`python -m bench schema`: the committed schemas are current, and what the suite reads and writes fits them."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from bench.__main__ import main
from bench.grid import grid_files
from bench.recipes import METHODS
from bench.store.records import STORE_RECORDS, Failure, NotExported
from slurm.site import SITES
from tests.grid_text import PAPER_CONFIGS, REPOSITORY
from tests.store.runs import finished_run

SCHEMAS = REPOSITORY / "docs" / "schemas"
GRIDS = grid_files([PAPER_CONFIGS, PAPER_CONFIGS / "ablations"])


def printed(document: str, capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as ended:
        main(["schema", document])
    assert not ended.value.code
    return capsys.readouterr().out


def problems(document: str, content: Any) -> list[str]:
    """Return the paths of what does not fit a schema."""
    schema = json.loads((SCHEMAS / f"{document}.json").read_text(encoding="utf-8"))
    return [error.json_path for error in Draft202012Validator(schema).iter_errors(content)]


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("document", ["store", "grid", "site"])
def test_the_schema_in_docs_is_current(document: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = printed(document, capsys)
    Draft202012Validator.check_schema(json.loads(text))
    committed = (SCHEMAS / f"{document}.json").read_text(encoding="utf-8")
    assert committed == text, f"renew it: python -m bench schema {document} > docs/schemas/{document}.json"


@pytest.mark.parametrize("grid", GRIDS, ids=lambda path: str(path.relative_to(PAPER_CONFIGS)))
def test_a_shipped_grid_fits_its_schema_and_names_it(grid: Path) -> None:
    assert problems("grid", read(grid)) == []
    first = grid.read_text(encoding="utf-8").split("\n")[0]
    named = first.removeprefix("# yaml-language-server: $schema=")
    assert (grid.parent / named).resolve() == SCHEMAS / "grid.json"


@pytest.mark.parametrize("site", sorted(SITES.glob("*.yaml")), ids=lambda path: path.stem)
def test_a_shipped_site_fits_its_schema(site: Path) -> None:
    assert problems("site", read(site)) == []


def test_the_files_of_a_store_fit_their_schema(tmp_path: Path) -> None:
    folder = finished_run(tmp_path)
    folder.write_failure(Failure(type="ValueError", message="loss is nan"))
    names = STORE_RECORDS.keys() - {"history.jsonl", "attempts.json", "not_exported.json"}
    content = {name: json.loads((folder.path / name).read_text(encoding="utf-8")) for name in names}
    assert content["evaluations.json"].keys() == {"test", "validation"}
    lines = (folder.path / "history.jsonl").read_text(encoding="utf-8").splitlines()
    for line in lines:
        assert problems("store", {**content, "history.jsonl": json.loads(line)}) == []
    record = NotExported(files=("tickets/0.safetensors",), families=("local-c",)).model_dump(mode="json")
    assert problems("store", {"not_exported.json": record}) == []
    assert problems("store", {"not_exported.json": record | {"files": ["result.json"]}})
    altered = content["evaluations.json"]["test"] | {"count": 0}
    assert problems("store", {"evaluations.json": {"test": altered}}) == ["$['evaluations.json'].test.count"]


CELL = {"name": "a", "method": "edst", "data": "digits"}


@pytest.mark.parametrize(
    "grid",
    [
        {"cells": [CELL | {"method": "mine:recipe", "recipe": {"anything": 1}, "recipe.more": 2}]},
        {"cells": [CELL | {"model": {"name": "mine:net", "layers": 3}, "data": "mine:IMAGES"}]},
        {"cells": [CELL | {"model": {"ensemble": "mimo"}, "optimizer.momentum": 0.8}]},
        {"base": {"model": {"ensemble": "mimo"}}, "cells": [CELL | {"model": {"ensemble": None}}]},
        {"cells": [CELL | {"semantics": {"ties": "all"}, "topology": {"distribution": "uniform"}}]},
        {"base": CELL, "axes": {"recipe.mine": [1, 2], "semantics": ["released", {"ties": "all"}]}},
        {"extends": "other.yaml", "scales": {"tiny": {"epochs": "1/3", "evaluations": {"ood": {"sets": ["svhn"]}}}}},
    ],
)
def test_what_a_grid_may_say_fits(grid: dict[str, Any]) -> None:
    assert problems("grid", grid) == []


@pytest.mark.parametrize(
    ("grid", "where"),
    [
        ({"cell": [CELL]}, ["$", "$"]),
        ({"cells": [CELL | {"membres": 3}]}, ["$.cells[0]"]),
        ({"cells": [CELL | {"method": "rst"}]}, ["$.cells[0].method"]),
        ({"cells": [CELL | {"recipe": {"epoch": 3}}]}, ["$.cells[0].recipe"]),
        ({"cells": [CELL | {"recipe": {"drop_fraction": 1.5}}]}, ["$.cells[0].recipe.drop_fraction"]),
        ({"cells": [CELL | {"optimizer.momentun": 0.9}]}, ["$.cells[0]"]),
        ({"cells": [CELL | {"optimizer.momentum": 1.5}]}, ["$.cells[0]['optimizer.momentum']"]),
        ({"base": CELL, "axes": {"sparsity": [0.5, 1.5]}}, ["$.axes.sparsity[1]"]),
        ({"base": CELL, "axes": {"recipe.growth": ["gradients"]}}, ["$.axes['recipe.growth'][0]"]),
        ({"cells": [CELL], "evaluations": {"ood": {"sets": ["svnh"]}}}, ["$.evaluations"]),
        ({"cells": [CELL], "scales": {"paper": {"width": 1}}}, ["$.scales.paper"]),
    ],
)
def test_a_mistake_in_a_grid_does_not_fit(grid: dict[str, Any], where: list[str]) -> None:
    assert problems("grid", grid) == where


def test_a_schema_knows_every_method_with_its_parameters() -> None:
    schema = json.loads((SCHEMAS / "grid.json").read_text(encoding="utf-8"))
    methods = schema["$defs"]["keys"]["properties"]["method"]["anyOf"][:-1]
    assert [method["const"] for method in methods] == list(METHODS)
    assert all(method["description"] for method in methods)
    assert schema["$defs"]["recipe_edst"]["properties"]["exploration_fraction"]["maximum"] == 1


@pytest.mark.parametrize(
    ("site", "where"),
    [
        ({"walltime": 24}, ["$.walltime"]),
        ({"walltime": "24 hours"}, ["$.walltime"]),
        ({"memory": "16 gigabytes"}, ["$.memory"]),
        ({"partitions": "gpu"}, ["$"]),
    ],
)
def test_a_mistake_in_a_site_does_not_fit(site: dict[str, Any], where: list[str]) -> None:
    assert problems("site", site) == where
