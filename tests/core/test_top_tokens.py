"""The likely tokens of a teacher: their divergence against float64, and the file they are kept in."""

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import kl_div

from nescio.core.errors import NescioError
from nescio.core.top_tokens import TopTokens, read_top_tokens, write_top_tokens

VOCAB = 12


def drawn(seed: int, spread: float = 2.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (spread * torch.randn(3, VOCAB, generator=generator)).log_softmax(-1)


def whole_divergence(teacher: torch.Tensor, student: torch.Tensor) -> torch.Tensor:
    return kl_div(student.double(), teacher.double(), log_target=True, reduction="none").sum(-1)


@given(st.integers(0, 10_000), st.integers(1, VOCAB))
@settings(deadline=None, max_examples=60)
def test_divergence_is_a_bound_that_all_tokens_reach(seed: int, k: int) -> None:
    teacher, student = drawn(seed), drawn(seed + 1)
    whole = whole_divergence(teacher, student)
    kept = TopTokens.of(teacher, k).divergence(student)
    assert (kept <= whole + 1e-4).all()
    assert (kept >= -1e-4).all()
    torch.testing.assert_close(TopTokens.of(teacher, VOCAB).divergence(student).double(), whole, atol=1e-4, rtol=1e-4)


def test_the_rest_counts_as_one_outcome() -> None:
    teacher = torch.tensor([[0.5, 0.2, 0.2, 0.1]]).log()
    student = torch.tensor([[0.25, 0.25, 0.25, 0.25]]).log()
    by_hand = 0.5 * torch.tensor(0.5 / 0.25).log() + 0.5 * torch.tensor(0.5 / 0.75).log()
    torch.testing.assert_close(TopTokens.of(teacher, 1).divergence(student)[0], by_hand)
    assert TopTokens.of(teacher, 1).divergence(teacher)[0] == pytest.approx(0, abs=1e-6)


def test_an_end_is_as_likely_as_in_the_other() -> None:
    own = TopTokens.of(torch.tensor([[0.5, 0.3, 0.2], [0.5, 0.3, 0.2], [0.1, 0.0, 0.9]]).log(), 3)
    other = TopTokens.of(torch.tensor([[0.2, 0.2, 0.6], [0.8, 0.2, 0.0], [0.5, 0.2, 0.3]]).log(), 3)
    ended = own.ending_as(other, end=2)
    probs = torch.zeros(3, 3).scatter(1, ended.ids, ended.log_probs.exp())
    torch.testing.assert_close(probs, torch.tensor([[0.25, 0.15, 0.6], [0.5, 0.3, 0.2], [0.1, 0.0, 0.9]]))


def test_an_end_that_was_not_kept_takes_the_place_of_the_least() -> None:
    own = TopTokens.of(torch.tensor([[0.6, 0.3, 0.1, 0.0]]).log(), 3)
    ended = own.ending_as(TopTokens.of(torch.tensor([[0.1, 0.1, 0.0, 0.8]]).log(), 3), end=3)
    assert ended.ids.tolist() == [[0, 1, 3]]
    torch.testing.assert_close(ended.log_probs.exp(), torch.tensor([[0.12, 0.06, 0.8]]))


def test_tokens_that_the_teacher_rules_out_make_no_nan() -> None:
    teacher = torch.tensor([[0.7, 0.3, 0.0, 0.0]]).log()
    student = drawn(4)[:1, :4].log_softmax(-1).requires_grad_()
    loss = TopTokens.of(teacher, 3).divergence(student)
    loss.sum().backward()
    assert torch.isfinite(loss).all() and student.grad is not None and torch.isfinite(student.grad).all()


def test_the_tokens_of_a_loop_lose_their_probability_to_the_others() -> None:
    answer = [1, 2, 3, 1, 2, 3, 1, 2, 3, 4, 5]  # "the city of the city of the city of …"
    sure = torch.full((VOCAB,), -torch.inf).index_fill(0, torch.tensor(answer[8]), 0.0)
    teacher = torch.cat([drawn(9), drawn(10), drawn(11)[:2], sure[None], drawn(12)[:2]])
    kept = TopTokens.of(teacher, VOCAB)
    freed = kept.without_repeats(answer)
    repeated = [at for at in range(len(answer)) if not torch.equal(freed.log_probs[at], kept.log_probs[at])]
    assert repeated == [7, 8], "a run of five that was there before ends at these"
    for at in repeated:
        others = kept.ids[at] != answer[at]
        assert (freed.log_probs[at][~others] == -torch.inf).all()
        before, after = kept.log_probs[at][others].exp(), freed.log_probs[at][others].exp()
        torch.testing.assert_close(after, before / before.sum() if before.sum() else before)
    assert torch.isfinite(freed.divergence(drawn(3)[:1].expand(len(answer), -1))).all()


def test_descent_on_it_brings_the_student_to_the_teacher() -> None:
    teacher, logits = drawn(7), torch.zeros(3, VOCAB, requires_grad=True)
    top, optimizer = TopTokens.of(teacher, 6), torch.optim.Adam([logits], lr=0.1)
    for _ in range(300):
        optimizer.zero_grad()
        top.divergence(logits.log_softmax(-1)).sum().backward()
        optimizer.step()
    student = logits.detach().log_softmax(-1)
    torch.testing.assert_close(student.gather(1, top.ids), top.log_probs, atol=0.02, rtol=0)


def test_written_and_read_again(tmp_path: Path) -> None:
    each = [TopTokens.of(drawn(seed)[: seed + 1], 4) for seed in range(3)]
    write_top_tokens(tmp_path / "t.safetensors", each)
    again = read_top_tokens(tmp_path / "t.safetensors")
    assert [len(top.ids) for top in again] == [1, 2, 3]
    for one, other in zip(each, again, strict=True):
        assert torch.equal(one.ids, other.ids.long()) and torch.equal(one.log_probs, other.log_probs)


def test_nothing_and_damage_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(NescioError, match="no answers"):
        write_top_tokens(tmp_path / "t.safetensors", [])
    (tmp_path / "t.safetensors").write_bytes(b"x")
    with pytest.raises(NescioError, match=r"t\.safetensors: missing or damaged"):
        read_top_tokens(tmp_path / "t.safetensors")
