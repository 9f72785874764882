"""A browser to look at pages with, where there is one."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")
HOW = "install one with: apt-get install chromium"


@contextmanager
def opened() -> Iterator["Browser"]:  # noqa: F821, as the package may be absent
    """A headless browser of the system; the test is skipped, with the reason, if there is none."""
    driver = pytest.importorskip(
        "playwright.sync_api", reason="playwright is not installed: uv pip install -r requirements/locked.txt"
    )
    path = next((found for name in NAMES if (found := shutil.which(name))), None)
    if path is None:
        pytest.skip(f"no browser ({', '.join(NAMES)}) is installed; {HOW}")
    with driver.sync_playwright() as playwright:
        try:
            browser = playwright.chromium.launch(executable_path=path, args=["--disable-dev-shm-usage"])
        except driver.Error as error:
            pytest.skip(f"{path} does not start ({str(error).splitlines()[0]}); {HOW}")
        yield browser
        browser.close()
