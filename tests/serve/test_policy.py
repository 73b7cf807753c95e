"""Policies: closed by default, refused as a whole when wrong."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from nescio.core.errors import NescioError
from nescio.serve.errors import ApiError
from nescio.serve.keys import hash_key, new_key
from nescio.serve.policy import Policies, load_policies

HASH = hash_key("a")
GOOD = "policies:\n  default:\n    adapters: [careful]\n"


def load(tmp_path: Path, text: str) -> Policies:
    path = tmp_path / "p.yaml"
    path.write_text(text)
    return load_policies(path, ["careful", "tiny"])


def test_keys_are_random_and_their_hashes_fit() -> None:
    assert new_key() != new_key()
    assert hash_key("a") == "sha256:ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb"


def test_closed_by_default(tmp_path: Path) -> None:
    policy = load(tmp_path, GOOD).policies["default"]
    assert (policy.base_model, policy.outside, policy.audit.default) == (False, "refuse", "mask")
    assert not any(policy.allow.model_dump().values())
    assert policy.guidance.scale.min == policy.guidance.scale.max == 3.0
    assert policy.guidance.space.allowed == ("prob",)
    assert policy.guidance.plausibility.max == 0
    assert policy.limits.choices == 1


def test_who_calls(tmp_path: Path) -> None:
    policies = load(tmp_path, f"{GOOD}  staff:\n    base_model: true\n    keys: ['{HASH}']\n")
    assert [caller.name for key in (None, "a") if (caller := policies.caller(key))] == ["default", "staff"]
    with pytest.raises(ApiError, match="unknown"):  # a wrong key is nobody's, not the default's
        policies.caller("b")
    closed = load(tmp_path, f"policies:\n  staff:\n    base_model: true\n    keys: ['{HASH}']\n")
    with pytest.raises(ApiError, match="give an API key"):
        closed.caller(None)


def test_where_no_policy_has_a_key_any_key_is_taken(tmp_path: Path) -> None:
    """OpenAI's clients always send one."""
    assert load(tmp_path, GOOD).caller("sk-anything").name == "default"


def staff(keys: str) -> str:
    return f"{GOOD}  staff:\n    base_model: true\n    keys:\n{keys}"


def test_several_keys_with_names_and_an_expiry(tmp_path: Path) -> None:
    hashes = [hash_key(key) for key in ("old", "new", "plain")]
    keys = (
        f"    - {{name: laptop, hash: '{hashes[0]}', expires: 2020-01-31}}\n"
        f"    - {{name: phone, hash: '{hashes[1]}', expires: 2999-01-31T10:00:00+02:00}}\n    - {hashes[2]}\n"
    )
    policies = load(tmp_path, staff(keys))
    with pytest.raises(ApiError, match="expired") as caught:
        policies.caller("old")
    assert (caught.value.status, caught.value.code) == (401, "expired_api_key")
    assert [policies.caller(key).key.label for key in ("new", "plain")] == ["phone", f"{hashes[2][:15]}…"]  # type: ignore[union-attr]
    first = policies.policies["staff"].keys[0]
    assert not first.expired(datetime(2020, 1, 31, 23, 59, tzinfo=UTC)), "a day counts until its end"
    assert first.expired(datetime(2020, 2, 1, tzinfo=UTC))
    again = Policies.model_validate(policies.model_dump())
    assert again.policies == policies.policies


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (f"    - {{hash: {HASH}, expires: soon}}\n", r"p\.yaml:7: .*expires: is not a date; write 2027-01-31"),
        (f"    - {{hash: {HASH}, expires: [1]}}\n", r"keys\.0\.expires: "),
        (f"    - {{hash: {HASH}, name: 'my key'}}\n", r"keys\.0\.name: "),
        (
            f"    - {{hash: {HASH}, until: 2027-01-31}}\n",
            r"keys\.0\.until: unknown key; known here: hash, name, expires",
        ),
        ("    - {name: laptop}\n", r"keys\.0: hash: must be a key's hash"),
        (
            f"    - {{name: a, hash: {HASH}}}\n    - {{name: a, hash: {hash_key('b')}}}\n",
            "policy staff has two keys named a",
        ),
    ],
)
def test_mistakes_in_keys(tmp_path: Path, keys: str, message: str) -> None:
    with pytest.raises(NescioError, match=message):
        load(tmp_path, staff(keys))


def test_shorthands(tmp_path: Path) -> None:
    guidance = "    guidance: {scale: {default: 3, max: 5}, space: {default: prob, allowed: [prob, log]}}\n"
    policy = load(tmp_path, f"{GOOD}    audit: off\n{guidance}").policies["default"]
    assert policy.audit.off, "a bare off, which YAML reads as false"
    assert (policy.guidance.scale.min, policy.guidance.scale.max) == (3, 5)
    assert load(tmp_path, GOOD + "    guidance: {scale: 2}\n").policies["default"].guidance.scale.max == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            GOOD + "    adaptor: [x]\n",
            r"p\.yaml:4: policies\.default\.adaptor: unknown key; known here: keys, adapters",
        ),
        (
            GOOD + "    limits: {max_token: 1}\n",
            r"policies\.default\.limits\.max_token: unknown key; known here: max_t",
        ),
        (GOOD + "    audit: maybe\n", r"p\.yaml:4: policies\.default\.audit: "),
        (GOOD + "    guidance: {scale: -1}\n", r"guidance\.scale\.default: .*greater than or equal to 0"),
        (GOOD + "    guidance: {scale: .nan}\n", r"guidance\.scale\.default: .*finite"),
        (GOOD + "    guidance: {scale: {default: 1, min: 2}}\n", "default 1 must lie between min 2 and max 1"),
        (GOOD + "    guidance: {scale: {min: 2}}\n", r"guidance\.scale\.default: "),
        (GOOD + "    guidance: {space: {default: log, allowed: [prob]}}\n", "must be among the allowed"),
        (GOOD + "    allow: {logprobs: true}\n", "set audit: off"),
        (GOOD + "    limits: {tokens_per_minute: 10}\n", r"must be 1024 \(max_tokens times choices\) or more"),
        (GOOD + "  default:\n    base_model: true\n", r"p\.yaml:4: default: given twice"),
        (GOOD + "  staff:\n    base_model: true\n", "policy staff has no keys"),
        (GOOD + f"  a:\n    base_model: true\n    keys: ['{HASH}', '{HASH}']\n", "policies a and a share a key"),
        ("policies:\n  default: {}\n", "names no model"),
        ("policies: {}\n", "policies: "),
        (
            GOOD.replace("careful", "other"),
            r"policies\.default\.adapters: 'other' is not served; served: careful, tiny",
        ),
        ("- 1\n", "not a mapping"),
    ],
)
def test_a_mistake_is_one_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(NescioError, match=message) as caught:
        load(tmp_path, text)
    assert "\n" not in str(caught.value)


def test_a_key_in_the_place_of_its_hash_is_not_quoted(tmp_path: Path) -> None:
    key = new_key()
    with pytest.raises(NescioError, match=r"p\.yaml:5: policies\.default\.keys\.0: .* never the key itself") as caught:
        load(tmp_path, f"{GOOD}    keys:\n    - {key}\n")
    assert key not in str(caught.value)


def test_the_detector_and_what_it_is_told(tmp_path: Path) -> None:
    plain = load(tmp_path, GOOD)
    assert (plain.detector, plain.ignore) == ("default", ("CARDINAL", "PRODUCT", "ORDINAL"))
    assert load(tmp_path, "detector: spacy:x\n" + GOOD).ignore == ("CARDINAL", "DATE", "PRODUCT", "ORDINAL")
    told = load(
        tmp_path, "detector: presidio\nthresholds: {phone: 0.6}\ncount: [phone, date]\nlanguages: [en]\n" + GOOD
    )
    assert told.detector_settings["thresholds"] == {"phone": 0.6}
    assert told.detector_settings["count"] == ("phone", "date")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("detector: magic\n", "detector 'magic' is unknown; use default, paper"),
        ("thresholds: {phone: 2}\n", r"thresholds\.phone: 2.* is out of range"),
        ("detector: regex\nthresholds: {phone: 0.5}\n", "detector 'regex' has no thresholds; these have: .*presidio"),
        ("count: [fone]\n", "count: 'fone' is not a type of personal data"),
    ],
)
def test_a_detector_that_is_told_wrong_is_one_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(NescioError, match=message) as caught:
        load(tmp_path, text + GOOD)
    assert str(caught.value).startswith(str(tmp_path / "p.yaml")) and "\n" not in str(caught.value)


def test_an_action_for_a_type_that_nobody_looks_for_is_refused(tmp_path: Path) -> None:
    audit = GOOD + "    audit: {types: {date: mask}}\n"
    with pytest.raises(NescioError, match=r"audit\.types: date is not counted; give count with all"):
        load(tmp_path, audit)
    assert load(tmp_path, "count: [person, date]\n" + audit).policies["default"].audit.types == {"date": "mask"}
    assert load(tmp_path, "detector: spacy:x\n" + audit)
