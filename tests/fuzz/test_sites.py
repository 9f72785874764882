"""Mutated site files: what would be submitted is shown, or the file refused in a message that names it."""

import re
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

import slurm.__main__
from slurm.dispatch import REQUEUE
from slurm.site import SITES
from tests.fuzz.calls import COUNTS, call, inputs
from tests.fuzz.mutations import YAML_VALUES, mutated_bytes, mutated_tree
from tests.slurm.place import GRID

ALL_KEYS = {
    **yaml.safe_load((SITES / "example.yaml").read_text(encoding="utf-8")),
    **{"qos": "high", "constraint": "a100|h100", "gpu_type": "a100", "nodes": 2, "processes": 4, "tflops": 20},
    **{"scratch": "$TMPDIR", "setup": ["module load cuda", "ulimit -n 4096"], "python": "apptainer exec x.sif python"},
    "mail": {"user": "me@example.org", "events": ["END", "FAIL"]},
    "sbatch": {"reservation": "workshop", "exclusive": True, "nice": 100, "clusters": "far"},
}
# What a script for sbatch is made of: nothing in a site file ends a line and begins another one.
SCRIPT_LINE = re.compile(
    r"(#!/bin/bash|# \w+||#SBATCH --[a-z][a-z-]*(=.*)?|.* \|\| \{ echo .*; exit 1; \}|export SUBMITIT_\w+=\w+|srun .*)"
)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a grid, and no SLURM on PATH."""
    (tmp_path / "grid.yaml").write_text(GRID, encoding="utf-8")
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PATH", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def submitted(folder: Path) -> None:
    """Ask what would be submitted: nothing is written, and every option of sbatch stays on a line of its own."""
    COUNTS["inputs"] += 1
    site = folder / "site.yaml"
    before = sorted(folder.rglob("*"))
    ended = call(slurm.__main__, "submit", str(folder / "grid.yaml"), "--site", str(site), "--dry-run")
    assert sorted(folder.rglob("*")) == before
    if ended.code:
        assert ended.code == 2
        assert str(site) in ended.err or "store" in ended.err or "no sbatch on this machine" in ended.err
        assert ended.err.removesuffix("\n").replace("\n", "").isprintable()
    if "sbatch would be asked for:" in ended.out:
        COUNTS["scripts"] += 1
        lines = ended.out.partition("asked for:\n")[2].partition("warning: ")[0].splitlines()
        others = [line for line in lines if line != REQUEUE]
        assert [line for line in others if not SCRIPT_LINE.fullmatch(line)] == []


def test_sites_with_wrong_values(folder: Path) -> None:
    @inputs(600)
    @given(mutated_tree(ALL_KEYS, YAML_VALUES))
    def check(site: object) -> None:
        (folder / "site.yaml").write_text(yaml.safe_dump(site), encoding="utf-8")
        submitted(folder)

    check()


def test_sites_with_wrong_bytes(folder: Path) -> None:
    @inputs(400)
    @given(st.sampled_from(sorted(SITES.glob("*.yaml"))).flatmap(lambda path: mutated_bytes(path.read_bytes())))
    def check(site: bytes) -> None:
        (folder / "site.yaml").write_bytes(site)
        submitted(folder)

    check()
