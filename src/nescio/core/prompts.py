"""Conversations as prompt text: the chat template, and the sentence that makes a branch."""

import json
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import takewhile
from typing import Any, NotRequired, TypedDict

from jinja2.exceptions import TemplateError

from nescio.core.errors import NescioError


class Message(TypedDict):
    """One turn: `role` is system, user, assistant or tool. Calls of tools and their ids are as in OpenAI's API."""

    role: str
    content: str
    tool_calls: NotRequired[list[dict[str, Any]]]
    tool_call_id: NotRequired[str]


def with_sentence(messages: list[Message], sentence: str | None) -> list[Message]:
    """Add a sentence to the conversation's own system message, or open the conversation with it (paper, 2.2)."""
    if not sentence:
        return messages
    if messages and messages[0]["role"] == "system":
        own = messages[0]["content"].rstrip()
        return [Message(role="system", content=f"{own} {sentence}" if own else sentence), *messages[1:]]
    return [Message(role="system", content=sentence), *messages]


def after_sentence(sentence: str | None, text: str) -> str:
    """Put a sentence before a text that no chat template frames."""
    return f"{sentence}\n\n{text}" if sentence else text


def render(tokenizer: Any, messages: list[Message], tools: Sequence[Mapping[str, Any]] = ()) -> str:
    """Render a conversation as the text that a model continues.

    The text ends where the model's answer starts: behind the header of a new assistant turn, or inside a last assistant
    message, which is left open (completion mode). A thought that the template opens is closed, since answers stand
    behind it. A leading BOS that the tokenizer adds by itself is left out, so that encoding gives it exactly once.

    A template may refuse a system message, or drop it without a word: several are then merged into one, and one is
    folded into the first user turn.

    Args:
        tokenizer: Its chat template is applied.
        messages: The conversation.
        tools: Functions that the model may call, as OpenAI's API describes them.

    Raises:
        NescioError: The tokenizer has no chat template; the template refuses the conversation, or drops its system
            message, its last user message or a tool.
    """
    header, space = _header(tokenizer, messages, tools)
    return header + space + messages[-1]["content"] if messages[-1]["role"] == "assistant" else header


def answer_space(tokenizer: Any, messages: list[Message]) -> str:
    """Return the white space with which an answer to a conversation has to start; mostly none.

    Some templates end their generation prompt in a space that the tokenizer joins with the first word of the answer.
    `render` leaves that space to the answer, so that the border between them is a border between tokens.
    """
    return "" if messages[-1]["role"] == "assistant" else _header(tokenizer, messages)[1]


def _header(tokenizer: Any, messages: list[Message], tools: Sequence[Mapping[str, Any]] = ()) -> tuple[str, str]:
    """Return a conversation up to the next answer's start, and the white space that belongs to that answer."""
    if not getattr(tokenizer, "chat_template", None):
        raise NescioError(f"{tokenizer.name_or_path}: the tokenizer has no chat template; use a chat model")
    if not messages:
        raise NescioError("an empty conversation; give at least one user message")
    # 1) apply the template; the open answer is appended by hand, since `continue_final_message` strips white space
    history = messages[:-1] if messages[-1]["role"] == "assistant" else messages
    if not history:
        raise NescioError("nothing to answer; give at least one user message before the assistant's")
    text = _apply_with_system(tokenizer, history, tools)
    asked = next((message["content"] for message in reversed(history) if message["role"] == "user"), "")
    if not _shows(text, asked):
        raise NescioError("the chat template drops the last user message; fix the template, or use another model's")
    if not all(tool["function"]["name"] in text for tool in tools):
        raise NescioError("the chat template shows no tools; leave them out, or use a model whose template does")
    # 2) leave the BOS to the tokenizer
    if tokenizer.bos_token and adds_bos(tokenizer):
        text = text.removeprefix(tokenizer.bos_token)
    # 3) close a thought that the template opens
    if opened := _THOUGHT.search(text):
        text = f"{text.rstrip()}\n\n{opened[1]}/{opened[2]}\n\n"
    # 4) leave white space to the answer where the tokenizer joins the two
    bare = text.rstrip()
    joins = bare != text and any(split_ids(tokenizer, text[-_TAIL:], word) is None for word in _FIRST_WORDS)
    return (bare, text[len(bare) :]) if joins else (text, "")


_THOUGHT = re.compile(r"([<\[])((?:think|thinking|thought|reasoning|THINK)[>\]])\s*$")
_FIRST_WORDS = ("Hello", "I", "The", "a", "my")  # of answers
_TAIL = 64  # characters of a prompt that decide how its end is encoded


def _apply_with_system(tokenizer: Any, messages: list[Message], tools: Sequence[Mapping[str, Any]]) -> str:
    """Apply the template; system messages that it refuses or drops are merged, then folded into the first user turn."""
    systems = list(takewhile(lambda message: message["role"] == "system", messages))
    try:
        text = _apply(tokenizer, messages, tools)
        if all(_shows(text, system["content"]) for system in systems):
            return text
    except TemplateError as error:
        if not systems:
            raise NescioError(f"the chat template refuses the conversation: {error}") from error
    if len(systems) > 1:
        merged = with_sentence(systems[:1], " ".join(system["content"] for system in systems[1:]))
        return _apply_with_system(tokenizer, [*merged, *messages[len(systems) :]], tools)
    try:
        text = _apply(tokenizer, fold_system(messages), tools)
    except TemplateError as error:
        raise NescioError(f"the chat template refuses the conversation: {error}") from error
    if not _shows(text, messages[0]["content"]):
        raise NescioError(
            "the chat template drops the system message, also from the first user turn; use a template that shows it"
        )
    return text


def _shows(text: str, content: str) -> bool:
    """Whether a rendered text holds a message; templates may trim and fold its white space."""
    return content.strip() in text or "".join(content.split()) in "".join(text.split())


def _apply(tokenizer: Any, messages: list[Message], tools: Sequence[Mapping[str, Any]] = ()) -> str:
    # Models that can leave out their thought are asked to: its switch stands in their template.
    switch = {"enable_thinking": False} if "enable_thinking" in str(tokenizer.chat_template) else {}
    text: str = tokenizer.apply_chat_template(
        [_with_parsed_arguments(message) for message in messages],
        tools=list(tools) or None, tokenize=False, add_generation_prompt=True, **switch,
    )  # fmt: skip
    return text


def _with_parsed_arguments(message: Message) -> dict[str, Any]:
    """Return a message whose calls have their arguments as an object: templates write them as JSON themselves."""
    calls = [{**call, "function": dict(call["function"])} for call in message.get("tool_calls", ())]
    for call in calls:
        with suppress(ValueError):  # what is no JSON is shown as it is
            call["function"]["arguments"] = json.loads(call["function"]["arguments"])
    return {**message, **({"tool_calls": calls} if calls else {})}


def has_system_role(tokenizer: Any) -> bool:
    """Whether the chat template shows a system message; where it does not, `render` folds it into the first turn."""
    try:
        text = _apply(tokenizer, [Message(role="system", content="be brief"), Message(role="user", content="x")])
    except TemplateError:
        return False
    return "be brief" in text


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
    """Return the token ids of a rendered prompt, with one BOS where the tokenizer adds it.

    A prompt from elsewhere may carry the BOS as text; it is not added twice.
    """
    ids: list[int] = tokenizer(_without_bos(tokenizer, prompt)).input_ids
    return ids


def answer_offsets(tokenizer: Any, prompt: str, answer: str) -> list[tuple[int, int]]:
    """Return which characters of an answer each of its tokens stands for, where `split_ids` can split the two.

    Raises:
        NescioError: The tokenizer does not know.
    """
    if not tokenizer.is_fast:
        raise NescioError(f"{tokenizer.name_or_path}: the tokenizer gives no offsets; save a fast one, tokenizer.json")
    prompt = _without_bos(tokenizer, prompt)
    offsets = tokenizer(prompt + answer, return_offsets_mapping=True).offset_mapping[len(tokenizer(prompt).input_ids) :]
    return [(max(start - len(prompt), 0), max(end - len(prompt), 0)) for start, end in offsets]


def beginning_of(messages: Sequence[Message]) -> str:
    """Return what there is of the answer that a conversation goes on with; empty where it ends with the user."""
    return messages[-1]["content"] if messages and messages[-1]["role"] == "assistant" else ""


def _without_bos(tokenizer: Any, prompt: str) -> str:
    bos = tokenizer.bos_token
    return prompt.removeprefix(bos) if bos and prompt.startswith(bos) and adds_bos(tokenizer) else prompt


def split_ids(tokenizer: Any, prompt: str, answer: str) -> tuple[list[int], list[int]] | None:
    """Token ids of prompt and answer such that together they are those of the joint text.

    Returns:
        `(prompt ids, answer ids)`, or None where a token straddles the border.
    """
    before, joint = encode(tokenizer, prompt), encode(tokenizer, prompt + answer)
    if joint[: len(before)] != before:
        return None
    return before, joint[len(before) :]
