"""An answer as it is written: tokens in, pieces of text out, up to a stop text or the last token.

Knows tokenizers, requests and streams; nothing of models.
"""

from collections.abc import Sequence
from typing import Any

from nescio.engines.base import Answer, Piece, Request, Stream, TokenLogprob

_TAIL = 8  # prompt tokens decoded before an answer, so that its first white space is kept by any tokenizer
_BROKEN = "\ufffd"  # how a tokenizer decodes bytes that are no whole character yet


class Writing:
    """What a request has so far, and the stream that is told of it.

    Args:
        tokenizer: Decodes the answer.
        request: Says where the answer ends.
        prompt: Token ids of the positive branch.
        stream: Gets the pieces and the answer.
    """

    def __init__(self, tokenizer: Any, request: Request, prompt: Sequence[int], stream: Stream) -> None:
        self.stream = stream
        self.finish = ""
        self._tokenizer = tokenizer
        self._request = request
        self._prompt_tokens = len(prompt)
        self._ids = list(prompt[-_TAIL:])
        self._before = len(self._ids)
        # Decoded are only the tokens since `_start`; the text up to `_read` is in `_text`.
        self._start, self._read = 0, len(self._ids)
        self._text, self._open = "", ""
        self._logprobs: list[TokenLogprob] = []
        self._sent, self._sent_tokens = 0, 0
        self._hold = max((len(stop) for stop in request.stop), default=0)

    @property
    def length(self) -> int:
        """How many tokens the answer has."""
        return len(self._ids) - self._before

    def text_of(self, token: int) -> str:
        """A token by itself, as text."""
        text: str = self._tokenizer.decode([token])
        return text

    def add(self, token: int, logprob: TokenLogprob | None = None) -> None:
        """Add a token, and send what can't change any more; ends the answer at a stop text or the last token."""
        self._ids.append(token)
        if logprob is not None:
            self._logprobs.append(logprob)
        self._decode()
        text = self._text + self._open
        cut = min((at for stop in self._request.stop if stop and (at := text.find(stop)) >= 0), default=-1)
        if cut >= 0:
            self._text, self._open = text[:cut], ""
            self.end("stop")
        elif self.length >= self._request.max_tokens:
            self.end("length")
        else:
            self._send(len(self._text) - self._hold)

    def end(self, finish: str) -> None:
        """End the answer: `stop`, `length` or `cancelled`."""
        self.finish = finish
        self._text += self._open
        self._send(len(self._text))
        self.stream.end(Answer(self._text, self._ids[self._before :], finish, self._told(0), self._prompt_tokens))

    def _decode(self) -> None:
        known = self._tokenizer.decode(self._ids[self._start : self._read], skip_special_tokens=True)
        grown = self._tokenizer.decode(self._ids[self._start :], skip_special_tokens=True)[len(known) :]
        if grown.endswith(_BROKEN):
            self._open = grown
            return
        self._text, self._open = self._text + grown, ""
        if grown:
            self._start, self._read = self._read, len(self._ids)

    def _send(self, ready: int) -> None:
        last = self.finish and self._sent_tokens < self.length
        if ready > self._sent or last:
            new = self._ids[self._before + self._sent_tokens :]
            self.stream.put(Piece(self._text[self._sent : ready], new, self._told(self._sent_tokens)))
            self._sent, self._sent_tokens = max(ready, self._sent), self.length

    def _told(self, first: int) -> list[TokenLogprob] | None:
        return None if self._request.logprobs is None else self._logprobs[first:]
