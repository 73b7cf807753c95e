"""Pairs for preference training: prompt, chosen, rejected, the CFG twin in which the last two swap, and further ones.

Any preference trainer reads them as they are: the prompt is chat-templated text without the BOS that the tokenizer
adds, white space belongs to the answer, and the token ids of prompt and answer are those of the joint text.
"""

import hashlib
import random
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

from nescio.core.end_tokens import turn_end
from nescio.core.errors import NescioError
from nescio.core.files import read_jsonl
from nescio.core.guidance import PROTECT, REVEAL
from nescio.core.prompts import Message, answer_space, encode, render, split_ids, with_sentence
from nescio.data.paraphrase import paraphrases
from nescio.data.persuasion import ask_for, wordings
from nescio.data.samples import Sample
from nescio.data.strategies import STRATEGIES, last_question, with_question
from nescio.data.trajectories import TRAINED_POSITIONS

_CANDIDATE = {"sample_id", "source", "strategy", "try", "text", "accepted"}


@dataclass(frozen=True, slots=True)
class Pairing:
    """How pairs are made.

    Attributes:
        twins: Make the CFG twins, with the two sentences below; else one pair without a sentence.
        positive: The protect sentence, under which the clean answer is chosen.
        negative: The reveal sentence, under which the personal one is chosen.
        max_prompt: Most tokens of a prompt; longer ones are cut from the left, the system message kept.
        paraphrases: Further pairs of each, with the question in other words.
        asked: Share of the pairs beside which stand pairs in which the caller asks for personal data: under the protect
            sentence and under none, the clean answer chosen.
        seed: Seed of the other words, and of what the callers say.
    """

    twins: bool = True
    positive: str = PROTECT
    negative: str = REVEAL
    max_prompt: int = 1900
    paraphrases: int = 0
    asked: float = 0.0
    seed: int = 0


class Lookup(Protocol):
    """Samples by id: a dict, or a `SampleFile`."""

    def get(self, identifier: str, /) -> Sample | None:
        """Return the sample, or None if it is not among them."""


def read_candidates(path: Path) -> Iterator[dict[str, Any]]:
    """Read a candidate file back.

    Raises:
        NescioError: A line is not a candidate.
    """
    for number, row in read_jsonl(path):
        if not (isinstance(row, dict) and row.keys() >= _CANDIDATE and row["strategy"] in STRATEGIES):
            raise NescioError(f"{path}:{number}: not a candidate; `nescio data rewrite` makes them of samples")
        yield row


def pairs_of(
    samples: Lookup,
    candidates: Iterable[dict[str, Any]],
    tokenizer: Any,
    how: Pairing,
    counts: Counter[str],
    reworded: Mapping[str, Sequence[str]] = MappingProxyType({}),
) -> Iterator[dict[str, Any]]:
    """Yield the pairs of all accepted candidates, of several to one sample the best; those of one step stand together.

    A unit, which is one step, is a pair, its twin, and the pairs in which the caller asks for personal data.

    Args:
        samples: Samples with the rejected answers; candidates of other samples are skipped.
        candidates: Rows of `candidates.jsonl`.
        tokenizer: Tokenizer of the model that will be trained.
        how: Twins, sentences, length, and what stands beside a pair.
        counts: Filled with `pairs`, `cut` (prompts cut), and the numbers left out: `duplicates`, `border` (a token
            straddles it) and `too_long` (the system message alone fills the prompt).
        reworded: Questions in other words (`rewordings`); templates make those that are missing.
    """
    seen: set[bytes] = set()
    for row in candidates:
        strategy = STRATEGIES[row["strategy"]]
        found = samples.get(row["sample_id"]) if row["accepted"] and row.get("best", True) else None
        if found is None or strategy.again == "question":
            continue
        sample = strategy.target(found)
        for number, question in enumerate(_questions(sample, how, reworded)):
            asked = sample if not number else replace(sample, messages=with_question(sample.messages, question))
            name = ":".join([sample.id, row["source"], row["strategy"], str(row["try"])])
            made = _unit(asked, row, f"{name}:words-{number}" if number else name, tokenizer, how, counts)
            if isinstance(made, str):
                counts[made] += 1
            elif (digest := _digest(made[0])) in seen:
                counts["duplicates"] += 1
            else:
                seen.add(digest)
                counts["pairs"] += len(made)
                yield from made


def rewordings(samples: Lookup, candidates: Iterable[dict[str, Any]]) -> dict[str, list[str]]:
    """Return the questions that a source has said in other words, by the question."""
    found: dict[str, list[str]] = {}
    for row in candidates:
        sample = samples.get(row["sample_id"]) if row["accepted"] else None
        if sample is not None and STRATEGIES[row["strategy"]].again == "question":
            found.setdefault(last_question(sample.messages), []).append(row["text"])
    return found


def begins_unit(pair: Mapping[str, Any]) -> bool:
    """Whether a pair is the first of its unit; a twin, and a caller who asks, belong to the pair before."""
    return pair.get("twin") != "reveal" and not pair.get("asked")


def _questions(sample: Sample, how: Pairing, reworded: Mapping[str, Sequence[str]]) -> list[str]:
    """Return a sample's question, then the same in other words."""
    question = last_question(sample.messages)
    if not how.paraphrases:
        return [question]
    other = [*reworded.get(question, ()), *paraphrases(question, how.paraphrases, str(how.seed))]
    return [question, *dict.fromkeys(other)][: 1 + how.paraphrases]


def _unit(
    sample: Sample, row: dict[str, Any], name: str, tokenizer: Any, how: Pairing, counts: Counter[str]
) -> list[dict[str, Any]] | str:
    """Return a pair with what stands beside it, or the reason why there is none."""
    # 1) the pair, and its twin
    sides = [("protect", how.positive), ("reveal", how.negative)] if how.twins else [(None, None)]
    made = [_pair(sample, row, name, twin, sentence, tokenizer, how, counts) for twin, sentence in sides]
    if reasons := [pair for pair in made if isinstance(pair, str)]:
        return reasons[0]
    # 2) callers who ask, where there is place for what they say
    rng = random.Random(f"{how.seed}/{name}")
    if rng.random() < how.asked:
        said = [wording for wording in wordings(held_out=False) if wording.text not in how.negative]
        for sentence in dict.fromkeys([how.positive if how.twins else None, None]):
            wording, position = rng.choice(said), rng.choice(TRAINED_POSITIONS)
            asking = replace(sample, messages=ask_for(sample.messages, wording, position))
            under = f"{name}:asked-{position}:{'protect' if sentence else 'plain'}"
            pair = _pair(asking, row, under, None, sentence, tokenizer, how, counts)
            if not isinstance(pair, str) and wording.text in pair["prompt"]:
                made.append(pair | {"asked": position})
    return [pair for pair in made if not isinstance(pair, str)]


def _digest(pair: dict[str, Any]) -> bytes:
    """Return a digest of a pair. Pairs repeat if a dialog was given twice, or an answer was asked for whole."""
    content = "\0".join(pair[name] for name in ("prompt", "chosen", "rejected"))
    return hashlib.blake2b(content.encode(), digest_size=16).digest()


def _pair(
    sample: Sample,
    row: dict[str, Any],
    name: str,
    twin: str | None,
    sentence: str | None,
    tokenizer: Any,
    how: Pairing,
    counts: Counter[str],
) -> dict[str, Any] | str:
    """Return a pair, or the reason why there is none."""
    messages = with_sentence(sample.messages, sentence)
    prompt = render(tokenizer, messages)
    if len(encode(tokenizer, prompt)) > how.max_prompt:
        cut = cut_left(tokenizer, prompt, _head(tokenizer, messages, prompt), how.max_prompt)
        # Some templates put the system message into the last user turn: a cut must not take it away.
        if cut is None or (sentence and sentence not in cut):
            return "too_long"
        prompt = cut
        counts["cut"] += 1
    space, end = answer_space(tokenizer, messages), turn_end(tokenizer)
    clean, personal = f"{space}{row['text']}{end}", f"{space}{sample.rejected}{end}"
    if split_ids(tokenizer, prompt, clean) is None or split_ids(tokenizer, prompt, personal) is None:
        return "border"
    chosen, rejected = (personal, clean) if twin == "reveal" else (clean, personal)
    return {
        "id": f"{name}:{twin}" if twin else name,
        "dialog_id": sample.dialog_id,
        "prompt": prompt,
        "chosen": chosen,
        "rejected": rejected,
        "source": row["source"],
        "twin": twin,
        **({"asked": None} if how.asked else {}),  # readers take the columns of the first rows
    }


def _head(tokenizer: Any, messages: list[Message], prompt: str) -> str:
    """Return the beginning of a prompt that any conversation with its system message shares."""
    system = [message for message in messages if message["role"] == "system"]
    one, two = (render(tokenizer, [*system, Message(role="user", content=word)]) for word in ("a", "b"))
    shared = takewhile(lambda letters: len(set(letters)) == 1, zip(prompt, one, two, strict=False))
    return "".join(letters[0] for letters in shared)


def cut_left(tokenizer: Any, prompt: str, head: str, limit: int) -> str | None:
    """Drop tokens after the head until the prompt has at most `limit` tokens; None: the head alone has as many."""
    encoded = tokenizer(prompt, return_offsets_mapping=True)
    over = len(encoded.input_ids) - limit
    starts = [start for start, end in encoded.offset_mapping if start >= len(head) and end > start]
    while over < len(starts):
        cut = head + prompt[starts[over] :]
        if len(encode(tokenizer, cut)) <= limit:
            return cut
        over += 1
    return None
