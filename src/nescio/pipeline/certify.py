"""What stands in the certificate of an erasure: the attacks and the usefulness, before and after."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import nescio
from nescio.audit.ask import Asker
from nescio.audit.attacks.as_in_dialog import PLAIN
from nescio.audit.base import Setting
from nescio.audit.certificate import shown
from nescio.audit.certificate_tests import History, tests
from nescio.audit.common import why_left_out
from nescio.audit.people import Fact
from nescio.audit.plan import Plan, plan
from nescio.audit.run import audit
from nescio.audit.victim import open_local
from nescio.core.callbacks import Tick
from nescio.core.files import file_hash
from nescio.core.model_source import identity
from nescio.core.models import load_tokenizer
from nescio.core.prompts import Message
from nescio.data.samples import Sample
from nescio.evaluation import run as evaluation
from nescio.evaluation.base import Task
from nescio.evaluation.measures.everyday import Everyday
from nescio.evaluation.measures.words import Words
from nescio.evaluation.one_engine import OneEngine
from nescio.evaluation.setups import Setup
from nescio.pipeline.context import Context

_EARLIER = (PLAIN, "prefix")
"""Attacks that earlier people are asked about again with."""
_ASKED_AGAIN = 12
"""Facts of earlier people, and of others, that are asked for again at most, so that no request takes longer."""
_GREETING = Sample("greeting", "greeting", [Message(role="user", content="Hello! How are you?")], "", "", "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a certificate asks about.

    Attributes:
        people: The facts of each person of the request.
        earlier: The same of earlier requests.
        others: Facts of dialogs that are about none of them.
        attacks: Names of attacks; empty: all that are registered.
        draws: Answers that are sampled to the plain question.
    """

    people: Sequence[Sequence[Fact]]
    earlier: Sequence[Sequence[Fact]]
    others: Sequence[Sequence[Fact]]
    attacks: Sequence[str]
    draws: int

    def plans(self, run: Context) -> dict[str, Plan]:
        """Return the plan of the request's own people, and those of earlier ones and of others where there are any.

        Raises:
            NescioError: No fact could prove anything, or an attack is unknown.
        """
        setting = Setting(tokenizer=load_tokenizer(run.start), draws=self.draws, seed=run.recipe.seed)
        others = [fact for own in self.others for fact in own]
        most = sum(map(len, self.people))
        plans = {"own": plan(self.people, self.attacks, most, setting, strangers=others)}
        earlier = [fact for own in self.earlier for fact in own]
        if len(why_left_out(earlier, others)) < len(earlier):
            other = replace(setting, seed=run.recipe.seed + len(self.earlier))
            # They are compared with what their certificates found, not with what is guessed.
            plans["earlier"] = plan(self.earlier, _EARLIER, _ASKED_AGAIN, other, strangers=others).of_real_people()
        if len(why_left_out(others)) < len(others):
            plans["others"] = plan(self.others, [PLAIN], _ASKED_AGAIN, setting).of_real_people()
        return plans


def certify(
    run: Context, asked: Asked, history: History, adapter: Path, first: Path, work: Path, tick: Tick
) -> dict[str, Any]:
    """Return what a certificate says of an adapter, beside the run's own of before.

    Args:
        run: The run; its adapter is that of before.
        asked: What is asked about.
        history: What earlier certificates say.
        adapter: Folder of the adapter of after.
        first: Folder of the adapter of before the first request. It answers as well as any request may leave it:
            compared with the one before only, each of many requests could make the answers a little worse.
        work: Folder for the answers; a killed job goes on with them.
        tick: Called with progress.
    """
    plans = asked.plans(run)
    before = Setup("before", "before", run.start, adapter=str(run.out / "adapter"))
    after = Setup("after", "after", run.start, adapter=str(adapter))
    own = plans["own"]
    strangers = [fact for each in asked.others for fact in each]
    bare = {"own": plan(asked.people, [PLAIN], len(own.facts), own.setting, strangers=strangers)}
    # 1) What comes out before.
    found_before = _found(run, before, {name: each.of_real_people() for name, each in plans.items()}, work, tick)
    # 2) After: what the model could not be asked before is not tried again.
    rows = found_before["own"]["attacks"]
    unable = {row["name"]: row["not_asked"] for row in rows if row["not_asked"] and not row["empty"]}
    own = own.leaving_out(unable)
    found_after = _found(run, after, plans | {"own": own.of_real_people()}, work, tick)
    # What is guessed is the measure of what still comes out; where nothing does, nobody needs to be made up.
    if still := [row["name"] for row in found_after["own"]["attacks"] if row.get("found")]:
        found_after |= _found(run, after, {"own": own.of_real_people(also_made_up=still)}, work, tick, guessing=still)
    # 3) With the adapter taken off, asked plainly.
    detached = _found(run, Setup("detached", "detached", run.start), bare, work, tick)["own"]
    # 4) Whether it still answers.
    useful = _useful(run, [Setup("first", "first", run.start, adapter=str(first)), after], tick)
    return {
        "nescio": nescio.__version__,
        "date": datetime.now(UTC).date().isoformat(),
        "model": {
            "base": identity(run.start),
            "adapter_before": file_hash(run.out / "adapter"),
            "adapter": file_hash(adapter),
        },
        "left_out": len(plans["own"].left_out),
        "before": found_before,
        "after": found_after,
        "detached": {key: detached[key] for key in ("facts", "found")},
        "usefulness": [
            {key: row[key] for key in ("name", "words", "words_ci95", "everyday", "everyday_ci95", "everyday_kl")}
            for row in useful
        ],
        "tests": tests(found_before, found_after, useful, history),
        "shown_earlier": history.has_shown,
    }


def _found(
    run: Context, setup: Setup, plans: dict[str, Plan], work: Path, tick: Tick, guessing: Collection[str] = ()
) -> dict[str, Any]:
    """Return what each plan finds with an adapter; `guessing` are the attacks that ask about made-up people, too."""
    found = dict[str, Any]()
    victim = open_local(setup)
    with victim.engine:
        for name, planned in plans.items():
            asker = Asker(victim, work / "answers.jsonl", None, tick)
            result = audit(planned, asker, run.detector, lambda row: None, may_be_silent=True)
            found[name] = shown(result, guessing)
    return found


def _useful(run: Context, setups: Sequence[Setup], tick: Tick) -> list[dict[str, Any]]:
    """Return the rows of adapters: plain questions in words, and everyday prompts."""
    section = run.recipe.evaluate
    task = Task(
        setups=setups, samples=[_GREETING], own=[{}], max_tokens=16, base=run.recipe.base,
        protect=run.recipe.pairs.positive, detector=run.detector, engine=OneEngine(), answers=run.out / "kept",
        verdicts=run.out / "verdicts.jsonl", seed=run.recipe.seed, note=run.note, tick=tick,
    )  # fmt: skip
    measures = [Words(count=section.words or 200), Everyday(count=section.everyday or 50)]
    return evaluation.evaluate(task, measures)[0]
