"""How far apart tickets lie in weight space: against sets of positions by hand, and what is left out."""

import json
from itertools import combinations

import numpy as np
import pytest

from analysis.diversity.weights import load_overlap
from analysis.report import all_tables
from bench.metrics.weights import OVERALL
from bench.spec.run import MASK_PREFIX
from tests.analysis.lookup import column, mean_and_half_width
from tests.analysis.stores import cell_of, flip_a_bit, numbers_of, of, truncate
from tests.analysis.synthetic import labels_of, logits_of, shapes_of, tensors_of, write_run


def tensors(plan, cell, replicate):
    """Every ticket of a replicate as it was written, in order."""
    specs = {run.id: run.spec for run in plan.runs}
    chosen = [specs[run] for run in cell_of(plan, cell).runs[replicate - 1]]
    return [tensors_of(spec, index) for spec in chosen for index in range(spec.tickets)]


def positions(ticket, layer):
    return set(zip(*np.nonzero(ticket[f"{MASK_PREFIX}{layer}"]), strict=True))


@pytest.fixture(scope="module")
def found(robust):
    return numbers_of(load_overlap, robust.plan, robust.store)[0]


# Two runs of one ticket, and one run of three.
@pytest.mark.parametrize("cell", ["DST M=2 S=0.8", "EDST M=3 S=0.9"])
@pytest.mark.parametrize("replicate", [1, 2])
def test_every_pair_in_every_layer_by_hand(robust, found, cell, replicate):
    tickets, layers = tensors(robust.plan, cell, replicate), shapes_of(robust.plan.runs[0].spec)
    rows = of(found, cell=cell, replicate=replicate)
    assert len(rows) == len(list(combinations(tickets, 2))) * (len(layers) + 1)
    for (first, ticket), (second, other) in combinations(enumerate(tickets, start=1), 2):
        pair = of(rows, first=first, second=second).set_index("layer")
        assert list(pair.index) == [*layers, OVERALL]
        both, either, distances = 0, 0, []
        for layer, shape in layers.items():
            a, b = positions(ticket, layer), positions(other, layer)
            assert pair.at[layer, "iou"] == pytest.approx(len(a & b) / len(a | b))
            both, either = both + len(a & b), either + len(a | b)
            neurons = [({p for p in a if p[0] == n}, {p for p in b if p[0] == n}) for n in range(shape[0])]
            distances.append(np.mean([len(i ^ j) / max(len(i | j), 1) for i, j in neurons]))
            assert pair.at[layer, "topological_distance"] == pytest.approx(distances[-1])
            cosine = np.vdot(ticket[layer], other[layer]) / np.linalg.norm(ticket[layer]) / np.linalg.norm(other[layer])
            assert pair.at[layer, "weight_cosine"] == pytest.approx(cosine, abs=1e-6)
        assert pair.at[OVERALL, "iou"] == pytest.approx(both / either)
        assert pair.at[OVERALL, "topological_distance"] == pytest.approx(np.mean(distances))
        whole, rest = (np.concatenate([t[layer].ravel() for layer in layers]) for t in (ticket, other))
        cosine = whole @ rest / np.linalg.norm(whole) / np.linalg.norm(rest)
        assert pair.at[OVERALL, "weight_cosine"] == pytest.approx(cosine, abs=1e-6)


def test_dense_tickets_have_a_cosine_and_no_masks(robust, found):
    ticket, other = tensors(robust.plan, "dense ensemble M=2", 1)
    rows = of(found, cell="dense ensemble M=2", replicate=1).set_index("layer")
    assert rows[["iou", "topological_distance"]].isna().all(axis=None)
    for layer in shapes_of(robust.plan.runs[0].spec):
        cosine = np.vdot(ticket[layer], other[layer]) / np.linalg.norm(ticket[layer]) / np.linalg.norm(other[layer])
        assert rows.at[layer, "weight_cosine"] == pytest.approx(cosine, abs=1e-6)
    assert "dense" not in set(found["cell"]), "a single network has no pair"


def test_a_missing_ticket_makes_fewer_pairs(evaluated):
    plan = evaluated.plan
    (run,) = cell_of(plan, "EDST M=3 S=0.9").runs[1]
    spec = next(planned.spec for planned in plan.runs if planned.id == run)
    (evaluated.store.run(run).path / "tickets" / "0.safetensors").unlink()
    write_run(evaluated.store, spec, logits_of("edst", spec.seed, 3, 60), labels_of(60), missing={0})
    found, _ = numbers_of(load_overlap, evaluated.plan, evaluated.store)
    rows = of(found, cell="EDST M=3 S=0.9", replicate=2, layer=OVERALL)
    assert list(zip(rows["first"], rows["second"], strict=True)) == [(1, 2)]
    ticket, other = (tensors_of(spec, index) for index in (1, 2))
    active = [
        np.concatenate([t[f"{MASK_PREFIX}{layer}"].ravel() for layer in shapes_of(spec)]) for t in (ticket, other)
    ]
    assert rows["iou"].item() == pytest.approx((active[0] & active[1]).sum() / (active[0] | active[1]).sum())


@pytest.mark.parametrize("damage", [truncate, flip_a_bit])
def test_a_damaged_ticket_is_named_and_the_other_replicates_are_read(evaluated, damage):
    run = cell_of(evaluated.plan, "DST M=2 S=0.8").runs[0][1]
    path = evaluated.store.run(run).path / "tickets" / "0.safetensors"
    damage(path)
    found, problems = numbers_of(load_overlap, evaluated.plan, evaluated.store)
    assert [str(path) in problem for problem in problems] == [True]
    assert set(of(found, cell="DST M=2 S=0.8")["replicate"]) == {2}
    assert set(of(found, cell="EDST M=3 S=0.9")["replicate"]) == {1, 2}


@pytest.mark.parametrize("tickets", [None, [{"epoch": 3}], 3])
def test_a_result_that_says_too_little_of_tickets_is_named(evaluated, tickets):
    run = cell_of(evaluated.plan, "DST M=2 S=0.8").runs[0][1]
    path = evaluated.store.run(run).path / "result.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "tickets": tickets}))
    found, problems = numbers_of(load_overlap, evaluated.plan, evaluated.store)
    assert [problem.startswith(f"{path}: not the result of a finished run (tickets") for problem in problems] == [True]
    assert set(of(found, cell="DST M=2 S=0.8")["replicate"]) == {2}


def test_distances_of_tickets_are_means_over_pairs_of_all_layers(all_of_it):
    table = next(table for table in all_tables(all_of_it) if table.name == "small_weights")
    rows = of(all_of_it.numbers("diversity").overlap, cell="EDST M=3 S=0.9", layer="overall")
    mean, half_width = mean_and_half_width(rows.groupby("replicate")["iou"].mean())
    assert column(table, "Mask overlap (IoU)") == {
        "dense ensemble M=2": "",
        "DST M=2 S=0.8": column(table, "Mask overlap (IoU)")["DST M=2 S=0.8"],
        "EDST M=3 S=0.9": f"{mean:.4f} ± {half_width:.4f}",
    }
