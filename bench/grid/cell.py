"""One cell: what its keys resolve to, the spec of its first run.

Everything that is named (method, data set, network, switches) is looked up and checked here, so that a plan holds
nothing that could not be trained.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from bench.data.cache import default_root
from bench.data.catalog import DATASETS, facts_to_name, find_data_set, remember_folder, resized
from bench.data.image_folder import open_image_folder
from bench.data.record import DataSet
from bench.data.streamed.folder import open_file_folder
from bench.errors import UserError, counted, did_you_mean
from bench.grid.entry import CellEntry, DataChoice, OptimizerChoice, TopologyChoice
from bench.grid.images import images_of
from bench.grid.method import find_method, make_phases
from bench.grid.network import resolve_model
from bench.grid.problems import find_problem
from bench.recipes import Method, RecipeWithParent, Semantics, Setting
from bench.sparsity.distribution import density_of
from bench.spec.messages import Locate, shown, validated
from bench.spec.phases import Phase
from bench.spec.run import Augmentation, DataSpec, ModelSpec, Optimizer, ResizedCrop, RunSpec, Topology

# Run j of replicate r trains with seed + 100 r + j: no seed depends on M, so ensembles of every size share runs.
RUNS_A_REPLICATE = 100


@dataclass(frozen=True)
class Cell:
    """A row of a table, resolved; `spec` is that of its first run, the others differ in the seed alone.

    The tickets of runs_a_replicate runs make the members of one ensemble. Each run has a parent of its own seed, or all
    of a replicate share that of its first seed.
    """

    name: str
    method: str
    members: int
    sparsity: float
    replicates: int
    runs_a_replicate: int
    shared_parent: bool
    spec: RunSpec

    def seeds(self, replicate: int) -> range:
        """Return the seeds of the runs of a replicate."""
        first = self.spec.seed + RUNS_A_REPLICATE * replicate
        return range(first, first + self.runs_a_replicate)

    def specs(self, replicate: int) -> Iterator[RunSpec]:
        """Yield the specs of the runs of a replicate."""
        seeds = self.seeds(replicate)
        for seed in seeds:
            changes: dict[str, Any] = {"seed": seed}
            if self.spec.parent is not None:
                parent_seed = seeds[0] if self.shared_parent else seed
                changes["parent"] = self.spec.parent.model_copy(update={"seed": parent_seed})
            yield self.spec.model_copy(update=changes)


def resolve(entry: CellEntry, locate: Locate) -> Cell:
    """Return the cell of an entry; UserError at the path that locate(*keys) gives for what cannot be."""
    data = _data_set(entry.data, locate)
    method = find_method(entry.method, locate)
    _check_sparsity(entry, method, locate)
    semantics = entry.semantics.resolved(lambda *keys: locate("semantics", *keys))
    model = resolve_model(entry.model, entry.members, locate)
    # A recipe is told how many networks the members are: EDST on a tree of three heads takes one ticket for three.
    networks = entry.members // model.members if entry.members % model.members == 0 else entry.members
    setting = Setting(members=networks, learning_rate=entry.optimizer.learning_rate, semantics=semantics)
    recipe = make_phases(method, entry.method, entry.recipe, setting, locate)
    spec = _spec(entry, data, model, semantics, recipe, locate)
    problem = find_problem(spec)
    if problem is not None:
        keys, message = problem
        if keys[0] == "recipe" and keys[-1] not in entry.recipe:  # a method of the user's own calls it otherwise
            keys = ("recipe",)
        raise UserError(f"{locate(*keys)}: {message}")
    return Cell(
        name=entry.name,
        method=entry.method,
        members=entry.members,
        sparsity=entry.sparsity,
        replicates=entry.replicates,
        runs_a_replicate=_runs_a_replicate(entry, spec, locate),
        shared_parent=recipe.shared,
        spec=spec,
    )


def _spec(
    entry: CellEntry,
    data: DataSet,
    model: ModelSpec,
    semantics: Semantics,
    recipe: RecipeWithParent,
    locate: Locate,
) -> RunSpec:
    def spec(phases: tuple[Phase, ...], *, sparse: bool, parent: RunSpec | None) -> RunSpec:
        return RunSpec(
            data=_data(entry.data, data),
            model=model,
            topology=_topology(entry.sparsity, entry.topology, semantics, phases) if sparse else None,
            phases=phases,
            optimizer=_optimizer(entry.optimizer),
            batch_size=entry.batch_size,
            augmentation=augmentation,
            validation_augmented=semantics.validation_augmented,
            execution=entry.execution,
            seed=entry.seed,
            parent=parent,
        )

    augmentation = _augmentation(entry.augmentation, data, locate)
    sparse = bool(entry.sparsity)
    try:
        parent = None
        if recipe.parent:
            parent = spec(recipe.parent, sparse=sparse and recipe.parent_sparse, parent=None)
        return spec(recipe.phases, sparse=sparse, parent=parent)
    except ValidationError as error:
        reason = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise UserError(f"{locate('method')}: {entry.method}: {reason}") from None


def _data_set(choice: DataChoice, locate: Locate) -> DataSet:
    """Return the record of the images of a cell; UserError if there is none, or a folder cannot be used."""
    if choice.folder is None:
        name = str(choice.name)
        if name not in DATASETS and ":" not in name:
            other = ", or a data set elsewhere as package.module:name"
            raise UserError(f"{locate('data', 'name')}: found {shown(name)}{did_you_mean(name, DATASETS)}{other}")
        try:
            data = find_data_set(name)
        except UserError as error:
            raise UserError(f"{locate('data', 'name')}: {str(error).removeprefix('data: ')}") from None
        try:
            return resized(data, choice.image_size or data.image_size)
        except UserError as error:
            raise UserError(f"{locate('data', 'image_size')}: {error}") from None
    try:
        data = _folder(choice)
    except (UserError, RuntimeError) as error:  # RuntimeError: there is no user whose home ~ would be
        raise UserError(f"{locate('data', 'folder')}: {error}") from None
    except OSError as error:
        raise UserError(f"{locate('data', 'folder')}: {choice.folder}: {error.strerror}") from None
    if data.name in DATASETS:
        raise UserError(
            f"{locate('data', 'folder')}: {data.name} is a data set of the suite: give the folder another `name:`, or "
            f"`data: {data.name}` and the folder with --data"
        )
    remember_folder(data)
    return data


@lru_cache(maxsize=64)  # cells share it, and each look at a folder reads the states of all its files
def _folder(choice: DataChoice) -> DataSet:
    path = Path(str(choice.folder)).expanduser()
    size = choice.image_size or 0
    if choice.storage == "streamed":
        return open_file_folder(path, size, name=choice.name, mean=choice.mean, std=choice.std)
    return open_image_folder(path, size, root=default_root(), name=choice.name, mean=choice.mean, std=choice.std)


def _data(choice: DataChoice, data: DataSet) -> DataSpec:
    return DataSpec(
        name=data.name,
        variant=data.version,
        train_images=images_of(choice.train_images, data.train_images),
        validation_images=images_of(choice.validation_images, data.validation_images),
        test_images=images_of(choice.test_images, data.test_images),
        facts=facts_to_name(data),
    )


def _topology(sparsity: float, choice: TopologyChoice, semantics: Semantics, phases: tuple[Phase, ...]) -> Topology:
    at_once = any(phase.prunes_at_once for phase in phases)
    distribution = choice.distribution or ("global" if at_once else "erk")
    drawn = not any(phase.prunes for phase in phases)  # else no mask is sampled, and the switch cannot act
    sampling = semantics.mask_sampling if drawn else "exact"
    dense = tuple(sorted(set(choice.dense)))
    return Topology(density=density_of(sparsity), distribution=distribution, sampling=sampling, dense=dense)


def _optimizer(choice: OptimizerChoice) -> Optimizer:
    return Optimizer(**choice.model_dump(exclude={"learning_rate"}))


def _augmentation(override: dict[str, Any], data: DataSet, locate: Locate) -> Augmentation | ResizedCrop:
    if not override:
        return data.augmentation
    merged = {**data.augmentation.model_dump(), **override}
    return validated(type(data.augmentation), merged, lambda *keys: locate("augmentation", *keys))


def _check_sparsity(entry: CellEntry, method: Method, locate: Locate) -> None:
    if method.sparse == "never" and entry.sparsity:
        raise UserError(
            f"{locate('sparsity')}: found {entry.sparsity}; {entry.method} trains a dense network: leave it out"
        )
    if method.sparse == "always" and not entry.sparsity:
        found = f"found {entry.sparsity}; {entry.method} trains a sparse network"
        raise UserError(f"{locate('sparsity')}: {found}: a sparsity above 0 is needed, such as 0.8")


def _runs_a_replicate(entry: CellEntry, spec: RunSpec, locate: Locate) -> int:
    members, per_run = entry.members, spec.tickets * spec.model.members
    if spec.model.samples_members and spec.tickets == 1 and members <= per_run:
        return 1  # fewer samples than are stored: the first ones
    if members % per_run:
        fits = max(1, round(members / per_run)) * per_run
        each = "" if spec.model.members == 1 else f" of {spec.model.members} members each"
        tickets = f"{counted(spec.tickets, 'ticket')}{each}"
        found = f"found {members}; a run of {entry.method} leaves {tickets}"
        raise UserError(f"{locate('members')}: {found}: a multiple of {per_run} is needed, such as {fits}")
    runs = members // per_run
    if runs > RUNS_A_REPLICATE:
        found = f"found {members}, which takes {runs} runs a replicate"
        raise UserError(
            f"{locate('members')}: {found}; at most {RUNS_A_REPLICATE} are allowed, or seeds of replicates would meet"
        )
    return runs
