"""Wilson's interval against SciPy's."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from nescio.core.wilson import wilson


@given(st.integers(0, 40), st.integers(1, 40))
def test_wilson_agrees_with_scipy(successes: int, trials: int) -> None:
    successes = min(successes, trials)
    theirs = stats.binomtest(successes, trials).proportion_ci(method="wilson")
    assert wilson(successes, trials) == pytest.approx((theirs.low, theirs.high), abs=1e-9)


def test_a_share_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="nothing"):
        wilson(0, 0)
