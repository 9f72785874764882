"""What a message says of names: harmless to the terminal that shows it, and no longer than a person reads."""

import pytest

from bench.errors import USUAL_NAMES, counted, did_you_mean, nearest, printable
from bench.grid.entry import CellEntry, OptimizerChoice
from bench.grid.method import parameters_of
from bench.recipes import METHODS


def test_controls_in_names_are_written_out() -> None:
    assert printable("a\tb\x1b[31m\u202e ä漢\nnext") == "a\\tb\\x1b[31m\\u202e ä漢\nnext"


def test_a_long_list_of_what_is_allowed_is_cut_and_the_nearest_is_named_all_the_same() -> None:
    options = [f"n{number:08d}" for number in range(1_000)]
    message = did_you_mean("n00000977x", options)
    assert message.startswith("; did you mean 'n00000977'? allowed: n00000000, ")
    assert message.endswith(", n00000039, ... and 960 more")
    assert did_you_mean("x", options[:40]).endswith("n00000039")


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 runs"), (1, "1 run"), (2, "2 runs"), (1_000, "1,000 runs"), (-1, "-1 runs")]
)
def test_a_count_agrees_with_its_noun(count: int, text: str) -> None:
    assert counted(count, "run") == text


def test_the_nearest_are_spelled_alike_or_hold_what_was_found() -> None:
    names = ["superposed EDST M=1", "DST M=3", "EDST M=3", "dense"]
    assert nearest("edst", names, 3) == ["EDST M=3", "superposed EDST M=1"]
    assert nearest("denze", names, 3) == ["dense"]
    assert nearest("x", names, 3) == []
    assert nearest("superposed", names) == ["superposed EDST M=1"]


@pytest.mark.parametrize(
    ("found", "meant"),
    [("lr", "learning_rate"), ("WD", "weight_decay"), ("bs", "batch_size"), ("l", None), ("e", None)],
)
def test_initials_mean_the_words(found: str, meant: str | None) -> None:
    keys = ["batch_size", "epochs", "learning_rate", "momentum", "weight_decay"]
    assert nearest(found, keys) == ([meant] if meant else [])


@pytest.mark.parametrize(
    ("found", "options", "meant"),
    [
        ("lr", ["momentum", "learning_rate"], ["learning_rate"]),
        ("LR", ["momentum", "learning_rate"], ["learning_rate"]),
        ("lr", ["name", "optimizer"], ["optimizer.learning_rate"]),
        ("learning-rate", ["name", "optimizer"], ["optimizer.learning_rate"]),
        ("n_members", ["name", "members"], ["members"]),
        ("num_epochs", ["name", "recipe"], ["recipe.epochs"]),
        ("num_epochs", ["exploration_epochs", "growth"], ["exploration_epochs"]),
        ("lr", ["seed", "status"], []),
    ],
)
def test_a_usual_name_means_the_key_of_a_grid(found: str, options: list[str], meant: list[str]) -> None:
    assert nearest(found, options) == meant


def test_usual_names_stand_for_keys_that_exist_and_each_for_one() -> None:
    of_cell = set(CellEntry.model_fields)
    held = {
        "optimizer": set(OptimizerChoice.model_fields),
        "recipe": {key for method in METHODS.values() for key in parameters_of(method).model_fields},
        "execution": set(CellEntry.model_fields["execution"].default.__class__.model_fields),
    }
    for path in USUAL_NAMES:
        holder, _, key = path.rpartition(".")
        assert key in (held[holder] if holder else of_cell)
    names = [name for path, names in USUAL_NAMES.items() for name in (*names, path.rpartition(".")[2].replace("_", ""))]
    assert len(names) == len(set(names))
