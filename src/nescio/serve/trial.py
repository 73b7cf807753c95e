"""A policy tried over HTTP, for the playground's editor: what it would give the caller, and what a request would get.

It tells callers what they know or write: their own policy without its keys, and nothing of other models, of adapters'
own sentences or of what a detector would find.
"""

import re
from contextlib import suppress
from dataclasses import replace
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, Field

from nescio.core.errors import NescioError
from nescio.core.yaml_config import checked, mapping_of
from nescio.serve.dry_run import verdict
from nescio.serve.errors import ApiError
from nescio.serve.policy import Caller, Policy
from nescio.serve.policy_words import holes_of, terms
from nescio.serve.section import Section
from nescio.serve.served import Served

_LONGEST = 10_000  # characters of a policy
_BRACKETS = 200  # that it may open: PyYAML takes seconds for thousands


class Trial(Section):
    """What is tried: a policy in YAML, as it stands under its name in the policy file, and a request."""

    policy: Annotated[str | None, Field(max_length=_LONGEST, description="By default the caller's own")] = None
    request: Annotated[dict[str, Any] | None, Field(description="Body of a chat or a completion request")] = None


class Tried(BaseModel):
    """What a policy gives.

    `policy` is the policy, `terms` says what its callers may do, `warnings` what it leaves open. `status` and `lines`
    are what the server would do with the request.
    """

    policy: str
    terms: list[str]
    warnings: list[str]
    status: int | None = None
    lines: list[str] = []


def tried_policy(trial: Trial, caller: Caller, served: Served) -> Tried:
    """Try a policy; no model and no detector is asked.

    Args:
        trial: What is tried.
        caller: Who tries it.
        served: The models of the server.

    Raises:
        ApiError: The policy has a mistake (400).
    """
    # 1) the policy
    policy, text = caller.policy, trial.policy
    if text is None:
        own = policy.model_dump(mode="json", exclude={"keys"}, exclude_unset=True)
        text = yaml.safe_dump(own, sort_keys=False, allow_unicode=True)
    else:
        policy = _read(text)
    tried = Caller(caller.name, policy)
    told = Tried(policy=text, terms=list(map(_line, terms(policy))), warnings=list(holes_of(tried)))
    # 2) the request, with the models that the policy names
    if trial.request is not None:
        own_base = served.name if caller.policy.base_model else "the base model"
        asked = str(trial.request.get("model", ""))
        base = own_base if asked in ("", own_base, *policy.adapters) else asked
        own_baked = served.baked & {*caller.policy.adapters}
        none = {"positive": "", "negative": ""}  # a baked adapter's sentences
        adapters = {name: none if name in own_baked else {} for name in policy.adapters}
        names = replace(served, name=base, adapters=adapters, baked=own_baked)
        found = verdict(tried, trial.request, names)
        told.status, told.lines = found.status, list(map(_line, found.lines))
    return told


def _line(text: str) -> str:
    """Return a line without the columns of a terminal."""
    return ": ".join(re.split(r"\s{2,}", text.strip(), maxsplit=1))


def _read(text: str) -> Policy:
    try:
        if text.count("[") + text.count("{") > _BRACKETS:
            raise NescioError(f"policy: opens more than {_BRACKETS} brackets; write it with fewer")
        if _has_alias(text):
            raise NescioError("policy: has an alias (*name); write it out")
        content = mapping_of(text, "policy", "give a policy's keys, such as adapters: [careful]")
        return checked(Policy, content, "policy", text)
    except NescioError as error:
        raise ApiError(400, str(error), "invalid_policy", "policy") from None


def _has_alias(text: str) -> bool:
    """Whether a YAML text repeats a part of itself, which may make it huge."""
    with suppress(yaml.YAMLError):  # `mapping_of` says of it what is wrong
        return any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, Loader=yaml.SafeLoader))
    return False
