"""Guidance against a plain float64 reference, and the properties that must hold for any logits."""

import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon
from torch import Tensor

from nescio.core import registry
from nescio.core.errors import NescioError
from nescio.core.guidance import Guidance, variant_words
from nescio.core.guide import divergence, guide
from nescio.core.spaces import SPACES

VOCAB = 7
finite = st.floats(-30, 30, width=32)
scales = st.one_of(st.floats(0, 20, width=32), st.sampled_from([0.0, 1.0, 1.5, 3.0]))
spaces = st.sampled_from(["log", "prob"])


@st.composite
def rows(draw: st.DrawFn, holes: bool = True) -> Tensor:
    """Logits of one row; some ruled out (-inf), never all."""
    values = draw(st.lists(finite, min_size=VOCAB, max_size=VOCAB))
    if holes:
        for index in draw(st.sets(st.integers(0, VOCAB - 1), max_size=VOCAB - 1)):
            values[index] = -math.inf
    return torch.tensor([values])


def softmax64(logits: list[float]) -> list[float]:
    top = max(logits)
    weights = [math.exp(x - top) for x in logits]
    return [w / math.fsum(weights) for w in weights]


def reference(positive: Tensor, negative: Tensor, scale: float, space: str) -> list[float]:
    """Eqs. 2 and 6 written out, for finite logits."""
    p, n = softmax64(positive[0].tolist()), softmax64(negative[0].tolist())
    if space == "prob":
        raw = [max(0.0, b + scale * (a - b)) for a, b in zip(p, n, strict=True)]
        return [x / math.fsum(raw) for x in raw]
    return softmax64([math.log(b) + scale * (math.log(a) - math.log(b)) for a, b in zip(p, n, strict=True)])


@given(rows(holes=False), rows(holes=False), scales, spaces)
def test_equals_the_equations_in_float64(positive: Tensor, negative: Tensor, scale: float, space: str) -> None:
    ours = guide(positive, negative, scale=scale, space=space).exp()[0].tolist()
    # The error of fp32 log-probabilities (up to 90 in size) is multiplied by the scale.
    assert ours == pytest.approx(reference(positive, negative, scale, space), abs=2e-5 * (1 + scale))


@given(rows(), rows(), scales, spaces, st.sampled_from([0.0, 0.1, 1.0]))
def test_is_a_distribution_for_any_logits(p: Tensor, n: Tensor, scale: float, space: str, tau: float) -> None:
    log_probs = guide(p, n, scale=scale, space=space, plausibility=tau)
    assert log_probs.dtype == torch.float32
    assert not log_probs.isnan().any()
    assert not (log_probs == torch.inf).any()
    assert float(log_probs.double().exp().sum()) == pytest.approx(1, abs=1e-5)


@given(rows(), rows(), scales, spaces, st.floats(-10, 10), st.floats(-10, 10))
def test_a_constant_added_to_a_branch_changes_nothing(
    p: Tensor, n: Tensor, scale: float, space: str, a: float, b: float
) -> None:
    moved = guide(p + a, n + b, scale=scale, space=space).exp()
    assert torch.allclose(moved, guide(p, n, scale=scale, space=space).exp(), atol=1e-4 * (1 + scale))


@given(rows(), scales, spaces)
def test_identical_branches_change_nothing(p: Tensor, scale: float, space: str) -> None:
    assert torch.allclose(guide(p, p, scale=scale, space=space), p.log_softmax(-1), atol=1e-5)


@settings(max_examples=50)
@given(
    st.lists(st.tuples(rows(), rows(), scales, spaces, st.sampled_from([0.0, 0.3])), min_size=1, max_size=5), st.data()
)
def test_a_row_does_not_depend_on_the_others_or_their_order(
    batch: list[tuple[Tensor, Tensor, float, str, float]], data: st.DataObject
) -> None:
    order = data.draw(st.permutations(range(len(batch))))
    p, n, scale, space, tau = zip(*[batch[i] for i in order], strict=True)
    together = guide(
        torch.cat(p), torch.cat(n), scale=torch.tensor(scale), space=list(space), plausibility=torch.tensor(tau)
    )
    for place, index in enumerate(order):
        p1, n1, *how = batch[index]
        alone = guide(p1, n1, scale=how[0], space=how[1], plausibility=how[2])
        assert torch.allclose(together[place], alone[0], atol=1e-6), "a neighbour changed a row"


@given(rows(), rows(), scales)
def test_prob_space_gives_nothing_to_what_both_branches_rule_out(p: Tensor, n: Tensor, scale: float) -> None:
    out = (p == -torch.inf) & (n == -torch.inf)
    assert (guide(p, n, scale=scale, space="prob")[out] == -torch.inf).all()


@given(rows(), rows(), st.floats(1, 20, width=32), spaces, st.floats(0.015625, 1, width=32))
def test_plausibility_keeps_implausible_tokens_out(p: Tensor, n: Tensor, scale: float, space: str, tau: float) -> None:
    probs = p.softmax(-1)
    implausible = probs < tau * probs.amax() * (1 - 1e-4)
    assert (guide(p, n, scale=scale, space=space, plausibility=tau)[implausible] == -torch.inf).all()


def test_log_space_lets_a_token_win_that_neither_branch_would_say_and_plausibility_stops_it() -> None:
    # Section 5's artefact: unlikely in both, far unlikelier in the negative.
    positive, negative = torch.tensor([[5.0, 4.0, -6.0]]), torch.tensor([[5.0, 4.0, -25.0]])
    assert int(guide(positive, negative, scale=3, space="log").argmax()) == 2
    assert int(guide(positive, negative, scale=3, space="prob").argmax()) == 0
    assert int(guide(positive, negative, scale=3, space="log", plausibility=0.1).argmax()) == 0


@given(rows(), rows(), spaces)
def test_scale_one_is_exactly_the_positive_branch_and_zero_the_negative(p: Tensor, n: Tensor, space: str) -> None:
    assert torch.equal(guide(p, n, scale=1.0, space=space), p.log_softmax(-1))
    assert torch.equal(guide(p, n, scale=0.0, space=space), n.log_softmax(-1))
    assert torch.equal(guide(p), p.log_softmax(-1))


def test_half_precision_logits_are_computed_in_fp32() -> None:
    p, n = torch.randn(2, 50, generator=torch.manual_seed(0)), torch.randn(2, 50, generator=torch.manual_seed(1))
    half = guide(p.bfloat16(), n.bfloat16(), scale=2.0, space="log")
    assert torch.equal(half, guide(p.bfloat16().float(), n.bfloat16().float(), scale=2.0, space="log"))


def test_branches_of_different_shapes_and_unknown_spaces_are_refused_in_one_line() -> None:
    with pytest.raises(NescioError, match="shape"):
        guide(torch.zeros(1, 3), torch.zeros(1, 4), scale=2.0)
    with pytest.raises(NescioError, match="negative_logits must be a tensor of the same shape, is list"):
        guide(torch.zeros(1, 3), [[0.0, 0.0, 0.0]], scale=2.0)  # type: ignore[arg-type]
    with pytest.raises(NescioError, match="guidance space 'prb': unknown; known here: log, prob"):
        guide(torch.zeros(1, 3), torch.zeros(1, 3), scale=2.0, space="prb")


@pytest.mark.parametrize("scale", [math.nan, math.inf, -math.inf, -0.5])
def test_a_scale_out_of_range_is_refused(scale: float) -> None:
    with pytest.raises(NescioError, match="scale"):
        Guidance(scale)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"plausibility": 2}, "guidance plausibility 2: must lie between 0 and 1"),
        ({"plausibility": [0.1, 0.1, 2.0]}, "guidance plausibility 2.0: must lie"),
        ({"scale": math.nan}, "guidance scale nan: must be a number of 0 or more"),
        ({"scale": torch.tensor([1.0, 2.0, -1.0])}, "guidance scale -1.0: must be a number"),
        ({"scale": "3"}, "guidance scale 3: must be a number"),
        ({"scale": [1, 2]}, "guide: 2 values of scale for 3 rows; give one for all or one for each"),
        ({"space": ["log", "prob"]}, "guide: 2 values of space for 3 rows"),
        ({"adaptive": [True, False]}, "guide: 2 values of adaptive for 3 rows"),
        ({"space": None}, "guidance space None: must be a name"),
        ({"adaptive": "no"}, "guidance adaptive 'no': must be true or false"),
        ({"adaptive": [True, None, False]}, "guidance adaptive None: must be true or false"),
    ],
)
def test_settings_by_name_are_checked_like_those_of_a_guidance(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(NescioError, match=f"^{said}"):
        guide(torch.zeros(3, VOCAB), torch.ones(3, VOCAB), **settings)


def test_one_value_for_all_may_be_a_number_a_list_or_a_tensor() -> None:
    p, n = torch.randn(2, 3, VOCAB, generator=torch.Generator().manual_seed(0))
    each = (2.0, [2.0], torch.tensor(2.0), torch.full((3,), 2.0), [torch.tensor(2.0)] * 3, torch.full((3, 1), 2.0))
    assert len({tuple(guide(p, n, scale=scale).flatten().tolist()) for scale in each}) == 1
    gamma = torch.tensor(2.0, requires_grad=True)
    guide(p, n, scale=gamma)[0, 0].backward()
    assert gamma.grad is not None, "a scale can be learned"


@pytest.mark.parametrize("shape", [(VOCAB,), (2, 2, VOCAB)])
def test_logits_that_are_no_rows_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(NescioError, match=r"guide: positive_logits must be a tensor \[batch, vocab\]; flatten"):
        guide(torch.zeros(shape), torch.zeros(shape), scale=[2.0, 3.0])


@pytest.mark.parametrize("plausibility", [math.nan, -0.1, 1.1])
def test_a_plausibility_out_of_range_is_refused(plausibility: float) -> None:
    with pytest.raises(NescioError, match="plausibility"):
        Guidance(2.0, plausibility=plausibility)


def test_an_unknown_space_is_refused_and_a_variant_is_described_in_words() -> None:
    with pytest.raises(NescioError, match="space"):
        Guidance(2.0, "linear")
    assert not Guidance().guided
    assert variant_words(Guidance(2.0, "log", plausibility=0.1, adaptive=True).variant) == ["plausible 0.1", "adaptive"]
    assert variant_words({"scale": 3.0, "plausibility": 0.0, "adaptive": None}) == []


@given(rows(), rows(), scales, spaces)
def test_an_adaptive_scale_is_a_distribution_between_the_positive_and_the_full_scale(
    p: Tensor, n: Tensor, scale: float, space: str
) -> None:
    adaptive = guide(p, n, scale=scale, space=space, adaptive=True)
    share = divergence(p.log_softmax(-1), n.log_softmax(-1))[:, 0]
    assert 0 <= float(share) <= 1
    assert float(adaptive.double().exp().sum()) == pytest.approx(1, abs=1e-5)
    assert torch.allclose(
        adaptive,
        guide(p, n, scale=1 + (torch.tensor(scale, dtype=torch.float32) - 1) * share, space=space),
        rtol=1e-3,
        atol=1e-3,
    )
    assert torch.allclose(guide(p, p, scale=scale, space=space, adaptive=True), p.log_softmax(-1), atol=1e-5)


def test_the_divergence_is_that_of_scipy_and_one_bit_where_nothing_is_shared() -> None:
    p, n = torch.randn(2, 1, 50, generator=torch.manual_seed(0)).log_softmax(-1)
    expected = jensenshannon(p.exp()[0].numpy(), n.exp()[0].numpy(), base=2) ** 2
    assert float(divergence(p, n)) == pytest.approx(expected, abs=1e-6)
    apart = torch.tensor([[0.0, -torch.inf]]), torch.tensor([[-torch.inf, 0.0]])
    assert float(divergence(*apart)) == 1.0


@given(st.lists(st.tuples(rows(), rows(), scales, spaces), min_size=1, max_size=4), st.booleans())
def test_one_guidance_for_all_or_one_per_row_equal_the_settings_by_name(
    batch: list[tuple[Tensor, Tensor, float, str]], adaptive: bool
) -> None:
    p, n = torch.cat([row[0] for row in batch]), torch.cat([row[1] for row in batch])
    each = [Guidance(scale, space, "never used", adaptive=adaptive) for _, _, scale, space in batch]
    named = guide(p, n, scale=[g.scale for g in each], space=[g.space for g in each], adaptive=adaptive)
    assert torch.equal(guide(p, n, each), named)
    assert torch.equal(guide(p, n, each[0]), guide(p, n, [each[0]] * len(batch)))
    replaced = guide(p, n, each[0], scale=0.0, adaptive=False)
    assert torch.equal(replaced, n.log_softmax(-1)), "a setting by name takes the place of the field"


@pytest.mark.parametrize(
    ("arguments", "settings_", "said"),
    [
        ((3.0,), {}, "give a scale by name"),
        (([Guidance(), Guidance()],), {}, "2 guidances for 1 rows"),
        ((), {"scal": 3.0}, "unknown setting 'scal'; known here: scale, space, plausibility, adaptive"),
    ],
)
def test_what_is_no_guidance_is_refused_in_one_line(
    arguments: tuple[Any, ...], settings_: dict[str, Any], said: str
) -> None:
    with pytest.raises(NescioError, match=said):
        guide(torch.zeros(1, 3), torch.zeros(1, 3), *arguments, **settings_)


def test_guidance_is_light_to_import_and_its_settings_need_no_torch() -> None:
    heavy = (
        "[m for m in ('transformers', 'pydantic', 'spacy', 'faker', 'matplotlib', 'typer', 'peft') if m in sys.modules]"
    )
    guided = "import sys, torch, nescio; nescio.guide(torch.zeros(1, 3), torch.ones(1, 3), scale=3.0)"
    fields = "import sys, nescio.core.guidance"
    for code in (
        f"{guided}; sys.exit(str({heavy} or ''))",
        f"{fields}; sys.exit('torch' if 'torch' in sys.modules else '')",
    ):
        ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert not ran.stderr.strip()


def test_a_space_of_another_package_is_found_by_its_entry_point_and_looked_up_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A distribution on the path, as pip would install it."""
    (tmp_path / "far_space.py").write_text(
        "def far(positive, negative, gamma):\n    return (positive * gamma).log_softmax(-1)\n"
    )
    info = tmp_path / "far_space-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: far-space\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[nescio.spaces]\nfar = far_space:far\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(SPACES, "_items", dict(SPACES._items))
    p, n = torch.randn(2, 3, 9, generator=torch.manual_seed(0))
    assert torch.allclose(guide(p, n, Guidance(2.0, "far")), (p.log_softmax(-1) * 2).log_softmax(-1))
    mixed = guide(p, n, scale=2.0, space=["far", "log", "prob"])
    for row, space in enumerate(("far", "log", "prob")):
        assert torch.equal(mixed[row : row + 1], guide(p[row : row + 1], n[row : row + 1], scale=2.0, space=space))
    monkeypatch.setattr(registry, "entry_points", lambda **_: pytest.fail("entry points were scanned again"))
    guide(p, n, [Guidance(2.0, "far"), Guidance(2.0, "log"), Guidance(2.0, "prob")])
