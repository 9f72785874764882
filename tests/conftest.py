"""What every test needs: the same examples at each run, nothing of the user's, and no fight over the cores."""

import os

from hypothesis import settings

os.environ["MPLBACKEND"] = "Agg"
os.environ.pop("FREETICKETS_DATA", None)
if "PYTEST_XDIST_WORKER" in os.environ:
    # One worker a core already fills the machine; read when torch loads, and inherited by subprocesses.
    os.environ["OMP_NUM_THREADS"] = "1"

settings.register_profile("ci", derandomize=True, max_examples=50, deadline=None)
settings.load_profile("ci")
