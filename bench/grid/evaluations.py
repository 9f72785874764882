"""The key `evaluations` of a grid: what to evaluate on besides the test images, and the sets it stands for."""

import re
from collections.abc import Collection, Iterator
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator

from bench.data.catalog import (
    DATASETS,
    OOD_OF_IMAGENET,
    RELEASES,
    SHIFTED,
    class_names,
    find_ood,
    ood_names,
)
from bench.data.corruptions.catalog import CORRUPTIONS, SEVERITIES
from bench.data.record import ReleasedCorruptions
from bench.data.sets.imagenet import IMAGENET
from bench.data.sets.imagenet_shift import IMAGENET_REAL
from bench.errors import UserError, did_you_mean
from bench.evaluation.sets import (
    LOCAL,
    SHIFTS,
    TEST,
    AttackSet,
    CorruptedSet,
    OodSet,
    RelabelledSet,
    ShiftSet,
    TicketSet,
)
from bench.spec.record import Record
from bench.spec.run import DataSpec

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,59}")


def _distinct(values: Any) -> Any:
    if isinstance(values, list):
        for index, value in enumerate(values):
            if value in values[:index]:
                raise ValueError(f"{value!r} is there twice")
    return values


def _one_of(known: Collection[str | int]) -> BeforeValidator:
    def check(value: Any) -> Any:
        if value not in known or isinstance(value, bool):
            raise ValueError(did_you_mean(value, map(str, known)).removeprefix(";").strip())
        return value

    return BeforeValidator(check)


def _ood_name(value: Any) -> Any:
    try:
        find_ood(str(value))
    except UserError as error:
        if ":" in str(value):
            raise ValueError(str(error)) from None
        raise ValueError(did_you_mean(value, ood_names()).removeprefix(";").strip()) from None
    return value


Type = Annotated[str, _one_of(CORRUPTIONS), WithJsonSchema({"enum": [*CORRUPTIONS]})]
Severity = Annotated[int, _one_of(SEVERITIES), WithJsonSchema({"enum": [*SEVERITIES]})]
OodName = Annotated[
    str,
    BeforeValidator(_ood_name),
    WithJsonSchema({"anyOf": [{"enum": [*ood_names()]}, {"type": "string", "pattern": ":"}]}),
]
ShiftName = Annotated[str, _one_of(SHIFTS), WithJsonSchema({"enum": [*SHIFTS]})]
Budget = Annotated[float, Field(gt=0, le=255)]
Images = Annotated[int | None, Field(ge=1, le=10**9)]


class Corrupted(Record):
    """Some of the 19 types and 5 severities of corruption, all unless given, on the first `images` test images."""

    types: Annotated[list[Type], BeforeValidator(_distinct)] = Field(default=list(CORRUPTIONS), min_length=1)
    severities: Annotated[list[Severity], BeforeValidator(_distinct)] = Field(default=list(SEVERITIES), min_length=1)
    images: Images = None

    def of(self, family: str, images: int | None) -> Iterator[CorruptedSet]:
        """Yield the sets of a family, type by type."""
        for kind in self.types:
            for severity in self.severities:
                yield CorruptedSet(family, kind, severity, images)


class Ood(Record):
    """Sets out of distribution, by name or as folders of images (name -> path); the first `images` of each."""

    sets: Annotated[list[OodName], BeforeValidator(_distinct)] = Field(default=[])
    folders: dict[str, str] = Field(default={}, max_length=1_000)
    images: Images = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.sets and not self.folders:
            raise ValueError(f"no set; name some in sets ({', '.join(ood_names())}) or in folders (name: path)")
        # Folders had the names of ImageNet's sets before these did.
        taken = (*(name for name in ood_names() if name not in OOD_OF_IMAGENET or name in self.sets), TEST)
        for name in self.folders:
            if not _NAME.fullmatch(name) or name in taken:
                raise ValueError(
                    f"folders: found the name {name!r}; allowed: at most 60 lower-case letters, digits, - and _, but "
                    f"none of {', '.join(taken)}"
                )
        return self

    def all(self) -> Iterator[OodSet]:
        """Yield the named sets, then the folders."""
        for name in self.sets:
            yield OodSet(name, None, self.images)
        for name, folder in self.folders.items():
            yield OodSet(name, folder, self.images)


class Shift(Record):
    """Natural shift of ImageNet, all sets unless given: the first `images` of each; imagenet_real is other labels."""

    sets: Annotated[list[ShiftName], BeforeValidator(_distinct)] = Field(default=list(SHIFTS), min_length=1)
    images: Images = None

    def all(self) -> Iterator[ShiftSet | RelabelledSet]:
        """Yield the sets."""
        for name in self.sets:
            yield ShiftSet(name, self.images) if name in SHIFTED else RelabelledSet(name)


class Fgsm(Record):
    """The fast gradient sign method (Goodfellow et al. 2015); budgets in 1/255 of images in [0, 1]."""

    budgets: Annotated[list[Budget], BeforeValidator(_distinct)] = Field(default=[8.0], min_length=1, max_length=1_000)
    images: Images = None


class Pgd(Fgsm):
    """Projected gradient descent from a random start (Madry et al. 2018)."""

    steps: int = Field(default=20, ge=1, le=10_000)


class Evaluations(Record):
    """What to evaluate besides the test images, by kind; nothing unless given."""

    cifar_c: Corrupted | None = None
    imagenet_c: Corrupted | None = None
    local_c: Corrupted | None = None
    shift: Shift | None = None
    ood: Ood | None = None
    fgsm: Fgsm | None = None
    pgd: Pgd | None = None

    @property
    def of_ensembles(self) -> bool:
        """Whether any set is an attack."""
        return self.fgsm is not None or self.pgd is not None

    def _released(self) -> list[tuple[str, Corrupted]]:
        asked = (("cifar_c", self.cifar_c), ("imagenet_c", self.imagenet_c))
        return [(key, corrupted) for key, corrupted in asked if corrupted is not None]

    def ticket_sets(self, data: DataSpec) -> tuple[TicketSet, ...]:
        """Return the sets on which every ticket of a run on this data is evaluated, in the order of the fields."""
        sets: list[TicketSet] = []
        for key, corrupted in self._released():
            release = _release_of(key, data.name)
            if release is not None:
                family, images = release.family(corrupted.images, data.test_images)
                sets += corrupted.of(family, images)
        if self.local_c is not None:
            sets += self.local_c.of(LOCAL, _some(self.local_c.images, data))
        if self.shift is not None:
            sets += self.shift.all()
        if self.ood is not None:
            sets += self.ood.all()
        return tuple(sets)

    def attack_sets(self, data: DataSpec) -> tuple[AttackSet, ...]:
        """Return the attacks on every ensemble of runs on this data."""
        return tuple(
            AttackSet(asked.steps if isinstance(asked, Pgd) else 0, budget, _some(asked.images, data))
            for asked in (self.fgsm, self.pgd)
            if asked is not None
            for budget in asked.budgets
        )

    def problem(self, data: DataSpec) -> tuple[str, str] | None:
        """Return the key and a message of what cannot be for a data set, None if all is well."""
        for key, _ in self._released():
            if _release_of(key, data.name) is None:
                known = ", ".join(release.of for release in RELEASES.values() if release.key == key)
                return key, f"there is none of {data.name}, only of {known}; local_c makes one"
        listed = DATASETS.get(data.name)
        if self.local_c is not None and listed is not None and listed.source is None:
            release = next(release for release in RELEASES.values() if release.of == data.name)
            return "local_c", f"{data.name} has a released set: {release.key}"
        if self.ood is not None and data.name in self.ood.sets:
            return "ood.sets", f"{data.name} is what these runs are trained on"
        classes = class_names(data.name)
        if self.shift is not None and classes != IMAGENET.class_names:
            # On those classes of a set that a network knows a score would have the set's name and another meaning.
            return "shift", f"there is none of {data.name}, only of data sets of ImageNet's 1,000 classes by WordNet id"
        if self.shift is not None and IMAGENET_REAL.name in self.shift.sets and data.name != IMAGENET.name:
            return "shift.sets", f"{IMAGENET_REAL.name} are labels of the test images of {IMAGENET.name} alone"
        strict = [name for name in self.ood.sets if name in OOD_OF_IMAGENET] if self.ood is not None else []
        if strict and not (classes and set(classes) <= set(IMAGENET.class_names)):
            return "ood.sets", (
                f"{strict[0]} has no class of ImageNet, but may have some of {data.name}; if not, name its folder in "
                "ood.folders"
            )
        return None


def _some(images: int | None, data: DataSpec) -> int | None:
    """Return how many images to take, None where that is all of the test images."""
    return None if images is None or images >= data.test_images else images


def _release_of(key: str, name: str) -> ReleasedCorruptions | None:
    """Return the released corruptions of a data set that a key of the evaluations asks for, None if there are none."""
    return next((release for release in RELEASES.values() if (release.key, release.of) == (key, name)), None)
