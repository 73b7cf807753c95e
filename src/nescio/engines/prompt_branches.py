"""From a request to the prompts of its branches, as text and as token ids. Knows tokenizers; nothing of models."""

from collections.abc import Mapping
from typing import Any

from nescio.core.errors import NescioError
from nescio.core.guidance import Guidance
from nescio.core.prompts import answer_space, encode, render, split_ids, with_sentence
from nescio.engines.base import ContextExceededError, Prompt, Request, Scoring


def branch_texts(
    tokenizer: Any, sentences: Mapping[str, str], prompt: Prompt, guidance: Guidance | None, negative: Prompt | None
) -> list[str]:
    """The rendered prompt of each branch: the positive one, and the negative one where guidance needs it.

    Args:
        tokenizer: Renders conversations.
        sentences: The protect (`positive`) and reveal (`negative`) sentence, where the guidance names none.
        prompt: The request's.
        guidance: The request's.
        negative: The negative branch's own prompt, if it has one.

    Raises:
        NescioError: Text is guided without a negative prompt of its own, or a conversation can't be rendered.
    """

    def rendered(prompt: Prompt, sentence: str | None) -> str:
        return prompt if isinstance(prompt, str) else render(tokenizer, with_sentence(prompt, sentence))

    if guidance is None:
        return [rendered(prompt, None)]
    texts = [rendered(prompt, sentences["positive"] if guidance.positive is None else guidance.positive)]
    if guidance.guided:
        if negative is None and isinstance(prompt, str):
            raise NescioError("a guided text needs a negative prompt; give one, or give messages")
        sentence = sentences["negative"] if guidance.negative is None else guidance.negative
        texts.append(rendered(prompt, sentence) if negative is None else rendered(negative, None))
    return texts


def branch_ids(tokenizer: Any, sentences: Mapping[str, str], request: Request, context: int) -> list[list[int]]:
    """The token ids of each branch of a request.

    Raises:
        NescioError: A branch is empty, or can't be answered within the model's context.
    """
    texts = branch_texts(tokenizer, sentences, request.prompt, request.guidance, request.negative)
    branches = [encode(tokenizer, text) for text in texts]
    if not all(branches):
        raise NescioError("an empty prompt; give a text or at least one message")
    if (longest := max(map(len, branches))) + request.max_tokens > context:
        raise ContextExceededError(longest, request.max_tokens, context)
    return branches


def control_tokens(tokenizer: Any) -> tuple[str, ...]:
    """Texts that a tokenizer turns into control tokens wherever they stand.

    Beside the special tokens these are the added ones that the chat template writes: some models' marks of turns are
    not called special (DeepSeek-R1-Distill).
    """
    template = str(getattr(tokenizer, "chat_template", None) or "")  # several, by name, are a dict
    return tuple(
        token.content
        for token in tokenizer.added_tokens_decoder.values()
        if token.special or ((mark := token.content.strip()) and mark in template)
    )


def scored_ids(tokenizer: Any, sentences: Mapping[str, str], item: Scoring) -> tuple[list[list[int]], list[int]]:
    """The token ids of each branch of what is scored, and those of the continuation.

    Where a token straddles the border, prompt and continuation are encoded apart, in both branches alike.
    """
    texts = branch_texts(tokenizer, sentences, item.prompt, item.guidance, None)
    space = "" if isinstance(item.prompt, str) else answer_space(tokenizer, item.prompt)
    continuation = item.continuation if item.continuation[:1].isspace() else space + item.continuation
    split = split_ids(tokenizer, texts[0], continuation)
    answer = split[1] if split else tokenizer(continuation, add_special_tokens=False).input_ids
    return [encode(tokenizer, text) for text in texts], answer
