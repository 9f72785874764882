"""Each mistake in a grid: one message with file, key path, what was found, what is allowed, and the nearest match."""

import sys
from pathlib import Path

import pytest

from bench.errors import UserError
from bench.grid import load_grid
from bench.plan import make_plan
from tests.grid_text import load_text, write_grid

BASE = "base: {data: digits, method: dst, sparsity: 0.8, recipe: {epochs: 8, update_every: 4}}\n"


def message_of(folder: Path, text: str) -> str:
    path = write_grid(folder, text)
    with pytest.raises(UserError) as refused:
        make_plan(load_grid(path), "paper", None)
    message = str(refused.value)
    assert message.startswith(f"{path}: ")
    return message.removeprefix(f"{path}: ")


def mistake(cell: str, *words: str) -> object:
    """One wrong cell on top of BASE; the words must be in the message, in this order."""
    return pytest.param(f"{BASE}cells: [{{name: a, {cell}}}]", words, id=cell)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        # a wrong key
        mistake("memebrs: 3", "cells[0].memebrs: unknown key", "did you mean 'members'?", "allowed:", "sparsity"),
        mistake("recipe: {epoch: 9}", "cells[0].recipe.epoch: unknown key", "did you mean 'epochs'", "update_every"),
        mistake("recipe: {tickets: 3}", "cells[0].recipe.tickets: unknown key", "allowed: epochs, ", "update_every"),
        mistake("model: {dept: 28}", "cells[0].model.dept: unknown key", "'depth'"),
        mistake("data: {train: 3}", "cells[0].data.train: unknown key", "'train_images'"),
        mistake("semantics: {tie: all}", "cells[0].semantics.tie: unknown key", "'ties'"),
        mistake("optimizer.momentun: 0.9", "cells[0].optimizer.momentun: unknown key", "'momentum'"),
        mistake("augmentation: {flp: true}", "cells[0].augmentation.flp: unknown key", "'flip'"),
        # what other programs call a key
        mistake("lr: 0.1", "cells[0].lr: unknown key; did you mean 'optimizer.learning_rate'? allowed:"),
        mistake("optimizer: {lr: 0.1}", "cells[0].optimizer.lr: unknown key; did you mean 'learning_rate'? allowed:"),
        mistake("optimizer: {wd: 0}", "cells[0].optimizer.wd: unknown key; did you mean 'weight_decay'? allowed:"),
        mistake("bs: 64", "cells[0].bs: unknown key; did you mean 'batch_size'? allowed:"),
        mistake("recipe: {dT: 4}", "cells[0].recipe.dT: unknown key; did you mean 'update_every'? allowed:"),
        # a wrong type
        mistake("members: '3'", "cells[0].members: found '3'; allowed: a whole number, written without quotes"),
        mistake("members: 3.0", "cells[0].members: found 3.0; allowed: a whole number"),
        mistake("members: true", "cells[0].members: found true; allowed: a whole number"),
        mistake("members: null", "cells[0].members: found nothing; allowed: a whole number"),
        mistake("method: 3", "cells[0].method: found 3; allowed: text"),
        mistake("optimizer: 0.1", "cells[0].optimizer: found 0.1; allowed: a mapping"),
        mistake("optimizer: {nesterov: 1}", "cells[0].optimizer.nesterov: found 1; allowed: true or false"),
        mistake("recipe: {epochs: 8.5}", "cells[0].recipe.epochs: found 8.5; allowed: a whole number"),
        mistake("data: [digits]", "cells[0].data: found a list; allowed: a mapping"),
        mistake("model: {depth: 16.0}", "cells[0].model.depth: found 16.0; allowed: a whole number"),
        # a wrong value
        mistake("sparsity: 1.0", "cells[0].sparsity: found 1.0; allowed: at least 0 and less than 1"),
        mistake("sparsity: -0.1", "cells[0].sparsity: found -0.1; allowed: at least 0 and less than 1"),
        mistake("members: 0", "cells[0].members: found 0; allowed: at least 1"),
        mistake("seed: -1", "cells[0].seed: found -1; allowed: at least 0"),
        mistake("batch_size: 0", "cells[0].batch_size: found 0; allowed: at least 1"),
        mistake("optimizer: {learning_rate: 0}", "optimizer.learning_rate: found 0; allowed: more than 0"),
        mistake("optimizer: {momentum: 0, nesterov: true}", "cells[0].optimizer", "needs a momentum above 0"),
        mistake("execution: {precision: fp16}", "execution.precision: found 'fp16'", "'bf16'", "fp32, tf32, bf16"),
        mistake("recipe: {growth: gradients}", "recipe.growth: found 'gradients'", "'gradient'", "random"),
        mistake(
            "recipe: {drop_fraction: 1.5}", "cells[0].recipe.drop_fraction: found 1.5; allowed: more than 0 and less"
        ),
        mistake("recipe: {drop_fraction: 0}", "cells[0].recipe.drop_fraction: found 0; allowed: more than 0"),
        mistake("recipe: {update_every: 0}", "cells[0].recipe.update_every: found 0; allowed: at least 1"),
        mistake("recipe: {epochs: -3}", "cells[0].recipe.epochs: found -3; allowed: at least 3"),
        mistake("method: static, recipe: {epochs: 2}", "cells[0].recipe.epochs: found 2; allowed: at least 3"),
        mistake("augmentation: {padding: 32}", "cells[0].augmentation.padding: found 32; allowed: less than 32"),
        mistake(
            "sparsity: 0.9999, model: {depth: 10, width: 1}", "cells[0].sparsity: a sparsity of 0.9999 leaves none of"
        ),
        mistake("semantics: relased", "cells[0].semantics: found 'relased'", "'released'", "standard"),
        mistake("semantics: {ties: al}", "cells[0].semantics.ties: found 'al'", "'all'", "lowest_index"),
        mistake("topology: {distribution: er}", "cells[0].topology.distribution: found 'er'", "'erk'", "uniform"),
        mistake("model: {depth: 20}", "cells[0].model", "6n + 4", "not 20"),
        mistake("model: {width: 0}", "cells[0].model", "width at least 1", "not 0"),
        mistake("data: {name: digits, train_images: 1258}", "data.train_images: 1258", "more than the 1437"),
        *(
            mistake(f"data: {{train_images: {value}}}", f"cells[0].data.train_images: found {shown}; allowed: a whole")
            for value, shown in (("0.0", "0.0"), ("1.5", "1.5"), ("-0.1", "-0.1"), ("true", "true"), ("'9'", "'9'"))
        ),
        mistake(
            "data: {validation_images: -1}", "data.validation_images: found -1; allowed: a whole number, at least 0 and"
        ),
        mistake("data: {test_images: 361}", "cells[0].data.test_images: found 361; digits has 360"),
        # an unknown name
        mistake("method: rst", "cells[0].method: found 'rst'", "'dst'", "dense, static, dst, edst"),
        mistake("method: 'nowhere.to_be:found'", "cells[0].method", "cannot be imported", "nowhere"),
        mistake("method: 'bench.recipes.fixed:lost'", "cells[0].method", "cannot be imported", "lost"),
        mistake("data: cifar11", "cells[0].data: found 'cifar11'", "'cifar10'", "digits, cifar10, cifar100"),
        mistake("model: wideresnet", "cells[0].model: found 'wideresnet'", "'wide_resnet'"),
        mistake("model: {name: 'nowhere.to_be:found'}", "cells[0].model.name: 'nowhere.to_be:found'", "cannot be"),
        mistake("model: {ensemble: mimi}", "cells[0].model.ensemble: found 'mimi'", "'mimo'", "batch_ensemble"),
        mistake("model: {ensemble: {kind: mimo, size: 3}}", "ensemble.size: unknown key", "kind, members"),
        mistake("model: {ensemble: {kind: tree_net}}", "model.ensemble.head_blocks: missing"),
        mistake("model: {ensemble: tree_net}", "model.ensemble.head_blocks: missing"),
        mistake(
            "method: gradual_pruning, topology: {distribution: uniform}, recipe: {epochs: 10, update_every: 999}",
            "cells[0].recipe: an update every 999 steps, but pruning lasts 60",
        ),
        mistake("model: {ensemble: {kind: mc_dropout, rate: 1}}", "rate: found 1; allowed: at least 0 and less"),
        mistake("model: {ensemble: 3}", "cells[0].model.ensemble: found 3; allowed: a mapping"),
        # what does not go together
        mistake(
            "model: {ensemble: {kind: tree_net, head_blocks: 13}}",
            "cells[0].model: head_blocks is at most 12",
            "not 13",
        ),
        mistake(
            "model: {name: resnet_cifar, ensemble: mc_dropout}",
            "ensemble: resnet_cifar cannot be mc_dropout",
            "allowed: mimo, batch_ensemble, tree_net",
        ),
        mistake(
            "members: 4, model: {ensemble: {kind: mimo, members: 3}}",
            "members: found 4",
            "leaves 1 ticket of 3 members each",
            "such as 3",
        ),
        mistake("topology: {distribution: global}", "base.method: dst", "needs a recipe that prunes"),
        mistake("data: {validation_images: 0}", "base.method: dst", "without validation images"),
        mistake("method: gradual_pruning, recipe: {end_epoch: 8, epochs: 8}", "end_epoch: pruning from epoch 1 to 8"),
        mistake("method: dense", "base.sparsity: found 0.8; dense trains a dense network"),
        mistake("sparsity: 0", "cells[0].sparsity: found 0", "dst trains a sparse network", "above 0"),
        mistake("members: 101", "cells[0].members: found 101", "at most 100"),
        mistake("recipe: {epochs: 2}", "cells[0].recipe.epochs: found 2; allowed: at least 3"),
        mistake("recipe: {update_every: 81}", "cells[0].recipe: dT = 81 steps", "has 80", "at most 79 is allowed"),
        mistake("optimizer: {momentum: 0.8}, optimizer.momentum: 0.9", "optimizer.momentum: given twice"),
        # what YAML makes of it
        mistake("optimizer: {learning_rate: 1e-3}", "learning_rate: line 2", "1e-3 as text", "0.001 or 1.0e-3"),
        mistake("optimizer: {weight_decay: 5e-7}", "weight_decay: line 2", "5e-7 as text", "write 5.0e-7"),
        mistake("optimizer: {nesterov: yes}", "nesterov: line 2: YAML reads yes as true; write true"),
        mistake("execution: {compile: off}", "compile: line 2: YAML reads off as false; write false"),
        mistake("method: no", "cells[0].method: line 2: YAML reads no as false"),
        mistake("method: 2024-01-01", "cells[0].method: line 2: YAML reads 2024-01-01 as a date; write it in quotes"),
        mistake("members: 010", "cells[0].members: line 2", "010"),
        mistake("seed: 1:30", "cells[0].seed: line 2", "1:30"),
        mistake("sparsity: .nan", "cells[0].sparsity: line 2: '.nan' is no finite"),
        mistake("optimizer: {learning_rate: .inf}", "learning_rate: line 2: '.inf' is no finite"),
        mistake("data: !!python/name:os.system x", "cells[0].data: line 2: the tag", "not read here"),
        mistake("recipe: !!python/object:os.system {}", "cells[0].recipe: line 2: the tag", "not read here"),
    ],
)
def test_a_mistake_in_a_cell(tmp_path: Path, text: str, words: tuple[str, ...]) -> None:
    message = message_of(tmp_path, text)
    position = 0
    for word in words:
        position = message.find(word, position)
        assert position >= 0, f"{word!r} is not in {message!r}"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["an empty file", "cells"]),
        ("# nothing\n", ["an empty file"]),
        (BASE, ["no cells"]),
        (BASE + "cells: []", ["no cells"]),
        ("hello", ["found 'hello'; allowed: a mapping"]),
        ("- a", ["found a list; allowed: a mapping"]),
        ("cell: []", ["cell: unknown key; did you mean 'cells'?"]),
        (BASE + "cells: [{name: a}]\ninclude: [{name: b}]", ["include: unknown key"]),
        (BASE + "cells: {a: {members: 3}}", ["cells: found a mapping; allowed: a list"]),
        (BASE + "replicates: 0\ncells: [{name: a}]", ["replicates: found 0; allowed: at least 1"]),
        (BASE + "cells: [{members: 2}, {members: 3}]", ["cells[1].name: 'dst' names the cell at cells[0].name too"]),
        ("cells: [{name: a, method: dense}]", ["cells[0].data: missing"]),
        ("base: {data: digits, mehtod: dst}\ncells: [{name: a}]", ["base.mehtod: unknown key; did you mean 'method'?"]),
        # axes, exclude
        (BASE + "axes: {members: []}", ["axes.members: found an empty list"]),
        (BASE + "axes: {members: 3}", ["axes.members: found 3; allowed: a list"]),
        (BASE + "axes: {members: [1, 3, 1]}", ["axes.members[2]: 1 is there already, at [0]"]),
        (BASE + "axes: {sparsity: [0.5, 1.5]}", ["axes.sparsity[1]: found 1.5; allowed: at least 0 and less than 1"]),
        (BASE + "axes: {optimizer.momentun: [0.9]}", ["axes.optimizer.momentun[0]: unknown key", "'momentum'"]),
        (BASE + "axes: {members: [1]}\nexclude: [{members: 1}]", ["exclude leaves no cell"]),
        (BASE + "axes: {members: [1]}\nexclude: [{member: 1}]", ["exclude[0].member: not an axis", "'members'"]),
        (BASE + "axes: {members: [1]}\nexclude: [{members: 2}]", ["exclude[0].members: 2 is not on the axis"]),
        (BASE + "axes: {members: [1]}\nexclude: [{}]", ["exclude[0]: an empty entry"]),
        # two cells that are the same
        (
            BASE + "cells: [{name: a}, {name: a, members: 2}]",
            ["cells[1].name: 'a' names the cell at cells[0].name too"],
        ),
        (BASE + "cells: [{name: a}, {name: b}]", ["cells 'a' and 'b' are the same"]),
        (BASE + "cells: [{name: a}, {name: b, replicates: 1}]", ["cells 'a' and 'b' are the same"]),
        # scales
        (BASE + "cells: [{name: a}]\nscales: {x: {epoch: 1}}", ["scales.x.epoch: unknown key", "'epochs'"]),
        (BASE + "cells: [{name: a}]\nscales: {x: {epochs: 0}}", ["scales.x.epochs: found 0; allowed: a number above"]),
        (BASE + "cells: [{name: a}]\nscales: {x: {epochs: 1/0}}", ["scales.x.epochs: found '1/0'; allowed"]),
        (BASE + "cells: [{name: a}]\nscales: {x: {width: 0}}", ["scales.x.width: found 0; allowed: at least 1"]),
        (BASE + "cells: [{name: a}]\nscales: {x: {needs_gpu: 1}}", ["scales.x.needs_gpu: found 1; allowed: true or"]),
        (BASE + "cells: [{name: a}]\nscales: {paper: {epochs: 0.5}}", ["scales.paper.epochs: this scale is the grid"]),
        # the file
        ("base: {data: digits}\ncells:\n  - name: a\n    seed: 1\n    seed: 2\n", ["cells[0].seed", "lines 4 and 5"]),
        ("base: {data: digits\ncells: [\n", ["line 2, column 6: not valid YAML"]),
        ("base:\n\tdata: digits\n", ["line 2, column 1: not valid YAML"]),
        ("base: {}\n---\nbase: {}\n", ["line 2", "not valid YAML"]),
        ("1: {}\n", ["line 1: a key that is not text"]),
        ("base: &a {b: *a}", ["an alias (*name) that contains itself"]),
        ("base: {<<: {a: 1}}", ["base.<<: line 1: merge keys are not read"]),
    ],
)
def test_a_mistake_in_the_grid(tmp_path: Path, text: str, words: list[str]) -> None:
    message = message_of(tmp_path, text)
    for word in words:
        assert word in message


@pytest.mark.parametrize(
    ("recipe", "words"),
    [
        ("epochs: 451", ["recipe.epochs: 451", "do not divide into 3", "450 would"]),
        ("refinement_epochs: 51", ["recipe.refinement_epochs: 51", "52"]),
        ("tickets: 0", ["recipe.tickets: found 0; allowed: at least 1"]),
        ("exploration_epochs: 0", ["recipe.exploration_epochs: found 0; allowed: at least 1"]),
        ("refinement_epochs: -2", ["recipe.refinement_epochs: found -2; allowed: at least 2"]),
        ("exploration_fraction: 2", ["recipe.exploration_fraction: found 2; allowed: at least 0 and at most 1"]),
        ("epochs: 0", ["recipe.epochs: found 0; allowed: at least 1"]),
        ("tickets: 2", ["members: found 3; a run of edst leaves 2 tickets: a multiple of 2", "such as 4"]),
    ],
)
def test_edst_that_does_not_divide(tmp_path: Path, recipe: str, words: list[str]) -> None:
    text = f"cells: [{{name: a, data: cifar10, method: edst, sparsity: 0.8, members: 3, recipe: {{{recipe}}}}}]"
    message = message_of(tmp_path, text)
    assert message.startswith("cells[0].")
    for word in words:
        assert word in message


def test_edst_that_does_not_divide_on_an_axis(tmp_path: Path) -> None:
    base = "base: {data: cifar10, method: edst, sparsity: 0.8, members: 3}\n"
    message = message_of(tmp_path, base + "axes: {recipe.epochs: [450, 451]}")
    assert message.startswith("axes.recipe.epochs[1]: 451 less 150 epochs")


def test_dt_may_be_as_long_as_the_run_if_its_one_update_drops_something(tmp_path: Path) -> None:
    cell = "cells: [{name: a, recipe: {update_every: 80}, semantics: {drop_schedule: %s}}]"
    assert load_text(tmp_path, BASE + cell % "constant").cells
    assert "at the last step a cosine schedule drops nothing" in message_of(tmp_path, BASE + cell % "cosine")
    assert load_text(tmp_path, BASE + "cells: [{name: a, recipe: {update_every: 79}}]").cells


def test_several_mistakes_of_a_cell_are_one_short_list(tmp_path: Path) -> None:
    path = write_grid(tmp_path, BASE + "cells: [{name: a, membres: 1, sparsity: 2, seed: -1, b: 1, c: 1, d: 1, e: 1}]")
    with pytest.raises(UserError) as refused:
        load_grid(path)
    lines = str(refused.value).split("\n")
    assert len(lines) == 6
    assert all(line.startswith(f"{path}: ") for line in lines)
    assert lines[-1].endswith("and 2 more")


RECIPES = """
def boom(setting, *, epochs: int = 3):
    return {}["lost"]

def loose(setting, **parameters):
    return ()

def listed(setting, *parameters):
    return ()

def unreadable(setting, *, epochs: "Nothing" = 3):
    return ()
"""


@pytest.mark.parametrize(
    ("recipe", "said"),
    [
        ("plugged:boom", "'plugged:boom' raised KeyError: 'lost' ("),
        ("plugged:loose", "'plugged:loose': found the parameter **parameters; a recipe needs named parameters"),
        ("plugged:listed", "'plugged:listed': found the parameter *parameters; a recipe needs named parameters"),
        ("plugged:unreadable", "'plugged:unreadable': NameError: name 'Nothing' is not defined"),
        ("plugged_broken:any", "'plugged_broken:any' cannot be imported: ZeroDivisionError"),
    ],
)
def test_a_recipe_from_elsewhere_that_fails_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recipe: str, said: str
) -> None:
    (tmp_path / "plugged.py").write_text(RECIPES)
    (tmp_path / "plugged_broken.py").write_text("1 / 0")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "plugged", raising=False)
    cells = f"cells: [{{name: a, data: digits, method: dense}}, {{name: b, data: digits, method: '{recipe}'}}]"
    assert message_of(tmp_path, cells).startswith(f"cells[1].method: {said}")


def test_a_missing_grid_names_the_nearest_in_its_folder(tmp_path: Path) -> None:
    (tmp_path / "cifar10.yaml").touch()
    (tmp_path / "digits.yaml").touch()
    with pytest.raises(UserError, match=r"cifar1\.yaml: no such file; did you mean 'cifar10\.yaml'\?.*digits\.yaml"):
        load_grid(tmp_path / "cifar1.yaml")
    with pytest.raises(UserError, match="nor a folder"):
        load_grid(tmp_path / "nowhere" / "cifar10.yaml")
    with pytest.raises(UserError, match=r"a folder, not a grid; in it: cifar10\.yaml, digits\.yaml"):
        load_grid(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"a folder, not a grid; in it: no grid \(\*\.yaml\)"):
        load_grid(tmp_path / "empty")


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    (tmp_path / "grid.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="not UTF-8"):
        load_grid(tmp_path / "grid.yaml")
