"""What an answer passes on its way to the caller: the audit of its text and calls, then what stand-ins stand for."""

from collections.abc import Mapping, Sequence

from nescio.engines.base import Request
from nescio.pii.base import Span
from nescio.serve.checker import Checked, Checker
from nescio.serve.json_filter import JsonFilter
from nescio.serve.output_filter import OutputFilter
from nescio.serve.put_back import PutBack
from nescio.serve.stop_texts import StopTexts

_SHORT = 2**14  # characters that are looked through in less than a millisecond


class AnswerFilter:
    """Filter of one choice of an answer. Its output does not depend on how the text was cut.

    Args:
        checker: The audit, which knows the request's own stand-ins; None: nothing is checked.
        pieces: What the caller wrote, by stand-in.
        asked: What the answer follows.
        in_json: Whether its text is JSON.
        stop: Stop texts that the engine does not know.
    """

    def __init__(
        self,
        checker: Checker | None,
        pieces: Mapping[str, str],
        *,
        asked: str = "",
        in_json: bool = False,
        stop: Sequence[str] = (),
    ) -> None:
        self._checker = checker
        self._pieces = pieces
        self._text_filter: JsonFilter | OutputFilter | None = None
        if checker is not None:
            self._text_filter = JsonFilter(checker) if in_json else OutputFilter(checker, asked)
        self._stop_texts = StopTexts(stop)
        self._put_back = PutBack(pieces, in_json=in_json) if pieces else None

    @property
    def blocked(self) -> bool:
        """Whether the audit ends the answer here."""
        return self._text_filter is not None and self._text_filter.blocked and not self.stopped

    @property
    def stopped(self) -> bool:
        """Whether a stop text ended the answer."""
        return self._stop_texts.found

    @property
    def withheld(self) -> tuple[Span, ...]:
        """Personal data of the text that the audit stopped."""
        return () if self._checker is None else tuple(self._checker.withheld)

    def takes_long(self, text: str) -> bool:
        """Return whether feeding this text takes more time than an event loop has."""
        asks_detector = self._text_filter is not None and self._text_filter.asks_detector(text)
        return asks_detector or self._put_back is not None or len(text) > _SHORT

    def feed(self, text: str) -> list[Checked]:
        """Add text of the answer; return what may be sent now.

        Raises:
            FilterError: The detector failed.
        """
        checked = [Checked(text)] if self._text_filter is None else self._text_filter.feed(text)
        return [self._with_pieces(self._stop_texts.feed(each)) for each in checked]

    def finish(self, *, cut: bool = False) -> list[Checked]:
        """End the text; return the rest that may be sent.

        Args:
            cut: Whether the answer breaks off, by its length or its time.

        Raises:
            FilterError: The detector failed.
        """
        checked = [] if self._text_filter is None or self.stopped else self._text_filter.finish(cut=cut)
        stopped = [*map(self._stop_texts.feed, checked), self._stop_texts.feed(Checked(""), last=True)]
        return [*map(self._with_pieces, stopped), self._with_pieces(Checked(""), last=True)]

    def arguments(self, text: str, *, cut: bool = False) -> Checked | None:
        """Return the arguments of a call as they may be sent, or None if the audit ends the answer before the call.

        Args:
            text: The arguments.
            cut: Whether the answer breaks off.

        Raises:
            FilterError: The detector failed.
        """
        checked = Checked(text)
        if self._checker is not None:
            json_filter = JsonFilter(self._checker)
            json_filter.feed(text)
            parts = json_filter.finish(cut=cut)
            if json_filter.blocked:
                return None
            checked = Checked(
                "".join(part.text for part in parts), tuple(span for part in parts for span in part.spans)
            )
        return PutBack(self._pieces, in_json=True).feed(checked.text, checked.spans, last=True)

    def _with_pieces(self, checked: Checked, *, last: bool = False) -> Checked:
        return self._put_back.feed(checked.text, checked.spans, last=last) if self._put_back else checked


def filter_of(request: Request, checker: Checker | None, pieces: Mapping[str, str]) -> AnswerFilter:
    """Return the filter of one choice of a request's answer.

    Args:
        request: What is answered.
        checker: As for `AnswerFilter`.
        pieces: What the caller wrote, by stand-in.
    """
    # What the answer follows: the text that it goes on with, or the last message and the end of its line.
    asked = request.prompt
    if not isinstance(asked, str):
        asked = asked[-1]["content"] + ("" if asked[-1]["role"] == "assistant" else "\n")
    in_json = request.response_format is not None
    return AnswerFilter(checker, pieces, asked=asked, in_json=in_json, stop=hidden_stops(request, checker))


def hidden_stops(request: Request, checker: Checker | None) -> tuple[str, ...]:
    """Return the stop texts that the engine must not know: it would find them in what the audit takes out."""
    return request.stop if checker is not None and checker.hides else ()
