"""What readers call the sets that networks are evaluated on; files and grids have short names for them."""

from collections import Counter
from collections.abc import Iterable

TITLES = {
    "cifar10": "CIFAR-10",
    "cifar100": "CIFAR-100",
    "digits": "Digits",
    "gaussian": "Gaussian noise",
    "imagenet": "ImageNet",
    "imagenet_a": "ImageNet-A",
    "imagenet_o": "ImageNet-O",
    "imagenet_r": "ImageNet-R",
    "imagenet_real": "ImageNet ReaL labels",
    "imagenet_sketch": "ImageNet-Sketch",
    "imagenet_v2": "ImageNet-V2",
    "inaturalist": "iNaturalist",
    "mnist": "MNIST",
    "ninco": "NINCO",
    "openimage_o": "OpenImage-O",
    "ssb_hard": "SSB-hard",
    "svhn": "SVHN",
    "test": "Test images",
    "textures": "Textures",
    "uniform": "Uniform noise",
}


def set_titles(names: Iterable[str]) -> dict[str, str]:
    """Return the titles of sets; the name of a set instead where two have one title, as a folder named SVHN."""
    titles = {name: set_title(name) for name in names}
    count = Counter(titles.values())
    return {name: title if count[title] == 1 else name for name, title in titles.items()}


def set_title(name: str) -> str:
    """Return the title of a set, its name where it has none."""
    return TITLES.get(name, name)
