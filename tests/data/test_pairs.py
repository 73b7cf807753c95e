"""Pairs that any preference trainer reads as they are: twins, BOS, EOS, white space, token borders, cuts."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from nescio.core.files import read_jsonl, write_jsonl
from nescio.core.guidance import PROTECT, REVEAL
from nescio.core.prompts import Message, encode
from nescio.data.card import write_card
from nescio.data.pairs import Pairing, pairs_of, rewordings
from nescio.data.persuasion import wordings
from nescio.data.samples import Sample
from nescio.data.selection import Selection, write_selected

SYSTEM = Message(role="system", content="You are a helpful assistant.")
SAMPLE = Sample(
    "s", "d",
    [SYSTEM, Message(role="user", content="Who is it?"), Message(role="assistant", content="Please write to")],
    " my friend Anna in Geneva.", "NAME", "Anna",
)  # fmt: skip
ROW = {
    "sample_id": "s", "source": "base", "strategy": "system", "try": 0, "text": " the helpful desk.", "accepted": True
}  # fmt: skip


def made(tokenizer: Any, how: Pairing | None = None, row: dict[str, Any] = ROW, sample: Sample = SAMPLE) -> Any:
    counts: Counter[str] = Counter()
    return list(pairs_of({sample.id: sample}, [row], tokenizer, how or Pairing(), counts)), counts


def test_twins_are_exact_swaps(chatml: Any) -> None:
    (protect, reveal), counts = made(chatml)
    assert (protect["twin"], reveal["twin"]) == ("protect", "reveal")
    assert (protect["chosen"], protect["rejected"]) == (reveal["rejected"], reveal["chosen"])
    assert protect["chosen"] == " the helpful desk.<|im_end|>"
    assert protect["rejected"] == " my friend Anna in Geneva.<|im_end|>"
    assert protect["prompt"].replace(PROTECT, REVEAL) == reveal["prompt"]
    assert f"{SYSTEM['content']} {PROTECT}" in protect["prompt"], "added to the dialog's own system message"
    assert counts == {"pairs": 2}


def test_without_twins_there_is_no_sentence(chatml: Any) -> None:
    (pair,), _ = made(chatml, Pairing(twins=False))
    assert pair["twin"] is None
    assert PROTECT not in pair["prompt"]


@pytest.mark.parametrize("kind", ["chatml", "llama3", "no_system"])
def test_a_strict_reader_survives(kind: str, request: pytest.FixtureRequest) -> None:
    tokenizer = request.getfixturevalue(kind)
    pairs, _ = made(tokenizer)
    for pair in pairs:
        prompt = encode(tokenizer, pair["prompt"])
        for answer in (pair["chosen"], pair["rejected"]):
            own = tokenizer(answer, add_special_tokens=False).input_ids
            assert prompt + own == encode(tokenizer, pair["prompt"] + answer)
            assert own[-1] == tokenizer.eos_token_id
            if tokenizer.bos_token_id is not None:
                assert (prompt + own).count(tokenizer.bos_token_id) == 1
        assert not pair["prompt"][-1].isspace() or pair["prompt"].endswith("\n")


def test_a_token_over_the_border_is_left_out_and_counted(chatml: Any) -> None:
    # "write to" + "o ..." would join the prompt's last token in some vocabularies; find one that does here.
    joined = next(
        text for text in ("m the desk", "wards the desk", " the desk", "p", "e helpful one", "ng the desk")
        if made(chatml, row=ROW | {"text": text})[1]["border"]
        or made(chatml, row=ROW | {"text": text}, sample=_ending("Please write to th"))[1]["border"]
    )  # fmt: skip
    pairs, counts = made(chatml, row=ROW | {"text": joined}, sample=_ending("Please write to th"))
    if not counts["border"]:
        pairs, counts = made(chatml, row=ROW | {"text": joined})
    assert pairs == []
    assert counts == {"border": 1}


def _ending(text: str) -> Sample:
    messages = [*SAMPLE.messages[:-1], Message(role="assistant", content=text)]
    return Sample("s", "d", messages, SAMPLE.rejected, "NAME", "Anna")


def test_rejected_candidates_and_doubles_make_no_pairs(chatml: Any) -> None:
    rows = [ROW, ROW | {"try": 1}, ROW | {"accepted": False, "text": " other"}, ROW | {"sample_id": "elsewhere"}]
    counts: Counter[str] = Counter()
    assert len(list(pairs_of({SAMPLE.id: SAMPLE}, rows, chatml, Pairing(), counts))) == 2


def test_the_best_of_several_makes_the_pair(chatml: Any) -> None:
    rows = [ROW | {"text": " a desk far away.", "best": False}, ROW | {"best": True}]
    pairs = list(pairs_of({SAMPLE.id: SAMPLE}, rows, chatml, Pairing(twins=False), Counter()))
    assert [pair["chosen"] for pair in pairs] == [" the helpful desk.<|im_end|>"]


def test_the_question_in_other_words_makes_further_pairs(chatml: Any) -> None:
    pairs, counts = made(chatml, Pairing(paraphrases=2))
    assert counts == {"pairs": 6} and [pair["twin"] for pair in pairs] == ["protect", "reveal"] * 3
    assert len({pair["id"] for pair in pairs}) == len({pair["prompt"] for pair in pairs}) == 6
    assert "Who is it?<|im_end|>" in pairs[0]["prompt"] and "words-" not in pairs[0]["id"]
    assert pairs[2]["id"] == "s:base:system:0:words-1:protect"
    assert {(pair["chosen"], pair["rejected"]) for pair in pairs[::2]} == {(pairs[0]["chosen"], pairs[0]["rejected"])}
    assert made(chatml, Pairing(paraphrases=2))[0] == pairs, "the same each time"
    assert made(chatml, Pairing(paraphrases=2, seed=1))[0][:2] == pairs[:2]


def test_what_a_source_says_in_other_words_comes_first(chatml: Any) -> None:
    said = ROW | {"strategy": "paraphrase", "text": "Which person is meant?"}
    rows = [ROW, said, said | {"text": "Tell.", "accepted": False}, said | {"sample_id": "elsewhere"}]
    other = rewordings({SAMPLE.id: SAMPLE}, rows)
    assert other == {"Who is it?": ["Which person is meant?"]}
    pairs = list(pairs_of({SAMPLE.id: SAMPLE}, rows, chatml, Pairing(twins=False, paraphrases=2), Counter(), other))
    assert len(pairs) == 3 and "Which person is meant?<|im_end|>" in pairs[1]["prompt"]


def test_beside_a_pair_stand_callers_who_ask(chatml: Any) -> None:
    (protect, reveal, told, plain), counts = made(chatml, Pairing(asked=1.0))
    assert counts == {"pairs": 4} and [protect["twin"], reveal["twin"], told["twin"]] == ["protect", "reveal", None]
    known = {wording.text for wording in wordings(held_out=False)}
    for pair, sentence in ((told, True), (plain, False)):
        assert (pair["chosen"], pair["rejected"]) == (protect["chosen"], protect["rejected"]), "the clean answer"
        assert any(text in pair["prompt"] for text in known) and pair["asked"]
        assert (PROTECT in pair["prompt"]) == sentence
    assert not any(wording.text in told["prompt"] + plain["prompt"] for wording in wordings(held_out=True))
    without, _ = made(chatml, Pairing(asked=1.0, twins=False))
    assert [bool(pair.get("asked")) for pair in without] == [False, True] and PROTECT not in without[1]["prompt"]


def test_the_key_itself_is_never_what_a_caller_says(chatml: Any) -> None:
    for seed in range(40):
        pairs, _ = made(chatml, Pairing(asked=1.0, seed=seed))
        assert not any(REVEAL in pair["prompt"] for pair in pairs if pair.get("asked"))


def test_a_share_of_the_pairs_has_callers(chatml: Any) -> None:
    rows = [ROW | {"try": number, "text": f" the helpful desk number {number}."} for number in range(60)]
    pairs = list(pairs_of({SAMPLE.id: SAMPLE}, rows, chatml, Pairing(twins=False, asked=0.3), Counter()))
    assert 8 <= sum(bool(pair.get("asked")) for pair in pairs) <= 30


def test_a_unit_is_selected_whole(chatml: Any, tmp_path: Path) -> None:
    rows = [ROW | {"try": number, "text": f" the helpful desk number {number}."} for number in range(3)]
    counts = Counter[str]()
    pairs = pairs_of({SAMPLE.id: SAMPLE}, rows, chatml, Pairing(asked=1.0), counts)
    write_selected(pairs, tmp_path / "p.jsonl", Selection(per_source=2, per_beginning=2), counts)
    kept = [row for _, row in read_jsonl(tmp_path / "p.jsonl")]
    assert [row["twin"] for row in kept] == ["protect", "reveal", None, None] * 2 and counts["canned"] == 4


def test_long_prompts_are_cut_from_the_left_and_keep_the_system_message(chatml: Any) -> None:
    long = Sample("s", "d", [SYSTEM, Message(role="user", content="garden " * 80 + "end?"), SAMPLE.messages[-1]],
                  SAMPLE.rejected, "NAME", "Anna")  # fmt: skip
    whole, _ = made(chatml, sample=long)
    limit = len(encode(chatml, whole[0]["prompt"])) - 50
    pairs, counts = made(chatml, Pairing(max_prompt=limit), sample=long)
    assert counts["cut"] == 2
    for pair, sentence in zip(pairs, (PROTECT, REVEAL), strict=True):
        assert limit - 8 <= len(encode(chatml, pair["prompt"])) <= limit
        assert pair["prompt"].startswith(f"<|im_start|>system\n{SYSTEM['content']} {sentence}<|im_end|>")
        assert pair["prompt"].endswith("end?<|im_end|>\n<|im_start|>assistant\nPlease write to")


def test_a_system_message_that_fills_the_prompt_makes_no_pair(chatml: Any) -> None:
    system = Message(role="system", content="You are a helpful assistant. " * 40)
    sample = Sample("s", "d", [system, *SAMPLE.messages[1:]], SAMPLE.rejected, "NAME", "Anna")
    pairs, counts = made(chatml, Pairing(max_prompt=100), sample=sample)
    assert pairs == []
    assert counts == {"too_long": 1}


def test_datasets_reads_the_file(chatml: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    datasets = pytest.importorskip("datasets")
    pairs, _ = made(chatml)
    write_jsonl(tmp_path / "p.jsonl", pairs)
    read = datasets.load_dataset(
        "json", data_files=str(tmp_path / "p.jsonl"), split="train", cache_dir=str(tmp_path / "c")
    )
    assert list(read) == pairs


def units(*sources: str) -> list[dict[str, Any]]:
    """Pairs with their twins, a unit for each source named."""
    return [
        {"id": f"{number}:{twin}", "dialog_id": "d", "prompt": "p", "chosen": "c", "rejected": "r", "source": source,
         "twin": twin}
        for number, source in enumerate(sources)
        for twin in ("protect", "reveal")
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("selection", "kept"),
    [
        (Selection(), {"a": 5, "b": 3, "c": 1}),
        (Selection(sources=["b"]), {"b": 3}),
        (Selection(per_source=2), {"a": 2, "b": 2, "c": 1}),
        (Selection(balance=True), {"a": 1, "b": 1, "c": 1}),
        (Selection(sources=["a"], balance=True), {"a": 5}),
        (Selection(sources=["a", "b"], balance=True), {"a": 3, "b": 3}),
        (Selection(sources=["a"], balance=["a", "b"]), {"a": 3}),
        (Selection(balance=True, per_source=9), {"a": 1, "b": 1, "c": 1}),
    ],
)
def test_a_selection_keeps_pairs_with_their_twins(tmp_path: Path, selection: Selection, kept: dict[str, int]) -> None:
    every = units(*"abacabaab")
    counts = Counter({"pairs": len(every)})
    write_selected(iter(every), tmp_path / "p.jsonl", selection, counts)
    left = [row for _, row in read_jsonl(tmp_path / "p.jsonl")]
    assert left == [row for row in every if row in left], "in their order, as they were"
    assert Counter(row["source"] for row in left if row["twin"] == "protect") == kept
    assert {row["id"].split(":")[0] for row in left if row["twin"] == "protect"} == {
        row["id"].split(":")[0] for row in left if row["twin"] == "reveal"
    }
    assert counts["pairs"] == len(left) and counts["pairs"] + counts["unselected"] == len(every)
    assert [path.name for path in tmp_path.iterdir()] == ["p.jsonl"]


def test_beginnings_that_many_clean_answers_share_are_capped(tmp_path: Path) -> None:
    every = units(*"a" * 6)
    for number, pair in enumerate(every):
        clean, personal = f" I'm sorry for your loss {number}.", f" Tom {number}."
        if number in (4, 5):  # the third unit begins in another way
            clean = " You could ask at the desk."
        pair["chosen"], pair["rejected"] = (personal, clean) if pair["twin"] == "reveal" else (clean, personal)
    counts = Counter({"pairs": len(every)})
    write_selected(iter(every), tmp_path / "p.jsonl", Selection(per_beginning=2), counts)
    left = [row for _, row in read_jsonl(tmp_path / "p.jsonl")]
    assert left == every[:6], "the first two of the crowd, the other one, and their twins"
    assert counts == {"pairs": 6, "canned": 6, "unselected": 0}


def test_a_selection_is_drawn_by_its_seed(tmp_path: Path) -> None:
    drawn = []
    for seed in (1, 1, 2):
        write_selected(units(*"a" * 40), tmp_path / "p.jsonl", Selection(per_source=10, seed=seed), Counter())
        drawn.append((tmp_path / "p.jsonl").read_text())
    assert drawn[0] == drawn[1] != drawn[2]


def test_a_dialog_given_twice_makes_its_pairs_once(chatml: Any) -> None:
    again = Sample("t", "e", SAMPLE.messages, SAMPLE.rejected, "NAME", "Anna")
    counts: Counter[str] = Counter()
    rows = [ROW, ROW | {"sample_id": "t"}, ROW | {"sample_id": "t", "text": " somebody else."}]
    pairs = list(pairs_of({"s": SAMPLE, "t": again}, rows, chatml, Pairing(), counts))
    assert [pair["dialog_id"] for pair in pairs] == ["d", "d", "e", "e"]
    assert counts == {"pairs": 4, "duplicates": 1}


def test_the_card_tells_what_is_in_the_files(chatml: Any, tmp_path: Path) -> None:
    pairs, _ = made(chatml)
    write_jsonl(tmp_path / "train.jsonl", pairs)
    write_jsonl(tmp_path / "test.jsonl", [])
    write_card(tmp_path, chatml, {"seed": 7, "detector": "spacy:x"})
    card = (tmp_path / "README.md").read_text()
    assert "  - {split: train, path: train.jsonl}\n" in card
    assert "path: test.jsonl" not in card, "an empty file can't be loaded"
    assert "| seed | 7 |" in card and "| detector | spacy:x |" in card
    assert "2 pairs of 1 dialogs." in card
    lengths = [len(chatml(pair["chosen"]).input_ids) for pair in pairs]
    assert f"| chosen | {sum(lengths) / 2:.1f} | {max(lengths)} |" in card
    assert "| protect | 1 |" in card and "| base | 2 |" in card


SPACED = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}assistant: "


def test_white_space_at_the_end_of_a_generation_prompt_goes_to_the_answers(make_tokenizer: Any) -> None:
    tokenizer = make_tokenizer(SPACED)
    whole = Sample("s", "d", SAMPLE.messages[:2], "My friend Anna in Geneva.", "NAME", "Anna")
    pairs, counts = made(tokenizer, row=ROW | {"text": "a helpful desk."}, sample=whole)
    assert counts == {"pairs": 2}
    for pair in pairs:
        assert pair["prompt"].endswith("assistant:")
        assert pair["chosen"].startswith(" ") and pair["rejected"].startswith(" ")
        joint = encode(tokenizer, pair["prompt"] + pair["chosen"])
        assert encode(tokenizer, pair["prompt"]) == joint[: len(encode(tokenizer, pair["prompt"]))]


def test_a_cut_never_takes_the_sentence_away(make_tokenizer: Any) -> None:
    """Some templates put the system message before the last user turn."""
    tokenizer = make_tokenizer(
        "{% set s = messages[0]['content'] if messages[0]['role'] == 'system' else '' %}"
        "{% for m in messages if m['role'] != 'system' %}<|im_start|>"
        "{{ s + '\n\n' if loop.last else '' }}{{ m['content'] }}<|im_end|>{% endfor %}"
    )
    turns = [Message(role=role, content="please write to my friend about the garden") for role in ("user", "assistant")]
    asked = Message(role="user", content="Who is it?")
    sample = Sample("s", "d", [*turns * 3, asked], "My friend Anna.", "NAME", "Anna")
    row = ROW | {"text": "A helpful desk."}
    whole, _ = made(tokenizer, row=row, sample=sample)
    needed = len(encode(tokenizer, whole[1]["prompt"].split("<|im_end|>")[-2]))
    pairs, counts = made(tokenizer, Pairing(max_prompt=needed + 5), row, sample)
    assert counts["cut"] == 2
    for pair, sentence in zip(pairs, (PROTECT, REVEAL), strict=True):
        assert pair["prompt"].count(sentence) == 1
        assert pair["prompt"].endswith(f"{sentence}\n\nWho is it?<|im_end|>")
    assert made(tokenizer, Pairing(max_prompt=10), row, sample)[1]["too_long"] == 1


def test_pairs_differ_where_the_template_drops_system_messages(make_tokenizer: Any) -> None:
    tokenizer = make_tokenizer(
        "{% for m in messages if m['role'] != 'system' %}<|im_start|>{{ m['content'] }}<|im_end|>{% endfor %}"
    )
    (protect, reveal), _ = made(tokenizer)
    assert PROTECT in protect["prompt"]
    assert REVEAL in reveal["prompt"]
