"""Natural shift from logits: classes masked before softmax, ReaL's label sets, all worked out by hand."""

import math
from pathlib import Path

import numpy as np
import pytest

from analysis.loading import load
from analysis.report import all_tables, write_report
from analysis.shift import load_shift
from bench.data.sets.imagenet_shift import IMAGENET_A
from bench.models.build import build_model
from bench.store.logits import RECORDS, StoredLogits
from bench.store.store import Store
from tests.analysis.stores import Made, flip_a_bit, numbers_of, of
from tests.analysis.synthetic import history_of
from tests.store.runs import result_facts, ticket

TEXT = """
replicates: 2
base:
  data: {name: imagenet, image_size: 32, train_images: 60, validation_images: 0, test_images: 4}
  model: {name: wide_resnet, depth: 10, width: 1}
cells:
  - {name: one, method: dense, recipe: {epochs: 3, select: last}}
  - {name: two, method: dense, members: 2, recipe: {epochs: 3, select: last}}
evaluations: {shift: {sets: [imagenet_v2, imagenet_a, imagenet_real]}}
"""
# Two classes of ImageNet-A, and two that it has not.
STINGRAY, JUNCO, TENCH, GOLDFISH = 6, 11, 0, 1
TEST = np.array([STINGRAY, JUNCO, TENCH, GOLDFISH])
PAIRS = np.array([[0, STINGRAY], [0, TENCH], [2, GOLDFISH], [3, TENCH], [3, GOLDFISH]])


def predicting(*classes: dict[int, float]) -> np.ndarray:
    """Logits [1, images, 1000]: -30 but for these classes."""
    logits = np.full((1, len(classes), 1000), -30.0, np.float32)
    for image, raised in enumerate(classes):
        for label, value in raised.items():
            logits[0, image, label] = value
    return logits


# Tench wins on the first image, before the mask; among ImageNet-A's classes it is 3 to 1 for stingray.
ON_A = predicting({TENCH: 9.0, STINGRAY: math.log(3), JUNCO: 0.0}, {STINGRAY: math.log(3), JUNCO: 0.0})
ON_TEST = predicting({TENCH: 5.0, STINGRAY: 4.0}, {JUNCO: 5.0}, {TENCH: 5.0}, {TENCH: 5.0})


@pytest.fixture
def made(tmp_path: Path) -> Made:
    path = tmp_path / "small.yaml"
    path.write_text(TEXT)
    made = Made(path, Store(tmp_path / "results"))
    for run in made.plan.runs:
        folder = made.store.run(run.id)
        folder.write_spec(run.spec)
        folder.write_history(history_of(run.spec))
        folder.write_provenance(())
        weights = build_model(run.spec.model, 1000, run.spec.seed).state_dict()
        checksum = folder.write_ticket(0, {name: tensor.numpy() for name, tensor in weights.items()}, {})
        folder.finish(**result_facts([ticket(0, sha256=checksum)], run=run.id))
        stored = StoredLogits.of_run(folder)
        stored.write("test", ON_TEST, TEST, images="test")
        stored.write("shift/imagenet_v2", ON_A, np.array([TENCH, JUNCO]), images="names-1")
        stored.write("shift/imagenet_a", ON_A, np.array([STINGRAY, JUNCO]), images="names-2")
        nothing = np.empty((0, 4, 1000), np.float32)
        stored.write("labels/imagenet_real", nothing, TEST, label_pairs=PAIRS, images="labels-1")
    return made


def test_other_classes_are_masked_before_softmax(made: Made) -> None:
    assert {STINGRAY, JUNCO} <= set(IMAGENET_A.labels.tolist())
    assert not {TENCH, GOLDFISH} & set(IMAGENET_A.labels.tolist())
    found, problems = numbers_of(load_shift, made.plan, made.store)
    assert problems == ()
    (row,) = of(found, cell="one", replicate=1, shift="imagenet_a").to_dict("records")
    # Stingray is right with 3/4, and wrong with 3/4: accuracy 1/2, NLL the mean of -log 3/4 and -log 1/4.
    assert row["accuracy"] == 0.5
    assert row["nll"] == pytest.approx(-(math.log(3 / 4) + math.log(1 / 4)) / 2, abs=1e-3)  # stored in half precision
    assert row["ece"] == pytest.approx(0.25, abs=1e-3)
    # Of the test images of these classes both are right, once tench is out.
    assert row["clean_accuracy"] == 1.0
    # All of the classes: tench is predicted with 1 - 3e-4 and right, stingray with 3/4 and wrong.
    (row,) = of(found, cell="one", replicate=1, shift="imagenet_v2").to_dict("records")
    assert (row["accuracy"], row["clean_accuracy"]) == (0.5, 0.5)


def test_several_labels_are_right_and_none_leaves_an_image_out(made: Made) -> None:
    found, _ = numbers_of(load_shift, made.plan, made.store)
    (row,) = of(found, cell="one", replicate=2, shift="imagenet_real").to_dict("records")
    # Tench is a label of the first and the last, not of the third; the second has none.
    assert row["accuracy"] == pytest.approx(2 / 3)
    assert row["clean_accuracy"] == 0.5
    assert math.isnan(row["nll"])
    sure = 1 / (1 + math.exp(-1)), 1.0, 1.0
    # Confidences of one bin where they are 1, so two images there, one of them right.
    assert row["ece"] == pytest.approx((abs(1 - sure[0]) + abs(1 - 2)) / 3, abs=1e-3)


def test_an_ensemble_is_masked_member_by_member(made: Made) -> None:
    plan = made.plan
    second = plan.cells[1].runs[0][1]
    other = predicting({STINGRAY: 0.0, JUNCO: 9.0}, {STINGRAY: 0.0, JUNCO: 9.0, TENCH: 20.0})
    stored = StoredLogits.of_run(made.store.run(second))
    stored.write("shift/imagenet_a", other, np.array([STINGRAY, JUNCO]), images="names-2")
    found, _ = numbers_of(load_shift, made.plan, made.store)
    (row,) = of(found, cell="two", replicate=1, shift="imagenet_a").to_dict("records")
    junco = (1 / 4 + 1 / (1 + math.exp(-9))) / 2
    assert row["accuracy"] == 0.5
    assert row["nll"] == pytest.approx(-(math.log(1 - junco) + math.log(junco)) / 2, abs=1e-3)


def test_there_is_a_table_and_a_figure(made: Made, tmp_path: Path) -> None:
    loaded = load(made.path, made.store.root, "paper")
    assert loaded.problems == ()
    table, calibration = [table for table in all_tables(loaded) if table.name.startswith("small_shift")]
    assert [row[0] for row in table.rows] == ["one", "two"]
    assert table.rows[0][1:3] == ("50.00", "50.00")
    assert [group for group, _ in table.spans] == ["", "ImageNet-V2", "ImageNet-A", "ImageNet ReaL labels"]
    # By ReaL's labels, which are several, NLL is not defined.
    assert calibration.spans[1:] == [("ImageNet-V2", 2), ("ImageNet-A", 2), ("ImageNet ReaL labels", 1)]
    assert table.head == ("Cell", *("Clean accuracy (%)", "Accuracy (%)") * 3)
    assert of(calibration.numbers, cell="one", shift="imagenet_real")["nll"].isna().all()
    write_report(loaded, tmp_path / "out")
    assert (tmp_path / "out" / "figures" / "shift.png").is_file()


@pytest.mark.parametrize("name", ["shift/imagenet_a", "labels/imagenet_real"])
def test_a_damaged_set_is_named_and_the_others_are_read(made: Made, name: str) -> None:
    run = made.plan.cells[0].runs[0][0]
    file = made.store.run(run).path / "logits" / f"{name}.safetensors"
    flip_a_bit(file)
    found, problems = numbers_of(load_shift, made.plan, made.store)
    assert len(problems) == 1
    assert str(file) in problems[0]
    lost = of(found, cell="one", replicate=1, shift=name.rpartition("/")[2])
    assert (len(lost), len(of(found, cell="one", replicate=1))) == (0, 2)


def test_other_labels_of_other_images_are_refused(made: Made) -> None:
    run = made.plan.cells[0].runs[0][0]
    stored = StoredLogits.of_run(made.store.run(run))
    nothing = np.empty((0, 4, 1000), np.float32)
    stored.write("labels/imagenet_real", nothing, TEST[::-1].copy(), label_pairs=PAIRS, images="labels-1")
    _, problems = numbers_of(load_shift, made.plan, made.store)
    assert "labels/imagenet_real is of other images than test" in problems[0]
    assert (made.store.run(run).path / RECORDS).is_file()
