"""Log-probabilities in OpenAI's bodies."""

from nescio.engines.base import TokenLogprob
from nescio.serve.openai_api.response_bodies import completion_logprobs


def test_tokens_that_are_parts_of_characters_stay_apart_in_completions() -> None:
    top = tuple(TokenLogprob(i, "\ufffd", -float(i), data=bytes([0xE2 + i])) for i in range(3))
    real = TokenLogprob(9, "\ufffd", -4.0, data="\ufffd".encode())
    told = completion_logprobs([TokenLogprob(0, "\ufffd", -1.0, (*top, real), data=b"\xe2\x82")], 0)
    space = TokenLogprob(1, "Anna", -1.0, data=b" Anna")
    assert completion_logprobs([space], 0).tokens == ["Anna"]
    assert told.tokens == ["bytes:\\xe2\\x82"], "as OpenAI writes it"
    assert told.top_logprobs[0] == {"bytes:\\xe2": 0.0, "bytes:\\xe3": -1.0, "bytes:\\xe4": -2.0, "\ufffd": -4.0}
