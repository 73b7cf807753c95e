"""The certificate of an erasure: about whom, by keyed hashes, what was tried, and what came out before and after."""

import hashlib
import hmac
import json
import secrets
from collections.abc import Collection, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from nescio.audit.attacks.many_draws import DRAWS
from nescio.audit.certificate_tests import GUESSED, UNSHOWN
from nescio.audit.people import Fact
from nescio.core.errors import NescioError
from nescio.core.files import read_object, write_json, write_text
from nescio.core.switch import read_key, write_secret
from nescio.core.text import folded
from nescio.evaluation.statistics import at_most
from nescio.report.html import environment

NAME = "certificate"
"""Name of its files, without suffix."""

PLAIN_WORDS = (
    "What was changed is an adapter. The model under it still knows what it knew: whoever takes the adapter off has it "
    "back. So this is a barrier, not an erasure.",
    "An erasure needs weights that never learned the data: train again without it. Weaker, but nothing to take off:"
    " bake, merge the adapter into the weights (nescio export), hand out nothing else, and delete the model under it.",
    "The counts hold for the attacks that are named here, and for so many questions. Another attack may find more.",
)
_SHOWN = (
    "name", "title", "knows", "questions", "facts", "found", "share", "partial", "another", "guessed", "memorised",
    "not_asked", "asked", "unanswered", "empty", "cut_off", "leak_at",
)  # fmt: skip
_GUESSES = ("guessed", "memorised")
_FIX = "give the key that the certificate was signed with"


def open_key(path: Path) -> bytes:
    """Read the key of certificates; draw one, for its owner's eyes alone, where there is none.

    Raises:
        NescioError: It is empty, or readable by others.
    """
    if not path.exists():
        write_secret(path, secrets.token_hex(32))
    return read_key(path, _FIX).encode()


def keyed(key: bytes, *parts: str) -> str:
    """Return a keyed hash (HMAC-SHA256, RFC 2104) of texts, in any case and Unicode form.

    A hash without a key would tell: there are few enough names and telephone numbers to try them all.
    """
    plain = json.dumps([folded(part) for part in parts], ensure_ascii=False)
    return hmac.new(key, plain.encode(), hashlib.sha256).hexdigest()


def hashed(key: bytes, own: Sequence[Fact]) -> dict[str, Any]:
    """Return a person of a list as the certificate names her: hashes of the name, and of the name with each fact."""
    name = own[0].person
    facts = [{"what": fact.noun, "value": keyed(key, name, fact.noun, fact.value)} for fact in own]
    return {"who": keyed(key, name), "facts": facts}


def unasked(key: bytes, left_out: Mapping[str, str], people: Sequence[Sequence[Fact]]) -> list[dict[str, str]]:
    """Return the facts that were trained and not asked for, by the hashes of `hashed`, with the reason of each.

    Args:
        key: The certificate's key.
        left_out: The reason of each, by the fact's id.
        people: The facts of each person.
    """
    return [
        {"what": fact.noun, "value": keyed(key, fact.person, fact.noun, fact.value), "why": left_out[fact.id]}
        for own in people
        for fact in own
        if fact.id in left_out
    ]


def shown(result: Mapping[str, Any], guessing: Collection[str] = ()) -> dict[str, Any]:
    """Return what the certificate holds of an audit: its figures, without names, questions and answers.

    Args:
        result: The audit's result.
        guessing: Names of the attacks that were asked about made-up people, too.
    """
    attacks = [
        {key: row[key] for key in _SHOWN if key in row and (key not in _GUESSES or row["name"] in guessing)}
        for row in result["attacks"]
    ]
    draws = next((row for row in result["attacks"] if row["name"] == DRAWS and row.get("facts")), None)
    return {
        "facts": result["all"]["facts"],
        "found": result["all"]["found"],
        "guessed": result["all"]["guessed"] if guessing else None,
        "people": result["all"]["people"],
        "people_found": result["all"]["people_found"],
        "people_at_most": result["all"]["people_at_most"],
        "questions": result["questions"],
        # A bound, at 95 %, of the chance that a sampled answer says a value.
        "answer_at_most": at_most(draws["hits"], draws["answers"]) if draws else None,
        "attacks": attacks,
    }


def signed(key: bytes, content: Mapping[str, Any]) -> dict[str, Any]:
    """Return a certificate with its signature: whoever has the key can tell that nothing in it was changed."""
    return {**content, "signature": _signature(key, content)}


def is_signed(key: bytes, content: Mapping[str, Any]) -> bool:
    """Whether a certificate was signed with a key, and nothing in it was changed."""
    return hmac.compare_digest(str(content.get("signature")).encode(), _signature(key, content).encode())


def _signature(key: bytes, content: Mapping[str, Any]) -> str:
    plain = json.dumps({name: value for name, value in content.items() if name != "signature"}, sort_keys=True)
    return f"hmac-sha256:{hmac.new(key, plain.encode(), hashlib.sha256).hexdigest()}"


def check(path: Path, key: Path, people: Sequence[Sequence[Fact]] = ()) -> tuple[dict[str, Any], list[str]]:
    """Return a certificate whose signature fits, and that is about people; and which of their facts nobody asked for.

    Raises:
        NescioError: Something in it was changed, the key is another, or it is not about one of them or of their facts.
    """
    content, secret = read_object(path, "give the certificate.json of nescio forget"), read_key(key, _FIX).encode()
    if not is_signed(secret, content):
        raise NescioError(f"{path}: the signature does not fit; the key is another, or something in it was changed")
    known = {person["who"]: {fact["value"] for fact in person["facts"]} for person in content["about"]}
    for person in (hashed(secret, own) for own in people):
        if not {fact["value"] for fact in person["facts"]} <= known.get(person["who"], set()):
            raise NescioError(f"{path}: is not about this person, or not about all of these facts")
    why = {fact["value"]: f"{fact['what']} ({fact['why']})" for fact in content.get("not_asked_for", ())}
    hashes = (keyed(secret, fact.person, fact.noun, fact.value) for own in people for fact in own)
    return content, [why[each] for each in hashes if each in why]


def write(content: Mapping[str, Any], out: Path) -> Path:
    """Write `certificate.json` and `certificate.html`; return the page."""
    write_json(out / f"{NAME}.json", content)
    template = (files("nescio.audit") / f"{NAME}.html").read_text(encoding="utf-8")
    pairs = list(zip(content["before"]["own"]["attacks"], content["after"]["own"]["attacks"], strict=True))
    write_text(
        out / f"{NAME}.html",
        environment()
        .from_string(template)
        .render(
            content=content,
            sentence=sentence(content),
            plain_words=PLAIN_WORDS,
            attacks=[pair for pair in pairs if pair[1].get("facts")],
            not_asked=[pair for pair in pairs if not pair[1].get("facts")],
        ),
    )
    return out / f"{NAME}.html"


def sentence(content: Mapping[str, Any]) -> str:
    """Say in a line whether the request holds, and what does not."""
    failed = [f"{test['test']} ({test['figure']})" for test in content["tests"] if test["state"] == "failed"]
    if failed:
        return f"The request does NOT hold. Failed: {'; '.join(failed)}."
    first = content["tests"][0]
    if first["state"] == "passed":
        said = f"The request holds: {first['figure']}."
    elif shows_nothing(content):
        said = _nothing_shown(content)
    else:
        why = f", {GUESSED}" if first.get("why", GUESSED) == GUESSED else ""
        said = f"It is not shown that the request holds: {first['figure']}{why}."
    open_ = [test["test"] for test in content["tests"] if test["state"] in ("undecided", "unmeasured")]
    return f"{said} Asked too little to decide: {', '.join(open_)}." if open_ else said


def shows_nothing(content: Mapping[str, Any]) -> bool:
    """Whether nothing came out before the request either, so that the certificate shows nothing of it."""
    return bool(content["tests"][0].get("why") == UNSHOWN)


def _nothing_shown(content: Mapping[str, Any]) -> str:
    figure, detached = content["tests"][0]["figure"], content["detached"]
    said = f"Nothing was shown: the adapter gave nothing away before the request either ({figure})."
    if detached["found"]:
        told = f"{detached['found']} of {detached['facts']} facts, so it is the adapter that keeps them back"
    else:
        told = "none of them either; check how names and values are written"
    return f"{said} With the adapter detached, the model says {told}."
