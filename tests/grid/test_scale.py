"""Scales keep the proportions of a schedule, whatever the method, and say which fractions work when one does not."""

import re
from fractions import Fraction
from itertools import pairwise
from math import floor
from pathlib import Path

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from bench.data.sets.imagenet64 import IMAGENET64
from bench.errors import UserError
from bench.grid import Scale, load_grid, scaled_cells
from bench.grid.scale import scaled_phases
from bench.plan import make_plan, variants_of
from bench.spec.phases import LearningRate, Phase, Rewire, TicketPolicy
from bench.store.store import Store
from tests.grid_text import PAPER_CONFIGS, load_text

CELLS = """
base: {data: cifar10}
cells:
  - {name: dense, method: dense}
  - {name: edst, method: edst, members: 3, sparsity: 0.8}
"""


@st.composite
def phases(draw: st.DrawFn) -> tuple[Phase, ...]:
    """Phases that no recipe here makes."""
    result = []
    for index in range(draw(st.integers(1, 4))):
        rates = draw(st.integers(1, 4))
        epochs = draw(st.integers(rates, 400))
        boundaries = draw(st.lists(st.integers(1, max(1, epochs - 1)), min_size=rates - 1, max_size=rates - 1))
        assume(len(set(boundaries)) == len(boundaries) and all(b < epochs for b in boundaries))
        result.append(
            Phase(
                name=f"phase {index}",
                epochs=epochs,
                lr=LearningRate(values=tuple(10.0**-n for n in range(rates)), boundaries=tuple(sorted(boundaries))),
                rewire=draw(st.none() | st.builds(Rewire, every=st.integers(1, 5000), drop_fraction=st.just(0.5))),
                ticket=draw(st.none() | st.just(TicketPolicy())),
            )
        )
    return tuple(result)


@given(phases=phases(), divisor=st.integers(1, 8), steps=st.fractions(Fraction(1, 50), 3))
def test_proportions_are_kept(phases: tuple[Phase, ...], divisor: int, steps: Fraction) -> None:
    # lengths that the fraction 1 / divisor fits, and that leave room for every learning rate
    long = tuple(
        phase.model_copy(
            update={
                "epochs": phase.epochs * divisor,
                "lr": LearningRate(values=phase.lr.values, boundaries=tuple(b * divisor for b in phase.lr.boundaries)),
            }
        )
        for phase in phases
    )
    scaled = scaled_phases(long, Fraction(1, divisor), steps)
    for before, after, wanted in zip(long, scaled, phases, strict=True):
        assert (after.epochs, after.lr) == (wanted.epochs, wanted.lr)
        assert (after.name, after.ticket, after.on_start) == (before.name, before.ticket, before.on_start)
        if before.rewire is None:
            assert after.rewire is None
        else:
            assert after.rewire is not None
            assert after.rewire.every == 1 or abs(after.rewire.every - before.rewire.every * steps) <= Fraction(1, 2)
            assert after.rewire == before.rewire.model_copy(update={"every": after.rewire.every})


@example(phases=(Phase(name="short", epochs=1, lr=LearningRate(values=(1.0,))),), numerator=1, denominator=2)
@given(phases=phases(), numerator=st.integers(1, 20), denominator=st.integers(1, 20))
def test_rates_change_at_the_same_fraction_rounded_down_and_each_lasts_an_epoch(
    phases: tuple[Phase, ...], numerator: int, denominator: int
) -> None:
    fraction = Fraction(numerator, denominator)
    try:
        scaled = scaled_phases(phases, fraction, Fraction(1))
    except Exception as refused:
        lengths = [phase.epochs * fraction for phase in phases]
        short = any(length < len(phase.lr.values) for length, phase in zip(lengths, phases, strict=True))
        crowded = "too few" in str(refused)
        assert short or crowded or any(length.denominator > 1 for length in lengths)
        return
    for before, after in zip(phases, scaled, strict=True):
        if before.epochs == 1:  # is kept as it is
            assert after == before
            continue
        assert after.epochs == before.epochs * fraction
        ends = (0, *after.lr.boundaries, after.epochs)
        assert all(start < end for start, end in pairwise(ends))
        for old, new in zip(before.lr.boundaries, after.lr.boundaries, strict=True):
            assert floor(old * fraction) <= new
        # pushed back only where an earlier rate needs its epoch
        for position, new in enumerate(after.lr.boundaries):
            free = floor(before.lr.boundaries[position] * fraction)
            assert new == free or new == ends[position] + 1


def test_the_schedules_of_the_paper_at_two_percent(tmp_path: Path) -> None:
    dense, edst = scaled_cells(load_text(tmp_path, CELLS).cells, Scale.model_validate({"epochs": 0.02}), "tiny")
    assert [(phase.epochs, phase.lr.boundaries) for phase in dense.spec.phases] == [(5, (2, 3))]
    assert [(phase.epochs, phase.lr.boundaries) for phase in edst.spec.phases] == [(3, ()), *[(2, (1,))] * 3]


def test_a_fraction_is_what_its_decimals_say(tmp_path: Path) -> None:
    # 0.07 * 100 is 7.000000000000001 in floats, and a third has no decimals
    text = (
        "base: {data: digits, method: dense, recipe: {epochs: 300}}\ncells: [{name: a}]\n"
        "scales: {x: {epochs: 0.07}, y: {epochs: 1/3}, z: {epochs: '2/75'}}"
    )
    grid = load_text(tmp_path, text)
    lengths = [scaled_cells(grid.cells, grid.scales[name], name)[0].spec.epochs for name in "xyz"]
    assert lengths == [21, 100, 8]


@pytest.mark.parametrize("fraction", ["0.01", "0.03", "0.5001", "0.001", "1/3", "0.99"])
def test_a_fraction_that_does_not_fit_names_cell_phase_and_the_nearest_that_do(tmp_path: Path, fraction: str) -> None:
    grid = load_text(tmp_path, f"{CELLS}scales: {{tiny: {{epochs: {fraction}}}}}")
    with pytest.raises(UserError) as refused:
        make_plan(grid, "tiny", None)
    message = str(refused.value)
    assert message.startswith(f"{grid.path}: scales.tiny.epochs: cell 'dense', phase 'train'")
    suggested = [Fraction(word) for word in re.split(r"[ ,]+", message.rpartition("cells: ")[2])]

    def works(candidate: Fraction) -> bool:
        # by hand: 250, 150 and 100 epochs whole; two rates in a refinement, three in a dense run
        lengths = [250 * candidate, 150 * candidate, 100 * candidate]
        return all(length.denominator == 1 for length in lengths) and lengths[0] >= 3 and lengths[2] >= 2

    assert suggested
    assert all(works(candidate) for candidate in suggested)
    low, high = min(*suggested, Fraction(fraction)), max(*suggested, Fraction(fraction))
    between = [Fraction(n, 500) for n in range(1, 501) if low < Fraction(n, 500) < high]
    assert not any(works(candidate) for candidate in between)


def test_an_overlay_changes_what_it_names_and_nothing_else(tmp_path: Path) -> None:
    text = """
    base: {data: cifar10, method: dst, sparsity: 0.8, members: 3}
    cells: [{name: dst}]
    scales:
      tiny: {epochs: 0.1, depth: 10, width: 2, train_images: 4500, validation_images: 500, test_images: 1000,
             replicates: 1, batch_size: 64, precision: bf16, channels_last: false, compile: true, needs_gpu: true}
      small: {width: 1}
    """
    grid = load_text(tmp_path, text)
    (paper,) = scaled_cells(grid.cells, grid.scales["paper"], "paper")
    (tiny,) = scaled_cells(grid.cells, grid.scales["tiny"], "tiny")
    (small,) = scaled_cells(grid.cells, grid.scales["small"], "small")
    assert paper == grid.cells[0]
    data, spec = tiny.spec.data, tiny.spec
    assert (data.name, data.train_images, data.validation_images, data.test_images) == ("cifar10", 4500, 500, 1000)
    assert spec.model.arguments == {"depth": 10, "width": 2}
    assert (spec.batch_size, spec.steps_per_epoch, tiny.replicates) == (64, 71, 1)
    assert (spec.execution.precision, spec.execution.channels_last, spec.execution.compile) == ("bf16", False, True)
    # dT: 1000 of 352 steps an epoch become 202 of 71
    assert [phase.rewire and phase.rewire.every for phase in spec.phases] == [202]
    assert (spec.topology, spec.optimizer, spec.seed) == (paper.spec.topology, paper.spec.optimizer, 18)
    arguments = {"depth": 28, "width": 1}
    narrower = paper.spec.model_copy(update={"model": paper.spec.model.model_copy(update={"arguments": arguments})})
    assert small.spec == narrower
    assert grid.scales["tiny"].needs_gpu
    assert not grid.scales["small"].needs_gpu


@pytest.mark.parametrize(
    ("scale", "words"),
    [
        ("train_images: 46000", "46000 images to train and 5000 to validate are more than the 50000"),
        ("test_images: 10001", "found 10001; cifar10 has 10000"),
        ("depth: 11", "6n + 4"),
        ("epochs: 0.04", "dT = 35000 steps, but the run has 1408"),
    ],
)
def test_a_scale_that_makes_no_sense_names_itself_and_the_cell(tmp_path: Path, scale: str, words: str) -> None:
    text = "base: {data: cifar10, method: dst, sparsity: 0.8, recipe: {epochs: 100, update_every: 35000}}\n"
    grid = load_text(tmp_path, f"{text}cells: [{{name: row}}]\nscales: {{bad: {{{scale}}}}}")
    with pytest.raises(UserError) as refused:
        make_plan(grid, "bad", None)
    assert str(refused.value).startswith(f"{grid.path}: scales.bad: cell 'row': ")
    assert words in str(refused.value)


def test_a_scale_may_be_of_other_images(tmp_path: Path) -> None:
    text = """
    base: {data: imagenet, model: resnet_imagenet}
    cells: [{name: a, method: gradual_pruning, sparsity: 0.8}, {name: b, method: prune_finetune, sparsity: 0.8}]
    scales: {small: {data: imagenet64}, tiny: {data: imagenet64, image_size: 32}}
    """
    grid = load_text(tmp_path, text)
    for before, after in zip(grid.cells, scaled_cells(grid.cells, grid.scales["small"], "small"), strict=True):
        for old, new in ((before.spec, after.spec), (before.spec.parent, after.spec.parent)):
            if old is not None:
                data = old.data.model_copy(update={"name": "imagenet64"})
                changes = {"data": data, "augmentation": IMAGENET64.augmentation, "parent": new and new.parent}
                assert old.model_copy(update=changes) == new
    (small, *_) = scaled_cells(grid.cells, grid.scales["tiny"], "tiny")
    assert (small.spec.augmentation.padding, small.spec.data.facts.image_size) == (4, 32)


@pytest.mark.parametrize(
    ("scale", "words"),
    [
        (
            "data: imagenet46",
            "scales.x.data: found 'imagenet46'; allowed: a data set of the suite; did you mean 'imagenet64'",
        ),
        ("data: tiny_imagenet", "images to train and 10000 to validate are more than the 100000"),
        (
            "data: imagenet64, image_size: 48",
            "scales.x.image_size: cell 'a': found 48; the images of imagenet64 have 64",
        ),
    ],
)
def test_other_images_that_do_not_fit_are_refused(tmp_path: Path, scale: str, words: str) -> None:
    text = "base: {data: imagenet, model: resnet_imagenet}\ncells: [{name: a, method: dense}]\n"
    with pytest.raises(UserError, match=re.escape(words)):
        make_plan(load_text(tmp_path, f"{text}scales: {{x: {{{scale}}}}}"), "x", None)


def test_images_at_data_are_those_of_the_scale(tmp_path: Path) -> None:
    text = "cells: [{name: a, method: dense, data: imagenet, model: resnet_imagenet}]\nscales: {x: {data: imagenet64}}"
    grid, store = load_text(tmp_path, text), Store(tmp_path / "store")
    (tmp_path / "files" / "imagenet64").mkdir(parents=True)
    assert variants_of(grid, "x", store, tmp_path / "files") == {"imagenet64": "official"}
    with pytest.raises(UserError, match="the images of imagenet are not in"):
        variants_of(grid, "paper", store, tmp_path / "files")


def test_cells_that_a_scale_makes_equal_are_refused_at_that_scale(tmp_path: Path) -> None:
    text = (
        "base: {data: cifar10, method: dense}\naxes: {batch_size: [64, 128]}\n"
        "scales: {tiny: {epochs: 0.1, batch_size: 32}, mini: {epochs: 0.1}}"
    )
    grid = load_text(tmp_path, text)
    assert len(make_plan(grid, "mini", None).cells) == 2
    with pytest.raises(UserError, match="'dense batch_size=64' and 'dense batch_size=128' are the same at scale tiny"):
        make_plan(grid, "tiny", None)


@pytest.mark.parametrize("path", sorted(PAPER_CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_scale_of_the_papers_grids_can_be_planned(path: Path) -> None:
    grid = load_grid(path)
    assert "tiny" in grid.scales
    for scale in grid.scales:
        plan = make_plan(grid, scale, None)
        assert [cell.name for cell in plan.cells] == [cell.name for cell in grid.cells]
        assert not (scale == "tiny" and plan.needs_gpu)


def test_what_happens_within_a_phase_keeps_its_place_and_a_single_epoch_stays_one(tmp_path: Path) -> None:
    text = """
    base: {data: cifar10, sparsity: 0.8}
    cells:
      - {name: GMP, method: gradual_pruning}
      - {name: LTR, method: lottery_rewinding}
      - {name: superposed, method: superposed_edst}
      - {name: warm, method: dense, sparsity: 0.0, recipe: {epochs: 200, decay_epochs: [60, 120], warmup_epochs: 50}}
    scales: {tiny: {epochs: 0.04, batch_size: 64}}
    """
    grid = load_text(tmp_path, text)
    pruned, rewound, superposed, warm = (cell.spec for cell in scaled_cells(grid.cells, grid.scales["tiny"], "tiny"))
    prune, finetune = pruned.phases
    assert prune.pruning is not None
    assert (prune.pruning.begin, prune.pruning.end, prune.epochs, finetune.epochs) == (2, 8, 8, 2)
    assert prune.pruning.every == round(1000 * 704 / 352)
    assert rewound.parent is not None
    assert (rewound.parent.phases[0].epochs, rewound.parent.phases[0].keep) == (10, (1,))
    assert rewound.parent.batch_size == rewound.batch_size == 64
    assert superposed.phases[0].epochs == 1
    assert superposed.parent is not None
    assert [phase.epochs for phase in superposed.parent.phases] == [6, 4, 4, 4]
    assert isinstance(warm.phases[0].lr, LearningRate)
    assert (warm.phases[0].lr.warmup_epochs, warm.phases[0].lr.boundaries) == (2, (2, 4))


def test_heads_of_a_tree_keep_their_share_of_the_blocks(tmp_path: Path) -> None:
    cell = "{name: tree, data: cifar10, method: dense, members: 3, model: {ensemble: {kind: tree_net, head_blocks: 8}}}"
    grid = load_text(tmp_path, f"cells: [{cell}]\nscales: {{tiny: {{depth: 10}}, small: {{depth: 16}}}}")
    for scale, blocks in (("tiny", 2), ("small", 4), ("paper", 8)):
        (scaled,) = scaled_cells(grid.cells, grid.scales[scale], scale)
        assert scaled.spec.model.ensemble is not None
        assert scaled.spec.model.ensemble.head_blocks == blocks  # type: ignore[union-attr]


def test_a_cell_without_validation_images_gets_none_from_a_scale(tmp_path: Path) -> None:
    text = """
    base: {data: cifar10, method: dense}
    cells:
      - {name: a}
      - {name: b, data: {train_images: 50000, validation_images: 0}, recipe: {select: last}}
    scales: {tiny: {train_images: 2000, validation_images: 500}}
    """
    grid = load_text(tmp_path, text)
    cells = scaled_cells(grid.cells, grid.scales["tiny"], "tiny")
    assert [(cell.spec.data.train_images, cell.spec.data.validation_images) for cell in cells] == [
        (2000, 500),
        (2000, 0),
    ]


def test_a_share_of_the_images_is_one_of_the_cells_own(tmp_path: Path) -> None:
    text = """
    base: {data: cifar10, method: dense}
    cells:
      - {name: a}
      - {name: b, data: {train_images: 0.5}}
      - {name: c, data: {train_images: 50000, validation_images: 0}, recipe: {select: last}}
    scales: {tiny: {train_images: 0.1, validation_images: 0.5, test_images: 0.2}}
    """
    grid = load_text(tmp_path, text)
    data = [cell.spec.data for cell in scaled_cells(grid.cells, grid.scales["tiny"], "tiny")]
    assert [(images.train_images, images.validation_images, images.test_images) for images in data] == [
        (4500, 2500, 2000),
        (2250, 2500, 2000),
        (5000, 0, 2000),
    ]


def test_a_size_that_makes_no_network_is_a_mistake_of_the_scale(tmp_path: Path) -> None:
    cell = "{name: tree, data: cifar10, method: dense, members: 3, model: {ensemble: {kind: tree_net, head_blocks: 3}}}"
    grid = load_text(tmp_path, f"cells: [{cell}]\nscales: {{tiny: {{depth: 11}}}}")
    with pytest.raises(UserError, match=r"scales\.tiny: cell 'tree': .*6n \+ 4.*not 11"):
        scaled_cells(grid.cells, grid.scales["tiny"], "tiny")


def test_a_smaller_image_keeps_the_share_that_a_crop_moves_it_by(tmp_path: Path) -> None:
    scales = "scales: {same: {image_size: 32}, half: {image_size: 16}, odd: {image_size: 12}}"
    grid = load_text(tmp_path, CELLS + scales)
    whole = scaled_cells(grid.cells, grid.scales["same"], "same")[0].spec
    half = scaled_cells(grid.cells, grid.scales["half"], "half")[0].spec
    assert whole.run_id == grid.cells[0].spec.run_id
    assert half.data.facts is not None
    assert half.data.facts.image_size == 16
    assert half.augmentation == whole.augmentation.model_copy(update={"padding": 2})
    with pytest.raises(UserError, match=r"image_size: .*found 12; .* have 32 pixels a side; others must divide 32"):
        scaled_cells(grid.cells, grid.scales["odd"], "odd")
