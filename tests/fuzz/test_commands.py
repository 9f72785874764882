"""Command lines of words in any order: one line and an exit code, whatever is asked."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import analysis.__main__
import bench.__main__
import slurm.__main__
from tests.fuzz.calls import COUNTS, call, inputs
from tests.fuzz.mutations import TEXTS
from tests.slurm.place import GRID

# What reads. The rest of the commands train, download, submit or draw.
COMMANDS = {
    bench.__main__: [
        ["plan"],
        ["data", "list"],
        ["data", "verify"],
        ["schema"],
        ["data"],
        [],
        ["export"],
        ["import"],
        ["list"],
        ["show"],
        ["diff"],
        ["du"],
        ["gc"],
    ],
    analysis.__main__: [["tables"], ["compare"], []],
    slurm.__main__: [["status"], ["logs"], []],
}
WORDS = ["grid.yaml", "results", "paper", "cell=dense", "--scale", "--store", "--data", "--json", "--version", "--out"]
WORDS += ["--site", "local", "--root", "--select", "--lines", "--topic", "a.b:c", "grid", "store", "digits", "cifar10"]


def test_words_in_any_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FREETICKETS_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "grid.yaml").write_text(GRID, encoding="utf-8")
    words = st.lists(st.sampled_from([*WORDS, *WORDS, *TEXTS]), max_size=6)

    @inputs(500)
    @given(st.sampled_from(list(COMMANDS)), st.data(), words)
    def check(program: object, data: st.DataObject, words: list[str]) -> None:
        command = data.draw(st.sampled_from(COMMANDS[program]))  # type: ignore[index]
        COUNTS["inputs"] += 1
        call(program, *command, *words)  # type: ignore[arg-type]

    check()
