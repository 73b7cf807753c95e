"""Measuring what a model says."""
