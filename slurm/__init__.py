"""Dispatch grids to a SLURM cluster, and say what became of their runs: `python -m slurm`."""

import bench  # noqa: F401, as it refuses a Python that is too old before anything is imported that is not there
