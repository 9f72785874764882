"""Images out of distribution: those published, noise that is the same everywhere, a folder of one's own."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy import stats
from torchvision import datasets, transforms

from bench.data.catalog import DATASETS, SHOWN, find_ood, ood_names
from bench.data.lazy import OFFICIAL, EvaluationImages
from bench.data.ood import open_folder
from bench.data.sets.digits import DIGITS
from bench.errors import UserError
from bench.spec.seeds import derived_seed
from tests.data.cifar_c import flip_byte
from tests.data.images import write_image
from tests.data.ood_files import MNIST, SVHN, publish, write_ood
from tests.data.server import serve


def opened(name: str, root: Path = Path("nowhere"), **arguments: Any) -> EvaluationImages:
    given: dict[str, Any] = {"size": 32, "images": None, "folder": None, "download": False} | arguments
    if given["folder"] is not None:
        return open_folder(given["folder"], given["size"], given["images"])
    return find_ood(name).open(given["size"], given["images"], root, download=given["download"], progress=False)


def whole(read: EvaluationImages) -> Any:
    return read.images[: len(read.images)]


def refused(*words: str, name: str, **arguments: Any) -> None:
    with pytest.raises(UserError) as caught:
        opened(name, **arguments)
    assert [word for word in words if word not in str(caught.value)] == [], caught.value


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder with SVHN and MNIST."""
    write_ood(tmp_path / "data", monkeypatch)
    return tmp_path / "data"


def test_names_and_addresses_are_torchvisions() -> None:
    url, file, md5 = datasets.SVHN.split_list["test"]
    assert (SHOWN["svhn"].url, SHOWN["svhn"].path, SHOWN["svhn"].md5) == (url, file, md5)
    file, md5 = datasets.MNIST.resources[2]
    assert (SHOWN["mnist"].url, SHOWN["mnist"].md5) == (datasets.MNIST.mirrors[0] + file, md5)
    assert SHOWN["mnist"].path == f"MNIST/raw/{file}"
    of_imagenet = {"imagenet_o", "ssb_hard", "ninco", "inaturalist", "textures", "openimage_o"}
    assert set(ood_names()) == {"svhn", "mnist", "gaussian", "uniform", "digits", "cifar10", "cifar100"} | of_imagenet


# -- files -------------------------------------------------------------------------------------------------------------


def test_svhn_is_read_as_it_is(root: Path) -> None:
    read = opened("svhn", root)
    assert np.array_equal(read.images, SVHN)
    assert (read.labels.tolist(), read.labels.dtype) == ([-1] * len(SVHN), np.int64)
    assert read.source == OFFICIAL


def test_svhn_agrees_with_torchvision(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(datasets.SVHN.split_list, "test", ["", SHOWN["svhn"].path, SHOWN["svhn"].md5])
    expected = np.stack([np.asarray(image) for image, _ in datasets.SVHN(root, split="test")])
    assert np.array_equal(opened("svhn", root).images, expected)


def test_mnist_is_resized_and_grey(root: Path) -> None:
    read = opened("mnist", root)
    assert read.images.shape == (6, 32, 32, 3)
    resized = [Image.fromarray(image).resize((32, 32), Image.Resampling.BILINEAR) for image in MNIST]
    assert np.array_equal(whole(read), np.stack([np.stack([np.asarray(image)] * 3, axis=-1) for image in resized]))
    assert np.array_equal(whole(opened("mnist", root, size=28))[..., 1], MNIST)


def test_other_sizes_are_made_slice_by_slice(root: Path) -> None:
    read = opened("svhn", root, size=64, images=5)
    assert (read.images.shape, len(read.images), len(read.labels)) == ((5, 64, 64, 3), 5, 5)
    expected = np.asarray(Image.fromarray(SVHN[3]).resize((64, 64), Image.Resampling.BILINEAR))
    assert np.array_equal(read.images[3:4][0], expected)
    assert len(read.images[4:10]) == 1
    with pytest.raises(ValueError, match="step 1, not 2"):
        read.images[::2]


def test_the_first_images_are_taken(root: Path) -> None:
    assert np.array_equal(opened("svhn", root, images=2).images, SVHN[:2])
    assert np.array_equal(opened("svhn", root, images=8).images, SVHN)  # all, where there are fewer


def test_digits_are_all_1797(tmp_path: Path) -> None:
    read = opened("digits", tmp_path)
    digits = DIGITS.read(tmp_path)
    assert np.array_equal(read.images[:1437], digits.train_images)
    assert np.array_equal(read.images[1437:], digits.test_images)


def test_cifar_shows_its_test_images(cifar_archive: Path, cifar_batches: list[dict[str, Any]]) -> None:
    read = opened("cifar10", cifar_archive.parent, images=9)
    expected = cifar_batches[5]["data"].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)[:9]
    assert np.array_equal(read.images, expected)
    assert read.source == OFFICIAL


@pytest.mark.parametrize("name", ["svhn", "mnist"])
def test_damaged_files_are_named(root: Path, name: str) -> None:
    path = root / SHOWN[name].path
    flip_byte(path, -1)
    refused(str(path), "MD5", SHOWN[name].md5, "delete it", f"bench data prepare {name}", name=name, root=root)
    assert path.exists()


@pytest.mark.parametrize("name", ["svhn", "mnist", "cifar10", "cifar100"])
def test_without_a_download_the_message_says_where_files_are_looked_for(tmp_path: Path, name: str) -> None:
    file = SHOWN[name].path if name in SHOWN else DATASETS[name].source.archive
    url = SHOWN[name].url if name in SHOWN else DATASETS[name].source.url
    refused(str(tmp_path), file, url, f"bench data prepare {name}", name=name, root=tmp_path)
    assert not list(tmp_path.iterdir())


def test_files_are_downloaded_where_torchvision_keeps_them(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("no_proxy", "*")
    with serve(root) as address:
        for name in ("svhn", "mnist"):
            file = SHOWN[name]
            publish(name, root / file.path, monkeypatch, url=f"{address}/{file.path}")
            assert len(opened(name, tmp_path / "new", download=True).images) == len(opened(name, root).images)
            assert (tmp_path / "new" / file.path).read_bytes() == (root / file.path).read_bytes()
    assert len(opened("svhn", tmp_path / "new", download=True).images) == 7  # without a server: it is there
    assert capfd.readouterr() == ("", "")


# -- noise -------------------------------------------------------------------------------------------------------------


@given(st.sampled_from(["gaussian", "uniform"]), st.integers(0, 30), st.integers(0, 30))
def test_noise_does_not_depend_on_the_slice(name: str, start: int, stop: int) -> None:
    read = opened(name, size=4, images=30)
    assert np.array_equal(read.images[start:stop], whole(read)[start:stop])
    assert np.array_equal(read.images[start:stop], opened(name, size=4).images[start:stop])


def test_noise_is_what_it_is_called() -> None:
    uniform, gaussian = (whole(opened(name, images=100)).ravel() / 255 for name in ("uniform", "gaussian"))
    # Kolmogorov-Smirnov at 307,200 values: 0.1% of samples lie above 1.95 / sqrt(n); rounding adds half a level.
    limit = 1.95 / np.sqrt(uniform.size) + 0.5 / 255
    assert stats.kstest(uniform, stats.uniform.cdf).statistic < limit
    inside = gaussian[(gaussian > 0) & (gaussian < 1)]
    truncated = stats.truncnorm(-0.5, 0.5, loc=0.5, scale=1)
    assert stats.kstest(inside, truncated.cdf).statistic < 1.95 / np.sqrt(inside.size) + 1 / 255
    for value in (0, 1):  # all beyond [0, 1], and half a level inside it
        expected = stats.norm.cdf(-0.5 + 0.5 / 255)
        assert (gaussian == value).mean() == pytest.approx(expected, abs=0.003)
    for noise in (uniform, gaussian):
        channels = noise.reshape(-1, 3)
        assert np.abs(np.corrcoef(channels.T) - np.eye(3)).max() < 0.015
        assert abs(np.corrcoef(channels[:-1, 0], channels[1:, 0])[0, 1]) < 0.015


def test_noise_is_made_of_the_raw_words_of_a_generator() -> None:
    """By hand from PCG64, whose words no release of NumPy changes: image 1 of 2x2 pixels begins at word 12."""
    words = np.random.PCG64(derived_seed("noise", "uniform")).random_raw(24)[12:]
    by_hand = [round(255 * ((int(word) >> 11) + 0.5) / 2**53) for word in words]
    assert opened("uniform", size=2).images[1:2].ravel().tolist() == by_hand
    words = np.random.PCG64(derived_seed("noise", "gaussian")).random_raw(12)
    values = [0.5 + stats.norm.ppf(((int(word) >> 11) + 0.5) / 2**53) for word in words]
    by_hand = [round(255 * min(max(value, 0), 1)) for value in values]
    assert opened("gaussian", size=2).images[:1].ravel().tolist() == by_hand


def test_of_noise_there_are_ten_thousand_images_or_as_many_as_asked_for() -> None:
    assert opened("gaussian", size=224).images.shape == (10_000, 224, 224, 3)
    assert (opened("uniform", images=20_000).labels == -1).sum() == 20_000
    assert opened("uniform").source == "generated uniform noise"


# -- a folder ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(5)
    for name, (width, height) in {
        "b/2.png": (40, 60),
        "b/10.bmp": (91, 33),
        "a.png": (16, 20),
        "c.PNG": (32, 32),
    }.items():
        path = tmp_path / "mine" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(path)
    (tmp_path / "mine" / "notes.txt").write_text("no image")
    (tmp_path / "mine" / ".hidden.png").write_bytes(b"no image")
    return tmp_path / "mine"


def test_images_of_a_folder_are_resized_and_cut_as_torchvision_does(folder: Path) -> None:
    order = ["a.png", "b/10.bmp", "b/2.png", "c.PNG"]
    for size in (32, 45):
        bilinear = transforms.InterpolationMode.BILINEAR
        oracle = transforms.Compose([transforms.Resize(size, bilinear), transforms.CenterCrop(size)])
        expected = [np.asarray(oracle(Image.open(folder / path))) for path in order]
        read = opened("folder", folder=folder, size=size)
        assert np.array_equal(whole(read), np.stack(expected))
        assert np.array_equal(read.images[1:3], expected[1:3])
        assert read.labels.tolist() == [-1] * 4


def test_the_source_of_a_folder_tells_which_images_were_used(folder: Path) -> None:
    source, first = (opened("folder", folder=folder, images=images).source for images in (None, 1))
    assert source.startswith("images-")
    assert source != first == opened("folder", folder=folder, images=1).source
    flip_byte(folder / "c.PNG", -1)
    assert opened("folder", folder=folder).source != source
    assert opened("folder", folder=folder, images=1).source == first


def test_grey_and_transparent_images_have_three_channels(tmp_path: Path) -> None:
    for index, mode in enumerate(("L", "P", "RGBA", "1", "I;16")):
        Image.new(mode, (32, 32)).save(tmp_path / f"{index}.png")
    assert whole(opened("folder", folder=tmp_path)).shape == (5, 32, 32, 3)


def test_an_image_that_cannot_be_decoded_is_named_when_it_is_read(folder: Path) -> None:
    (folder / "b" / "2.png").write_bytes(b"no image")
    read = opened("folder", folder=folder)
    assert len(read.images[:2]) == 2
    with pytest.raises(UserError, match=f"{folder / 'b' / '2.png'}: cannot be decoded"):
        whole(read)
    (folder / "b" / "3.png").symlink_to(folder / "nowhere")
    with pytest.raises(UserError, match=r"3\.png: cannot be read"):
        opened("folder", folder=folder)


def test_folders_without_images_are_refused(tmp_path: Path) -> None:
    refused(f"{tmp_path}: no images below it", ".png", name="folder", folder=tmp_path)
    refused("no such folder", name="folder", folder=tmp_path / "nowhere")


def test_a_folder_of_fewer_images_gives_all_of_them(tmp_path: Path) -> None:
    write_image(tmp_path / "1.png", (0, 0, 0))
    assert len(opened("folder", folder=tmp_path, images=2).labels) == 1


def test_names_are_checked() -> None:
    refused("unknown set 'shvn'; did you mean 'svhn'?", name="shvn")
