"""An archive of a store: fixed bytes, every file checked, nothing from outside, all of it or nothing."""

import hashlib
import io
import json
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.errors import UserError
from bench.store import archive as archive_module
from bench.store.archive import MANIFEST, GridText, Manifest, Suite, import_archive, stored_file, write_archive
from bench.store.logits import StoredLogits
from bench.store.run_folder import NO_WEIGHTS, NOT_EXPORTED
from bench.store.store import DataRecord, Store
from tests.store.runs import finished_run

Member = tuple[tarfile.TarInfo, bytes]


def tree(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def manifest_of(contents: dict[str, bytes]) -> Manifest:
    return Manifest(
        suite=Suite(version="1", git=None),
        licence="CC0-1.0",
        grid=GridText(name="g", scale="paper", files={}),
        runs=(),
        left_out=(),
        rebuild=(),
        files={name: stored_file(content) for name, content in contents.items()},
    )


def archived(out: Path, contents: dict[str, bytes]) -> Path:
    write_archive(out, manifest_of(contents), contents)
    return out


@pytest.fixture
def source(tmp_path: Path) -> Store:
    store = Store(tmp_path / "source")
    finished_run(store.root)
    store.record_data("digits", DataRecord("official", None, ""))
    return store


@pytest.fixture
def whole(source: Store, tmp_path: Path) -> Path:
    return archived(tmp_path / "whole.tar", tree(source.root))


@pytest.fixture(params=["whole.tar", "whole.tar.gz"])
def either(source: Store, tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    return archived(tmp_path / request.param, tree(source.root))


def members_of(path: Path) -> list[Member]:
    with tarfile.open(path) as tar:
        return [(member, (stream.read() if (stream := tar.extractfile(member)) else b"")) for member in tar]


def packed(path: Path, members: list[Member]) -> Path:
    with tarfile.open(path, "w") as tar:
        for member, content in members:
            if member.isreg():
                member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def test_what_is_imported_is_what_was_exported(source: Store, either: Path, tmp_path: Path) -> None:
    import_archive(either, Store(tmp_path / "new"))
    assert tree(tmp_path / "new") == tree(source.root)


def test_an_archive_is_a_function_of_its_contents(source: Store, whole: Path, tmp_path: Path) -> None:
    shutil.copytree(source.root, tmp_path / "copy")  # other times, other order on disk
    again = archived(tmp_path / "again.tar", dict(reversed(tree(tmp_path / "copy").items())))
    members = members_of(again)
    assert [member.name for member, _ in members] == [MANIFEST, *sorted(tree(source.root))]
    assert {(member.mtime, member.uid, member.uname, member.mode) for member, _ in members} == {(0, 0, "", 0o644)}
    assert members_of(whole)[1:][0][1] == members[1][1]
    assert {name: hashlib.sha256(content).hexdigest() for name, content in tree(source.root).items()} == {
        name: file["sha256"] for name, file in json.loads(members[0][1])["files"].items()
    }


def test_a_file_that_changes_while_it_is_exported_ends_the_export(source: Store, tmp_path: Path) -> None:
    contents = tree(source.root)
    name = next(iter(contents))
    with pytest.raises(UserError, match="changed while it was exported"):
        write_archive(tmp_path / "a.tar", manifest_of(contents), {**contents, name: b"another"})
    assert not list(tmp_path.glob("*.tar*"))


def test_a_second_import_changes_nothing(whole: Path, tmp_path: Path) -> None:
    store = Store(tmp_path / "new")
    import_archive(whole, store)
    times = {path: path.stat().st_mtime_ns for path in store.root.rglob("*")}
    import_archive(whole, store)
    assert {path: path.stat().st_mtime_ns for path in store.root.rglob("*")} == times


def test_an_archive_joins_the_runs_of_a_store(whole: Path, source: Store, tmp_path: Path) -> None:
    store = Store(tmp_path / "mine")
    mine = finished_run(store.root, seed=19)
    store.record_data("digits", DataRecord("official", "here", "note"))
    before = tree(store.root)
    import_archive(whole, store)
    assert {name: content for name, content in tree(source.root).items() if name != "data.json"} | before == tree(
        store.root
    )
    assert {path.name for path in (store.root / "runs").iterdir()} > {mine.path.name}


def member(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def listed(
    members: list[Member], name: str, content: bytes = b"x", info: tarfile.TarInfo | None = None
) -> list[Member]:
    """Add a member that the manifest lists too."""
    document = json.loads(members[0][1])
    document["files"][name] = stored_file(content).model_dump()
    return [(members[0][0], json.dumps(document).encode()), *members[1:], (info or member(name), content)]


RUN = "runs/0123456789abcdef"
BAD: dict[str, tuple[Callable[[list[Member]], list[Member]], str]] = {
    "parent folder": (lambda m: listed(m, "../theirs"), "no file of a store"),
    "within": (lambda m: listed(m, f"{RUN}/logits/../../../../theirs.safetensors"), "no file of a store"),
    "absolute": (lambda m: listed(m, "/tmp/theirs"), "no file of a store"),
    "backslash": (lambda m: listed(m, f"{RUN}/logits/..\\theirs.safetensors"), "no file of a store"),
    "checkpoint": (lambda m: listed(m, f"{RUN}/checkpoint.pt"), "no file of a store"),
    "lock": (lambda m: listed(m, f"{RUN}/lock"), "no file of a store"),
    "temporary": (lambda m: listed(m, ".tmp-1-x/data.json"), "no file of a store"),
    "unlisted": (lambda m: [*m, (member(f"{RUN}/spec.yaml"), b"")], "not in its manifest"),
    "twice": (lambda m: [*m, m[-1]], "there twice"),
    "link": (
        lambda m: listed(m, f"{RUN}/spec.yaml", b"", member(f"{RUN}/spec.yaml", tarfile.SYMTYPE, "/etc/hosts")),
        "a link, folder or device",
    ),
    "hard link": (
        lambda m: listed(m, f"{RUN}/spec.yaml", b"", member(f"{RUN}/spec.yaml", tarfile.LNKTYPE, "data.json")),
        "a link, folder or device",
    ),
    "device": (
        lambda m: listed(m, f"{RUN}/spec.yaml", b"", member(f"{RUN}/spec.yaml", tarfile.CHRTYPE)),
        "a link, folder or device",
    ),
    "pipe": (
        lambda m: listed(m, f"{RUN}/spec.yaml", b"", member(f"{RUN}/spec.yaml", tarfile.FIFOTYPE)),
        "a link, folder or device",
    ),
    "altered": (lambda m: [*m[:-1], (m[-1][0], m[-1][1][:-1] + b"?")], "cut or altered"),
    "file gone": (lambda m: m[:-1], "cut short: 1 of its files"),
    "no manifest": (lambda m: m[1:], "manifest.json is not its first file"),
    "empty": (lambda _: [], "not an archive"),
    "no json": (lambda m: [(m[0][0], b"[" * 100_000), *m[1:]], "no JSON document"),
    "another schema": (
        lambda m: [(m[0][0], m[0][1].replace(b'"schema_version": 1', b'"schema_version": 9')), *m[1:]],
        "a schema that this version of the suite does not know",
    ),
    "a large manifest": (lambda m: [(m[0][0], m[0][1] + b" " * 2**20), *m[1:]], "allowed: 1,000,000; it was altered"),
    "larger": (lambda m: [*m[:-1], (m[-1][0], m[-1][1] + b"?")], "allowed: .*; it was altered"),
    "half a run": (lambda m: listed(m, f"{RUN}/spec.yaml"), "its run 0123456789abcdef is not whole"),
}


@pytest.mark.parametrize("bad", BAD)
def test_a_bad_archive_is_one_clear_error_and_leaves_no_trace(
    bad: str, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    change, message = BAD[bad]
    path = packed(tmp_path / "bad.tar", change(members_of(whole)))
    mine = Store(tmp_path / "mine")
    finished_run(mine.root, seed=19)
    before = tree(mine.root)
    monkeypatch.setattr(archive_module, "MOST_MANIFEST", 1_000_000)
    for store in (mine, Store(tmp_path / "new")):
        with pytest.raises(UserError, match=message) as refused:
            import_archive(path, store)
        assert str(refused.value).startswith(f"{path}: ")
        assert "\n" not in str(refused.value)
    assert tree(mine.root) == before
    assert not (tmp_path / "new").exists()
    assert not (tmp_path / "theirs").exists()


@pytest.mark.parametrize("share", [0.001, 0.05, 0.5])
def test_an_archive_that_was_cut_is_refused(share: float, either: Path, tmp_path: Path) -> None:
    content = either.read_bytes()
    (tmp_path / "cut.tar").write_bytes(content[: int(len(content) * share)])
    with pytest.raises(UserError, match=r"\.tar: (not an archive|.* cut or altered|cut short)"):
        import_archive(tmp_path / "cut.tar", Store(tmp_path / "new"))
    assert not (tmp_path / "new").exists()


def test_no_flipped_bit_is_imported_as_data(either: Path, source: Store, tmp_path: Path) -> None:
    content = either.read_bytes()
    for at in range(3, len(content), len(content) // 60):
        (tmp_path / "flipped.tar").write_bytes(content[:at] + bytes([content[at] ^ 16]) + content[at + 1 :])
        try:
            import_archive(tmp_path / "flipped.tar", Store(tmp_path / "new"))
        except UserError:
            assert not (tmp_path / "new").exists()
        else:  # in what a tar holds besides names and contents, or in words of the manifest
            assert tree(tmp_path / "new") == tree(source.root)
            shutil.rmtree(tmp_path / "new")


@pytest.mark.parametrize("path", ["nothing", "folder", "whole.tar.bz2"])
def test_what_is_no_archive_is_refused(path: str, whole: Path, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with tarfile.open(tmp_path / "whole.tar.bz2", "w:bz2") as tar:
        tar.add(whole, MANIFEST)
    with pytest.raises(UserError, match=r"python -m bench export"):
        import_archive(tmp_path / path, Store(tmp_path / "new"))


@pytest.mark.parametrize("change", ["altered", "gone", "run begun"])
def test_a_run_that_is_there_with_other_content_is_named_and_kept(change: str, whole: Path, tmp_path: Path) -> None:
    store = Store(tmp_path / "mine")
    folder = finished_run(store.root)
    file = folder.path / "logits" / "test.safetensors"
    if change == "altered":
        file.write_bytes(file.read_bytes()[:-1] + b"?")
    elif change == "gone":
        file.unlink()
    else:
        shutil.rmtree(folder.path)
        folder.path.mkdir()
        (folder.path / "checkpoint.pt").write_text("")
    before = tree(store.root)
    with pytest.raises(UserError, match=rf"{folder.path}/.*: not as in .*whole\.tar; import it into another --store"):
        import_archive(whole, store)
    assert tree(store.root) == before


def test_other_images_are_not_mixed_in(whole: Path, tmp_path: Path) -> None:
    store = Store(tmp_path / "mine")
    store.record_data("digits", DataRecord("folder-12ab", "x", ""))
    before = tree(store.root)
    with pytest.raises(UserError, match="made from folder-12ab images, not official"):
        import_archive(whole, store)
    assert tree(store.root) == before


def test_what_fails_midway_is_taken_back(source: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    finished_run(source.root, seed=19)
    path = archived(tmp_path / "two.tar", tree(source.root))

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(archive_module.Store, "record_data", full)
    with pytest.raises(OSError, match="No space left"):
        import_archive(path, Store(tmp_path / "new"))
    assert tree(tmp_path / "new") == {}


# -- runs without their weights ----------------------------------------------------------------------------------------


def without_weights(source: Store, out: Path) -> Path:
    record = {"files": ["tickets/0.safetensors", "tickets/1.safetensors"], "families": []}
    contents = {name: content for name, content in tree(source.root).items() if "tickets/" not in name}
    run = next((source.root / "runs").iterdir()).name
    return archived(out, {**contents, f"runs/{run}/{NOT_EXPORTED}": json.dumps(record).encode()})


def test_a_run_without_its_weights_is_done_and_its_tickets_say_where_they_are(source: Store, tmp_path: Path) -> None:
    store = Store(tmp_path / "new")
    import_archive(without_weights(source, tmp_path / "light.tar"), store)
    folder = store.run(next((store.root / "runs").iterdir()).name)
    assert folder.status() == "done"
    assert folder.damaged_files(deep=True) == []
    assert StoredLogits.of_run(folder).has("test", deep=True)
    with pytest.raises(UserError, match=NO_WEIGHTS):
        folder.ticket(0)


@pytest.mark.parametrize(
    "text", ['{"files": ["result.json"], "families": []}', '{"files": ["../x"], "families": []}', "", "[]"]
)
def test_an_altered_record_of_what_was_left_out_is_damage(text: str, source: Store) -> None:
    folder = source.run(next((source.root / "runs").iterdir()).name)
    (folder.path / NOT_EXPORTED).write_text(text)
    assert folder.damaged_files(deep=False) == [folder.path / NOT_EXPORTED]
    assert folder.status() == "damaged"


def test_weights_that_are_there_are_checked_whatever_was_left_out_once(source: Store) -> None:
    folder = source.run(next((source.root / "runs").iterdir()).name)
    (folder.path / NOT_EXPORTED).write_text('{"files": ["tickets/0.safetensors"], "families": []}')
    assert folder.status() == "done"
    ticket = folder.path / "tickets" / "0.safetensors"
    ticket.write_bytes(ticket.read_bytes()[:-1])
    assert folder.damaged_files(deep=False) == [ticket]
