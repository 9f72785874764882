"""Scales: named overlays that make all cells of a grid smaller in the same way, for the machine at hand.

Schedules keep their proportions and dT its ratio to an epoch. All of it acts on phases as data, whatever the method.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from fractions import Fraction
from math import floor, gcd
from typing import Annotated, Any, Literal, TypeVar, assert_never

from pydantic import BeforeValidator, ConfigDict, Field, WithJsonSchema

from bench.data.catalog import DATASETS, facts_of, facts_to_name, find_data_set, resized, resized_crop
from bench.errors import UserError, did_you_mean
from bench.grid.cell import Cell
from bench.grid.entry import MOST_BATCH, MOST_REPLICATES
from bench.grid.evaluations import Evaluations
from bench.grid.images import Images, images_of
from bench.grid.network import MOST_LAYERS
from bench.grid.problems import find_problem
from bench.models.catalog import find_network
from bench.spec.phases import GradualPruning, LearningRate, Phase, Ramp, Rewire
from bench.spec.record import Record
from bench.spec.run import BatchEnsemble, McDropout, Mimo, ModelSpec, RunSpec, TreeNet

PAPER = "paper"
# Times the epochs of the grid, at most, and characters of the number that says so.
MOST_TIMES = 1_000
MOST_LETTERS = 40
_LARGE_EXPONENT = re.compile(r"[eE][-+]?\d{3}")
M = TypeVar("M", Rewire, GradualPruning)


def _fraction(value: object) -> Fraction:
    """Return the exact fraction a number or a text such as 1/3 stands for."""
    if isinstance(value, Fraction):
        return value
    allowed = f"a number above 0, at most {MOST_TIMES:,}, such as 0.1, or a fraction in quotes, such as '1/3'"
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(f"allowed: {allowed}")
    try:
        if len(str(value)) > MOST_LETTERS or _LARGE_EXPONENT.search(str(value)):
            raise ValueError  # Fraction would write out all digits
        fraction = Fraction(str(value))
    except (ValueError, ZeroDivisionError):
        raise ValueError(f"allowed: {allowed}") from None
    if not 0 < fraction <= MOST_TIMES:
        raise ValueError(f"allowed: {allowed}")
    return fraction


EpochsFraction = Annotated[
    Fraction,
    BeforeValidator(_fraction),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "number", "exclusiveMinimum": 0, "maximum": MOST_TIMES},
                {"type": "string", "maxLength": MOST_LETTERS},
            ]
        }
    ),
]


def _listed(name: object) -> object:
    """Return the name of a data set of the suite."""
    if isinstance(name, str) and name not in DATASETS:
        raise ValueError(f"allowed: a data set of the suite{did_you_mean(name, DATASETS)}")
    return name


class Scale(Record):
    """What a scale changes of every cell; None leaves it as it is.

    data         other images, augmented as their record says; how many train, validate and test stays
    train_images, validation_images, test_images  a number, or a share of the cell's own (0.1: a tenth)
    epochs       fraction of each phase; exact, so 0.1 means a tenth
    evaluations  instead of the grid's own, if it has any
    needs_gpu    the scale is of no use on a machine without one
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    epochs: EpochsFraction = Fraction(1)
    data: Annotated[str | None, BeforeValidator(_listed)] = None
    image_size: int | None = Field(default=None, ge=8, le=1024)
    depth: int | None = Field(default=None, ge=1, le=MOST_LAYERS)
    width: int | None = Field(default=None, ge=1, le=MOST_LAYERS)
    train_images: Images | None = None
    validation_images: Images | None = None
    test_images: Images | None = None
    replicates: int | None = Field(default=None, ge=1, le=MOST_REPLICATES)
    batch_size: int | None = Field(default=None, ge=1, le=MOST_BATCH)
    precision: Literal["fp32", "tf32", "bf16"] | None = None
    channels_last: bool | None = None
    compile: bool | None = None
    evaluations: Evaluations | None = None
    needs_gpu: bool = False


def check_paper(scale: Scale) -> None:
    """Refuse a scale `paper` that changes the grid."""
    changed = sorted(scale.model_fields_set - {"needs_gpu"})
    if changed:
        raise UserError(f"scales.{PAPER}.{changed[0]}: this scale is the grid as written; only needs_gpu is allowed")


def scaled_cells(cells: Sequence[Cell], scale: Scale, name: str) -> tuple[Cell, ...]:
    """Return the cells at a scale; UserError that names the cell and, of wrong epochs, the fractions that work."""
    if not scale.model_fields_set - {"needs_gpu", "evaluations"}:
        return tuple(cells)
    result = []
    for cell in cells:
        try:
            spec = _scaled(cell.spec, scale)
        except UserError as error:
            raise UserError(f"scales.{name}.image_size: cell {cell.name!r}: {error}") from None
        except ValueError as error:  # no such network
            raise UserError(f"scales.{name}: cell {cell.name!r}: {error}") from None
        except _EpochsError as error:
            raise UserError(
                f"scales.{name}.epochs: cell {cell.name!r}, {error}; nearest that work for all cells: "
                f"{', '.join(_working_fractions(cells, scale.epochs))}"
            ) from None
        problem = find_problem(spec) or _missing_arguments(spec.model, scale)
        if problem is not None:
            raise UserError(f"scales.{name}: cell {cell.name!r}: {problem[1]}")
        result.append(replace(cell, spec=spec, replicates=scale.replicates or cell.replicates))
    return tuple(result)


class _EpochsError(Exception):
    """A fraction that does not fit a phase."""


def _scaled(spec: RunSpec, scale: Scale) -> RunSpec:
    def given(*keys: str) -> dict[str, Any]:
        return {key: value for key in keys if (value := getattr(scale, key)) is not None}

    changed_crop: dict[str, Any] = {}
    asked = given("train_images", "validation_images", "test_images")
    images: dict[str, Any] = {key: images_of(value, getattr(spec.data, key)) for key, value in asked.items()}
    if not spec.data.validation_images:  # a recipe that takes the last epoch has no use for any
        images.pop("validation_images", None)
    if scale.data is not None:
        other = resized(DATASETS[scale.data], scale.image_size or DATASETS[scale.data].image_size)
        images |= {"name": other.name, "variant": other.version, "facts": facts_to_name(other)}
        changed_crop["augmentation"] = other.augmentation
    elif scale.image_size is not None:
        before = facts_of(spec.data).image_size
        data = resized(find_data_set(spec.data.name, spec.data.variant), scale.image_size)
        if scale.image_size != before:
            images["facts"] = data.facts
            changed_crop["augmentation"] = resized_crop(spec.augmentation, before, scale.image_size)
    changed = spec.model_copy(
        update={
            "data": spec.data.model_copy(update=images),
            "model": _scaled_model(spec.model, given("depth", "width")),
            "execution": spec.execution.model_copy(update=given("precision", "channels_last", "compile")),
            "parent": None if spec.parent is None else _scaled(spec.parent, scale),
            **given("batch_size"),
            **changed_crop,
        }
    )
    steps = Fraction(changed.steps_per_epoch, spec.steps_per_epoch)
    return changed.model_copy(update={"phases": scaled_phases(spec.phases, scale.epochs, steps)})


def _scaled_model(model: ModelSpec, sizes: dict[str, int]) -> ModelSpec:
    """Return the network in another size; the heads of a tree keep their share of the residual blocks, one at least."""
    arguments = {**model.arguments, **{key: size for key, size in sizes.items() if key in model.arguments}}
    ensemble = model.ensemble
    match ensemble:
        case TreeNet():
            if arguments != model.arguments:
                blocks = find_network(model.name).blocks
                share = Fraction(ensemble.head_blocks, len(blocks(**model.arguments)))
                heads = max(min(1, ensemble.head_blocks), round(share * len(blocks(**arguments))))
                ensemble = ensemble.model_copy(update={"head_blocks": heads})
        case None | McDropout() | Mimo() | BatchEnsemble():
            pass
        case _:
            assert_never(ensemble)
    return ModelSpec(name=model.name, arguments=arguments, ensemble=ensemble)


def scaled_phases(phases: Iterable[Phase], epochs: Fraction, steps: Fraction) -> tuple[Phase, ...]:
    """Return phases of `epochs` times the length, with dT `steps` times as long.

    What happens within a phase (learning rates, pruning, kept weights) happens at the same fraction of it, rounded down
    to an epoch, but each learning rate lasts at least one; a warm-up of less than an epoch is none. A phase of a single
    epoch keeps it. dT is rounded and at least 1.
    """
    return tuple(_scaled_phase(phase, epochs, steps) for phase in phases)


def _scaled_phase(phase: Phase, fraction: Fraction, steps: Fraction) -> Phase:
    def every(rule: M) -> M:
        return rule.model_copy(update={"every": max(1, round(rule.every * steps))})

    changes: dict[str, Any] = {}
    if phase.rewire is not None:
        changes["rewire"] = every(phase.rewire)
    if phase.pruning is not None:
        changes["pruning"] = every(phase.pruning)
    if phase.epochs == 1:
        return phase.model_copy(update=changes)
    epochs = phase.epochs * fraction
    if epochs.denominator != 1:
        raise _EpochsError(f"phase {phase.name!r}: {_text(fraction)} of {phase.epochs} epochs is {_text(epochs)}")
    match phase.lr:
        case LearningRate():
            changes["lr"] = _scaled_rate(phase.name, phase.epochs, phase.lr, fraction)
        case Ramp():
            pass  # from start to end, however long the phase
        case _:
            assert_never(phase.lr)
    if phase.pruning is not None:
        begin, end = floor(phase.pruning.begin * fraction), floor(phase.pruning.end * fraction)
        changes["pruning"] = changes["pruning"].model_copy(update={"begin": begin, "end": max(begin + 1, end)})
    keep = tuple(dict.fromkeys(max(1, floor(epoch * fraction)) for epoch in phase.keep))
    return phase.model_copy(update={"epochs": int(epochs), "keep": keep, **changes})


def _scaled_rate(phase: str, length: int, lr: LearningRate, fraction: Fraction) -> LearningRate:
    boundaries: list[int] = []
    for boundary in lr.boundaries:
        boundaries.append(max(floor(boundary * fraction), boundaries[-1] + 1 if boundaries else 1))
    warmup = floor(lr.warmup_epochs * fraction)
    if max(warmup, *boundaries, 0) >= length * fraction:
        raise _EpochsError(
            f"phase {phase!r}: {_text(fraction)} of {length} epochs is {length * fraction}, too few for "
            f"{len(lr.values)} learning rates"
        )
    return LearningRate(values=lr.values, boundaries=tuple(boundaries), warmup_epochs=warmup)


def _working_fractions(cells: Sequence[Cell], near: Fraction) -> list[str]:
    """Return the fractions next to `near`, below and above, that fit each phase of each cell."""
    apart = {"rewire": None, "name": "", "on_start": ()}
    specs = [spec for cell in cells for spec in (cell.spec, cell.spec.parent) if spec is not None]
    phases = {phase.model_copy(update=apart) for spec in specs for phase in spec.phases if phase.epochs > 1}
    # all epochs are whole for multiples of 1 / gcd, and for no other fraction
    unit = gcd(*(phase.epochs for phase in phases))

    def fits(count: int) -> bool:
        try:
            return bool(scaled_phases(phases, Fraction(count, unit), Fraction(1)))
        except _EpochsError:
            return False

    below = next((n for n in range(floor(near * unit), 0, -1) if fits(n)), None)
    above = next(n for n in range(floor(near * unit) + 1, floor(near * unit) + unit + 2) if fits(n))
    return [_text(Fraction(n, unit)) for n in (below, above) if n is not None]


def _missing_arguments(model: ModelSpec, scale: Scale) -> tuple[tuple[str, ...], str] | None:
    for key in ("depth", "width"):
        if getattr(scale, key) is not None and key not in model.arguments:
            return ("model",), f"{key} is no argument of {model.name}; it has {', '.join(model.arguments)}"
    return None


def _text(fraction: Fraction) -> str:
    """Return 0.02 or 2.5 where the decimals end, else 1/3."""
    exact = Fraction(str(float(fraction))) == fraction
    return f"{float(fraction):g}" if exact else str(fraction)
