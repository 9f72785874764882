"""What about a spec cannot be trained: found when the grid is read, so that a plan holds no such run."""

from functools import lru_cache

from bench.data.catalog import find_data_set
from bench.models.layers import ImageKey, ModelKey, cached_layers, cached_rest, layers_of
from bench.sparsity.problems import topology_problem
from bench.sparsity.schedule import drop_fraction
from bench.spec.phases import Phase
from bench.spec.run import ResizedCrop, RunSpec, Topology

# The cost of each is added up.
MOST_PRUNINGS = 1_000_000


def find_problem(spec: RunSpec) -> tuple[tuple[str, ...], str] | None:
    """Return the keys and a message of the first thing about a spec that cannot be trained, None if all is well."""
    facts = find_data_set(spec.data.name, spec.data.variant)
    pool = facts.train_images + facts.validation_images
    if spec.data.train_images + spec.data.validation_images > pool:
        return ("data", "train_images"), (
            f"{spec.data.train_images} images to train and {spec.data.validation_images} to validate are more than "
            f"the {pool} training images of {spec.data.name}"
        )
    if spec.data.test_images > facts.test_images:
        found, allowed = spec.data.test_images, facts.test_images
        return ("data", "test_images"), f"found {found}; {spec.data.name} has {allowed} test images"
    try:
        layers_of(spec.model, spec.data)
    except ValueError as error:
        return ("model",), str(error)
    if isinstance(spec.augmentation, ResizedCrop):
        if spec.validation_augmented:
            return ("semantics", "validation_augmented"), f"found true; allowed for {spec.data.name}: false"
    elif spec.augmentation.padding >= facts.image_size:
        padding, size = spec.augmentation.padding, facts.image_size
        return ("augmentation", "padding"), f"found {padding}; allowed: less than {size}, the size of an image"
    problem = None
    if spec.topology is not None:
        problem = _topology_problem(ModelKey.of(spec.model), ImageKey.of(spec.data), spec.topology)
    for run in (spec,) if spec.parent is None else (spec.parent, spec):
        problem = problem or _rewiring_problem(run) or _stillness_problem(run)
    return problem


@lru_cache(maxsize=4096)  # the cells of a grid share a few
def _topology_problem(model: ModelKey, images: ImageKey, topology: Topology) -> tuple[tuple[str, ...], str] | None:
    shapes = {layer.name: layer.shape for layer in cached_layers(model, images)}
    others = {other.name: other.why for other in cached_rest(model, images).parameters}
    return topology_problem(model.name, shapes, others, topology)


def _rewiring_problem(spec: RunSpec) -> tuple[tuple[str, ...], str] | None:
    step, updates, longest = 0, 0, 0
    last = spec.epochs * spec.steps_per_epoch
    for phase in spec.phases:
        end = step + phase.epochs * spec.steps_per_epoch
        if phase.rewire is not None:
            first = (step // phase.rewire.every + 1) * phase.rewire.every  # of a schedule, it drops most
            if first <= end and drop_fraction(phase.rewire.drop_fraction, phase.rewire.schedule, first, last) > 0:
                updates += 1
            longest = max(longest, phase.rewire.every)
        if phase.pruning is not None:
            span = (phase.pruning.end - phase.pruning.begin) * spec.steps_per_epoch
            if span // phase.pruning.every > MOST_PRUNINGS:
                return ("recipe",), (
                    f"an update every {phase.pruning.every} of {span:,} steps of pruning; at most {MOST_PRUNINGS:,} "
                    "updates are allowed"
                )
            if phase.pruning.every > span:
                return ("recipe",), (
                    f"an update every {phase.pruning.every} steps, but pruning lasts {span}, so all of it would happen "
                    f"at once; at most {span} is allowed"
                )
        step = end
    if longest and not updates:
        cosine = any(phase.rewire is not None and phase.rewire.schedule == "cosine" for phase in spec.phases)
        at_the_end = " (at the last step a cosine schedule drops nothing)" if cosine else ""
        return ("recipe",), (
            f"dT = {longest} steps, but the run has {step} ({spec.epochs} epochs of {spec.steps_per_epoch}), "
            f"so the topology would never change{at_the_end}; at most {max(1, step - cosine)} is allowed"
        )
    return None


def _stillness_problem(spec: RunSpec) -> tuple[tuple[str, ...], str] | None:
    """Return which phase moves no weight; one of rate 0 is meant to, in a run that starts from a parent's weights."""
    steps = 0
    for phase in spec.phases:
        length = phase.epochs * spec.steps_per_epoch
        if phase.lr.highest and not _moves(phase, spec.steps_per_epoch, range(steps, steps + length)):
            found = f"dT = {phase.rewire.every}: " if phase.rewire else ""
            return ("recipe", "update_every"), (
                f"{found}topology updates take the place of all optimiser steps of phase {phase.name!r}, so no weight "
                "would move; allowed: updates further apart, or semantics: {update_step: after_optimizer}"
            )
        steps += length
    if spec.parent is None and not any(phase.lr.highest for phase in spec.phases):
        return ("recipe",), "a learning rate of 0 in all phases, so no weight would move; allowed: a rate above 0"
    return None


def _moves(phase: Phase, steps_per_epoch: int, steps: range) -> bool:
    rewire = phase.rewire
    if rewire is None or rewire.update_step == "after_optimizer":
        return True
    return rewire.every > 1 and any(
        phase.lr.at(step, steps_per_epoch, phase.epochs) > 0 and (steps.start + step + 1) % rewire.every
        for step in range(len(steps))
    )
