"""The sets that tickets and ensembles are evaluated on.

A set is named images on which logits are stored once, such as "local-c/fog/3". No set is part of a run's identity: one
that is added to a finished store later is evaluated without training. What changes the images of a set is in its name
(how many, if not all; how many steps an attack takes), so that no two meanings share one.
"""

from dataclasses import dataclass
from typing import Literal

from bench.data.catalog import SHIFTED, find_ood
from bench.data.corruptions.catalog import VERSION
from bench.data.sets.imagenet_shift import IMAGENET_REAL
from bench.spec.run import DataSpec

# Those made here; a version of which a pixel means something else is another family.
LOCAL = "local-c" if VERSION == 1 else f"local-c-v{VERSION}"
# Images of a folder out of distribution, to estimate hours by.
FOLDER_IMAGES = 10_000
# The set of images in distribution, with which others are compared.
TEST = "test"


@dataclass(frozen=True)
class OwnSet:
    """The images that a run's own data set holds for testing it, or for choosing its epochs."""

    part: Literal["test", "validation"]

    @property
    def name(self) -> str:
        """Return "test" or "validation"."""
        return self.part

    def count(self, data: DataSpec) -> int:
        """Return how many images there are, for runs on `data`."""
        return data.test_images if self.part == "test" else data.validation_images


def own_sets(data: DataSpec) -> tuple[OwnSet, ...]:
    """Return the sets on which every ticket is evaluated, whatever its grid asks for."""
    return (OwnSet("test"), OwnSet("validation")) if data.validation_images else (OwnSet("test"),)


@dataclass(frozen=True)
class CorruptedSet:
    """Corrupted test images; family is "local-c" or the name of a released set; images None means all."""

    family: str
    type: str
    severity: int
    images: int | None = None

    @property
    def name(self) -> str:
        """Such as "local-c/fog/3"."""
        return f"{self.family}{_size(self.images)}/{self.type}/{self.severity}"

    def count(self, data: DataSpec) -> int:
        """Return how many images there are, for runs on `data`."""
        return self.images or data.test_images


@dataclass(frozen=True)
class OodSet:
    """Images that show none of the classes, by name or of a folder of the user's; images None means all."""

    source: str
    folder: str | None = None
    images: int | None = None

    @property
    def name(self) -> str:
        """Such as "ood/svhn"."""
        return f"ood{_size(self.images)}/{self.source}"

    def count(self, _: DataSpec) -> int:
        """Return how many images there are; of a folder, which only its reader knows, ten thousand."""
        available = find_ood(self.source).images if self.folder is None else FOLDER_IMAGES
        return min(self.images or available, available)


@dataclass(frozen=True)
class ShiftSet:
    """Other images of the classes of the data, by name; images None means all."""

    shifted: str
    images: int | None = None

    @property
    def name(self) -> str:
        """Such as "shift/imagenet_v2"."""
        return f"shift{_size(self.images)}/{self.shifted}"

    def count(self, _: DataSpec) -> int:
        """Return how many images there are."""
        available = SHIFTED[self.shifted].images
        return min(self.images or available, available)


@dataclass(frozen=True)
class RelabelledSet:
    """Other labels of the test images, by name: nothing is predicted, what was predicted of them is judged anew."""

    relabelled: str

    @property
    def name(self) -> str:
        """Such as "labels/imagenet_real"."""
        return f"labels/{self.relabelled}"

    def count(self, _: DataSpec) -> int:
        """Return 0, the number of images to predict."""
        return 0


@dataclass(frozen=True)
class AttackSet:
    """Test images moved to raise the loss by at most budget / 255 a pixel; steps 0 is FGSM, more are PGD's."""

    steps: int
    budget: float
    images: int | None = None

    @property
    def attack(self) -> str:
        """Return "fgsm", or "pgd-20" for twenty steps."""
        return f"pgd-{self.steps}" if self.steps else "fgsm"

    @property
    def name(self) -> str:
        """Such as "pgd-20/8"."""
        return f"{self.attack}{_size(self.images)}/{self.budget:g}"

    def count(self, data: DataSpec) -> int:
        """Return how many images there are, for runs on `data`."""
        return self.images or data.test_images

    def passes(self, members: int) -> int:
        """Return how often an image passes forward through one of the members, backward counting twice.

        An attack is made on each of several members, and on all of them together; all see each of its images.
        """
        gradients, others = (self.steps + 1, 2) if self.steps else (1, 0)
        attacked = 2 * members if members > 1 else 1
        return attacked * (3 * gradients + others) + (members + 1 if members > 1 else 1) * members


# Of a run's tickets, each by itself; attacks are made on an ensemble as a whole, and so belong to a cell's replicate.
TicketSet = OwnSet | CorruptedSet | OodSet | ShiftSet | RelabelledSet
# Sets of other images, and of other labels.
SHIFTS = (*SHIFTED, IMAGENET_REAL.name)


def _size(images: int | None) -> str:
    return "" if images is None else f"-{images}-images"
