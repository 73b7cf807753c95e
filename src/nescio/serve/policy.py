"""Policies: what the callers with each API key may ask for. Read from YAML; everything is closed by default."""

from collections.abc import Sequence
from dataclasses import Field as DataclassField
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, Self, TypeVar

from pydantic import Field, PrivateAttr, model_validator

from nescio.core.errors import NescioError
from nescio.core.guidance import COMBINING, Guidance
from nescio.core.guidance_fields import check_setting, with_settings
from nescio.core.yaml_config import checked, read_yaml
from nescio.pii.registry import check_settings, counted_types, ignored_labels
from nescio.pii.taxonomy import TYPES
from nescio.serve.audit import Audit
from nescio.serve.errors import ApiError
from nescio.serve.keys import ApiKey, hash_key
from nescio.serve.section import Section

DEFAULT = "default"
"""The policy of traffic without a key."""

Positive = Annotated[int, Field(gt=0)]
Finite = Annotated[float, Field(ge=0, allow_inf_nan=False)]
T = TypeVar("T")


class Range(Section):
    """A number between `min` and `max` that a caller may choose; a plain number leaves no choice."""

    default: Finite
    min: Finite
    max: Finite

    @property
    def bounds(self) -> tuple[float, ...]:
        """The smallest and the largest value that a caller can get."""
        return self.min, self.max

    @model_validator(mode="before")
    @classmethod
    def _plain_number(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return {"default": value, "min": value, "max": value}
        return {"min": value.get("default"), "max": value.get("default")} | value

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if not self.min <= self.default <= self.max:
            raise ValueError(f"default {self.default:g} must lie between min {self.min:g} and max {self.max:g}")
        return self


class Among(Section, Generic[T]):
    """One of the `allowed` values, which a caller may choose; a plain value leaves no choice."""

    default: T
    allowed: tuple[T, ...]

    @property
    def bounds(self) -> tuple[T, ...]:
        """The values that a caller can get."""
        return self.allowed

    @model_validator(mode="before")
    @classmethod
    def _plain_value(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return {"default": value, "allowed": [value]}
        return {"allowed": [value.get("default")]} | value

    @model_validator(mode="after")
    def _default_allowed(self) -> Self:
        if self.default not in self.allowed:
            raise ValueError(f"default {self.default} must be among the allowed")
        return self


def _rule(setting: DataclassField[Any]) -> tuple[Any, Any]:
    """The field of a guidance setting: by default, callers have no choice."""
    rule: Any = Range if setting.type is float else Among[setting.type]  # type: ignore[name-defined]
    return rule, rule.model_validate(getattr(_DEFAULT, setting.name))


_DEFAULT = Guidance(scale=3.0)  # the paper's choice


@with_settings(_rule)
class GuidanceRules(Section):
    """Guidance of answers; the defaults are the paper's. Scale 1 is the protect sentence alone.

    Each setting of `Guidance` has a field: a `Range` if it is a number, else an `Among`.
    """

    protect: str | None = None
    reveal: str | None = None

    @model_validator(mode="after")
    def _valid_guidance(self) -> Self:
        for setting in COMBINING:
            for value in getattr(self, setting.name).bounds:
                check_setting(setting.name, value)
        return self


class Allowances(Section):
    """What a caller may send besides user messages."""

    system_message: bool = False
    negative_prompt: bool = False
    prefill: bool = False
    completions: bool = False
    logprobs: bool = False
    tools: bool = False
    response_format: bool = False
    logit_bias: bool = False


class Limits(Section):
    """Limits of all callers of a policy together; `max_tokens`, `choices` and `seconds` are those of one request."""

    max_tokens: Positive = 1024
    choices: Positive = 1
    seconds: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 300.0
    concurrency: Positive | None = None
    requests_per_minute: Positive | None = None
    tokens_per_minute: Positive | None = None

    @model_validator(mode="after")
    def _one_answer_fits(self) -> Self:
        most = self.max_tokens * self.choices
        if self.tokens_per_minute is not None and self.tokens_per_minute < most:
            raise ValueError(f"tokens_per_minute must be {most} (max_tokens times choices) or more")
        return self


class Policy(Section):
    """What the callers with certain API keys may ask for, and what happens if they ask for more."""

    keys: tuple[ApiKey, ...] = ()
    adapters: tuple[str, ...] = ()
    base_model: bool = False
    outside: Literal["refuse", "pin"] = "refuse"
    guidance: GuidanceRules = GuidanceRules()
    allow: Allowances = Allowances()
    audit: Audit = Audit()
    audit_requests: Audit = Audit(default="off")
    limits: Limits = Limits()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if not self.adapters and not self.base_model:
            raise ValueError("names no model; give adapters, or base_model: true")
        if self.allow.logprobs and not self.audit.off:
            raise ValueError("allow.logprobs would show tokens that the audit withholds; set audit: off")
        if self.allow.logprobs and not self.audit_requests.off:
            raise ValueError("allow.logprobs shows tokens, which audit_requests can't put back; set one of them off")
        return self


@dataclass(frozen=True, slots=True)
class Caller:
    """A caller: the policy of its key, the policy's name, and the key; None: a caller whose key is not looked at."""

    name: str
    policy: Policy
    key: ApiKey | None = None


class Policies(Section):
    """All policies, and the detector of their output filters, with what `load_detector` is told beside its name."""

    detector: str = "default"
    ignore: tuple[str, ...] = Field(default_factory=lambda read: ignored_labels(read.get("detector", "default")))
    count: tuple[str, ...] | None = None
    thresholds: dict[str, float] = Field(default_factory=dict)
    languages: tuple[str, ...] = ()
    policies: Annotated[dict[str, Policy], Field(min_length=1)]
    _by_hash: dict[str, Caller] = PrivateAttr(default_factory=dict)

    @model_validator(mode="after")
    def _one_policy_a_key(self) -> Self:
        for name, policy in self.policies.items():
            if not policy.keys and name != DEFAULT:
                raise ValueError(f"policy {name} has no keys, so nobody can use it; make one with `nescio key new`")
            names = [key.name for key in policy.keys if key.name]
            if twice := next((each for each in names if names.count(each) > 1), None):
                raise ValueError(f"policy {name} has two keys named {twice}; give each a name of its own")
            for key in policy.keys:
                if (other := self._by_hash.get(key.hash)) is not None:
                    raise ValueError(f"policies {other.name} and {name} share a key; one key, one policy")
                self._by_hash[key.hash] = Caller(name, policy, key)
        return self

    @model_validator(mode="after")
    def _detector_finds_what_audits_name(self) -> Self:
        settings = {"thresholds": self.thresholds, "languages": self.languages}
        try:
            check_settings(self.detector, {key: value for key, value in settings.items() if value}, self.count)
        except NescioError as error:
            raise ValueError(str(error).removeprefix("detector: ")) from error
        counted = counted_types(self.detector, self.count)
        for name, policy in self.policies.items():
            named = [("audit", kind) for kind in policy.audit.types]
            for audit, kind in [*named, *(("audit_requests", kind) for kind in policy.audit_requests.types)]:
                if counted is not None and kind in TYPES and kind not in counted:
                    raise ValueError(
                        f"policies.{name}.{audit}.types: {kind} is not counted; give count with all types that matter, "
                        f"such as [{', '.join((*counted, kind))}]"
                    )
        return self

    @property
    def detector_settings(self) -> dict[str, Any]:
        """What `load_detector` is told beside the name."""
        return self.model_dump(include={"ignore", "count", "thresholds", "languages"})

    @property
    def keyless(self) -> bool:
        """Whether no policy has a key; then whatever key a client sends is taken, and is not looked at."""
        return not self._by_hash

    def caller(self, key: str | None) -> Caller:
        """Return the caller with a key; without one, or where no policy has a key, the policy `default` applies.

        Raises:
            ApiError: The key is unknown or has expired, or there is none and no policy `default` (401).
        """
        if key is not None and not self.keyless:
            found = self._by_hash.get(hash_key(key))
            if found is None:
                raise ApiError(401, "this API key is unknown", "invalid_api_key")
            if found.key is not None and found.key.expired():
                raise ApiError(401, "this API key has expired; ask for a new one", "expired_api_key")
            return found
        if DEFAULT not in self.policies:
            raise ApiError(401, "give an API key (Authorization: Bearer KEY)", "invalid_api_key")
        return Caller(DEFAULT, self.policies[DEFAULT])


def load_policies(path: Path, adapters: Sequence[str] | None) -> Policies:
    """Read a policy file.

    Args:
        path: YAML.
        adapters: Names of the served adapters; None: not known, and not checked.

    Raises:
        NescioError: The file has a mistake, or a policy names an adapter that is not served.
    """
    content, text = read_yaml(path, "docs/serving.md has policies to start from")
    policies = checked(Policies, content, str(path), text)
    for name, policy in policies.policies.items():
        for adapter in policy.adapters:
            if adapters is not None and adapter not in adapters:
                raise NescioError(
                    f"{path}: policies.{name}.adapters: {adapter!r} is not served; "
                    f"served: {', '.join(adapters) or 'none (give --adapter NAME=PATH)'}"
                )
    return policies
