"""Small plans, what is left of them, and arrays: made without a grid or a store."""

import sys
from collections.abc import Sequence
from pathlib import Path

from submitit.core.utils import DelayedSubmission, JobPaths

from bench.evaluation.sets import AttackSet, CorruptedSet, TicketSet
from bench.plan import EnsemblePlan, Plan, RunPlan
from bench.plan.records import Status
from bench.recipes import Setting
from bench.recipes.fixed import step_decay
from bench.spec.run import Augmentation, DataSpec, Execution, ModelSpec, Optimizer, RunSpec
from bench.store.folders import Store
from bench.store.logits import Ensemble
from slurm.dispatch import Options
from slurm.element import Element
from slurm.ledger import BatchFolder, Ledger
from slurm.records import EnsembleItem, Resources, RunItem, Unit
from slurm.site import Site
from slurm.units import Array, Place

SPEC = RunSpec(
    data=DataSpec(name="digits", train_images=1000, validation_images=180, test_images=360),
    model=ModelSpec(name="wide_resnet", arguments={"depth": 10, "width": 1}),
    topology=None,
    phases=step_decay(Setting(members=1, learning_rate=0.1), epochs=8),
    optimizer=Optimizer(),
    batch_size=128,
    augmentation=Augmentation(padding=4, padding_mode="zero", flip=False),
    validation_augmented=False,
    execution=Execution(),
    seed=18,
)
# Short enough for the longest names of files, with what shells and format strings take for something else.
STRANGE = "a \"b\" 'c' $d `e` {f} & é"


def fog(*severities: int) -> tuple[TicketSet, ...]:
    return tuple(CorruptedSet("local-c", "fog", severity) for severity in severities)


def run(
    name: str,
    status: Status = "missing",
    *,
    parent: str | None = None,
    hours: float = 1.0,
    sets: tuple[TicketSet, ...] = (),
    evaluated: int = 0,
    cells: tuple[str, ...] = ("cell",),
) -> RunPlan:
    return RunPlan(
        id=name,
        seed=18,
        like=SPEC,
        parent=parent,
        status=status,
        reason="",
        train_flops=1.0,
        train_flops_ratio=1.0,
        hours=hours,
        hours_device="CPU",
        hours_basis="assumed",
        cells=cells,
        evaluations=sets,
        evaluated=evaluated,
    )


def ensemble(runs: Sequence[str], budgets: Sequence[float] = (8,), evaluated: int = 0) -> EnsemblePlan:
    attacks = tuple(AttackSet(0, float(budget)) for budget in budgets)
    return EnsemblePlan(Ensemble(tuple(runs), len(runs)), (SPEC,) * len(runs), attacks, evaluated, ("cell",))


def plan(
    *runs: RunPlan, ensembles: Sequence[EnsemblePlan] = (), grid: str = "grid"
) -> tuple[Plan, tuple[RunPlan, ...]]:
    """Return a plan with all of its runs chosen."""
    return Plan(grid, "", "paper", False, (), runs, tuple(ensembles)), runs


def item(
    name: str, hours: float = 1.0, evaluation_hours: float = 0.0, parent: str | None = None, grid: str = "grid paper"
) -> RunItem:
    sets = fog(1) if evaluation_hours else ()
    return RunItem(
        id=name,
        grid=grid,
        cells=("cell",),
        spec=SPEC,
        parent=parent,
        evaluations=sets,
        hours=hours,
        evaluation_hours=evaluation_hours,
    )


def attacked(*runs: str, hours: float = 0.1) -> EnsembleItem:
    return EnsembleItem(
        runs=runs,
        members=len(runs),
        specs=(SPEC,) * len(runs),
        evaluations=(AttackSet(0, 8.0),),
        cells=("cell",),
        hours=hours,
    )


def unit(*names: str, grid: str = "grid paper") -> Unit:
    return Unit(train=names, evaluate=names, runs=tuple(item(name, grid=grid) for name in names))


def array(
    *units: Unit, after: str | Place | None = None, at_once: int = 1, resources: Resources | None = None
) -> Array:
    wanted = Resources(processes=1, nodes=1, gpus=0, gpu_type=None, cpus=4, memory_gb=4, minutes=30)
    return Array(resources or wanted, units, after, at_once)


def a_site(**keys: object) -> Site:
    return Site.model_validate({"gpus": 0, "max_array_size": 100, **keys})


def options(site: Site | None = None, data: Path | None = None) -> Options:
    return Options(site or a_site(), "my_site.yaml", data, False)


def ledger_of(folder: Path) -> Ledger:
    return Ledger(Store(folder / "store"))


def grid_of(folder: Path, cells: int) -> Path:
    """Write a grid of so many cells, all different; one in ten prunes a dense network of its own."""
    rows = [
        f"  - {{name: row {row}, seed: {1000 * row}, "
        + (
            "method: prune_finetune, sparsity: 0.8, recipe: {dense_epochs: 3, epochs: 3}}"
            if row % 10 == 0
            else f"method: dst, sparsity: 0.8, recipe: {{epochs: 8, update_every: {1 + row % 70}}}}}"
        )
        for row in range(cells)
    ]
    path = folder / "grid.yaml"
    base = "base: {data: digits, model: {depth: 10, width: 1}}\nreplicates: 1\n"
    path.write_text(base + "cells:\n" + "\n".join(rows) + "\n", encoding="utf-8")
    return path


SBATCH = """#!/bin/sh
# Takes the next id after 100, and keeps what it was given: script, files beside it, environment, working folder.
pwd > "$(dirname "$0")/place"
cd "$(dirname "$0")"
id=$(($(wc -l < jobs) + 101))
name=$(sed -n "s/^#SBATCH --job-name=//p" "$1")
array=$(sed -n "s/^#SBATCH --array=0-\\([0-9]*\\)%.*/\\1/p" "$1")
cat "$1" > $id.sh
ls "$(dirname "$1")" > $id.files
env > environment
if [ -f refuse ]; then
    # SLURM 22.05: what sbatch refuses for what it asks of a node stays in the list for a while.
    echo "$id $name ${array:--} FAILED BadConstraints" >> jobs
    cat refuse >&2
    exit 1
fi
echo "$id $name ${array:--} PENDING Priority" >> jobs
if [ -f complain ]; then
    cat complain >&2
    exit 1
fi
echo "Submitted batch job $id"
"""
SQUEUE = """#!/bin/sh
''':' ; exec "{python}" -IS "$0" "$@" # a first line can not name an interpreter in "a folder" '''
import sys
from pathlib import Path
options = dict(one.lstrip("-").split("=", 1) for one in sys.argv[1:] if "=" in one)
for line in Path(__file__).with_name("jobs").read_text().splitlines():
    job, name, last, state, reason = line.split()
    if name not in options["name"].split(","):
        continue
    for index in range(int(last) + 1) if last != "-" else [None]:
        element = job if index is None else f"{{job}}_{{index}}"
        text = options["format"]
        facts = dict(i=element, K="N/A" if index is None else index, T=state, r=reason, N="", V="N/A", S="N/A", j=name)
        for key, value in facts.items():
            text = text.replace("%" + key, str(value))
        print(text)
"""


def fake_slurm(folder: Path) -> Path:
    """Write sbatch, squeue, srun and sinfo that know nothing of a cluster but the file `jobs`; return their folder.

    With a file `refuse` in it, sbatch refuses with that complaint; with `complain`, it accepts and complains.
    """
    folder.mkdir()
    (folder / "jobs").touch()
    programs = {
        "sbatch": SBATCH,
        "squeue": SQUEUE.format(python=sys.executable),
        "srun": "#!/bin/sh\nexit 1\n",
        "sinfo": "#!/bin/sh\nprintf 'cpu\\ngpu\\ngpu\\n'\n",
        "sacct": "#!/bin/sh\nexit 1\n",
    }
    for name, text in programs.items():
        (folder / name).write_text(text, encoding="utf-8")
        (folder / name).chmod(0o755)
    return folder


def calls(slurm: Path) -> list[str]:
    """Return the names of the jobs that sbatch was called for."""
    return [line.split()[1] for line in (slurm / "jobs").read_text(encoding="utf-8").splitlines()]


def pickles(folder: BatchFolder) -> list[Element]:
    return [
        DelayedSubmission.load(JobPaths(folder.path, element).submitted_pickle).function
        for element in folder.submitted() or ()
    ]
