"""The data sets by name: what a plan must know of them without loading an image or importing torch."""

from dataclasses import dataclass

from bench.spec.run import Augmentation


@dataclass(frozen=True)
class DatasetFacts:
    """Sizes, normalisation (per channel, of images in [0, 1]) and augmentation of a data set of RGB images.

    The training set holds train_images + validation_images; the last ones validate (released code, utils.py).
    """

    classes: int
    train_images: int
    validation_images: int
    test_images: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    augmentation: Augmentation
    image_size: int = 32


DATASETS: dict[str, DatasetFacts] = {
    "digits": DatasetFacts(
        classes=10,
        train_images=1257,
        validation_images=180,
        test_images=360,
        mean=(0.3060, 0.3060, 0.3060),
        std=(0.3241, 0.3241, 0.3241),
        # A mirrored digit is another sign; a shift of 4 pixels is one pixel of the 8x8 original.
        augmentation=Augmentation(padding=4, padding_mode="zero", flip=False),
    ),
    "cifar10": DatasetFacts(
        classes=10,
        train_images=45_000,
        validation_images=5_000,
        test_images=10_000,
        mean=(0.4914, 0.4822, 0.4465),
        std=(0.2023, 0.1994, 0.2010),
        augmentation=Augmentation(padding=4, padding_mode="reflect", flip=True),
    ),
    "cifar100": DatasetFacts(
        classes=100,
        train_images=45_000,
        validation_images=5_000,
        test_images=10_000,
        mean=(0.5071, 0.4865, 0.4409),
        std=(0.2673, 0.2564, 0.2762),
        augmentation=Augmentation(padding=4, padding_mode="zero", flip=True),
    ),
    # Grids can be planned; its images can not be read yet (bench.data.sources).
    "imagenet": DatasetFacts(
        classes=1000,
        train_images=1_271_167,
        validation_images=10_000,
        test_images=50_000,
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
        augmentation=Augmentation(padding=0, padding_mode="zero", flip=True),
        image_size=224,
    ),
}
