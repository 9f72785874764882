"""The self-check with torchvision's weights: torchvision's own pixels and logits, and an exit code that says no."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from torchvision import transforms

from bench.__main__ import main
from bench.data.catalog import DATASETS
from bench.data.dataset import LabelledImages
from bench.data.sets.imagenet import IMAGENET
from bench.data.streamed.source import test_order as order_of_tests
from bench.evaluation import reference
from bench.evaluation.reference import predicted
from tests.data.streamed.photographs import write_imagenet

CPU = torch.device("cpu")
SEEN = transforms.Compose([transforms.Resize(256), transforms.CenterCrop(224)])
READ = transforms.Compose([transforms.ToTensor(), transforms.Normalize(IMAGENET.mean, IMAGENET.std)])


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FREETICKETS_DATA", str(tmp_path / "data"))
    write_imagenet(tmp_path / "data" / "imagenet", train=1, val=2)
    return tmp_path / "data"


@pytest.fixture(scope="module")
def theirs() -> torch.nn.Module:
    """torchvision's network with random weights, which finds class 5 the likeliest."""
    torch.manual_seed(0)
    model = torchvision.models.resnet50().eval()
    with torch.no_grad():
        model.fc.bias[5] += 100
    return model.to(memory_format=torch.channels_last)


@pytest.fixture
def weights(theirs: torch.nn.Module, tmp_path: Path) -> Path:
    torch.save(theirs.state_dict(), tmp_path / "resnet50.pth")
    return tmp_path / "resnet50.pth"


def test_pixels_and_logits_are_torchvisions(folder: Path, theirs: torch.nn.Module, weights: Path) -> None:
    paths = sorted((folder / "imagenet" / "val").rglob("*.JPEG"))
    seen = [np.asarray(SEEN(Image.open(paths[place]).convert("RGB"))) for place in order_of_tests("imagenet", 6)]
    read = IMAGENET.read(folder, download=False)
    ours = read.test_images[0:6]
    # torch's antialiased resize is within one level of Pillow's.
    assert np.abs(ours.astype(int) - np.stack(seen)).max() <= 1
    network = reference._network(weights, IMAGENET, CPU)
    for pixels in (ours, np.stack(seen)):
        batch = torch.stack([READ(Image.fromarray(image)) for image in pixels]).to(memory_format=torch.channels_last)
        with torch.inference_mode():
            expected = theirs(batch).numpy()
        assert np.array_equal(predicted(network, LabelledImages(pixels, read.test_labels), IMAGENET, CPU), expected)


@pytest.mark.usefixtures("folder")
def test_other_weights_do_not_pass(weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert verified(weights) == 1
    shown = " ".join(capsys.readouterr().out.split())
    # Two of the six images are of class 5.
    assert "top-1 accuracy 33.33% on 6 test images; torchvision's ResNet-50" in shown
    assert "has 76.13% on 50,000, allowed: within 0.1" in shown


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("published", "images", "code"), [(33.33, 6, 0), (33.42, 6, 0), (33.44, 6, 1), (33.22, 6, 1), (33.33, 50_000, 1)]
)
def test_the_accuracy_must_be_that_of_all_test_images_within_a_tenth(
    weights: Path, monkeypatch: pytest.MonkeyPatch, published: float, images: int, code: int
) -> None:
    monkeypatch.setattr(reference, "ACCURACY", published)
    monkeypatch.setitem(DATASETS, "imagenet", replace(IMAGENET, test_images=images))
    logits = np.eye(1000, dtype=np.float32)[[5] * 6]
    monkeypatch.setattr(reference, "predicted", lambda *_: logits)
    assert verified(weights) == code


@pytest.mark.usefixtures("folder")
def test_a_file_that_holds_no_such_weights_is_one_line(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "text.pth").write_text("no weights")
    torch.save(torchvision.models.resnet18().state_dict(), tmp_path / "resnet18.pth")
    torch.save(torch.nn.Linear(1, 1), tmp_path / "code.pth")
    (tmp_path / "half.pth").write_bytes(weights.read_bytes()[:100_000])
    torch.save([1, 2], tmp_path / "list.pth")
    unread, other = "no state_dict that can be read without running code", "no state_dict of torchvision's ResNet-50 ("
    cases = {"text": unread, "code": unread, "half": unread, "resnet18": other, "list": other}
    for name, message in cases.items():
        assert verified(tmp_path / f"{name}.pth") == 2
        error = capsys.readouterr().err
        assert f"{name}.pth: {message}" in " ".join(error.split())
        assert "Traceback" not in error
    assert verified(tmp_path / "absent.pth") == 2
    assert verified(tmp_path) == 2
    assert verified(weights, "cifar10") == 2
    assert "--model: found with cifar10; allowed: bench data verify imagenet" in capsys.readouterr().err


def verified(weights: Path, name: str = "imagenet") -> int:
    with pytest.raises(SystemExit) as ended:
        main(["data", "verify", name, "--model", str(weights)])
    return int(ended.value.code or 0)
