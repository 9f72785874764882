"""Checkpoints: what is none of this run is named, set aside and never fatal; what cannot be read is not thrown away."""

import logging
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from bench.store.store import Store
from bench.training.checkpoint import load_checkpoint, save_checkpoint
from tests.training.runs import CPU, dense_spec, do, make_trainer, outcome

SPEC = dense_spec(epochs=4)


def state(**changes: Any) -> dict[str, Any]:
    return {**make_trainer(SPEC).state_dict(), **changes}


def without(mapping: dict[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in mapping.items() if name != key}


def another_zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("letter.txt", "dear reader")


def code(path: Path) -> None:
    torch.save({"run": SPEC.run_id, "at": print}, path)  # a function, which only unpickling could restore


WRONG: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: path.touch(),
    "text": lambda path: path.write_text("not a checkpoint"),
    "another zip": another_zip,
    "code": code,
    "a list": lambda path: save_checkpoint(path, [1, 2]),  # type: ignore[arg-type]
    "a tensor": lambda path: torch.save(torch.zeros(3), path),
    "another dict": lambda path: save_checkpoint(path, {"a": 1}),
    "another run": lambda path: save_checkpoint(path, state(run="0123456789abcdef")),
    "position of another version": lambda path: save_checkpoint(path, state(at=without(state()["at"], "kept"))),
    "state of another version": lambda path: save_checkpoint(path, without(state(), "best")),
    "a folder": lambda path: path.mkdir(),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_is_no_checkpoint_of_the_run_is_set_aside_and_said_once(
    wrong: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "checkpoint.pt"
    WRONG[wrong](path)
    with caplog.at_level(logging.WARNING):
        assert load_checkpoint(path, CPU, SPEC.run_id) is None
        assert load_checkpoint(path, CPU, SPEC.run_id) is None
    [message] = [record.getMessage() for record in caplog.records]
    assert str(path) in message
    assert "weights_only" not in message
    assert [found.name for found in tmp_path.iterdir()] == ["checkpoint.pt.damaged"]


def test_a_run_starts_over_from_another_zip_to_the_same_bits(tmp_path: Path) -> None:
    assert do([SPEC], Store(tmp_path / "straight")) == 0
    folder = Store(tmp_path / "odd").run(SPEC.run_id).path
    folder.mkdir(parents=True)
    another_zip(folder / "checkpoint.pt")
    assert do([SPEC], Store(tmp_path / "odd")) == 0
    assert outcome(tmp_path / "odd", SPEC) == outcome(tmp_path / "straight", SPEC)


@pytest.mark.parametrize("error", [OSError(5, "Input/output error"), MemoryError(), torch.OutOfMemoryError("full")])
def test_what_cannot_be_read_now_is_left_for_later(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise error

    path = tmp_path / "checkpoint.pt"
    save_checkpoint(path, state())
    with monkeypatch.context() as patch:
        patch.setattr(torch, "load", fails)
        with pytest.raises(type(error)):
            load_checkpoint(path, CPU, SPEC.run_id)
    assert load_checkpoint(path, CPU, SPEC.run_id) is not None
