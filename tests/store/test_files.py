"""A file is whole or absent, whenever its writer dies."""

import hashlib
import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from bench.errors import UserError
from bench.store.files import atomic_path, read_json, remove_temporaries, sha256_of, write_json, write_text

ROOT = Path(__file__).resolve().parents[2]
KILLED_WHILE_WRITING = """
import os, signal, sys
from pathlib import Path
from bench.store.files import atomic_path
with atomic_path(Path(sys.argv[1])) as temporary:
    temporary.write_text("new, and complete on disk")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.mark.parametrize("before", ["old", None], ids=["replacing", "creating"])
def test_a_writer_killed_between_writing_and_renaming_leaves_what_was_there(tmp_path: Path, before: str | None) -> None:
    path = tmp_path / "file.txt"
    if before is not None:
        path.write_text(before)
    killed = subprocess.run([sys.executable, "-c", KILLED_WHILE_WRITING, str(path)], cwd=ROOT, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert (path.read_text() if path.exists() else None) == before
    remove_temporaries(tmp_path)
    assert names(tmp_path) == ([] if before is None else ["file.txt"])


def test_an_error_while_writing_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    write_text(path, "old")

    def fill_the_disk() -> None:
        with atomic_path(path) as temporary:
            temporary.write_text("half")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        fill_the_disk()
    assert path.read_text() == "old"
    with pytest.raises(TypeError):
        write_json(path, {"not JSON": object()})
    assert path.read_text() == "old"
    assert names(tmp_path) == ["file.txt"]


def test_the_temporary_is_beside_the_file_so_that_renaming_never_copies(tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "file.txt"
    with atomic_path(path) as temporary:
        assert temporary.parent == path.parent
        temporary.write_text("text")
        assert not path.exists()
    assert path.read_text() == "text"
    assert names(tmp_path) == ["new folder", "new folder/file.txt"]


def test_text_and_json_come_back_as_written(tmp_path: Path) -> None:
    path = tmp_path / 'it\'s a "path"\n' / "file.json"
    value = {"ü": [1, 2.5, None, True, "line\nline"], "nested": {"a": {}}}
    write_json(path, value)
    assert read_json(path) == value
    assert json.loads(path.read_bytes()) == value
    write_text(path, "grün\n")
    assert path.read_bytes() == "grün\n".encode()


@pytest.mark.parametrize("content", [b"", b'{"status": "do', b"\xff\xfe\x00", b"\x00" * 100])
def test_what_is_not_a_whole_json_document_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "result.json"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"result\.json"):
        read_json(path)


def test_leftovers_are_removed_at_every_depth_and_nothing_else_is(tmp_path: Path) -> None:
    (tmp_path / "tickets").mkdir()
    for name in ("checkpoint.pt", "tickets/0.safetensors", ".tmp-12-checkpoint.pt", "tickets/.tmp-13-0.safetensors"):
        (tmp_path / name).touch()
    remove_temporaries(tmp_path)
    assert names(tmp_path) == ["checkpoint.pt", "tickets", "tickets/0.safetensors"]


@pytest.mark.parametrize("size", [0, 1, 3_000_001])
def test_sha256_is_that_of_the_whole_content(tmp_path: Path, size: int) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * size)
    assert sha256_of(path) == hashlib.sha256(b"x" * size).hexdigest()
