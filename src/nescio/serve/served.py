"""The models that a server offers: the base model and its adapters, under the names that callers use."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nescio.core.adapters import is_adapter, opened_by, read_notes, read_sentences
from nescio.core.errors import NescioError
from nescio.core.files import expanded
from nescio.engines.base import Engine
from nescio.serve.errors import ApiError
from nescio.serve.policy import Policies, Policy
from nescio.serve.tool_formats import ToolFormat, format_of


@dataclass(frozen=True, slots=True)
class Served:
    """The models that callers may name.

    Attributes:
        name: Name of the base model.
        adapters: Name of each adapter, with the sentences it was trained with (`positive`, `negative`).
        control_tokens: Texts that the tokenizer turns into control tokens; no caller may write them.
        created: Start of the server, in seconds since 1970.
        baked: Names of the baked adapters, which are guided only where a policy says so.
        guides: Whether the engine can guide; an upstream can't.
        public_switches: Names of the adapters that a public sentence opens to whoever writes it.
        tool_format: How the model writes calls of tools; None: not known, or an upstream tells calls from text itself.
    """

    name: str
    adapters: Mapping[str, Mapping[str, str]]
    control_tokens: Sequence[str]
    created: int
    baked: frozenset[str] = frozenset()
    guides: bool = True
    tool_format: ToolFormat | None = None
    public_switches: frozenset[str] = frozenset()

    def names(self, policy: Policy) -> list[str]:
        """Return the names that a policy allows, its default first."""
        return [*policy.adapters, *([self.name] if policy.base_model else [])]

    def unguided(self, policy: Policy) -> list[str]:
        """Return those of these names that are not guided: a baked adapter's guidance is in its weights."""
        chosen = "scale" in policy.guidance.model_fields_set
        return [name for name in self.names(policy) if not self.guides or (name in self.baked and not chosen)]

    def named(self, name: str, policy: Policy) -> str:
        """Return the model that answers to a name under a policy.

        Raises:
            ApiError: The model is unknown or not allowed. Both are a 404, so that callers can't probe for models.
        """
        allowed = self.names(policy)
        if name in allowed:
            return name
        if policy.outside == "pin" and (name == self.name or name in self.adapters):
            return allowed[0]
        message = f"the model {name!r} does not exist or you do not have access to it; yours: {', '.join(allowed)}"
        raise ApiError(404, message, "model_not_found", "model")


def served_by(engine: Engine, model: str, adapters: Mapping[str, Path]) -> Served:
    """Describe what an engine serves.

    Args:
        engine: The engine, with its adapters loaded.
        model: As for `nescio.load`.
        adapters: Folder of each adapter, as `adapter_folders` returns them.
    """
    sentences = {name: read_sentences(folder) for name, folder in adapters.items()}
    baked = frozenset(name for name, folder in adapters.items() if "baked" in read_notes(folder))
    can = engine.capabilities
    return Served(
        name=model_name(model),
        adapters=sentences,
        control_tokens=can.control_tokens,
        created=int(time.time()),
        baked=baked,
        tool_format=format_of(can.chat_template),
        public_switches=frozenset(name for name, folder in adapters.items() if opened_by(folder)),
    )


def served_upstream(model: str, policies: Policies) -> Served:
    """Describe the models of an upstream: its model, and those that policies name as adapters.

    Raises:
        NescioError: A policy guides, which an upstream can't.
    """
    check_unguided(policies)
    names = dict.fromkeys(name for policy in policies.policies.values() for name in policy.adapters)
    return Served(model, {name: {} for name in names}, (), int(time.time()), guides=False)


def check_unguided(policies: Policies) -> None:
    """Check that no policy wants what an upstream can't do.

    Raises:
        NescioError: One of them guides.
    """
    for name, policy in policies.policies.items():
        if guided := sorted(policy.guidance.model_fields_set - {"protect"}):
            raise NescioError(
                f"policies.{name}.guidance.{guided[0]}: an upstream is not guided; only protect counts, leave it out"
            )


def adapter_folders(model: str, adapters: Mapping[str, Path]) -> dict[str, Path]:
    """Return the folder of each adapter to serve; a model that is itself an adapter's folder is served as `default`.

    Raises:
        NescioError: An adapter has the name of the model or of the model's own adapter.
    """
    if model_name(model) in adapters:
        raise NescioError(f"--adapter {model_name(model)}: is the model's own name; choose another")
    path = expanded(model)
    own = {"default": path} if is_adapter(path) else {}
    if own.keys() & adapters.keys():
        raise NescioError("--adapter default: is the name of the model's own adapter; choose another")
    return {**own, **adapters}


def model_name(model: str) -> str:
    """Return the name that callers use for a model: that of its folder or file, or its hub id."""
    path = expanded(model)
    return path.resolve().name if path.exists() else model
