"""The tokens that end an answer: those of the model, of its tokenizer, and of its chat template."""

from typing import Any

from jinja2.exceptions import TemplateError

_ANSWER = "the answer"


def turn_end(tokenizer: Any) -> str:
    """Return the token that ends an assistant turn, as text: what to teach at the end of an answer.

    It is the control token that the chat template writes behind an answer (`<|im_end|>`, `<|eot_id|>`), or the
    tokenizer's EOS if the template writes none.
    """
    eos = str(tokenizer.eos_token)
    if not getattr(tokenizer, "chat_template", None):
        return eos
    messages = [{"role": "user", "content": "a question"}, {"role": "assistant", "content": _ANSWER}]
    try:
        text = str(tokenizer.apply_chat_template(messages, tokenize=False))
    except (TemplateError, ValueError, TypeError):  # a template that refuses this conversation
        return eos
    behind = text.rpartition(_ANSWER)[2].lstrip()
    marks = (token.content for token in tokenizer.added_tokens_decoder.values() if token.content.strip())
    return max((mark for mark in marks if behind.startswith(mark)), key=len, default=eos)


def end_token_ids(tokenizer: Any, generation_config: Any = None) -> frozenset[int]:
    """Return the ids of all tokens that end an answer.

    Args:
        tokenizer: Names the EOS and has the chat template.
        generation_config: The model's; its `eos_token_id` is an id, a list of ids, or None.
    """
    own = getattr(generation_config, "eos_token_id", None)
    ids = [*(own if isinstance(own, list | tuple) else [own]), tokenizer.eos_token_id]
    ids.append(tokenizer.convert_tokens_to_ids(turn_end(tokenizer)))
    return frozenset(int(each) for each in ids if each is not None)
