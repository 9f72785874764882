"""ImageNet (ILSVRC 2012): its grids can be planned. Its images cannot be read yet."""

from bench.data.record import DataSet
from bench.spec.run import Augmentation

IMAGENET = DataSet(
    name="imagenet",
    classes=1000,
    train_images=1_271_167,
    validation_images=10_000,
    test_images=50_000,
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
    augmentation=Augmentation(padding=0, padding_mode="zero", flip=True),
    source=None,
    image_size=224,
)
