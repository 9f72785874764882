"""Our results against the paper: its published values, its claims, and a verdict on each."""
