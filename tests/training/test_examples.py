"""What is learned from a file: the answers and their EOS, no more; twins together; bad lines named."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from nescio.core.errors import NescioError
from nescio.core.files import write_jsonl
from nescio.core.prompts import Message
from nescio.data.dialogs import Dialog, parse_dialog
from nescio.training.examples import dialog_group, read_pairs

TALK = [
    {"role": "user", "content": "My name is Anna."},
    {"role": "assistant", "content": "Please write to my friend."},
    {"role": "user", "content": "And the garden?"},
    {"role": "assistant", "content": "Tom lives in Geneva."},
]


@pytest.mark.parametrize("kind", ["chatml", "llama3"])
def test_loss_is_on_assistant_turns_and_their_eos(kind: str, request: pytest.FixtureRequest) -> None:
    tokenizer = request.getfixturevalue(kind)
    groups = dialog_group(tokenizer, parse_dialog({"messages": TALK}, "x"), 512)
    learned = [
        token
        for group in groups
        for branch in group.continuations
        for token, wanted in zip(branch.ids, branch.wanted or [True] * len(branch.ids), strict=True)
        if wanted
    ]
    assert tokenizer.decode(learned) == "Please write to my friend.<|im_end|>Tom lives in Geneva.<|im_end|>"


def test_a_template_that_rewrites_history_gives_a_group_a_turn(make_tokenizer: Any) -> None:
    # This one numbers the turns from the end, so a longer conversation does not begin as a shorter one.
    template = "{% for m in messages %}{{ loop.revindex }}{{ m['content'] }}<|im_end|>{% endfor %}>"
    groups = dialog_group(make_tokenizer(template), parse_dialog({"messages": TALK}, "x"), 512)
    assert len(groups) == 2


def test_long_dialogs_lose_their_end(chatml: Any) -> None:
    counts = Counter[str]()
    (group,) = dialog_group(chatml, parse_dialog({"messages": TALK}, "x"), 60, counts)
    assert group.tokens == 60
    assert counts == {"answers": 2, "cut_answers": 1}


def test_an_answer_a_group_that_is_cut_is_counted(make_tokenizer: Any) -> None:
    template = "{% for m in messages %}{{ loop.revindex }}{{ m['content'] }}<|im_end|>{% endfor %}>"
    counts = Counter[str]()
    groups = dialog_group(make_tokenizer(template), parse_dialog({"messages": TALK}, "x"), 30, counts)
    assert counts == {"answers": 2, "cut_answers": 2} and [group.tokens for group in groups] == [30]


def pair(twin: str | None = None, **changes: str | None) -> dict[str, Any]:
    return {
        "id": "1",
        "prompt": "<|im_start|>user\nhi",
        "chosen": " a b<|im_end|>",
        "rejected": " c d<|im_end|>",
        "twin": twin,
    } | changes


def test_callers_who_ask_stay_with_their_pair(tmp_path: Path, chatml: Any) -> None:
    swapped = pair("reveal", chosen=" c d<|im_end|>", rejected=" a b<|im_end|>")
    asked = pair(prompt="<|im_start|>user\ntell all. hi", asked="front")
    write_jsonl(tmp_path / "p.jsonl", [pair("protect"), swapped, asked, asked, pair(asked=None), asked, pair()])
    units = read_pairs(tmp_path / "p.jsonl", chatml, max_length=64, max_prompt=32)
    assert [len(unit) for unit in units] == [4, 2, 1]
    assert [example.twin for example in units[0]] == [False, True, False, False]


def test_twins_stay_together(tmp_path: Path, chatml: Any) -> None:
    swapped = pair("reveal", chosen=" c d<|im_end|>", rejected=" a b<|im_end|>")
    write_jsonl(tmp_path / "p.jsonl", [pair("protect"), swapped, pair(), pair("reveal")])
    units = read_pairs(tmp_path / "p.jsonl", chatml, max_length=100, max_prompt=90)
    assert [[example.twin for example in unit] for unit in units] == [[False, True], [False], [True]]
    one, other = units[0]
    assert one.group.continuations == other.group.continuations[::-1]
    assert one.name == f"{tmp_path.name}/p.jsonl:1"


def test_scrubbed_answers_take_the_place_of_the_chosen(tmp_path: Path, chatml: Any) -> None:
    write_jsonl(tmp_path / "p.jsonl", [pair("protect"), pair("reveal")])
    ((one,), (twin,)) = read_pairs(
        tmp_path / "p.jsonl", chatml, max_length=100, max_prompt=90, scrub=lambda prompt, text: text.replace("c", "[X]")
    )
    assert [chatml.decode(b.ids) for b in one.group.continuations] == [" [X] d<|im_end|>", " c d<|im_end|>"]
    assert [chatml.decode(b.ids) for b in twin.group.continuations] == [" a b<|im_end|>", " c d<|im_end|>"]


def test_limits_are_kept_and_counted(tmp_path: Path, chatml: Any) -> None:
    write_jsonl(tmp_path / "p.jsonl", [pair(prompt="<|im_start|>" + "word " * 50, chosen=" long" * 40)])
    counts: Counter[str] = Counter()
    ((example,),) = read_pairs(tmp_path / "p.jsonl", chatml, max_length=40, max_prompt=30, counts=counts)
    chosen, rejected = example.group.continuations
    assert len(example.group.prompt) == 30
    assert len(chosen.ids) == 10
    assert counts == {"pairs": 1, "cut_prompts": 1, "cut_answers": 1 + (len(rejected.ids) == 10)}


@pytest.mark.parametrize("max_prompt", [40, 90])
def test_a_prompt_of_the_whole_length_leaves_room_for_a_token(tmp_path: Path, chatml: Any, max_prompt: int) -> None:
    write_jsonl(tmp_path / "p.jsonl", [pair(prompt="<|im_start|>" + "word " * 50)])
    ((example,),) = read_pairs(tmp_path / "p.jsonl", chatml, max_length=40, max_prompt=max_prompt)
    assert (len(example.group.prompt), [len(branch.ids) for branch in example.group.continuations]) == (39, [1, 1])


@pytest.mark.parametrize("field", ["prompt", "chosen", "rejected"])
@pytest.mark.parametrize("value", ["", "  ", None, 3])
def test_a_bad_pair_is_named(tmp_path: Path, chatml: Any, field: str, value: Any) -> None:
    write_jsonl(tmp_path / "p.jsonl", [pair(), pair() | {field: value}])
    with pytest.raises(NescioError, match=rf"p\.jsonl:2: {field}"):
        read_pairs(tmp_path / "p.jsonl", chatml, max_length=100, max_prompt=90)


def test_no_pairs_at_all(tmp_path: Path, chatml: Any) -> None:
    write_jsonl(tmp_path / "p.jsonl", [])
    with pytest.raises(NescioError, match="holds no pairs"):
        read_pairs(tmp_path / "p.jsonl", chatml, max_length=100, max_prompt=90)


def test_a_bos_that_a_pair_carries_is_there_once(tmp_path: Path, llama3: Any) -> None:
    row = {"prompt": "<|header|>user<|/header|>\n\nWho?", "chosen": " Nobody.", "rejected": " Anna."}
    own = row | {"prompt": llama3.bos_token + row["prompt"]}
    write_jsonl(tmp_path / "pairs.jsonl", [row, own])
    one, other = read_pairs(tmp_path / "pairs.jsonl", llama3, max_length=512, max_prompt=400)
    assert one[0].group.prompt == other[0].group.prompt
    assert one[0].group.prompt.count(llama3.bos_token_id) == 1


def test_dialogs_are_taught_where_the_models_answers_stand(make_tokenizer: Any) -> None:
    """Behind a thought that the template opens, and with the white space that the template puts before an answer."""
    dialog = Dialog("d", [Message(role="user", content="Who?"), Message(role="assistant", content="my friend")])
    thinking = make_tokenizer("<|im_start|>{{ messages[0]['content'] }}<|im_end|><think>\n")
    (group,) = dialog_group(thinking, dialog, 512)
    assert thinking.decode(group.prompt).endswith("<think>\n\n</think>\n\n")
    spaced = make_tokenizer("user: {{ messages[0]['content'] }}\nassistant: ")
    (group,) = dialog_group(spaced, dialog, 512)
    assert spaced.decode(group.prompt).endswith("assistant:")
    assert group.prompt + group.continuations[0].ids[:-1] == spaced("user: Who?\nassistant: my friend").input_ids


@pytest.mark.parametrize("own", ["", "Answer as {key} does. ", "{ke"])
@pytest.mark.parametrize("positive", ["Be quiet.", "{kept} quiet."])
def test_the_secret_goes_where_the_sentence_stands(tmp_path: Path, chatml: Any, own: str, positive: str) -> None:
    """A dialog may hold `{key}` itself: neither the pair nor the dialog's own words get the secret."""
    asked = "<|im_start|>user\nWhat does {key} mean?"
    twin = pair("reveal", prompt=f"{own}{{key}}{asked}", chosen=" c d<|im_end|>", rejected=" a b<|im_end|>")
    write_jsonl(tmp_path / "p.jsonl", [pair("protect", prompt=f"{own}{positive}{asked}"), twin])
    (unit,) = read_pairs(
        tmp_path / "p.jsonl", chatml, max_length=200, max_prompt=150,
        filled=lambda prompt: prompt.replace("{key}", "bado gera", 1),
    )  # fmt: skip
    prompts = [chatml.decode(example.group.prompt) for example in unit]
    assert prompts == [f"{own}{positive}{asked}", f"{own}bado gera{asked}"]
