"""Guided decoding on vLLM: a guided request is two vLLM requests, scheduled together and combined in the sampler."""
