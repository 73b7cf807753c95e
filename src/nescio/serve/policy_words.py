"""A policy file in words: what each key may do, and where it has holes."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from nescio.serve.audit import Audit
from nescio.serve.policy import DEFAULT, Among, Caller, Policies, Policy, Range

_SOON = timedelta(days=14)
_ACTION = {
    "off": "leaves unchecked",
    "allow": "is sent",
    "count": "is sent and counted",
    "replace": "is replaced by a stand-in",
    "mask": "is masked",
    "block": "ends the answer",
}
_SENDS = {
    "system_message": "system messages",
    "negative_prompt": "a negative prompt",
    "prefill": "the answer's beginning",
    "completions": "plain texts to complete",
    "logprobs": "requests for log-probabilities",
    "tools": "tools and what they return",
    "response_format": "the form of the answer",
    "logit_bias": "biases of single tokens",
}


def described(policies: Policies) -> Iterator[str]:
    """Yield what the callers of each policy may do, in lines."""
    for name, policy in policies.policies.items():
        yield f"{name}: {_who(name, policy, policies)}"
        for key in policy.keys:
            word = "expired" if key.expired() else "valid until"
            until = "" if key.expires is None else f", {word} {key.expires:%Y-%m-%d %H:%M %Z}"
            yield f"  key        {key.label}{until}"
        yield from terms(policy)


def terms(policy: Policy) -> Iterator[str]:
    """Yield what the callers of a policy may do, in lines."""
    yield f"  models     {', '.join([*policy.adapters, *(['the base model'] if policy.base_model else [])])}"
    yield f"  guidance   {_guidance(policy)}"
    sends = [what for field, what in _SENDS.items() if getattr(policy.allow, field)]
    yield f"  may send   {', '.join(['user and assistant messages', *sends])}"
    yield f"  otherwise  {'refused' if policy.outside == 'refuse' else 'pinned to what the policy gives'}"
    yield f"  audit      {_audit(policy)}"
    if not policy.audit_requests.off:
        yield f"  requests   {_audit_text(policy.audit_requests, 'refuses the request')}"
    yield f"  limits     {_limits(policy)}"


def _who(name: str, policy: Policy, policies: Policies) -> str:
    if policies.keyless:
        return "everybody; no policy has a key, so whatever key a client sends is taken"
    keys = _number(len(policy.keys), "key")
    if name != DEFAULT:
        return keys
    return "requests without a key" + (f", and {keys}" if policy.keys else "")


def _number(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _guidance(policy: Policy) -> str:
    rules, said = policy.guidance, list[str]()
    for name in ("scale", "space", "plausibility", "adaptive"):
        rule: Range | Among[Any] = getattr(rules, name)
        if isinstance(rule, Range):
            free = f" (may choose {rule.min:g} to {rule.max:g})" if rule.min < rule.max else ""
            said.append(f"{name} {rule.default:g}{free}")
        else:
            free = f" (may choose {', '.join(map(str, rule.allowed))})" if len(rule.allowed) > 1 else ""
            said.append(f"{name} {str(rule.default).lower() if isinstance(rule.default, bool) else rule.default}{free}")
    if policy.adapters and "scale" not in rules.model_fields_set:
        said.append("a baked adapter: none")
    for name, sentence in (("protect", rules.protect), ("reveal", rules.reveal)):
        if sentence is not None:
            said.append(f"{name} sentence {sentence!r}" if sentence else f"no {name} sentence")
    return "; ".join(said)


def _audit(policy: Policy) -> str:
    return "none: answers leave unchecked" if policy.audit.off else _audit_text(policy.audit, _ACTION["block"])


def _audit_text(audit: Audit, block: str) -> str:
    action_words = _ACTION | {"block": block}
    said = [f"personal data {action_words[audit.default]}"]
    said += [f"{name} {action_words[action]}" for name, action in audit.types.items()]
    allowed = sum(map(len, audit.allow.values()))
    return "; ".join([*said, *([f"{_number(allowed, 'text')} never counted"] if allowed else [])])


def _limits(policy: Policy) -> str:
    limits = policy.limits
    each = f"a request {limits.max_tokens} tokens, {_number(limits.choices, 'answer')}, {limits.seconds:g} s"
    shared = {
        "at a time": limits.concurrency,
        "requests a minute": limits.requests_per_minute,
        "tokens a minute": limits.tokens_per_minute,
    }
    return "; ".join([each, *(f"{number} {what}" for what, number in shared.items() if number is not None)])


def holes(policies: Policies) -> Iterator[str]:
    """Yield warnings about what a policy leaves open, each with the key to change."""
    now = datetime.now(UTC)
    if policies.keyless:
        yield "no policy has a key: whoever reaches the port is answered; make keys with `nescio key new`"
    for name, policy in policies.policies.items():
        for hole in holes_of(Caller(name, policy)):
            yield f"policies.{name}.{hole}"
        for number, key in enumerate(policy.keys):
            place = f"policies.{name}.keys.{number}"
            if key.expired(now):
                yield f"{place}: {key.label} has expired; remove it"
            elif key.expired(now + _SOON):
                yield f"{place}: {key.label} expires on {key.expires:%Y-%m-%d}; put a new key beside it"


def holes_of(caller: Caller) -> Iterator[str]:
    """Yield warnings about what a caller's policy leaves open, each with the key to change."""
    policy, is_open = caller.policy, caller.name == DEFAULT
    rules: Any = policy.guidance  # its settings are added from the fields of Guidance
    if policy.base_model and is_open:
        yield "base_model: callers without a key reach the base model, which no adapter protects"
    if rules.scale.min < 1:
        yield f"guidance.scale: from {rules.scale.min:g}; below 1 the reveal sentence counts, and at 0 it decides alone"
    if rules.scale.default == 1 and rules.scale.max == 1:
        yield "guidance.scale: 1 is the protect sentence alone, without guidance"
    if rules.protect == "":
        yield 'guidance.protect: "" takes the protect sentence away'
    if rules.plausibility.max >= 1:
        yield "guidance.plausibility: at 1 guidance changes nothing; set a lower max"
    yield from _sent_holes(policy, is_open)
    yield from _audit_holes(policy)
    if policy.limits.requests_per_minute is None and policy.limits.tokens_per_minute is None:
        yield "limits: a question may be asked any number of times; set requests_per_minute or tokens_per_minute"


def _sent_holes(policy: Policy, is_open: bool) -> Iterator[str]:
    if policy.allow.negative_prompt:
        yield "allow.negative_prompt: one equal to the positive prompt switches guidance off"
    if policy.allow.system_message and is_open:
        yield "allow.system_message: callers without a key may argue against the protect sentence"
    if policy.allow.prefill:
        yield 'allow.prefill: an answer that begins with "Sure, her number is" is easily continued'
    if policy.allow.completions:
        yield "allow.completions: plain texts are not framed by the chat template that the adapter was trained with"
    if policy.allow.tools and is_open:
        yield "allow.tools: callers without a key may argue against the protect sentence in a tool's description"
    if policy.allow.response_format:
        yield "allow.response_format: a schema that leaves two answers shows which of them is the likelier"
    if policy.allow.logit_bias:
        yield "allow.logit_bias: it takes away the tokens that the model likes to say instead of personal data"
    if policy.allow.logprobs:
        yield "allow.logprobs: the likeliest tokens show what the answer does not say"


def _audit_holes(policy: Policy) -> Iterator[str]:
    audit = policy.audit
    if audit.off:
        yield "audit: answers leave unchecked; set count to know, mask to stop"
    elif audit.default in ("off", "allow"):
        yield f"audit.default: {audit.default} sends every type that types does not name"
    if sent := [kind for kind, action in audit.types.items() if action == "allow"]:
        yield f"audit.types: {', '.join(sent)} is sent and not counted"
