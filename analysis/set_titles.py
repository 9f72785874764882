"""What readers call the sets that networks are evaluated on; files and grids have short names for them."""

TITLES = {
    "cifar10": "CIFAR-10",
    "cifar100": "CIFAR-100",
    "digits": "Digits",
    "gaussian": "Gaussian noise",
    "imagenet": "ImageNet",
    "imagenet_a": "ImageNet-A",
    "imagenet_r": "ImageNet-R",
    "imagenet_real": "ImageNet ReaL labels",
    "imagenet_sketch": "ImageNet-Sketch",
    "imagenet_v2": "ImageNet-V2",
    "mnist": "MNIST",
    "svhn": "SVHN",
    "test": "Test images",
    "uniform": "Uniform noise",
}


def set_title(name: str) -> str:
    """Return the title of a set, its name where it has none."""
    return TITLES.get(name, name)
