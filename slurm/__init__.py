"""Dispatch grids to a SLURM cluster, and say what became of their runs: `python -m slurm`."""
