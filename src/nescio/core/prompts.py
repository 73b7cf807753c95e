"""Conversations as prompt text: the chat template, and the sentence that makes a branch.

Knows tokenizers and messages; nothing of personal data, decoding or training.
"""

from typing import Any, TypedDict

from jinja2.exceptions import TemplateError

from nescio.core.errors import NescioError


class Message(TypedDict):
    """One turn: `role` is system, user or assistant."""

    role: str
    content: str


def with_sentence(messages: list[Message], sentence: str | None) -> list[Message]:
    """Add a sentence to the conversation's own system message, or open the conversation with it (paper, 2.2)."""
    if not sentence:
        return messages
    if messages and messages[0]["role"] == "system":
        own = messages[0]["content"].rstrip()
        return [Message(role="system", content=f"{own} {sentence}" if own else sentence), *messages[1:]]
    return [Message(role="system", content=sentence), *messages]


def render(tokenizer: Any, messages: list[Message]) -> str:
    """Render a conversation as the text a model continues.

    A last assistant message is left open, to be continued where it stops (completion mode); else the header of a new
    assistant turn is added. A leading BOS that the tokenizer adds by itself is left out, so that encoding the text
    gives it exactly once. For a template without a system role the system message is folded into the first user turn.

    Raises:
        NescioError: The tokenizer has no chat template, or the template refuses the conversation.
    """
    if not getattr(tokenizer, "chat_template", None):
        raise NescioError(f"{tokenizer.name_or_path}: the tokenizer has no chat template; use a chat model")
    if not messages:
        raise NescioError("an empty conversation; give at least one user message")
    try:
        text = _apply(tokenizer, messages)
    except TemplateError as error:
        if messages[0]["role"] != "system":
            raise NescioError(f"the chat template refuses the conversation: {error}") from error
        try:
            text = _apply(tokenizer, fold_system(messages))
        except TemplateError as second:
            raise NescioError(f"the chat template refuses the conversation: {second}") from second
    bos = tokenizer.bos_token
    return text.removeprefix(bos) if bos and adds_bos(tokenizer) else text


def _apply(tokenizer: Any, messages: list[Message]) -> str:
    # The open answer is appended by hand: `continue_final_message` strips it, and white space belongs to the answer.
    prefix = messages[-1]["content"] if messages[-1]["role"] == "assistant" else ""
    history = messages[:-1] if messages[-1]["role"] == "assistant" else messages
    text: str = tokenizer.apply_chat_template(history, tokenize=False, add_generation_prompt=True)
    return text + prefix


def has_system_role(tokenizer: Any) -> bool:
    """Whether the chat template takes a system message; where it does not, `render` folds it into the first turn."""
    try:
        _apply(tokenizer, [Message(role="system", content="x"), Message(role="user", content="x")])
    except TemplateError:
        return False
    return True


def fold_system(messages: list[Message]) -> list[Message]:
    """Move the system message to the front of the first user turn, for templates that have no system role.

    Raises:
        NescioError: No user turn follows it.
    """
    system, rest = messages[0]["content"], messages[1:]
    if not rest or rest[0]["role"] != "user":
        raise NescioError("the chat template has no system role; let a user message follow the system message")
    return [Message(role="user", content=f"{system}\n\n{rest[0]['content']}"), *rest[1:]]


def adds_bos(tokenizer: Any) -> bool:
    """Whether encoding a text puts a BOS in front by itself."""
    ids = tokenizer("a").input_ids
    return bool(ids) and ids[0] == tokenizer.bos_token_id


def encode(tokenizer: Any, prompt: str) -> list[int]:
    """Token ids of a rendered prompt, with the tokenizer's own BOS."""
    ids: list[int] = tokenizer(prompt).input_ids
    return ids


def split_ids(tokenizer: Any, prompt: str, answer: str) -> tuple[list[int], list[int]] | None:
    """Token ids of prompt and answer such that together they are those of the joint text.

    Returns:
        `(prompt ids, answer ids)`, or None where a token straddles the border.
    """
    before, joint = encode(tokenizer, prompt), encode(tokenizer, prompt + answer)
    if joint[: len(before)] != before:
        return None
    return before, joint[len(before) :]
