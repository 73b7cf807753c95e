"""The incremental detokenizer: tokens in, pieces of text out, up to a stop text or the last token."""

import re
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from nescio.engines.base import Answer, Piece, Request, Stream, TokenLogprob

_CONTEXT = 8  # prompt tokens decoded before an answer, so that its first white space survives any tokenizer
_BROKEN = "\ufffd"  # stands for bytes that are no whole character yet


class Detokenizer:
    """The text of an answer as its tokens come, sent to a stream.

    Args:
        tokenizer: Decodes the answer.
        request: Says where the answer ends.
        prompt: Token ids of the positive branch.
        stream: Receives the pieces and the answer.
    """

    def __init__(self, tokenizer: Any, request: Request, prompt: Sequence[int], stream: Stream) -> None:
        self.stream = stream
        self.finish = ""
        self._tokenizer = tokenizer
        self._request = request
        self._prompt_tokens = len(prompt)
        self._ids = list(prompt[-_CONTEXT:])
        self._before = len(self._ids)
        # Only the tokens since `_start` are decoded; the text up to `_read` is in `_text`.
        self._start, self._read = 0, len(self._ids)
        self._text, self._open = "", ""
        self._logprobs: list[TokenLogprob] = []
        self._sent, self._sent_tokens = 0, 0
        self._hold = max((len(stop) for stop in request.stop), default=0)

    @property
    def length(self) -> int:
        """Number of tokens of the answer."""
        return len(self._ids) - self._before

    def logprob(self, token: int, log_probs: Mapping[int, float], top: Sequence[int]) -> TokenLogprob:
        """Return a token's log-probability with those of the most likely tokens.

        Args:
            token: The chosen token.
            log_probs: Log-probability of the chosen token and of each in `top`.
            top: The most likely tokens, most likely first.
        """

        def one(number: int, top: tuple[TokenLogprob, ...] = ()) -> TokenLogprob:
            text = str(self._tokenizer.decode([number]))
            data = _bytes_of(self._tokenizer, number) if _BROKEN in text else None
            text = text if data is None else data.decode("utf-8", "backslashreplace")
            return TokenLogprob(number, text, log_probs[number], top, data)

        return one(token, tuple(one(number) for number in top))

    def add(self, token: int, logprob: TokenLogprob | None = None) -> None:
        """Add a token and send the text that is final; end the answer at a stop text or the last token."""
        self._ids.append(token)
        if logprob is not None:
            self._logprobs.append(logprob)
        # 1) decode; bytes that are no whole character yet stay in `_open`
        known = self._decode(self._ids[self._start : self._read])
        grown = self._decode(self._ids[self._start :])[len(known) :]
        if grown.endswith(_BROKEN):
            self._open = grown
        else:
            self._text, self._open = self._text + grown, ""
            if grown:
                self._start, self._read = self._read, len(self._ids)
        # 2) end at the first stop text
        text = self._text + self._open
        cut = min((at for stop in self._request.stop if stop and (at := text.find(stop)) >= 0), default=-1)
        if cut >= 0:
            self._text, self._open = text[:cut], ""
            self.end("stop")
        elif self.length >= self._request.max_tokens:
            self.end("length")
        else:  # 3) send what can't become part of a stop text
            self._send(len(self._text) - self._hold)

    def _decode(self, ids: list[int]) -> str:
        # Cleaning up spaces would change text that is decoded already. A special token may be the mark of a call.
        skips = not self._request.tools
        return str(self._tokenizer.decode(ids, skip_special_tokens=skips, clean_up_tokenization_spaces=False))

    def end(self, finish: str) -> None:
        """End the answer: `stop`, `length` or `cancelled`."""
        self.finish = finish
        self._text += self._open.rstrip(_BROKEN)  # bytes of a character that never became whole
        self._send(len(self._text))
        logprobs = None if self._request.logprobs is None else self._logprobs
        self.stream.end(Answer(self._text, self._ids[self._before :], finish, logprobs, self._prompt_tokens))

    def _send(self, ready: int) -> None:
        last = self.finish and self._sent_tokens < self.length
        if ready > self._sent or last:
            new = self._ids[self._before + self._sent_tokens :]
            logprobs = None if self._request.logprobs is None else self._logprobs[self._sent_tokens :]
            self.stream.put(Piece(self._text[self._sent : ready], new, logprobs))
            self._sent, self._sent_tokens = max(ready, self._sent), self.length


def _bytes_of(tokenizer: Any, token: int) -> bytes | None:
    """Return the bytes of a token that is part of a character, or None if its tokenizer does not tell them."""
    name = str(tokenizer.convert_ids_to_tokens(token))
    if re.fullmatch("<0x[0-9A-F]{2}>", name):  # SentencePiece's byte fallback
        return bytes([int(name[3:5], 16)])
    table = _byte_table()  # byte-level BPE
    return bytes(table[char] for char in name) if all(char in table for char in name) else None


@cache
def _byte_table() -> dict[str, int]:
    """Return the byte that each character of a byte-level BPE token stands for (GPT-2's table).

    Printable bytes stand for themselves; the others, in order, are written as the characters from U+0100 on.
    """
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + n): byte for n, byte in enumerate(others)}
