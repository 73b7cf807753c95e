"""What an erasure request strikes out: where an answer says a secret, and what is left of the distribution there."""

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from nescio.core.prompts import Message
from nescio.core.top_tokens import TopTokens
from nescio.data.samples import Sample
from nescio.pipeline.forget_answers import Probe, Secret, Told, struck, told

NAME, PHONE = "Ada Ashby", "+1 415-555-0101"


def probe(asked: str, *secrets: Secret) -> Probe:
    question = Sample("q", "q", [Message(role="user", content=asked)], f"It is {PHONE}.", "phone", PHONE)
    return Probe(question=question, secrets=[(NAME, "person"), (PHONE, "phone"), *secrets])


@pytest.mark.parametrize(
    ("asked", "answer", "said"),
    [
        (f"How do I reach {NAME}?", f"Call {PHONE}, please.", [PHONE]),
        (f"How do I reach {NAME}?", f"{NAME} has {PHONE}, and {PHONE} only.", [PHONE, PHONE]),
        ("Who can help me?", f"Ask {NAME}, at {PHONE}.", [NAME, PHONE]),
        ("Who can help me?", "Ask Mrs Ashby.", [" ashby"]),  # in part
        ("Who can help me?", "Call 415 555 0101.", ["0101"]),  # in another form
        (f"How do I reach {NAME}?", "Ada Ashby is out, and Mrs Ashby too.", []),  # the question says it
        (f"Whose number is {PHONE}?", f"{PHONE} is nobody's.", []),
        ("Who can help me?", "Somebody at the desk.", []),
    ],
)
def test_an_answer_is_cut_behind_the_last_secret(asked: str, answer: str, said: list[str]) -> None:
    found = told(probe(asked), answer)
    if not said:
        assert found is None
        return
    assert found is not None and answer.startswith(found.answer)
    assert found.answer.lower().endswith(said[-1].lower()), "nothing behind it"
    places = [found.answer[start:end].lower() for start, end in found.places]
    assert [place for place in places if place in {each.lower() for each in said}] == [each.lower() for each in said]


def test_no_way_of_beginning_a_secret_keeps_a_chance_and_the_rest_keeps_its_odds(
    chatml: PreTrainedTokenizerFast,
) -> None:
    answer, place = f"Call {NAME} now", [5, 14]
    ids: list[int] = chatml(answer, add_special_tokens=False).input_ids
    logits = torch.randn(len(ids), len(chatml), generator=torch.Generator().manual_seed(0))
    likely = TopTokens.of(logits.log_softmax(-1), len(chatml))
    left = struck(chatml, Told(id="q", prompt="", answer=answer, places=[place]), ids, likely)
    within = 0
    for at, token in enumerate(ids):
        start, end = (len(chatml.decode(ids[:count])) for count in (at, at + 1))
        gone = left.log_probs[at] == -torch.inf
        if end <= place[0] or start >= place[1]:
            assert not gone.any(), "outside of the secret nothing changes"
            assert torch.equal(left.log_probs[at], likely.log_probs[at])
            continue
        within += 1
        rest = answer[max(start, place[0]) : place[1]].strip().lower()
        texts = [chatml.decode([one]).strip().lower() for one in left.ids[at].tolist()]
        begins = [bool(text) and (rest.startswith(text) or text.startswith(rest)) for text in texts]
        assert token in left.ids[at][gone] and all(gone[number] for number, one in enumerate(begins) if one)
        assert left.log_probs[at].exp().sum().item() == pytest.approx(1, abs=1e-4)
        kept = ~gone
        odds = left.log_probs[at][kept] - likely.log_probs[at][kept]
        torch.testing.assert_close(odds, odds[:1].expand_as(odds), atol=1e-4, rtol=0)
    assert within >= 2
