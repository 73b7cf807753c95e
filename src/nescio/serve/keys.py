"""API keys: made at random, kept as hashes only. Knows nothing of policies."""

import hashlib
import secrets

PREFIX = "nescio-"
HASH_PATTERN = r"sha256:[0-9a-f]{64}"


def new_key() -> str:
    """A fresh key of 256 random bits."""
    return PREFIX + secrets.token_urlsafe(32)


def hash_key(key: str) -> str:
    """What stands in the policy file for a key. A key is random, so one round of SHA-256 can't be guessed back."""
    return f"sha256:{hashlib.sha256(key.encode()).hexdigest()}"
