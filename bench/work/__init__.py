"""Who does the work: what may start now, one attempt at it, progress, provenance, signals."""
