"""What needs a GPU is here, for `tox -e gpu`; without one every test is skipped, and says so."""

import pytest
import torch


@pytest.fixture(autouse=True, scope="session")
def gpu() -> torch.device:
    if not torch.cuda.is_available():
        pytest.skip("torch sees no GPU here")
    return torch.device("cuda")
