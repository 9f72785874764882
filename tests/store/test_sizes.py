"""Every file of a store is of one kind, and counted once."""

from pathlib import Path

import pytest

from bench.store.sizes import ALL_KINDS, Size, kind_of, readable, sizes_below, total
from tests.store.runs import finished_run

RUN = "runs/0123456789abcdef"


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        (f"{RUN}/tickets/0.safetensors", "tickets"),
        (f"{RUN}/kept/0.safetensors", "rewind checkpoints"),
        (f"{RUN}/checkpoint.pt", "checkpoints"),
        (f"{RUN}/logits/ood/svhn.safetensors", "logits"),
        ("ensembles/0123456789abcdef/logits/fgsm/8.safetensors", "logits"),
        (f"{RUN}/result.json", "records"),
        (f"{RUN}/lock", "records"),
        ("data.json", "records"),
        ("samples/cifar10/local-c.safetensors", "samples"),
        ("slurm/a-1/work.json", "submissions"),
        (f"{RUN}/tickets/.tmp-12-0.safetensors", "left by killed processes"),
        (".tmp-removed-7/run-0123456789abcdef/checkpoint.pt", "left by killed processes"),
        ("runs/notes.txt", "records"),
    ],
)
def test_the_kind_of_a_file_is_said_by_its_place(path: str, kind: str) -> None:
    assert kind_of(Path(path)) == kind
    assert kind in ALL_KINDS


def test_sizes_are_those_of_the_files_and_links_are_not_followed(tmp_path: Path) -> None:
    folder = finished_run(tmp_path / "store")
    (tmp_path / "large").write_bytes(b"x" * 1_000_000)
    (folder.path / "tickets" / "link").symlink_to(tmp_path / "large")
    (folder.path / "loop").symlink_to(folder.path)
    found = sizes_below(tmp_path / "store", tmp_path / "store")
    files = [path for path in (tmp_path / "store").rglob("*") if path.is_file() and not path.is_symlink()]
    assert total(found.kinds) == Size(len(files), sum(path.stat().st_size for path in files))
    assert found.kinds["tickets"].files == 2
    assert found.kinds["logits"].files == 2
    assert found.unread == ()
    assert list(found.kinds) == [kind for kind in ALL_KINDS if kind in found.kinds]


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    assert sizes_below(tmp_path, tmp_path / "gone").unread == (f"{tmp_path / 'gone'}: No such file or directory",)


def test_a_very_deep_folder_is_read(tmp_path: Path) -> None:
    place = tmp_path
    for _ in range(300):
        place /= "deep"
    place.mkdir(parents=True)
    (place / "file").write_bytes(b"abc")
    assert total(sizes_below(tmp_path, tmp_path).kinds) == Size(1, 3)


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1_000, "1.0 kB"),
        (9_949, "9.9 kB"),
        (9_950, "10 kB"),
        (999_499, "999 kB"),
        (999_500, "1.0 MB"),
        (12_345_678, "12 MB"),
        (3 * 10**12, "3.0 TB"),
        (10**16, "10000 TB"),
    ],
)
def test_sizes_are_in_the_unit_that_reads_best(count: int, text: str) -> None:
    assert readable(count) == text
