"""Losses, one file each, registered in `registry.py`: from likelihoods of answers to the value that is minimised."""
