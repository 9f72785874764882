"""Finished tickets on more images than their run's own: sets of images, tickets as networks, attacks on ensembles."""
