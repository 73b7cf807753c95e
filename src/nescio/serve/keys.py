"""API keys: random, and stored as hashes only."""

import hashlib
import secrets

PREFIX = "nescio-"
HASH_PATTERN = r"sha256:[0-9a-f]{64}"


def new_key() -> str:
    """Return a new key of 256 random bits."""
    return PREFIX + secrets.token_urlsafe(32)


def hash_key(key: str) -> str:
    """Return the hash of a key for the policy file. Keys are random, so one round of SHA-256 is enough."""
    return f"sha256:{hashlib.sha256(key.encode()).hexdigest()}"
