"""API keys: random, stored as hashes only, with a name and an expiry if the policy gives them."""

import hashlib
import re
import secrets
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Any

from pydantic import AwareDatetime, BeforeValidator, Field, model_serializer, model_validator

from nescio.serve.section import Section

PREFIX = "nescio-"
HASH_PATTERN = r"sha256:[0-9a-f]{64}"
_NOT_A_HASH = "must be a key's hash, sha256:…, as `nescio key new` prints it; never the key itself"


def new_key() -> str:
    """Return a new key of 256 random bits."""
    return PREFIX + secrets.token_urlsafe(32)


def hash_key(key: str) -> str:
    """Return the hash of a key for the policy file. Keys are random, so one round of SHA-256 is enough."""
    return f"sha256:{hashlib.sha256(key.encode()).hexdigest()}"


def _moment(value: Any) -> Any:
    """Return when a key expires: a time without a zone is UTC, and a day counts until its end."""
    if isinstance(value, str):
        try:
            value = date.fromisoformat(value) if len(value) == len("2027-01-31") else datetime.fromisoformat(value)
        except ValueError:
            raise ValueError("is not a date; write 2027-01-31, or a time as 2027-01-31T12:00:00Z") from None
    if isinstance(value, datetime):
        return value if value.tzinfo else value.replace(tzinfo=UTC)
    if isinstance(value, date):
        return datetime(value.year, value.month, value.day, tzinfo=UTC) + timedelta(days=1)
    return value


class ApiKey(Section):
    """One key of a policy: its hash alone, or `{name, hash, expires}`."""

    hash: str
    name: Annotated[str, Field(pattern=r"^[\w.@-]{1,64}$")] | None = None
    expires: Annotated[AwareDatetime, BeforeValidator(_moment)] | None = None

    @model_validator(mode="before")
    @classmethod
    def _plain_hash(cls, value: Any) -> Any:
        mapping = {"hash": value} if isinstance(value, str) else value
        if isinstance(mapping, dict) and not re.fullmatch(HASH_PATTERN, str(mapping.get("hash", ""))):
            raise ValueError(_NOT_A_HASH if "hash" in mapping else f"hash: {_NOT_A_HASH}")
        return mapping

    @model_serializer
    def _as_written(self) -> Any:
        if self.name is None and self.expires is None:
            return self.hash
        return {"name": self.name, "hash": self.hash, "expires": self.expires and self.expires.isoformat()}

    @property
    def label(self) -> str:
        """The name, or the beginning of the hash."""
        return self.name or f"{self.hash[:15]}…"

    def expired(self, now: datetime | None = None) -> bool:
        """Whether the key is not valid any more."""
        return self.expires is not None and self.expires <= (now or datetime.now(UTC))
