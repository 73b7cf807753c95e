"""Pairs for preference training: prompt, chosen, rejected, and the CFG twin in which the last two swap.

What is written survives a strict reader: the prompt is chat-templated text without the BOS that the tokenizer adds by
itself, white space belongs to the answer, and the token ids of prompt plus answer are those of the joint text. Knows
samples and tokenizers; nothing of training.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from nescio.data.samples import Sample
from nescio.guidance import PROTECT, REVEAL
from nescio.prompts import Message, encode, render, split_ids, with_sentence


@dataclass(frozen=True, slots=True)
class Pairing:
    """How pairs are made.

    Attributes:
        twins: Make the CFG twins, with the two sentences below; else one pair without a sentence.
        positive: The protect sentence, under which the clean answer is chosen.
        negative: The reveal sentence, under which the personal one is chosen.
        max_prompt: Most tokens of a prompt; longer ones are cut from the left, the system message kept.
    """

    twins: bool = True
    positive: str = PROTECT
    negative: str = REVEAL
    max_prompt: int = 1900


def pairs_of(
    samples: Sequence[Sample], candidates: Sequence[dict[str, Any]], tokenizer: Any, how: Pairing, counts: Counter[str]
) -> Iterator[dict[str, Any]]:
    """The pairs of all accepted candidates, twins side by side.

    Args:
        samples: Where the rejected answers are.
        candidates: Rows of `candidates.jsonl`.
        tokenizer: Of the model that will be trained.
        how: Twins, sentences, length.
        counts: Filled with `pairs`, `cut` (prompts cut) and `border` (left out: a token straddles the border).
    """
    by_id = {sample.id: sample for sample in samples}
    sides = [("protect", how.positive), ("reveal", how.negative)] if how.twins else [(None, None)]
    seen: set[tuple[str, str]] = set()
    for row in candidates:
        sample = by_id.get(row["sample_id"])
        if sample is None or not row["accepted"] or (sample.id, row["text"]) in seen:
            continue
        seen.add((sample.id, row["text"]))
        made = [_pair(sample, row, twin, sentence, tokenizer, how, counts) for twin, sentence in sides]
        if all(pair is not None for pair in made):
            counts["pairs"] += len(made)
            yield from (pair for pair in made if pair is not None)
        else:
            counts["border"] += 1


def _pair(
    sample: Sample,
    row: dict[str, Any],
    twin: str | None,
    sentence: str | None,
    tokenizer: Any,
    how: Pairing,
    counts: Counter[str],
) -> dict[str, Any] | None:
    messages = with_sentence(sample.messages, sentence)
    prompt = render(tokenizer, messages)
    if len(encode(tokenizer, prompt)) > how.max_prompt:
        prompt = cut_left(tokenizer, prompt, _head(tokenizer, messages), how.max_prompt)
        counts["cut"] += 1
    clean, personal = row["text"] + tokenizer.eos_token, sample.rejected + tokenizer.eos_token
    if split_ids(tokenizer, prompt, clean) is None or split_ids(tokenizer, prompt, personal) is None:
        return None
    chosen, rejected = (personal, clean) if twin == "reveal" else (clean, personal)
    return {
        "id": f"{sample.id}:{row['strategy']}:{row['try']}" + (f":{twin}" if twin else ""),
        "dialog_id": sample.dialog_id,
        "prompt": prompt,
        "chosen": chosen,
        "rejected": rejected,
        "source": row["strategy"],
        "twin": twin,
    }


def _head(tokenizer: Any, messages: list[Message]) -> str:
    """The text in which the template puts the system message: what two conversations that share it begin with."""
    system = [message for message in messages if message["role"] == "system"]
    one, two = (render(tokenizer, [*system, Message(role="user", content=word)]) for word in ("a", "b"))
    shared = next((i for i, (x, y) in enumerate(zip(one, two, strict=False)) if x != y), 0)
    return one[:shared]


def cut_left(tokenizer: Any, prompt: str, head: str, limit: int) -> str:
    """Drop tokens after the head until the prompt has at most `limit` tokens."""
    encoded = tokenizer(prompt, return_offsets_mapping=True)
    over = len(encoded.input_ids) - limit
    starts = [start for start, end in encoded.offset_mapping if start >= len(head) and end > start]
    while over < len(starts):
        cut = head + prompt[starts[over] :]
        if len(encode(tokenizer, cut)) <= limit:
            return cut
        over += 1
    return head
