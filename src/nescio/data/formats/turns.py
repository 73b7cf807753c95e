"""Turns as many tools write them: `role` and `content`, or `from` and `value`, in any mixture."""

from typing import Any

from nescio.core.errors import NescioError

_ROLES = {"human": "user", "gpt": "assistant", "chatgpt": "assistant", "developer": "system"}


def plain_turns(turns: Any, system: Any, field: str) -> Any:
    """Return turns as `{"role", "content"}` objects; whatever is no turn is left to the check of dialogs.

    Args:
        turns: A row's list of turns.
        system: The row's own system prompt, beside its turns; empty or None where it has none.
        field: The name of the list, for errors.

    Raises:
        NescioError: The row has a system prompt in both places, or one that is no text.
    """
    if not isinstance(turns, list):
        return turns
    plain = [_plain_turn(turn) if isinstance(turn, dict) else turn for turn in turns]
    if system is None or system == "":
        return plain
    if not isinstance(system, str):
        raise NescioError(f"system: must be a text, is {type(system).__name__}")
    if plain and isinstance(plain[0], dict) and plain[0].get("role") == "system":
        if plain[0].get("content") == system:
            return plain
        raise NescioError(f"system: {field} has a system turn of its own; keep one of the two")
    return [{"role": "system", "content": system}, *plain]


def _plain_turn(turn: dict[str, Any]) -> dict[str, Any]:
    role = turn["role"] if "role" in turn else turn.get("from")
    if isinstance(role, str):
        role = _ROLES.get(role.strip().lower(), role.strip().lower())
    content = _text(turn["content"] if "content" in turn else turn.get("value"))
    return {"role": role, "content": content} | ({"weight": turn["weight"]} if "weight" in turn else {})


def _text(content: Any) -> Any:
    """Join the parts in which OpenAI's messages may hold their text."""
    if not isinstance(content, list):
        return content
    texts = [part.get("text") if isinstance(part, dict) else None for part in content]
    return "".join(text for text in texts if text) if all(isinstance(text, str) for text in texts) else content
