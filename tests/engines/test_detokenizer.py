"""Text from tokens: whole characters only, and distinct texts for tokens that are parts of one."""

from typing import Any

from nescio.engines.base import Request, Stream
from nescio.engines.detokenizer import Detokenizer

PROMPT = [10, 11]


def answer_of(tokenizer: Any, ids: list[int], finish: str = "") -> tuple[str, list[str]]:
    stream = Stream()
    answer = Detokenizer(tokenizer, Request("x", max_tokens=len(ids) + bool(finish)), PROMPT, stream)
    for token in ids:
        answer.add(token)
    if finish:
        answer.end(finish)
    pieces = [piece.text for piece in stream]
    return stream.answer.text, pieces


def test_a_character_that_is_cut_off_is_left_out(chatml: Any) -> None:
    ids = chatml("a €").input_ids  # the euro sign has three bytes, each a token here
    assert answer_of(chatml, ids)[0] == "a €"
    for finish in ("", "stop", "cancelled"):
        text, pieces = answer_of(chatml, ids[:-1], finish)
        assert text == "".join(pieces) == "a "


def test_a_replacement_character_inside_an_answer_stays(chatml: Any) -> None:
    text = "a \ufffd b"
    assert answer_of(chatml, chatml(text).input_ids)[0] == text


def test_parts_of_a_character_have_texts_and_bytes_of_their_own(chatml: Any) -> None:
    parts = chatml("€").input_ids
    assert len(parts) == 3
    answer = Detokenizer(chatml, Request("x", logprobs=3), PROMPT, Stream())
    one = answer.logprob(parts[0], dict.fromkeys(parts, -1.0), parts)
    assert [token.data for token in one.top] == [b"\xe2", b"\x82", b"\xac"]
    assert [token.text for token in one.top] == [r"\xe2", r"\x82", r"\xac"]


def test_every_byte_has_its_token(chatml: Any) -> None:
    from nescio.engines.detokenizer import _bytes_of

    for character in [*map(chr, range(0x80)), "é", "€", "😀"]:
        ids = chatml(character, add_special_tokens=False).input_ids
        assert b"".join(_bytes_of(chatml, token) or b"" for token in ids) == character.encode()


def test_text_is_not_cleaned_up_behind_what_was_sent(make_tokenizer: Any) -> None:
    tokenizer = make_tokenizer()
    tokenizer.clean_up_tokenization_spaces = True
    tokenizer.clean_up_tokenization_spaces_for_bpe_even_though_it_will_corrupt_output = True
    ids = tokenizer("Tom . We do n't , do we ?").input_ids
    text, pieces = answer_of(tokenizer, ids)
    assert text == "".join(pieces) == "Tom . We do n't , do we ?"
