"""Turns as many tools write them: `role` and `content`, or `from` and `value`, in any mixture."""

from typing import Any

from nescio.core.errors import NescioError

_ROLES = {
    "human": "user", "gpt": "assistant", "chatgpt": "assistant", "model": "assistant", "developer": "system",
}  # fmt: skip
_SYSTEM = ("system", "system_prompt", "system_message", "system_instruction", "instructions")
_WEIGHTS = ("weight", "loss_weight", "loss", "train", "training", "trainable")
"""Fields by which tools keep a turn out of the loss, with 0 or false."""
_TEXT_PARTS = ("text", "input_text", "output_text")


def has_turns(row: dict[str, Any]) -> bool:
    """Whether a row holds a list of turns, which other formats read."""
    return row.get("messages") is not None or row.get("conversations") is not None


def plain_turns(row: dict[str, Any], field: str) -> Any:
    """Return a row's turns as `{"role", "content"}` objects; what is no turn is left to the check of dialogs.

    Args:
        row: The row; it may have a system prompt besides its turns.
        field: Field that holds the list of turns.

    Raises:
        NescioError: A turn holds what is not read, or there are two system prompts.
    """
    turns = row[field]
    if not isinstance(turns, list):
        return turns
    plain = [_plain_turn(turn, f"{field}[{n}]") if isinstance(turn, dict) else turn for n, turn in enumerate(turns)]
    name = next((name for name in _SYSTEM if row.get(name) is not None), "system")
    system = _text(row.get(name), name)
    if system is None or (isinstance(system, str) and not system.strip()):
        return plain
    if not isinstance(system, str):
        raise NescioError(f"{name}: must be a text, is {type(system).__name__}")
    if plain and isinstance(plain[0], dict) and plain[0].get("role") == "system":
        if plain[0].get("content") == system:
            return plain
        raise NescioError(f"{name}: {field} has a system turn of its own; keep one of the two")
    return [{"role": "system", "content": system}, *plain]


def _plain_turn(turn: dict[str, Any], place: str) -> dict[str, Any]:
    # A table has a column for each name, with null in those that a row lacks.
    said = {name: value for name, value in turn.items() if value is not None}
    for name in ("tool_calls", "function_call"):
        if said.get(name):
            raise NescioError(
                f"{place}.{name}: tool calls are not read; leave the dialog out, or write the call as text"
            )
    role = said.get("role", said.get("from"))
    if isinstance(role, str):
        role = _ROLES.get(role.strip().lower(), role.strip().lower())
    content = _text(said.get("content", said.get("value")), f"{place}.{'content' if 'content' in said else 'value'}")
    weighted = next((name for name in _WEIGHTS if name in said), None)
    if weighted is not None and said[weighted] not in (0, 1):
        raise NescioError(f"{place}.{weighted}: must be 0 or 1, is {said[weighted]!r}")
    return {"role": role, "content": content} | ({} if weighted is None else {"weight": said[weighted]})


def _text(content: Any, place: str) -> Any:
    """Join the parts in which OpenAI's messages may hold their text."""
    if not isinstance(content, list):
        return content
    texts = list[Any]()
    for number, part in enumerate(content):
        kind = part.get("type", "text") if isinstance(part, dict) else "text"
        if kind not in _TEXT_PARTS:
            raise NescioError(f"{place}: must be a text, part {number} is of type {kind}; leave the dialog out")
        texts.append(part.get("text") if isinstance(part, dict) else part)
    return "".join(texts) if all(isinstance(text, str) for text in texts) else content
