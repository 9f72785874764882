"""What every test needs: the same examples at each run, nothing of the user's, and no fight over the cores."""

import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

os.environ["MPLBACKEND"] = "Agg"
os.environ.pop("FREETICKETS_DATA", None)
if "PYTEST_XDIST_WORKER" in os.environ:
    # One worker a core already fills the machine; read when torch loads, and inherited by subprocesses.
    os.environ["OMP_NUM_THREADS"] = "1"

# Nothing here judges seconds of the clock on the wall: the machine may be slow or busy.
settings.register_profile(
    "ci", derandomize=True, max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("ci")


def _forget_what_was_imported(folder: Path) -> Iterator[None]:
    before = set(sys.modules)
    yield
    for name in sys.modules.keys() - before:
        file = getattr(sys.modules[name], "__file__", None)
        if file is not None and Path(file).is_relative_to(folder):
            del sys.modules[name]


# Two tests may write a module of the same name, each in its own folder. pytest sets a module's fixtures up before its
# tests': what a module's fixture imports lives as long as that fixture.
@pytest.fixture(autouse=True, scope="module")
def no_module_outlives_its_file(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    yield from _forget_what_was_imported(tmp_path_factory.getbasetemp())


@pytest.fixture(autouse=True)
def no_module_outlives_its_test(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    yield from _forget_what_was_imported(tmp_path_factory.getbasetemp())


def _remove_new_log_handlers() -> Iterator[None]:
    loggers = [logging.root, logging.getLogger("bench"), logging.getLogger("bench.check")]
    before = {logger: list(logger.handlers) for logger in loggers}
    yield
    for logger in loggers:
        for handler in set(logger.handlers) - set(before[logger]):
            if type(handler) is logging.StreamHandler:  # pytest's own are of other types
                logger.removeHandler(handler)


# A command that logs writes to the streams of its test, which are closed when the next test's command logs.
@pytest.fixture(autouse=True, scope="module")
def no_log_handler_outlives_its_file() -> Iterator[None]:
    yield from _remove_new_log_handlers()


@pytest.fixture(autouse=True)
def no_log_handler_outlives_its_test() -> Iterator[None]:
    yield from _remove_new_log_handlers()


@pytest.fixture
def slower(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file: before it is removed, no run of a network of tests.training.slow is done."""
    file = tmp_path_factory.mktemp("slower") / "slower"
    file.touch()
    monkeypatch.setenv("FREETICKETS_TESTS_SLOWER", str(file))  # as tests.training.slow has it, which imports torch
    return file
