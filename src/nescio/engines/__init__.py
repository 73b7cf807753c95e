"""Engines: whoever needs text or likelihoods asks one."""
