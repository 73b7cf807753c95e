"""From files to examples of token ids: pairs for preference training, dialogs for plain fine-tuning.

Knows tokenizers, pairs and dialogs; nothing of losses.
"""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nescio.core.end_tokens import turn_end
from nescio.core.errors import NescioError
from nescio.core.files import read_jsonl
from nescio.core.prompts import Message, answer_space, encode, render, split_ids
from nescio.core.shared_prefix import Continuation, Group
from nescio.data.dialogs import Dialog
from nescio.training.batch import Example, Unit


def read_pairs(
    path: Path,
    tokenizer: Any,
    max_length: int,
    max_prompt: int,
    counts: Counter[str] | None = None,
    scrub: Callable[[str], str] | None = None,
) -> list[Unit]:
    """Read a pair file as examples of two answers, chosen and rejected; CFG twins stay together.

    Twins teach the difference that the sentence makes. Met in different steps they pull the model to and fro; met in
    one, what they have in common cancels, and what is left is the sentence.

    Args:
        path: JSON lines with `prompt`, `chosen`, `rejected`.
        tokenizer: Of the model that is trained.
        max_length: Most tokens of prompt and answer; longer answers lose their end.
        max_prompt: Most tokens of the prompt, and one less than `max_length`; longer ones lose their beginning.
        counts: Filled with `pairs`, `cut_prompts` and `cut_answers`.
        scrub: Masks the personal data in a text; given, the scrubbed rejected answer takes the place of the chosen.

    Returns:
        Units that belong in one step: a pair and its twin, or a pair that has none.

    Raises:
        NescioError: A line lacks a field or holds an empty one.
    """
    counts = Counter() if counts is None else counts
    units: list[Unit] = []
    before: dict[str, str] = {}
    for number, row in read_jsonl(path):
        for field in ("prompt", "chosen", "rejected"):
            if not isinstance(row, dict) or not isinstance(row.get(field), str) or not row[field].strip():
                raise NescioError(f"{path}:{number}: {field}: missing or empty; every pair needs a text there")
        twin = row.get("twin") == "reveal"
        taught = scrub(row["rejected"]) if scrub and not twin else row["chosen"]
        group = _group(tokenizer, row["prompt"], (taught, row["rejected"]), (max_length, max_prompt), counts)
        example = Example(f"{path.parent.name}/{path.name}:{number}", group, twin)
        if _are_twins(before, row):
            units[-1].append(example)
        else:
            units.append([example])
        before = row
    if not units:
        raise NescioError(f"{path}: holds no pairs; loosen the filter, raise generate.tries or give more dialogs")
    return units


def _group(tokenizer: Any, text: str, answers: tuple[str, ...], limits: tuple[int, int], counts: Counter[str]) -> Group:
    max_length = limits[0]
    max_prompt = max(1, min(limits[1], max_length - 1))
    prompt, *_ = encoded = _ids(tokenizer, text, answers[0])
    branches = [encoded[1], *(_ids(tokenizer, text, answer)[1] for answer in answers[1:])]
    counts["pairs"] += 1
    if len(prompt) > max_prompt:
        prompt = prompt[-max_prompt:]
        counts["cut_prompts"] += 1
    room = max(1, max_length - len(prompt))  # an answer without a token teaches nothing
    counts["cut_answers"] += sum(len(ids) > room for ids in branches)
    return Group(prompt, [Continuation(ids[:room]) for ids in branches])


def _are_twins(one: dict[str, str], other: dict[str, str]) -> bool:
    return (
        (one.get("twin"), other.get("twin")) == ("protect", "reveal")
        and one["chosen"] == other["rejected"]
        and one["rejected"] == other["chosen"]
    )


def _ids(tokenizer: Any, prompt: str, answer: str) -> tuple[list[int], list[int]]:
    # Other people's pairs may have tokens that straddle the border; prompt and answer are then encoded apart.
    apart = tokenizer(answer, add_special_tokens=False).input_ids
    return split_ids(tokenizer, prompt, answer) or (encode(tokenizer, prompt), apart)


def dialog_group(tokenizer: Any, dialog: Dialog, max_length: int) -> list[Group]:
    """A dialog for fine-tuning: loss on every assistant turn and its EOS, none on the rest.

    One group where the template renders a longer conversation as the continuation of a shorter; else one a turn.
    """
    turns = dialog.answers
    ids = encode(tokenizer, render(tokenizer, dialog.messages[: turns[0]]))
    prompt, rest, wanted = ids, list[int](), list[bool]()
    for turn in turns:
        before = encode(tokenizer, render(tokenizer, dialog.messages[:turn]))
        known = prompt + rest
        if before[: len(known)] != known:
            return [
                group for turn in turns for group in _turn_group(tokenizer, dialog.messages[: turn + 1], max_length)
            ]
        answer = _answer_ids(tokenizer, dialog.messages[: turn + 1])
        rest += before[len(known) :] + answer
        wanted += [False] * (len(before) - len(known)) + [True] * len(answer)
    room = max(max_length - len(prompt), 0)
    return [Group(prompt, [Continuation(rest[:room], wanted[:room])])] if any(wanted[:room]) else []


def _turn_group(tokenizer: Any, messages: list[Message], max_length: int) -> list[Group]:
    prompt = encode(tokenizer, render(tokenizer, messages[:-1]))
    answer = _answer_ids(tokenizer, messages)[: max(max_length - len(prompt), 0)]
    return [Group(prompt, [Continuation(answer)])] if answer else []


def _answer_ids(tokenizer: Any, messages: list[Message]) -> list[int]:
    text = answer_space(tokenizer, messages[:-1]) + messages[-1]["content"]
    ids: list[int] = tokenizer(text, add_special_tokens=False).input_ids
    return [*ids, tokenizer.convert_tokens_to_ids(turn_end(tokenizer))]
