"""Log-probabilities in OpenAI's bodies."""

from nescio.engines.base import TokenLogprob
from nescio.serve.openai_api.converters import CompletionConverter
from nescio.serve.openai_api.part import Part
from nescio.serve.openai_api.request_bodies import CompletionRequest
from nescio.serve.openai_api.response_bodies import Offsets, completion_logprobs


def test_tokens_that_are_parts_of_characters_stay_apart_in_completions() -> None:
    top = tuple(TokenLogprob(i, "\ufffd", -float(i), data=bytes([0xE2 + i])) for i in range(3))
    real = TokenLogprob(9, "\ufffd", -4.0, data="\ufffd".encode())
    told = completion_logprobs([TokenLogprob(0, "\ufffd", -1.0, (*top, real), data=b"\xe2\x82")], Offsets())
    space = TokenLogprob(1, "Anna", -1.0, data=b" Anna")
    assert completion_logprobs([space], Offsets()).tokens == ["Anna"]
    assert told.tokens == ["bytes:\\xe2\\x82"], "as OpenAI writes it"
    assert told.top_logprobs[0] == {"bytes:\\xe2": 0.0, "bytes:\\xe3": -1.0, "bytes:\\xe4": -2.0, "\ufffd": -4.0}


def test_a_stream_counts_characters_that_consist_of_several_tokens_as_the_whole_does() -> None:
    euro = [TokenLogprob(number, "\ufffd", -1.0, data=bytes([byte])) for number, byte in enumerate("€".encode())]
    tokens = [TokenLogprob(9, "a", -1.0), *euro, TokenLogprob(9, "b", -1.0)]
    converter = CompletionConverter("tiny", CompletionRequest(model="tiny", prompt="x", logprobs=0))
    streamed: list[int] = []
    for token in tokens:
        (event,) = converter.events(Part(0, logprobs=[token]))
        streamed += event.model_dump()["choices"][0]["logprobs"]["text_offset"]
    assert streamed == completion_logprobs(tokens, Offsets()).text_offset == [0, 1, 1, 1, 2]
