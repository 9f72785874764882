"""The plan of six rows of the paper's table."""

import pytest

from bench.plan import Plan, make_plan
from tests.grid_text import load_text

# Six rows of the paper's table.
SIX_ROWS = """
base: {data: cifar10}
cells:
  - {name: dense, method: dense}
  - {name: dense ensemble M=4, method: dense, members: 4}
  - {name: static M=3 S=0.8, method: static, members: 3, sparsity: 0.8}
  - {name: DST M=3 S=0.8, method: dst, members: 3, sparsity: 0.8, semantics: released}
  - {name: EDST M=3 S=0.8, method: edst, members: 3, sparsity: 0.8, semantics: released}
  - {name: EDST M=7 S=0.9, method: edst, members: 7, sparsity: 0.9, semantics: released}
scales: {paper: {needs_gpu: true}, tiny: {epochs: 0.04, replicates: 1}}
"""


@pytest.fixture(scope="session")
def paper(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    return make_plan(load_text(tmp_path_factory.mktemp("grid"), SIX_ROWS), "paper", None)
