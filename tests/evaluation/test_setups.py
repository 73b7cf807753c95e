"""Rows that can be compared, and how each asks."""

from nescio.core.guidance import PROTECT, REVEAL, Guidance
from nescio.core.prompts import Message
from nescio.data.strategies import NUDGE
from nescio.evaluation.setups import Setup, baselines, guided_setups

ASKED = [Message(role="user", content="Hi"), Message(role="assistant", content="Well,")]
TUNED = Setup("tuned", "tuned", "x")


def test_a_set_up_asks_with_its_system_sentence_and_its_nudge() -> None:
    setup = Setup("x", "x", "x", system="Be brief.", nudge=True)
    assert setup.asked(ASKED) == [
        {"role": "system", "content": "Be brief."}, {"role": "user", "content": f"{NUDGE} Hi"}, ASKED[1]
    ]  # fmt: skip
    assert TUNED.asked(ASKED) == ASKED and ASKED[0]["content"] == "Hi"


def test_guided_rows_have_names_of_their_own() -> None:
    plain = Guidance(1.0, "prob", PROTECT, REVEAL)
    variants = [plain, *(Guidance(1.0, "prob", PROTECT, REVEAL, tau, not tau) for tau in (0.1, 0.0))]
    rows = list(
        guided_setups(Setup("trained", "trained", "x", adapter="a", guidance=plain), [1, 2], ["log", "prob"], variants)
    )
    assert [row.name for row in rows] == [
        "trained-log-2", "trained-prob-2", "trained-log-2-plausible-0.1", "trained-prob-2-plausible-0.1",
        "trained-log-2-adaptive", "trained-prob-2-adaptive",
    ]  # fmt: skip
    assert rows[2].guidance == Guidance(2.0, "log", PROTECT, REVEAL, plausibility=0.1)
    assert rows[5].guidance == Guidance(2.0, "prob", PROTECT, REVEAL, adaptive=True)
    assert rows[0].attached == rows[1].attached is not None


def test_baselines_need_no_training() -> None:
    nudge, reverse, masked = baselines(TUNED, PROTECT, REVEAL)
    assert nudge.nudge and masked.masks
    assert reverse.guidance == Guidance(2.0, "log", PROTECT, REVEAL)
    assert all(row.adapter is None and row.model == "x" for row in (nudge, reverse, masked))
