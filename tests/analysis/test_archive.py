"""The report from an imported archive is that of the store it was exported from; what is not in it is said."""

from pathlib import Path

import pytest

import bench.__main__
from analysis.__main__ import main
from analysis.report import all_tables
from bench.store.run_folder import NOT_EXPORTED
from bench.store.store import Store
from tests.analysis.stores import Made


def call(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        bench.__main__.main([str(argument) for argument in arguments])
    return int(ended.value.code or 0)


def through_an_archive(made: Made, folder: Path, *options: str) -> Made:
    out, store = folder / "made.tar", Store(folder / "imported")
    assert call("export", made.path, "--store", made.store.root, "--out", out, *options) == 0
    assert call("import", out, "--store", store.root) == 0
    return Made(made.path, store)


def tables(made: Made, out: Path) -> dict[str, bytes]:
    with pytest.raises(SystemExit) as ended:
        main(["tables", str(made.path), "--store", str(made.store.root), "--out", str(out)])
    assert not ended.value.code
    return {path.name: path.read_bytes() for path in out.iterdir()}


def test_tables_with_weights_are_the_same_to_the_byte(robust: Made, tmp_path: Path) -> None:
    before = tables(robust, tmp_path / "before")
    assert "small_weights.csv" in before
    imported = through_an_archive(robust, tmp_path, "--weights")
    assert tables(imported, tmp_path / "after") == before
    assert imported.read().not_exported == ()
    assert not list(imported.store.root.rglob(NOT_EXPORTED))


def test_tables_without_weights_are_the_same_but_for_that_of_weights(robust: Made, tmp_path: Path, capsys) -> None:
    before = tables(robust, tmp_path / "before")
    imported = through_an_archive(robust, tmp_path)
    capsys.readouterr()
    after = tables(imported, tmp_path / "after")
    assert before.keys() - after.keys() == {f"small_weights.{suffix}" for suffix in ("csv", "md", "tex")}
    assert after == {name: content for name, content in before.items() if name in after}
    said = capsys.readouterr().err
    assert said.startswith(f"Not exported: the weights of {len(imported.plan.runs)} runs, ")
    assert not list(imported.store.root.glob("runs/*/tickets"))


def test_a_family_that_is_left_out_is_named_and_takes_nothing_with_it(robust: Made, tmp_path: Path) -> None:
    imported = through_an_archive(robust, tmp_path, "--without", "local-c", "--without", "pgd-5").read()
    whole = robust.read()
    assert imported.problems == ()
    assert [sentence for sentence in imported.not_exported if "sets" in sentence] == [
        f"Not exported: the evaluation sets {family} of {len(imported.plan.runs)} runs."
        for family in ("local-c", "pgd-5")
    ]
    kept = {table.name for table in all_tables(imported)}
    assert kept < {table.name for table in all_tables(whole)}
    assert not {name for name in kept if "corruption" in name}
    scores, all_scores = imported.results.replicates, whole.results.replicates
    assert scores["accuracy"].equals(all_scores["accuracy"])
    files = {str(path.relative_to(tmp_path)) for path in (tmp_path / "imported").rglob("*")}
    assert not [name for name in files if "local-c" in name or "pgd-5" in name]
    assert [name for name in files if "fgsm" in name]


@pytest.mark.parametrize("left", ["first", "again"])
def test_what_was_left_out_stays_said_from_archive_to_archive(left: str, evaluated: Made, tmp_path: Path) -> None:
    first = through_an_archive(evaluated, tmp_path, "--without", "ood")
    if left == "again":
        (tmp_path / "again").mkdir()
        first = through_an_archive(first, tmp_path / "again", "--weights")
    assert [sentence.split(",")[0].rstrip(".") for sentence in first.read().not_exported] == [
        f"Not exported: the weights of {len(first.plan.runs)} runs",
        f"Not exported: the evaluation sets ood of {len(first.plan.runs)} runs",
    ]
