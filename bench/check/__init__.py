"""What this machine can do for a grid: tried before the first run, in minutes, and kept in the store."""
