"""Decoding with Transformers: the loop, its batch, and what computes a step."""
