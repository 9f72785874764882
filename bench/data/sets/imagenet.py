"""ImageNet (ILSVRC 2012), from the folders or the tars that people have; images are decoded while networks train.

The part that validates is the last 10,000 of the training images, in a fixed order; the 50,000 images called val/ test.
"""

import csv
import tarfile
from pathlib import Path

from bench.data.record import DataSet
from bench.data.streamed.source import FileSource
from bench.errors import UserError
from bench.spec.run import ResizedCrop

# Labels of a flat val/, as Kaggle and as the official development kit give them.
KAGGLE = "LOC_val_solution.csv"
DEVKIT = "ILSVRC2012_devkit_t12"
TRUTH, META = f"{DEVKIT}/data/ILSVRC2012_validation_ground_truth.txt", f"{DEVKIT}/data/meta.mat"


def labels_of_val(where: Path, root: Path) -> dict[str, str] | None:
    """Return the WordNet id of each file of a flat val/, from what lies beside it; None if nothing says it."""
    around = (where.parent, root, *root.parents[:3])
    for folder in around:
        if (folder / KAGGLE).is_file():
            with (folder / KAGGLE).open(encoding="utf-8", newline="") as stream:
                return {f"{row['ImageId']}.JPEG": row["PredictionString"].split()[0] for row in csv.DictReader(stream)}
        if (folder / f"{DEVKIT}.tar.gz").is_file():
            with tarfile.open(folder / f"{DEVKIT}.tar.gz") as tar:
                return _of_devkit(folder, *(_member(tar, name) for name in (TRUTH, META)))
        if (folder / TRUTH).is_file():
            return _of_devkit(folder, (folder / TRUTH).read_bytes(), (folder / META).read_bytes())
    return None


def _member(tar: tarfile.TarFile, name: str) -> bytes:
    try:
        stream = tar.extractfile(name)
    except KeyError:
        stream = None
    if stream is None:
        raise UserError(f"{tar.name!s}: holds no {name}; it is not the development kit of ILSVRC 2012")
    return stream.read()


def _of_devkit(folder: Path, truth: bytes, meta: bytes) -> dict[str, str]:
    """Return the WordNet id of each file: line i of the ground truth is the number of the class of image i."""
    import io

    from scipy.io import loadmat

    try:
        synsets = loadmat(io.BytesIO(meta), squeeze_me=True)["synsets"]
        wnid = {int(synset["ILSVRC2012_ID"]): str(synset["WNID"]) for synset in synsets}
        numbers = [wnid[int(line)] for line in truth.split()]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{folder / DEVKIT}: cannot be read ({error}); extract the development kit again") from None
    return {f"ILSVRC2012_val_{place:08d}.JPEG": name for place, name in enumerate(numbers, start=1)}


IMAGENET = DataSet(
    name="imagenet",
    classes=1000,
    train_images=1_271_167,
    validation_images=10_000,
    test_images=50_000,
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
    augmentation=ResizedCrop(),
    source=FileSource(
        names=("imagenet", "ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar"),
        train=("train", "ILSVRC2012_img_train"),
        test=("val", "validation", "ILSVRC2012_img_val"),
        around=("ILSVRC/Data/CLS-LOC", "Data/CLS-LOC"),
        flat_labels=labels_of_val,
        official=(1_281_167, 50_000),
        by_hand="By hand: get the images from https://image-net.org, which asks for your name, and give --data PATH",
    ),
    image_size=224,
    class_names=tuple(Path(__file__).with_name("imagenet_classes.txt").read_text(encoding="ascii").split()),
)
