"""Every count of a grid has an upper bound, and so has the document: what is beyond is refused at once, by its key."""

import time
from pathlib import Path
from typing import Any

import pytest

from bench.__main__ import main
from bench.commands.schema import SCHEMAS
from bench.errors import UserError
from bench.grid import load_grid
from bench.plan import make_plan
from tests.grid_text import load_text, write_grid

BASE = "base: {data: digits, method: dst, sparsity: 0.8, recipe: {epochs: 8, update_every: 4}}\n"
CELL = f"{BASE}cells: [{{name: a}}]\n"
TEN_TO_THE_NINTH = 10**9
# Of this process, which other work on the machine takes none of: what was without a limit took minutes.
SECONDS = 60.0


def refused(folder: Path, text: str | bytes) -> str:
    """Return what is said of a grid, less its path: one line, and soon."""
    path = folder / "grid.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    began = time.process_time()
    with pytest.raises(UserError) as error:
        make_plan(load_grid(path), "paper", None)
    assert time.process_time() - began < SECONDS
    message = str(error.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    assert len(message) < 1000
    return message.removeprefix(f"{path}: ")


def cell(text: str) -> str:
    return f"{BASE}cells: [{{name: a, {text}}}]"


@pytest.mark.parametrize(
    ("key", "most"),
    [
        ("replicates", 1_000),
        ("members", 10_000),
        ("seed", 2**53),
        ("batch_size", 1_000_000),
        ("recipe.epochs", 100_000),
        ("recipe.warmup_epochs", 100_000),
        ("recipe.update_every", 1_000_000),
        ("data.train_images", TEN_TO_THE_NINTH),
        ("data.validation_images", TEN_TO_THE_NINTH),
        ("data.test_images", TEN_TO_THE_NINTH),
        ("model.depth", 10_000),
        ("model.width", 10_000),
        ("augmentation.padding", 10_000),
    ],
)
def test_a_count_of_a_cell(tmp_path: Path, key: str, most: int) -> None:
    message = refused(tmp_path, cell(f"{key}: {most + 1}"))
    assert message.startswith(f"cells[0].{key}: found {most + 1}; allowed: ")
    assert f"at most {most:,}" in message


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            cell("method: edst, recipe: {tickets: 1001}"),
            "cells[0].recipe.tickets: found 1001; allowed: at least 1 and at",
        ),
        (
            cell(f"recipe: {{decay_epochs: {[1] * 1001}}}"),
            "cells[0].recipe.decay_epochs: found 1,001 values; allowed: at",
        ),
        (
            cell("model.ensemble: {kind: mc_dropout, samples: 10001}"),
            "cells[0].model.ensemble.samples: found 10001; allo",
        ),
        (
            cell("model.ensemble: {kind: mimo, members: 1001}"),
            "cells[0].model.ensemble.members: found 1001; allowed: at",
        ),
        (
            cell("members: 1000"),
            "cells[0].members: found 1000, which takes 1000 runs a replicate; at most 100 are allowe",
        ),
        (
            "base: {data: digits, method: gradual_pruning, sparsity: 0.8, batch_size: 1}\ncells: [{recipe: "
            "{epochs: 100000, update_every: 1}}]",
            "cells[0].recipe: an update every 1 of",
        ),
        (
            f"replicates: {TEN_TO_THE_NINTH}\n{CELL}",
            "replicates: found 1000000000; allowed: at least 1 and at most 1,000",
        ),
        (f"{BASE}axes: {{seed: {[*range(1001)]}}}", "axes.seed: found 1,001 values; allowed: at most 1,000"),
        (
            f"{BASE}axes: {{seed: {[*range(102)]}, batch_size: {[*range(1, 101)]}}}",
            "axes: 10,200 products of their values; allowed: at most 10,000",
        ),
        (f"{BASE}cells: {[{'seed': 0}] * 10_001}", "cells: found 10,001 values; allowed: at most 10,000"),
        (
            f"{BASE}replicates: 1000\naxes: {{members: [50], seed: [0, 1, 2]}}",
            "its cells have 150,000 runs; allowed: at most 100,000",
        ),
        (
            f"{CELL}evaluations: {{pgd: {{steps: 10001}}}}",
            "evaluations.pgd.steps: found 10001; allowed: at least 1 and at",
        ),
        (
            f"{CELL}evaluations: {{fgsm: {{images: 9999999999}}}}",
            "evaluations.fgsm.images: found 9999999999; allowed: at",
        ),
        (
            f"{CELL}scales: {{x: {{replicates: 1001}}}}",
            "scales.x.replicates: found 1001; allowed: at least 1 and at most",
        ),
        (
            f"{CELL}scales: {{x: {{depth: 10001}}}}",
            "scales.x.depth: found 10001; allowed: at least 1 and at most 10,000",
        ),
        (
            f"{CELL}scales: {{x: {{epochs: 1001}}}}",
            "scales.x.epochs: found 1001; allowed: a number above 0, at most 1,000",
        ),
        (
            f"{CELL}scales: {{x: {{epochs: '1e-999999999'}}}}",
            "scales.x.epochs: found '1e-999999999'; allowed: a number a",
        ),
    ],
)
def test_a_count_elsewhere(tmp_path: Path, text: str, said: str) -> None:
    assert refused(tmp_path, text).startswith(said)


def test_what_is_allowed_is_planned_soon(tmp_path: Path) -> None:
    began = time.process_time()
    assert make_plan(load_text(tmp_path, cell("replicates: 1000, model.depth: 10000")), "paper", None)
    assert time.process_time() - began < SECONDS


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param("title: &a x\nb: [*a, *a]", "b: unknown key", id="an alias"),
        pytest.param(
            "a0: &a0 [x, x, x, x, x, x, x, x, x]\n"
            + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12)),
            "aliases (*name) stand for more than 300,000 values",
            id="billion laughs",
        ),
        pytest.param("base: &a {b: [*a]}", "base: line 1: nested more than 32 deep, as an alias", id="within itself"),
        pytest.param("a: " + "[" * 100_000, "line 1: nested more than 32 deep", id="flow"),
        pytest.param("- " * 100_000, "line 1: nested more than 32 deep", id="block"),
        pytest.param("? " * 100_000, "line 1: nested more than 32 deep", id="keys"),
        pytest.param("a: [" + "1," * 300_001 + "]", "more than 300,000 values", id="values"),
        pytest.param("---\n" * 300_001, "more than 300,000 values", id="documents"),
        pytest.param("#" * (4 * 2**20 + 1), "more than 4 MB, so not a grid", id="size"),
        pytest.param(
            cell(f"seed: {'9' * 5000}"), "cells[0].seed: line 2: a number of 5,000 digits; allowed", id="digits"
        ),
        pytest.param(cell(f"'{'k' * 900}': 1"), f"cells[0].'{'k' * 79}...: unknown key", id="key"),
        pytest.param(cell(f"method: '{'k' * 900}'"), "cells[0].method: found 'kkk", id="text"),
    ],
)
def test_a_document(tmp_path: Path, text: str, said: str) -> None:
    assert said in refused(tmp_path, text)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("!!float abc", "'abc' is no finite decimal number"),
        ("!!int abc", "YAML does not read 'abc' as a decimal number"),
        ("!!bool abc", "'abc' is neither true nor false"),
        ("!!null abc", "'abc' is not null"),
        ("!!binary abc", "the tag tag:yaml.org,2002:binary is not read here"),
        ("!!timestamp 2020-01-01", "YAML reads 2020-01-01 as a date"),
        ("!!set {a: null}", "the tag tag:yaml.org,2002:set is not read here"),
        ("!!python/object/apply:os.abort []", "the tag tag:yaml.org,2002:python/object/apply:os.abort is not read"),
        ("1.0e+400", "'1.0e+400' is no finite decimal number"),
        (".inf", "'.inf' is no finite decimal number"),
        ("1_0_e5", "YAML reads 1_0_e5 as text; write 1000000.0"),
        (f"1e{'9' * 500}", "found '1e999"),
        ("{[1]: 2}", "a key that is not text"),
        ("{{a: 1}: 2}", "a key that is not text"),
        ("{a: 1, a: 2}", "given twice"),
    ],
)
def test_a_value_that_yaml_makes_something_else_of(tmp_path: Path, value: str, said: str) -> None:
    message = refused(tmp_path, cell(f"sparsity: {value}"))
    assert message.startswith("cells[0].sparsity")
    assert said in message


@pytest.mark.parametrize("kind", ["[null]", "{a: 1}", "null", "3", "[[mimo]]"])
def test_a_kind_that_is_no_text(tmp_path: Path, kind: str) -> None:
    assert refused(tmp_path, cell(f"model.ensemble: {{kind: {kind}}}")).startswith(
        "cells[0].model.ensemble.kind: found "
    )


@pytest.mark.parametrize(
    "content", [b"\xff\xfea\0:\0", "a: é".encode("latin-1"), b"a: \0", b"a: \x01", b'a: "\\ud800"']
)
def test_bytes_that_are_no_yaml(tmp_path: Path, content: bytes) -> None:
    assert "not " in refused(tmp_path, content)


@pytest.mark.parametrize("name", ["a" * 61, r"a\nb", r"a\tb", r"\e[31m", r"\x7f", r"\u2028", r"\u202e", ""])
def test_a_name_that_cannot_be_printed_or_drawn(tmp_path: Path, name: str) -> None:
    message = refused(tmp_path, f'{BASE}cells: [{{name: "{name}"}}]')
    assert message.startswith("cells[0].name: found ")
    assert "\x1b" not in message


def test_a_name_of_sixty_letters_and_one_that_axes_make(tmp_path: Path) -> None:
    assert load_text(tmp_path, f"{BASE}cells: [{{name: {'ä' * 60}}}]").cells[0].name == "ä" * 60
    keys = "recipe.update_every: [4, 5], recipe.growth: [random, gradient], optimizer.learning_rate: [0.1, 0.05]"
    name = "dst update_every=5 growth=gradient learning_rate=0.05 momentum=0.8"
    assert load_text(tmp_path, f"{BASE}axes: {{{keys}, optimizer.momentum: [0.9, 0.8]}}").cells[-1].name == name


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("a" * 61, "a grid's name, its file's, has at most 60 characters"),
        ("a\nb", "without control characters"),
        ("a\x1bb", "without control characters"),
    ],
)
def test_the_name_of_a_grid(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, message: str) -> None:
    write_grid(tmp_path, CELL).rename(tmp_path / f"{name}.yaml")
    with pytest.raises(SystemExit) as ended:
        main(["plan", str(tmp_path / f"{name}.yaml")])
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


def test_the_schema_has_every_bound() -> None:
    def unbounded(schema: Any, at: str) -> list[str]:
        if isinstance(schema, list):
            return [place for index, part in enumerate(schema) for place in unbounded(part, f"{at}[{index}]")]
        if not isinstance(schema, dict):
            return []
        found = [at] if schema.get("type") == "integer" and not schema.keys() & {"maximum", "exclusiveMaximum"} else []
        return found + [place for key, part in schema.items() for place in unbounded(part, f"{at}/{key}")]

    for document in ("grid", "site"):
        assert unbounded(SCHEMAS[document](), document) == []
