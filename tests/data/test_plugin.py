"""A data set of the user's own, `package.module:name`: planned, trained on, corrupted, shown to other networks."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from bench.data import catalog
from bench.data.catalog import class_names, find_data_set
from bench.data.inventory import prepare, verify
from bench.data.record import Embedded, Parts
from bench.errors import UserError
from bench.grid import load_grid
from bench.plan import make_plan
from bench.spec.run import DataSpec, RunSpec
from bench.store.store import Store
from tests.grid_text import write_grid

ROOT = Path(__file__).resolve().parents[2]
NAME = "birds.small:BIRDS"
MODULE = '''
"""Grey squares of 16 pixels, lighter from class to class."""

import numpy as np

from bench.data.record import DataSet, Embedded, Parts
from bench.spec.run import Augmentation


def read() -> Parts:
    rng = np.random.default_rng(7)
    labels = rng.integers(0, 3, 100)
    images = np.clip(80 * labels[:, None, None, None] + rng.integers(0, 60, (100, 16, 16, 3)), 0, 255).astype(np.uint8)
    return Parts(images[:80], labels[:80], images[80:], labels[80:])


BIRDS = DataSet(
    name="birds",
    classes=3,
    train_images=60,
    validation_images=20,
    test_images=20,
    mean=(0.4, 0.4, 0.4),
    std=(0.3, 0.3, 0.3),
    augmentation=Augmentation(padding=2, padding_mode="zero", flip=True),
    source=Embedded(read),
    image_size=16,
    class_names=("owl", "robin", "wren"),
)
FLOATS = DataSet(**{**vars(BIRDS), "source": Embedded(lambda: Parts(*(part / 2 for part in read())))})
BROKEN = DataSet(**{**vars(BIRDS), "source": Embedded(lambda: {}["missing"])})
PATH = "not a record"
'''
CELL = "method: dense, model: {depth: 10, width: 1}, recipe: {epochs: 4}"
Write = Callable[..., None]


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Return a function that writes the package birds, with changes, in a folder on the path."""
    monkeypatch.syspath_prepend(str(tmp_path / "packages"))
    # Two versions of one size within one second would share their compiled file.
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def write(**changes: str) -> None:
        text = MODULE
        for key, value in changes.items():
            line = next(line for line in text.splitlines() if line.startswith(f"    {key}="))
            text = text.replace(line, f"    {key}={value},")
        package = tmp_path / "packages" / "birds"
        package.mkdir(parents=True, exist_ok=True)
        (package / "__init__.py").write_text("")
        (package / "small.py").write_text(text)
        for name in ("birds", "birds.small"):
            sys.modules.pop(name, None)
        catalog._imported.cache_clear()

    write()
    return write


def spec_of(folder: Path, name: str = NAME) -> RunSpec:
    grid = load_grid(write_grid(folder, f"cells: [{{name: a, data: '{name}', {CELL}}}]"))
    return make_plan(grid, "paper", None).runs[0].spec


@pytest.mark.usefixtures("module")
def test_its_record_says_what_a_plan_must_know(tmp_path: Path) -> None:
    spec = spec_of(tmp_path)
    data = spec.data
    assert (data.name, data.variant) == (NAME, "official")
    assert (data.train_images, data.validation_images, data.test_images) == (60, 20, 20)
    assert data.facts is not None
    assert (data.facts.classes, data.facts.image_size, data.facts.mean[0], data.facts.std[0]) == (3, 16, 0.4, 0.3)
    assert (spec.augmentation.padding, spec.augmentation.flip) == (2, True)
    assert class_names(NAME) == ("owl", "robin", "wren")


@pytest.mark.parametrize(
    "change",
    [
        {"mean": "(0.4, 0.4, 0.5)"},
        {"std": "(0.4, 0.3, 0.3)"},
        {"classes": "4"},
        {"image_size": "24"},
        {"train_images": "50"},
        {"augmentation": "Augmentation(padding=1, padding_mode='zero', flip=True)"},
        {"class_names": "('owl', 'robin', 'wren'), version='2'"},
    ],
)
def test_what_changes_numbers_changes_the_run(tmp_path: Path, module: Write, change: dict[str, str]) -> None:
    before = spec_of(tmp_path)
    module(**change)
    assert spec_of(tmp_path).run_id != before.run_id


def test_names_of_classes_change_no_run(tmp_path: Path, module: Write) -> None:
    before = spec_of(tmp_path)
    module(class_names="('a', 'b', 'c')")
    assert spec_of(tmp_path).run_id == before.run_id


def test_it_is_trained_on_corrupted_and_attacked(tmp_path: Path, module: Write) -> None:
    del module
    evaluations = "evaluations: {local_c: {types: [fog], severities: [3]}, ood: {sets: [digits], images: 9}, fgsm: {}}"
    run(tmp_path, f"cells: [{{name: a, data: '{NAME}', {CELL}}}]\n{evaluations}")
    test = logits_of(tmp_path, "test")
    assert (test["logits"].shape, sorted(set(test["labels"].tolist()))) == ((1, 20, 3), [0, 1, 2])
    assert logits_of(tmp_path, "local-c/fog/3")["logits"].shape == (1, 20, 3)
    assert logits_of(tmp_path, "ood-9-images/digits")["logits"].shape == (1, 9, 3)
    assert Store(tmp_path / "store").data_records()[NAME].variant == "official"


def test_it_is_shown_to_networks_trained_on_others(tmp_path: Path, module: Write) -> None:
    del module
    data = "data: {name: digits, train_images: 60, validation_images: 20, test_images: 20}"
    run(tmp_path, f"cells: [{{name: a, {data}, {CELL}}}]\nevaluations: {{ood: {{sets: ['{NAME}']}}}}")
    shown = logits_of(tmp_path, f"ood/{NAME}")
    assert (shown["logits"].shape, set(shown["labels"].tolist())) == ((1, 20, 10), {-1})


def logits_of(folder: Path, name: str) -> Any:
    """Return logits and labels of the only run."""
    (path,) = (folder / "store").glob(f"runs/*/logits/{name}.safetensors")
    return load_file(path)


def run(folder: Path, text: str) -> None:
    """Train and evaluate in another process, which finds the package on PYTHONPATH alone."""
    environment = {**os.environ, "PYTHONPATH": str(folder / "packages"), "FREETICKETS_DATA": str(folder / "data")}
    command = [sys.executable, "-m", "bench", "run", str(write_grid(folder, f"replicates: 1\n{text}"))]
    command += ["--store", str(folder / "store"), "--device", "cpu"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr


@pytest.mark.usefixtures("module")
def test_bench_data_shows_it_by_name(tmp_path: Path) -> None:
    assert [(row.name, row.state, row.images) for row in verify(NAME, tmp_path, None)] == [(NAME, "intact", 100)]
    assert prepare(NAME, tmp_path, None, False).state == "embedded"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("birds.large:BIRDS", "'birds.large:BIRDS' cannot be imported: ModuleNotFoundError"),
        ("birds.small:birds", "'birds.small:birds' cannot be imported: AttributeError"),
        ("birds.small:PATH", "'birds.small:PATH' is a str; allowed: a bench.data.record.DataSet"),
        ("birds", "found 'birds'"),
    ],
)
@pytest.mark.usefixtures("module")
def test_what_is_no_record_is_refused(tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        spec_of(tmp_path, name)
    assert f"cells[0].data.name: {message}" in str(caught.value) or f"cells[0].data: {message}" in str(caught.value)


@pytest.mark.usefixtures("module")
def test_images_of_another_kind_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"FLOATS: its train_images are float64 \[80, 16, 16, 3\], not uint8"):
        find_data_set("birds.small:FLOATS").read(tmp_path)
    with pytest.raises(UserError, match=r"BROKEN: its images cannot be read: KeyError: 'missing'"):
        find_data_set("birds.small:BROKEN").read(tmp_path)
    images, labels = np.zeros((3, 16, 16, 3), np.uint8), np.zeros(3, np.int64)
    small = find_data_set("birds.small:FLOATS")
    for parts, problem in (
        (([[0]], labels), "list, not uint8"),
        ((images, labels.tolist()), "labelled by list, not int64"),
        ((images, labels[:2]), r"labelled by int64 \[2\], not int64 \[3\]"),
        ((images.transpose(0, 3, 1, 2), labels), r"uint8 \[3, 3, 16, 16\], not uint8 \[N, 16, 16, 3\]"),
    ):
        embedded = Embedded(lambda parts=parts: Parts(*parts, *parts))
        with pytest.raises(UserError, match=f"its train_images are {problem}"):
            replace(small, source=embedded).read(tmp_path)


@pytest.mark.usefixtures("module")
def test_labels_beyond_the_classes_are_refused(tmp_path: Path, module: Write) -> None:
    module(classes="2")
    with pytest.raises(UserError, match="its train_images are labelled 0 to 2, not 0 to 1"):
        find_data_set(NAME).read(tmp_path)


def test_specs_of_the_suites_data_sets_are_as_they_were() -> None:
    spec = DataSpec(name="digits", train_images=1, validation_images=1, test_images=1)
    text = '{"name":"digits","variant":"official","train_images":1,"validation_images":1,"test_images":1}'
    assert spec.model_dump_json() == text
    assert spec.model_dump() == json.loads(text)
    assert DataSpec.model_validate_json(text) == spec
