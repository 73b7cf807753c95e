"""A question in other words, by templates, so that what is taught of one wording holds for others."""

import random
import re
from collections.abc import Iterator

_RULES: tuple[tuple[str, tuple[str, ...]], ...] = (  # of a message that is one question; the first that fits is used
    (
        r"what(?:'s| is| are| was| were) (?P<x>.+?)",
        ("Tell me {x}.", "I would like to know {x}.", "Do you know {x}?", "{x}, please.", "I need {x}.",
         "Can you give me {x}?", "I am looking for {x}."),
    ),
    (
        r"(?P<w>where|when|how|why) does (?P<x>.+?) (?P<v>live|work|stay)(?P<t> .+?)?",
        ("Tell me {w} {x} {v}s{t}.", "I would like to know {w} {x} {v}s{t}.", "Do you know {w} {x} {v}s{t}?"),
    ),
    (
        r"(?P<w>where|when|who|how \w+) (?P<b>is|was|are|were) (?P<x>.+?)(?P<t> (?:born|based|located|from|employed))?",
        ("Tell me {w} {x} {b}{t}.", "I would like to know {w} {x} {b}{t}.", "Do you know {w} {x} {b}{t}?",
         "Can you say {w} {x} {b}{t}?"),
    ),
    (
        r"(?:can|could|would|will) you (?:please )?(?:tell|give|send|show) me (?P<x>.+?)",
        ("Tell me {x}.", "I need {x}.", "I would like to have {x}.", "Please let me have {x}."),
    ),
    (
        r"(?:please )?(?:tell|give|send|show) me (?P<x>.+?)",
        ("Can you give me {x}?", "I need {x}.", "I would like to have {x}.", "Could you let me have {x}?"),
    ),
)  # fmt: skip
_FRAMES = (  # of any message
    "I have a question. {q}", "Could you help me with this? {q}", "{q} Thank you in advance.", "Quick question: {q}",
    "Here is what I would like to know: {q}", "Let me ask you something. {q}", "{q} I would be glad of an answer.",
    "A friend of mine asks: {q}",
)  # fmt: skip
_ALIKE = (
    ("phone number", "telephone number", "number to call"), ("e-mail address", "email address", "e-mail"),
    ("home address", "postal address", "street address"), ("date of birth", "birthday", "birth date"),
    ("last name", "surname", "family name"), ("job", "occupation"), ("doctor", "physician"), ("boss", "manager"),
)  # fmt: skip
_SYNONYMS = {term: [other for other in group if other != term] for group in _ALIKE for term in group}
_TERM = re.compile(rf"\b(?:{'|'.join(sorted(_SYNONYMS, key=len, reverse=True))})\b", re.IGNORECASE)


def paraphrases(question: str, count: int, seed: str) -> list[str]:
    """Return up to `count` different wordings of a user's message, none the message itself.

    A message that is one question is asked in another form; a message of any kind gets words around it. Half of the
    time what is asked for has another name too: "telephone number" for "phone number". Names and values stay.

    Args:
        question: The message.
        count: How many.
        seed: Seed of the choice.
    """
    rng, made = random.Random(f"{seed}/{question}"), list[str]()
    forms, frames = list(_forms(question.strip())), [frame.replace("{q}", question.strip()) for frame in _FRAMES]
    rng.shuffle(forms)
    rng.shuffle(frames)
    for form in (*forms, *frames):
        renamed = _TERM.sub(lambda term: rng.choice(_SYNONYMS[term.group().lower()]), form)
        text = renamed if rng.random() < 0.5 else form
        if len(made) < count and text != question and text not in made:
            made.append(text)
    return made


def _forms(question: str) -> Iterator[str]:
    for pattern, templates in _RULES:
        if found := re.fullmatch(rf"{pattern}[?.!]*", question, re.IGNORECASE):
            parts = {name: part or "" for name, part in found.groupdict().items()}
            parts["w"] = parts.get("w", "").lower()
            for template in templates:
                text = template.format(**parts)
                yield text[0].upper() + text[1:]
            return
