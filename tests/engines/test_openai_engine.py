"""Answers from an endpoint, piece by piece."""

from collections import Counter

from endpoint import ANSWER, running

from nescio.engines.base import Request
from nescio.engines.openai_engine import OpenAIEngine

ASKED = Request([{"role": "user", "content": "Who?"}], max_tokens=400)


def test_a_stream_left_early_is_paid_no_further() -> None:
    with running(answer=f"{ANSWER} " * 20) as endpoint:
        pieces = OpenAIEngine("m", endpoint.url, key_env=None).stream(ASKED)
        assert next(pieces) == "Somebody "
        pieces.close()  # type: ignore[attr-defined]
        assert endpoint.left.wait(5), "the endpoint went on answering"
        assert endpoint.answered == Counter()


def test_a_stream_is_the_whole_answer() -> None:
    with running() as endpoint:
        assert "".join(OpenAIEngine("m", endpoint.url, key_env=None).stream(ASKED)).split() == ANSWER.split()
