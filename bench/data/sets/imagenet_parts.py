"""Smaller sets made of ImageNet's classes: Imagenette and Imagewoof (10 classes each), ImageNet-100, Tiny ImageNet."""

from pathlib import Path

from bench.data.record import DataSet
from bench.data.sets.imagenet import IMAGENET, labels_of_val
from bench.data.streamed.source import FileSource
from bench.errors import UserError
from bench.spec.run import Augmentation, ResizedCrop

# https://github.com/fastai/imagenette; 160, 320 or full size, all read the same.
_NETTE = "n01440764 n02102040 n02979186 n03000684 n03028079 n03394916 n03417042 n03425413 n03445777 n03888257"
_WOOF = "n02086240 n02087394 n02088364 n02089973 n02093754 n02096294 n02099601 n02105641 n02111889 n02115641"
_FAST_AI = "By hand: extract https://s3.amazonaws.com/fast-ai-imageclas/{name}-320.tgz into the data folder"


def _fast_ai(name: str, stem: str, classes: str, train: int, test: int) -> DataSet:
    validation = train // 20
    return DataSet(
        name=name,
        classes=10,
        train_images=train - validation,
        validation_images=validation,
        test_images=test,
        mean=IMAGENET.mean,
        std=IMAGENET.std,
        augmentation=ResizedCrop(scale=(0.35, 1.0)),
        source=FileSource(
            names=(name, f"{stem}-320", f"{stem}-160", stem),
            train=("train",),
            test=("val",),
            official=(train, test),
            by_hand=_FAST_AI.format(name=stem),
        ),
        image_size=128,
        class_names=tuple(classes.split()),
    )


IMAGENETTE = _fast_ai("imagenette", "imagenette2", _NETTE, 9_469, 3_925)
IMAGEWOOF = _fast_ai("imagewoof", "imagewoof2", _WOOF, 9_025, 3_929)

# The classes of Tian et al. 2020 (CMC), from the images of ImageNet.
IMAGENET100 = DataSet(
    name="imagenet100",
    classes=100,
    train_images=121_689,
    validation_images=5_000,
    test_images=5_000,
    mean=IMAGENET.mean,
    std=IMAGENET.std,
    augmentation=ResizedCrop(),
    source=FileSource(
        names=("imagenet100", "imagenet"),
        train=("train", "ILSVRC2012_img_train"),
        test=("val", "validation", "ILSVRC2012_img_val"),
        around=("ILSVRC/Data/CLS-LOC", "Data/CLS-LOC"),
        flat_labels=labels_of_val,
        official=(126_689, 5_000),
        some_classes=True,
        numbers=IMAGENET.class_names,
        by_hand="Its images are those of ImageNet, wherever that is",
    ),
    image_size=224,
    class_names=tuple(sorted(Path(__file__).with_name("imagenet100_classes.txt").read_text(encoding="ascii").split())),
)


def _tiny_labels(where: Path, root: Path) -> dict[str, str] | None:
    """Return the class of each file of val/images, as val_annotations.txt gives it."""
    for folder in (where, root / "val"):
        path = folder / "val_annotations.txt"
        if path.is_file():
            lines = [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines() if line]
            if any(len(line) < 2 for line in lines):
                raise UserError(f"{path}: a line without a file name and a class; extract the archive again")
            return {line[0]: line[1] for line in lines}
    return None


# Stanford CS231n. The labels of its test images are not public, so val/ tests.
TINY_IMAGENET = DataSet(
    name="tiny_imagenet",
    classes=200,
    train_images=90_000,
    validation_images=10_000,
    test_images=10_000,
    mean=(0.4802, 0.4481, 0.3975),
    std=(0.2770, 0.2691, 0.2821),
    augmentation=Augmentation(padding=8, padding_mode="zero", flip=True),
    source=FileSource(
        names=("tiny_imagenet", "tiny-imagenet-200"),
        train=("train",),
        test=("val",),
        flat_labels=_tiny_labels,
        official=(100_000, 10_000),
        side=64,
        by_hand="By hand: extract http://cs231n.stanford.edu/tiny-imagenet-200.zip into the data folder",
    ),
    image_size=64,
)
