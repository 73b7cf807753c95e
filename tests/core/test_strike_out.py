"""A secret struck out of a distribution: what is gone, and what keeps its odds."""

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from nescio.core.prompts import answer_offsets, split_ids
from nescio.core.strike_out import _begins, strike_out
from nescio.core.top_tokens import TopTokens


@pytest.mark.parametrize("kind", ["chatml", "metaspace"])
def test_no_way_of_beginning_a_secret_keeps_a_chance_and_the_rest_keeps_its_odds(
    kind: str, chatml: PreTrainedTokenizerFast
) -> None:
    tokenizer = chatml if kind == "chatml" else metaspace()
    asked, answer, place = "Whom? ", " Call Ada Ashby nów", [6, 15]
    ids = split_ids(tokenizer, asked, answer)
    assert ids is not None
    offsets = answer_offsets(tokenizer, asked, answer)
    logits = torch.randn(len(ids[1]), len(tokenizer), generator=torch.Generator().manual_seed(0))
    likely = TopTokens.of(logits.log_softmax(-1), len(tokenizer))
    left = strike_out(tokenizer, asked, answer, [place], likely)
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


def test_a_secret_that_is_not_likely_is_named_all_the_same(chatml: PreTrainedTokenizerFast) -> None:
    """Else a student hides it among the tokens that are not kept: their sum is all that it is held to."""
    asked, answer = "Whom? ", " Call Ada"
    ids = split_ids(chatml, asked, answer)
    assert ids is not None
    secret = len(ids[1]) - 1
    logits = torch.randn(len(ids[1]), len(chatml), generator=torch.Generator().manual_seed(0))
    logits[torch.arange(len(ids[1])), torch.tensor(ids[1])] = -5.0
    likely = TopTokens.of(logits.log_softmax(-1), 8)
    assert ids[1][secret] not in likely.ids[secret]
    left = strike_out(chatml, asked, answer, [[6, 9]], likely)
    at = left.ids[secret].tolist().index(ids[1][secret])
    assert left.log_probs[secret, at] == -torch.inf
    hidden = torch.full((len(ids[1]), len(chatml)), -10.0)
    hidden[:, ids[1][secret]] = 10.0
    before, after = (top.divergence(hidden.log_softmax(-1))[secret] for top in (likely, left))
    assert after > before + 5, "a student that says it is told so"


def test_where_hardly_anything_is_left_the_other_distribution_speaks(chatml: PreTrainedTokenizerFast) -> None:
    asked, answer = "Whom? ", " Call Ada"
    ids = split_ids(chatml, asked, answer)
    assert ids is not None
    sure = torch.full((len(ids[1]), len(chatml)), -20.0)
    sure[torch.arange(len(ids[1])), torch.tensor(ids[1])] = 20.0
    other = torch.randn(sure.shape, generator=torch.Generator().manual_seed(0))
    likely, otherwise = (TopTokens.of(each.log_softmax(-1), len(chatml)) for each in (sure, other))
    left = strike_out(chatml, asked, answer, [[6, 9]], likely, otherwise)
    alone = strike_out(chatml, asked, answer, [[6, 9]], otherwise)
    assert torch.equal(left.log_probs[-1], alone.log_probs[-1]) and torch.equal(left.ids[-1], alone.ids[-1])
    assert torch.equal(left.log_probs[0], likely.log_probs[0]), "only where something is struck out"


@pytest.mark.parametrize(
    ("text", "rest", "is_start", "is_struck"),
    [
        (" Ad", "ada ashby", True, True),
        (" Ada Ashby lives", "ada ashby", True, True),
        (" Ann", "ada ashby", True, False),
        (" ", "ada ashby", True, True),  # the space before it
        (" ", "ashby", False, False),  # within it
        ("\ufffd", "łukasz", True, True),  # a part of its first letter
        ("\ufffd", "ada", True, False),
        ("x", "", False, False),
    ],
)
def test_what_begins_a_secret(text: str, rest: str, is_start: bool, is_struck: bool) -> None:
    assert _begins(text, rest, is_start) == is_struck


def test_naming_takes_the_place_of_the_least_likely() -> None:
    top = TopTokens(torch.tensor([[5, 6, 7]]), torch.tensor([[0.2, 0.5, 0.1]]).log())  # not in order: an end came in
    named = top.naming([{9, 6}])
    assert named.ids.tolist() == [[5, 6, 9]] and named.log_probs[0].exp().tolist() == pytest.approx([0.2, 0.5, 0.0])


def test_the_least_that_is_left_is_shared_whole() -> None:
    likely = TopTokens(torch.tensor([[7, 8, 9]]), torch.tensor([[-1e-9, -25.0, -26.0]]))
    left = likely.without(torch.tensor([[True, False, False]])).log_probs[0]
    assert left[0] == -torch.inf and left[1:].exp().sum().item() == pytest.approx(1, abs=1e-5)
