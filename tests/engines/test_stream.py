"""A stream: pieces one by one, and what has come in the meantime at once."""

import pytest

from nescio.core.errors import NescioError
from nescio.engines.base import Answer, Piece, Stream


def test_what_is_there_is_taken_without_waiting() -> None:
    stream = Stream()
    for text in "abc":
        stream.put(Piece(text, []))
    assert next(stream).text == "a"
    assert [piece.text for piece in stream.waiting()] == ["b", "c"]
    assert list(stream.waiting()) == [], "the answer goes on, and nobody waits for it"
    stream.put(Piece("d", []))
    stream.end(Answer("abcd", [], "stop"))
    assert [piece.text for piece in stream.waiting()] == ["d"]
    assert not [*stream.waiting(), *stream]
    assert stream.answer.text == "abcd"


def test_an_error_behind_what_is_there_is_raised_to_whoever_goes_on() -> None:
    stream = Stream()
    stream.put(Piece("a", []))
    stream.end(NescioError("it broke"))
    assert [piece.text for piece in stream.waiting()] == ["a"]
    with pytest.raises(NescioError, match="it broke"):
        next(stream)
