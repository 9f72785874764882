"""The `evaluations` of a grid: which sets they stand for, what is refused, and what a plan says is left of them."""

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from bench.data.corruptions.catalog import CORRUPTIONS
from bench.errors import UserError
from bench.evaluation.sets import AttackSet, CorruptedSet, OodSet, OwnSet
from bench.grid import load_grid
from bench.grid.evaluations import Evaluations
from bench.plan import Plan, make_plan, print_plan, select, to_json
from bench.plan.cost import RUN_SECONDS
from bench.plan.evaluations import ensembles_of, evaluation_bytes
from bench.plan.total import SET_SECONDS, left_of
from bench.spec.run import DataSpec
from bench.store.logits import Ensemble
from bench.store.store import Store
from bench.work.items import RunWork
from tests.grid_text import load_text, write_grid
from tests.training.runs import dense_spec

DIGITS = DataSpec(name="digits", train_images=1257, validation_images=180, test_images=360)
CIFAR = DataSpec(name="cifar10", train_images=45_000, validation_images=5_000, test_images=10_000)
CELLS = """
base: {data: digits, model: {depth: 10, width: 1}, recipe: {epochs: 4}}
replicates: 2
cells:
  - {name: one, method: dense}
  - {name: two, method: dense, members: 2}
  - {name: pruned, method: prune_finetune, sparsity: 0.8, recipe: {dense_epochs: 3, epochs: 3}}
"""


def plan_of(folder: Path, evaluations: str, store: Store | None = None, scale: str = "paper") -> Plan:
    return make_plan(load_text(folder, f"{CELLS}\n{evaluations}"), scale, store)


def names(evaluations: dict[str, object], data: DataSpec = CIFAR) -> list[str]:
    made = Evaluations.model_validate(evaluations)
    return [one.name for one in (*made.ticket_sets(data), *made.attack_sets(data))]


# -- which sets --------------------------------------------------------------------------------------------------------


def test_all_types_and_severities_unless_given() -> None:
    sets = Evaluations.model_validate({"local_c": {}}).ticket_sets(CIFAR)
    assert sets == tuple(CorruptedSet("local-c", kind, severity) for kind in CORRUPTIONS for severity in range(1, 6))


def test_the_released_set_is_that_of_the_data() -> None:
    asked: dict[str, object] = {"cifar_c": {"types": ["fog"], "severities": [3]}}
    assert names(asked) == ["cifar-10-c/fog/3"]
    assert names(asked, CIFAR.model_copy(update={"name": "cifar100"})) == ["cifar-100-c/fog/3"]


def test_what_changes_the_images_of_a_set_is_in_its_name() -> None:
    assert names({"local_c": {"types": ["fog"], "severities": [3], "images": 500}}) == ["local-c-500-images/fog/3"]
    assert names({"ood": {"sets": ["svhn"], "folders": {"scans": "x"}, "images": 9}}) == [
        "ood-9-images/svhn",
        "ood-9-images/scans",
    ]
    assert names({"fgsm": {"budgets": [0.5, 8]}, "pgd": {"budgets": [8], "steps": 7, "images": 100}}) == [
        "fgsm/0.5",
        "fgsm/8",
        "pgd-7-100-images/8",
    ]


def test_as_many_images_as_there_are_or_more_are_all() -> None:
    assert names({"fgsm": {"images": 10_000}}) == ["fgsm/8"] == names({"fgsm": {"images": 20_000}})


def test_the_size_of_a_subset_of_imagenet_c_is_in_its_name() -> None:
    data = DataSpec(name="imagenet", train_images=1, validation_images=1, test_images=50_000)
    asked = {"types": ["fog"], "severities": [3]}
    assert names({"imagenet_c": asked}, data) == ["imagenet-c/fog/3"]
    assert names({"imagenet_c": {**asked, "images": 5000}}, data) == ["imagenet-c-5000/fog/3"]


IMAGENET = DataSpec(name="imagenet", train_images=1, validation_images=1, test_images=50_000)


def test_natural_shift_is_every_set_unless_some_are_named_and_relabelling_predicts_nothing() -> None:
    sets = Evaluations.model_validate({"shift": {}}).ticket_sets(IMAGENET)
    assert {asked.name: asked.count(IMAGENET) for asked in sets} == {
        "shift/imagenet_v2": 10_000,
        "shift/imagenet_a": 7_500,
        "shift/imagenet_r": 30_000,
        "shift/imagenet_sketch": 50_889,
        "labels/imagenet_real": 0,
    }
    asked: dict[str, object] = {"shift": {"sets": ["imagenet_real", "imagenet_a"], "images": 50}}
    assert names(asked, IMAGENET) == ["labels/imagenet_real", "shift-50-images/imagenet_a"]


def test_images_of_none_of_imagenets_classes_are_for_networks_of_some_of_them() -> None:
    asked = Evaluations.model_validate({"ood": {"sets": ["svhn", "ninco"]}, "shift": {"sets": ["imagenet_v2"]}})
    assert asked.problem(IMAGENET) is None
    part = IMAGENET.model_copy(update={"name": "imagenet100"})
    assert asked.problem(part) == (
        "shift",
        "there is none of imagenet100, only of data sets of ImageNet's 1,000 classes by WordNet id",
    )
    assert asked.model_copy(update={"shift": None}).problem(part) is None


def test_a_folder_may_have_the_name_that_a_set_of_imagenet_was_given_later() -> None:
    assert names({"ood": {"folders": {"textures": "x"}}}) == ["ood/textures"]
    with pytest.raises(ValueError, match="found the name 'textures'"):
        Evaluations.model_validate({"ood": {"sets": ["textures"], "folders": {"textures": "x"}}})


def test_every_set_is_read_back_as_what_it_was_written_as() -> None:
    """Workers are given their work as a file."""
    sets = Evaluations.model_validate({"shift": {}, "ood": {"sets": ["ninco"], "folders": {"a": "b"}}}).ticket_sets(
        IMAGENET
    )
    spec = dense_spec()
    work = RunWork(spec=spec, cell="one", evaluations=sets)
    assert RunWork.model_validate_json(work.model_dump_json()).evaluations == sets


# -- mistakes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{local: {}}", "evaluations.local: unknown key; did you mean 'local_c'? allowed: cifar_c"),
        ("{local_c: {types: [fogg]}}", "local_c.types[0]: found 'fogg'; did you mean 'fog'? allowed: brightness"),
        ("{local_c: {types: []}}", "local_c.types: found an empty list; at least one value is needed"),
        ("{local_c: {types: [fog, fog]}}", "local_c.types: found a list; 'fog' is there twice"),
        ("{local_c: {severities: [6]}}", "local_c.severities[0]: found 6; allowed: 1, 2, 3, 4, 5"),
        ("{local_c: {severities: [true]}}", "local_c.severities[0]: found true; allowed: 1, 2, 3, 4, 5"),
        ("{local_c: {images: 0}}", "local_c.images: found 0; allowed: at least 1"),
        ("{local_c: [fog]}", "evaluations.local_c: found a list; allowed: a mapping"),
        ("{cifar_c: {}}", "evaluations.cifar_c: there is none of digits, only of cifar10, cifar100; local_c makes one"),
        ("{imagenet_c: {}}", "evaluations.imagenet_c: there is none of digits, only of imagenet; local_c makes one"),
        ("{shift: {}}", "evaluations.shift: there is none of digits, only of data sets of ImageNet's 1,000 classes"),
        ("{shift: {sets: [imagenet_v3]}}", "shift.sets[0]: found 'imagenet_v3'; did you mean 'imagenet_v2'?"),
        ("{shift: {sets: []}}", "shift.sets: found an empty list; at least one value is needed"),
        ("{ood: {sets: [ninco]}}", "evaluations.ood.sets: ninco has no class of ImageNet, but may have some of digits"),
        ("{ood: {}}", "evaluations.ood: found a mapping; no set; name some in sets (svhn, mnist"),
        ("{ood: {sets: [svnh]}}", "evaluations.ood.sets[0]: found 'svnh'; did you mean 'svhn'?"),
        ("{ood: {sets: [digits]}}", "evaluations.ood.sets: digits is what these runs are trained on"),
        (
            "{ood: {folders: {../x: y}}}",
            "folders: found the name '../x'; allowed: at most 60 lower-case letters, digits, - and _",
        ),
        ("{ood: {folders: {svhn: y}}}", "folders: found the name 'svhn'; allowed: at most 60 lower-case"),
        ("{ood: {folders: {test: y}}}", "folders: found the name 'test'; allowed: at most 60 lower-case"),
        ("{fgsm: {budgets: [0]}}", "evaluations.fgsm.budgets[0]: found 0; "),
        ("{pgd: {steps: 0}}", "evaluations.pgd.steps: found 0; allowed: at least 1"),
        ("{fgsm: {steps: 3}}", "evaluations.fgsm.steps: unknown key"),
    ],
)
def test_a_mistake_is_one_message_with_its_key(tmp_path: Path, text: str, message: str) -> None:
    path = write_grid(tmp_path, f"{CELLS}\nevaluations: {text}\n")
    with pytest.raises(UserError) as refused:
        make_plan(load_grid(path), "paper", None)
    assert str(refused.value).startswith(f"{path}: evaluations")
    assert message in str(refused.value)


def test_what_a_scale_asks_for_is_named_there(tmp_path: Path) -> None:
    grid = load_text(tmp_path, f"{CELLS}\nevaluations: {{}}\nscales: {{tiny: {{evaluations: {{cifar_c: {{}}}}}}}}")
    make_plan(grid, "paper", None)
    with pytest.raises(UserError, match=r"scales\.tiny\.evaluations\.cifar_c: there is none of digits"):
        make_plan(grid, "tiny", None)


# -- plans -------------------------------------------------------------------------------------------------------------

ASKED = "evaluations: {local_c: {types: [fog, snow], severities: [1, 5]}, fgsm: {budgets: [1, 2]}}"


def test_every_run_of_a_cell_is_evaluated_and_mere_parents_are_not(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, ASKED)
    own = {run for cell in plan.cells for replicate in cell.runs for run in replicate}
    assert {run.id for run in plan.runs if run.evaluations} == own
    assert len(own) < len(plan.runs)
    assert {tuple(one.name for one in run.evaluations) for run in plan.runs if run.id in own} == {
        ("test", "validation", "local-c/fog/1", "local-c/fog/5", "local-c/snow/1", "local-c/snow/5")
    }


def test_ensembles_are_the_distinct_replicates_of_cells_the_first_ones_first(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, ASKED)
    runs = {cell.name: cell.runs for cell in plan.cells}
    expected = [(name, replicate) for replicate in range(2) for name in ("one", "two", "pruned")]
    assert [(one.cells, one.ensemble.runs) for one in plan.ensembles] == [
        ((name,), runs[name][replicate]) for name, replicate in expected
    ]
    assert [spec.run_id for one in plan.ensembles for spec in one.specs] == [
        run for one in plan.ensembles for run in one.ensemble.runs
    ]
    assert plan.ensembles[0].evaluations == (AttackSet(0, 1.0), AttackSet(0, 2.0))


def test_evaluations_are_no_part_of_what_a_run_is(tmp_path: Path) -> None:
    assert [run.id for run in plan_of(tmp_path, ASKED).runs] == [run.id for run in plan_of(tmp_path, "").runs]


def test_a_plan_without_evaluations_has_its_own_images_alone(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, "")
    assert (plan.sets, plan.sets_left, plan.ensembles) == (6 * 2, 6 * 2, ())
    assert {asked.name for run in plan.runs for asked in run.evaluations} == {"test", "validation"}


def test_a_scale_replaces_what_the_grid_asks_for(tmp_path: Path) -> None:
    scales = "scales: {tiny: {replicates: 1, evaluations: {ood: {sets: [uniform]}}}, mini: {replicates: 1}}"
    tiny = plan_of(tmp_path, f"{ASKED}\n{scales}", scale="tiny")
    assert {one for run in tiny.runs for one in run.evaluations} == {
        OwnSet("test"),
        OwnSet("validation"),
        OodSet("uniform"),
    }
    assert tiny.ensembles == ()
    assert len(plan_of(tmp_path, f"{ASKED}\n{scales}", scale="mini").ensembles) == 3


def test_a_grid_that_extends_another_has_evaluations_of_its_own_or_none(tmp_path: Path) -> None:
    scales = "scales: {tiny: {replicates: 1, evaluations: {ood: {sets: [uniform]}}}}"
    (tmp_path / "below.yaml").write_text(f"{CELLS}\n{ASKED}\n{scales}\n")
    above = load_text(tmp_path, "extends: below.yaml\ncells: [{name: other, method: dense, members: 3}]")
    assert [make_plan(above, scale, None).sets for scale in ("paper", "tiny")] == [12, 6]
    own = load_text(tmp_path, "extends: below.yaml\nevaluations: {fgsm: {}}")
    assert [make_plan(own, scale, None).sets for scale in ("paper", "tiny")] == [18, 9]


def test_a_scale_has_no_evaluations_without_those_they_stand_for(tmp_path: Path) -> None:
    path = write_grid(tmp_path, f"{CELLS}\nscales: {{tiny: {{evaluations: {{fgsm: {{}}}}}}}}")
    with pytest.raises(UserError, match=r"scales\.tiny\.evaluations: the grid has none to stand for"):
        load_grid(path)


def test_selected_runs_bring_the_ensembles_made_of_them_alone(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, ASKED)
    chosen = select(plan, ["cell=one"])
    assert [one.cells for one in ensembles_of(plan, chosen)] == [("one",), ("one",)]


def test_a_plan_says_how_many_sets_of_what_are_left(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, ASKED)
    # 4 runs of dense networks and 2 pruned ones see six sets each, 6 ensembles two attacks
    assert plan.sets == plan.sets_left == 6 * 6 + 6 * 2
    assert (
        "48 evaluation sets (1 of test, 1 of validation, 4 of local-c, 2 of fgsm; by run, attacks by ensemble): 48 left"
        in shown(plan)
    )
    document = json.loads(to_json(plan))
    assert document["totals"]["evaluation_sets_left"] == 48
    assert document["evaluations"] == {"test": 1, "validation": 1, "local-c": 4, "fgsm": 2}


@pytest.mark.parametrize(
    ("steps", "members", "passes"),
    [
        (0, 1, 3 + 1),  # forward and backward, then it is met
        (0, 3, 2 * 3 * 3 + 4 * 3),  # three members one by one, three at once; four crafted versions meet three members
        (5, 1, 3 * 6 + 2 + 1),  # FGSM's gradient and five more, the harm of its point and of the last
        (5, 3, 6 * (3 * 6 + 2) + 4 * 3),
    ],
)
def test_passes_of_an_attack(steps: int, members: int, passes: int) -> None:
    assert AttackSet(steps, 8.0).passes(members) == passes


def test_evaluation_is_priced_as_a_third_of_training_an_image(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, "evaluations: {local_c: {types: [fog]}, ood: {sets: [digits]}}".replace("digits", "svhn"))
    seen = 360 + 180 + 5 * 360 + 26_032
    own = [run for run in plan.runs if run.evaluations]
    start, opened = RUN_SECONDS / 3600, SET_SECONDS / 3600
    expected = sum((run.hours - start) / (run.spec.epochs * 1257) / 3 * seen + 8 * opened for run in own)
    (left,) = left_of([plan])
    assert (left.sets, left.evaluation) == (8 * len(own), pytest.approx(expected))
    assert left.training == pytest.approx(sum(run.hours for run in plan.runs))
    assert evaluation_bytes(plan) == len(own) * seen * 10 * 4
    attacked = plan_of(tmp_path, "evaluations: {fgsm: {images: 100}}")
    hours = {run.id: (run.hours - start) / (run.spec.epochs * 1257) / 3 for run in attacked.runs}
    by_hand = sum(hours[run.id] * (360 + 180) + 2 * opened for run in attacked.runs if run.evaluations)
    for one in attacked.ensembles:
        passes = 4 if one.ensemble.members == 1 else 2 * 2 * 3 + 3 * 2
        by_hand += 100 * passes * sum(hours[run] for run in one.ensemble.runs) / len(one.ensemble.runs) + opened
    (left,) = left_of([attacked])
    assert left.evaluation == pytest.approx(by_hand)


def test_the_order_of_runs_makes_another_ensemble() -> None:
    assert len({Ensemble(("a", "b"), 2).id, Ensemble(("b", "a"), 2).id, Ensemble(("a", "b"), 1).id}) == 3


def shown(plan: Plan) -> str:
    text = io.StringIO()
    print_plan(plan, Console(file=text, width=200))
    return text.getvalue()
