"""From a request to the prompts of its branches, as text and as token ids."""

from collections.abc import Mapping, Sequence
from typing import Any

from nescio.core.errors import NescioError
from nescio.core.guidance import Guidance
from nescio.core.prompts import answer_space, encode, render, split_ids, with_sentence
from nescio.core.switch import check_filled
from nescio.engines.base import ContextExceededError, Prompt, Request, Scoring, Tool

_BEGINNING = 8  # characters for each token of the context; most texts have three to five
_CUT_WORD = 32  # most tokens by which a word that is cut has more than the whole


def branch_texts(
    tokenizer: Any,
    sentences: Mapping[str, str],
    prompt: Prompt,
    guidance: Guidance | None,
    negative: Prompt | None,
    tools: Sequence[Tool] = (),
) -> list[str]:
    """Return the rendered prompt of each branch: the positive one, and the negative one if guidance needs it.

    Args:
        tokenizer: Renders conversations.
        sentences: Protect (`positive`) and reveal (`negative`) sentence, used if the guidance names none.
        prompt: Prompt of the request.
        guidance: Guidance of the request.
        negative: Prompt of the negative branch, if the request gives one.
        tools: Functions that the model may call; every branch shows them.

    Raises:
        NescioError: A guided text has no negative prompt, or a conversation can't be rendered.
    """

    def rendered(prompt: Prompt, sentence: str | None) -> str:
        return prompt if isinstance(prompt, str) else render(tokenizer, with_sentence(prompt, sentence), tools)

    if guidance is None:
        return [rendered(prompt, None)]
    texts = [rendered(prompt, sentences["positive"] if guidance.positive is None else guidance.positive)]
    if guidance.guided:
        if negative is None and isinstance(prompt, str):
            raise NescioError("a guided text needs a negative prompt; give one, or give messages")
        sentence = sentences["negative"] if guidance.negative is None else guidance.negative
        if negative is None:
            check_filled(sentence)
        texts.append(rendered(prompt, sentence) if negative is None else rendered(negative, None))
    return texts


def branch_ids(tokenizer: Any, sentences: Mapping[str, str], request: Request, context: int) -> list[list[int]]:
    """Return the token ids of each branch of a request.

    Raises:
        NescioError: A branch is empty, or exceeds the model's context.
    """
    texts = branch_texts(tokenizer, sentences, request.prompt, request.guidance, request.negative, request.tools)
    for text in texts:  # tokenising megabytes takes seconds
        if len(text) > (some := _BEGINNING * context):
            beginning = len(encode(tokenizer, text[:some])) - _CUT_WORD
            if beginning > context:
                raise ContextExceededError(beginning, request.max_tokens, context, or_more=True)
    branches = [encode(tokenizer, text) for text in texts]
    if not all(branches):
        raise NescioError("an empty prompt; give a text or at least one message")
    if (longest := max(map(len, branches))) + request.max_tokens > context:
        raise ContextExceededError(longest, request.max_tokens, context)
    return branches


def control_tokens(tokenizer: Any) -> tuple[str, ...]:
    """Return the texts that a tokenizer turns into control tokens wherever they stand.

    These are the special tokens, and added tokens that the chat template writes: some models do not declare their turn
    markers as special (DeepSeek-R1-Distill).
    """
    template = chat_template(tokenizer)
    return tuple(
        token.content
        for token in tokenizer.added_tokens_decoder.values()
        if token.special or ((mark := token.content.strip()) and mark in template)
    )


def chat_template(tokenizer: Any) -> str:
    """Return the source of a tokenizer's chat template, or of all if it has several; empty if it has none."""
    return str(getattr(tokenizer, "chat_template", None) or "")  # several, by name, are a dict


def scored_ids(tokenizer: Any, sentences: Mapping[str, str], item: Scoring) -> tuple[list[list[int]], list[int]]:
    """Return the token ids of each branch of an item to score, and those of its continuation.

    If a token straddles the border of prompt and continuation, the two are encoded separately, in both branches.
    """
    texts = branch_texts(tokenizer, sentences, item.prompt, item.guidance, None)
    space = "" if isinstance(item.prompt, str) else answer_space(tokenizer, item.prompt)
    continuation = item.continuation if item.continuation[:1].isspace() else space + item.continuation
    split = split_ids(tokenizer, texts[0], continuation)
    answer = split[1] if split else tokenizer(continuation, add_special_tokens=False).input_ids
    return [encode(tokenizer, text) for text in texts], answer
