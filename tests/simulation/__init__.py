"""A cluster in simulated time (simpy): the real worker, locks and store; training alone is a wait of drawn length.

`python -m tests.simulation` prints what 10,000 runs on 512 workers cost; docs/slurm.md says what follows from it.
"""
