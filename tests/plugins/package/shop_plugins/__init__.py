"""Plugins of a shop."""
