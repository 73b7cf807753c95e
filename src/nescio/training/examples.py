"""Read files as examples of token ids: pairs for preference training, dialogs for plain fine-tuning."""

from collections import Counter
from collections.abc import Callable, Iterable
from itertools import takewhile
from pathlib import Path
from typing import Any

from nescio.core.end_tokens import turn_end
from nescio.core.errors import NescioError
from nescio.core.files import read_jsonl
from nescio.core.prompts import Message, answer_space, encode, render, split_ids
from nescio.core.shared_prefix import Continuation, Group
from nescio.core.switch import KEY_PLACEHOLDER
from nescio.data.dialogs import Dialog
from nescio.training.batch import Example, Unit


def read_pairs(
    path: Path | str,
    tokenizer: Any,
    *,
    max_length: int,
    max_prompt: int,
    counts: Counter[str] | None = None,
    scrub: Callable[[str, str], str] | None = None,
    filled: Callable[[str], str] = lambda prompt: prompt,
) -> list[Unit]:
    """Read a pair file as examples of two answers, chosen and rejected; CFG twins and callers who ask stay together.

    Twins teach the difference that the sentence makes. In different steps they pull the model back and forth; in one
    step their common part cancels, and the effect of the sentence remains.

    Args:
        path: JSON lines with `prompt`, `chosen`, `rejected`.
        tokenizer: The trained model's tokenizer.
        max_length: Maximum tokens of prompt and answer; longer answers are cut at the end.
        max_prompt: Maximum tokens of the prompt, at most `max_length` - 1; longer ones are cut at the beginning.
        counts: Receives `pairs`, `cut_prompts` and `cut_answers`.
        scrub: Masks the personal data in an answer, given its prompt; if given, the scrubbed rejected answer replaces
            the chosen one.
        filled: Puts the secret into the prompt of a twin. It gets what follows the beginning that the pair before
            shares: a dialog's own system message may hold the same words.

    Returns:
        Units: a pair, its twin if it has one, and the pairs in which a caller asks for personal data.

    Raises:
        NescioError: A field of a line is missing or empty, or there are no pairs.
    """
    path, counts = Path(path), Counter() if counts is None else counts
    units: list[Unit] = []
    before: dict[str, str] = {}
    for number, row in read_jsonl(path):
        for field in ("prompt", "chosen", "rejected"):
            if not isinstance(row, dict) or not isinstance(row.get(field), str) or not row[field].strip():
                raise NescioError(f"{path}:{number}: {field}: missing or empty; every pair needs a text there")
        twin = row.get("twin") == "reveal"
        taught = scrub(row["prompt"], row["rejected"]) if scrub and not twin else row["chosen"]
        prompt: str = row["prompt"]
        if twin:  # from the sentence on; its first letters may be those of the pair's own sentence
            other = before["prompt"] if before.get("twin") == "protect" else ""
            shared = sum(1 for _ in takewhile(lambda two: two[0] == two[1], zip(other, prompt, strict=False)))
            start = max(shared - len(KEY_PLACEHOLDER) + 1, 0)
            prompt = prompt[:start] + filled(prompt[start:])
        group = _group(tokenizer, prompt, (taught, row["rejected"]), (max_length, max_prompt), counts)
        example = Example(f"{path.parent.name}/{path.name}:{number}", group, twin)
        if _are_twins(before, row) or (units and row.get("asked")):
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
    answer_ids = [encoded[1], *(_ids(tokenizer, text, answer)[1] for answer in answers[1:])]
    counts["pairs"] += 1
    if len(prompt) > max_prompt:
        prompt = prompt[-max_prompt:]
        counts["cut_prompts"] += 1
    left = max(1, max_length - len(prompt))  # an answer without a token teaches nothing
    counts["cut_answers"] += sum(len(ids) > left for ids in answer_ids)
    return Group(prompt, [Continuation(ids[:left]) for ids in answer_ids])


def _are_twins(one: dict[str, str], other: dict[str, str]) -> bool:
    return (
        (one.get("twin"), other.get("twin")) == ("protect", "reveal")
        and one["chosen"] == other["rejected"]
        and one["rejected"] == other["chosen"]
    )


def _ids(tokenizer: Any, prompt: str, answer: str) -> tuple[list[int], list[int]]:
    # In pairs from elsewhere a token may span prompt and answer; the two are then encoded separately.
    apart = tokenizer(answer, add_special_tokens=False).input_ids
    return split_ids(tokenizer, prompt, answer) or (encode(tokenizer, prompt), apart)


def dialog_units(
    tokenizer: Any, dialogs: Iterable[Dialog], max_length: int, counts: Counter[str] | None = None
) -> list[Unit]:
    """Return a unit for each dialog, or each turn of one, as `dialog_group` encodes it."""
    return [
        [Example(f"{dialog.id}#{number}", group)]
        for dialog in dialogs
        for number, group in enumerate(dialog_group(tokenizer, dialog, max_length, counts))
    ]


def dialog_group(tokenizer: Any, dialog: Dialog, max_length: int, counts: Counter[str] | None = None) -> list[Group]:
    """Encode a dialog for fine-tuning: loss on every assistant turn and its EOS, none on the rest.

    One group if the template renders a longer conversation as the continuation of a shorter one; else one per turn.

    Args:
        tokenizer: The trained model's tokenizer.
        dialog: The dialog.
        max_length: Maximum tokens; what stands beyond them is cut.
        counts: Receives `answers`, and `cut_answers`: those that end beyond the length.
    """
    turns, counts = dialog.answers, Counter() if counts is None else counts
    ids = encode(tokenizer, render(tokenizer, dialog.messages[: turns[0]]))
    prompt, rest, wanted, ends = ids, list[int](), list[bool](), list[int]()
    for turn in turns:
        before = encode(tokenizer, render(tokenizer, dialog.messages[:turn]))
        known = prompt + rest
        if before[: len(known)] != known:
            each = [_turn_group(tokenizer, dialog.messages[: turn + 1], max_length, counts) for turn in turns]
            return [group for groups in each for group in groups]
        answer = _answer_ids(tokenizer, dialog.messages[: turn + 1])
        rest += before[len(known) :] + answer
        wanted += [False] * (len(before) - len(known)) + [True] * len(answer)
        ends.append(len(prompt) + len(rest))
    counts.update(answers=len(ends), cut_answers=sum(end > max_length for end in ends))
    left = max(max_length - len(prompt), 0)
    return [Group(prompt, [Continuation(rest[:left], wanted[:left])])] if any(wanted[:left]) else []


def _turn_group(tokenizer: Any, messages: list[Message], max_length: int, counts: Counter[str]) -> list[Group]:
    prompt, answer = encode(tokenizer, render(tokenizer, messages[:-1])), _answer_ids(tokenizer, messages)
    left = max(max_length - len(prompt), 0)
    counts.update(answers=1, cut_answers=int(len(answer) > left))
    return [Group(prompt, [Continuation(answer[:left])])] if left else []


def _answer_ids(tokenizer: Any, messages: list[Message]) -> list[int]:
    text = answer_space(tokenizer, messages[:-1]) + messages[-1]["content"]
    ids: list[int] = tokenizer(text, add_special_tokens=False).input_ids
    return [*ids, tokenizer.convert_tokens_to_ids(turn_end(tokenizer))]
