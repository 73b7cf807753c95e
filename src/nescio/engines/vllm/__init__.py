"""Guided decoding on vLLM: a request is two of vLLM's, kept in lockstep by its scheduler, combined in its sampler."""
