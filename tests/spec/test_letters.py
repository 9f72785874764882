"""A new letter of the alphabet of recipes cannot be overlooked: not by the type checker, and not by the trainer."""

import ast
from pathlib import Path
from typing import get_args

import pytest

from bench.recipes import Setting
from bench.recipes.alternating import acdc
from bench.recipes.dynamic import edst
from bench.spec.phases import Action, Densify, GlobalExploration, Inherit, LearningRate, Phase, Prune, Ramp
from tests.training.runs import make_trainer, nothing, run_spec

ROOT = Path(__file__).resolve().parents[2]
ACTIONS = get_args(get_args(Action)[0])
LETTERS = {letter.__name__ for letter in (*ACTIONS, LearningRate, Ramp)}
SOURCES = sorted(path for room in ("bench", "analysis", "slurm") for path in (ROOT / room).rglob("*.py"))
SETTING = Setting(members=2, learning_rate=0.05)


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_letters_are_told_apart_by_a_match_that_the_type_checker_holds_complete(source: Path) -> None:
    for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "isinstance":
            names = {name.id for name in ast.walk(node.args[1]) if isinstance(name, ast.Name)}
            assert not names & LETTERS, f"line {node.lineno}: isinstance goes on without a word when a letter is added"
        if isinstance(node, ast.Match):
            classes = [pattern for pattern in ast.walk(node) if isinstance(pattern, ast.MatchClass)]
            if {ast.unparse(pattern.cls) for pattern in classes} & LETTERS:
                last = node.cases[-1]
                assert ast.unparse(last.pattern) == "_", f"line {node.lineno}"
                assert ast.unparse(last.body[0]).startswith("assert_never("), f"line {last.body[0].lineno}"


ALTERNATING = acdc(SETTING, epochs=4, first_dense_epochs=1, alternation_epochs=1)
DENSE, SPARSE, DENSE_AGAIN, LAST = ALTERNATING
# What the history of a run calls an action, and phases that have it. Inherit changes no mask.
RECORDED: dict[type, tuple[str, tuple[Phase, ...]]] = {
    GlobalExploration: ("global_exploration", edst(SETTING, exploration_epochs=1, refinement_epochs=2)),
    Prune: ("prune", ALTERNATING),
    Densify: ("densify", ALTERNATING),
}


def test_every_action_is_known_here() -> None:
    assert {*RECORDED, Inherit} == set(ACTIONS)


@pytest.mark.parametrize("action", RECORDED)
def test_the_history_says_of_every_action_what_it_did(action: type) -> None:
    kind, phases = RECORDED[action]
    trainer = make_trainer(run_spec(phases, density=0.2))
    while not trainer.finished:
        trainer.train_epoch(nothing)
    updates = [update["kind"] for line in trainer.at.history for update in line["updates"]]
    assert updates.count(kind) == sum(type(found) is action for phase in phases for found in phase.on_start) > 0


@pytest.mark.parametrize(
    ("phases", "density", "message"),
    [
        ((DENSE_AGAIN, LAST), 0.2, "must have pruned them before"),
        ((SPARSE, DENSE_AGAIN.model_copy(update={"ticket": LAST.ticket})), 0.2, "'dense 2' leaves a ticket with all"),
        ((LAST.model_copy(update={"on_start": (Prune(), Densify())}),), 0.2, "'sparse 2' leaves a ticket with all"),
        (ALTERNATING, None, "needs a sparse network"),
    ],
)
def test_weights_become_active_again_after_a_pruning_and_no_ticket_has_all_of_them(
    phases: tuple[Phase, ...], density: float | None, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        run_spec(phases, density=density)
