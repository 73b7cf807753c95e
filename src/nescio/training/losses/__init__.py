"""Losses, one a file, each with its source: from likelihoods of answers to what is minimised."""
