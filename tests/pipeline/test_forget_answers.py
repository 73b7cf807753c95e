"""What an erasure request strikes out: where an answer says a secret, and what is left of the distribution there."""

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from nescio.audit.matching import said, spans
from nescio.audit.people import Fact
from nescio.core.prompts import Message, answer_offsets, split_ids
from nescio.core.top_tokens import TopTokens
from nescio.data.samples import Sample
from nescio.pii.taxonomy import PiiType
from nescio.pipeline.forget_answers import Probe, Secret, Told, questions, struck, told

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
        ("Who can help me?", "Ask Mrs Ashby.", ["Ashby"]),  # in part
        ("Who can help me?", "Call 415 555 0101.", ["415 555 0101"]),  # in another form
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


@pytest.mark.parametrize(
    ("text", "value", "kind", "place"),
    [
        ("It is (415) 555-01-01, I think.", "4155550101", "phone", "415) 555-01-01"),
        ("Groß! In der Hauptstraße 7.", "Hauptstraße 9", "address", "Hauptstraße"),
        ("It is Ashby Road 7.", "Ashby Road 12", "address", "Ashby Road"),
        ("Born on 12 March 80.", "1980-03-12", "birth_date", "12"),
        ("Zoë Lindgren", "Zoe\u0308 Lindgren", "person", "Zoë Lindgren"),
    ],
)
def test_places_of_a_value_in_another_form(text: str, value: str, kind: PiiType, place: str) -> None:
    assert said(text, value, kind) is not None
    start, end = spans(text, value, kind)[0]
    assert text[start:end] == place


@pytest.mark.parametrize("kind", ["chatml", "metaspace"])
def test_no_way_of_beginning_a_secret_keeps_a_chance_and_the_rest_keeps_its_odds(
    kind: str, chatml: PreTrainedTokenizerFast
) -> None:
    tokenizer = chatml if kind == "chatml" else metaspace()
    asked, answer, place = "Whom? ", f" Call {NAME} nów", [6, 15]
    ids = split_ids(tokenizer, asked, answer)
    assert ids is not None
    offsets = answer_offsets(tokenizer, asked, answer)
    logits = torch.randn(len(ids[1]), len(tokenizer), generator=torch.Generator().manual_seed(0))
    likely = TopTokens.of(logits.log_softmax(-1), len(tokenizer))
    left = struck(tokenizer, Told(id="q", prompt="", answer=answer, places=[place]), ids[1], offsets, likely)
    assert "".join(answer[start:end] for start, end in offsets).replace(" ", "").startswith("CallAdaAshby")
    within = 0
    for at, (token, (start, end)) in enumerate(zip(ids[1], offsets, strict=True)):
        gone = left.log_probs[at] == -torch.inf
        if end <= place[0] or start >= place[1]:
            assert torch.equal(left.log_probs[at], likely.log_probs[at]), "outside of the secret nothing changes"
            continue
        within += 1
        rest = answer[max(start, place[0]) : place[1]].strip().lower()
        texts = [str(tokenizer.decode([one])).strip().lower() for one in left.ids[at].tolist()]
        begins = [bool(text and rest) and (rest.startswith(text) or text.startswith(rest)) for text in texts]
        assert token in left.ids[at][gone] and all(gone[number] for number, one in enumerate(begins) if one)
        assert gone.sum() < len(texts) / 2, "and no others"
        assert left.log_probs[at].exp().sum().item() == pytest.approx(1, abs=1e-4)
        odds = left.log_probs[at][~gone] - likely.log_probs[at][~gone]
        torch.testing.assert_close(odds, odds[:1].expand_as(odds), atol=1e-4, rtol=0)
    assert within >= 2


def metaspace() -> PreTrainedTokenizerFast:
    """A tokenizer like SentencePiece's: a space is a part of the word behind it, and decoding drops the first one."""
    inner = Tokenizer(models.BPE(unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
    inner.decoder = decoders.Metaspace(prepend_scheme="first")
    texts = ["Call Ada Ashby now", "Ada, Ben and Cleo", "Whom? Nobody nów", "Ashes and ashlars"] * 4
    inner.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=120, special_tokens=["<unk>"], show_progress=False))
    return PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="<unk>")  # type: ignore[no-untyped-call]


def test_what_the_question_says_is_no_answer_and_no_error() -> None:
    question = Sample("q", "q", [Message(role="user", content=f"Mine is {PHONE}.")], f"Yours is {PHONE}.", "x", PHONE)
    one = Probe(question=question, secrets=[(NAME, "person"), (PHONE, "phone")])
    assert told(one, question.rejected) is None


@pytest.mark.parametrize(("address", "is_asked"), [("ada.ashby@x.example", False), ("rose12@x.example", True)])
def test_nobody_is_asked_whose_address_spells_the_name(address: str, is_asked: bool) -> None:
    fact = Fact(
        id="f", person=NAME, names=(NAME,), noun="e-mail address", type="email", value=address,
        messages=[Message(role="user", content=f"What is {NAME}'s e-mail address?")],
    )  # fmt: skip
    assert any(sample.value == NAME for sample in questions(fact)) == is_asked


def test_the_least_that_is_left_is_shared_whole() -> None:
    likely = TopTokens(torch.tensor([[7, 8, 9]]), torch.tensor([[-1e-9, -25.0, -26.0]]))
    left = likely.without(torch.tensor([[True, False, False]])).log_probs[0]
    assert left[0] == -torch.inf and left[1:].exp().sum().item() == pytest.approx(1, abs=1e-5)
