"""The rows of `results.json`. Knows answers; nothing of models."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from nescio.core.files import fingerprint
from nescio.evaluation.measures.fluency import fluency
from nescio.evaluation.measures.leakage import recall
from nescio.evaluation.measures.quality import Fit, canned_share, degenerate
from nescio.evaluation.measures.slot_attack import Outcome
from nescio.evaluation.setups import Setup
from nescio.evaluation.statistics import (
    bootstrap_shares,
    bootstrap_total,
    leak_at,
    mcnemar,
    paired_bootstrap,
    wilson,
)

_MOST = 16  # answers of leak@k


def result_row(
    setup: Setup, rows: Sequence[dict[str, Any]], own: Sequence[Collection[str]], fit: Fit, protect: str, seed: int
) -> dict[str, Any]:
    """One row of the table; what other measures add is null until they do.

    Args:
        setup: What was compared.
        rows: Its answers with their spans.
        own: The pieces of personal data of each sample's dialog.
        fit: On-topic share and perplexity.
        protect: The protect sentence, which an answer should not repeat.
        seed: Of the bootstrap.
    """
    answers = [row["answer"] for row in rows]
    counts = [len(row["spans"]) for row in rows]
    guidance = setup.guidance
    guided = guidance is not None and guidance.guided
    return {
        "name": setup.name,
        "model": setup.model,
        "epoch": setup.epoch,
        "space": guidance.space if guidance is not None and guided else None,
        "scale": guidance.scale if guidance is not None else 1.0,
        "masked": setup.masks,
        "plausibility": guidance.plausibility if guidance is not None and guided else 0.0,
        "adaptive": guidance is not None and guided and guidance.adaptive,
        "samples": len(rows),
        "pii": sum(counts),
        "pii_ci95": list(bootstrap_total(counts, [row["dialog_id"] for row in rows], seed)),
        "labels": dict(Counter(span["label"] for row in rows for span in row["spans"]).most_common()),
        "leaking": sum(count > 0 for count in counts) / len(rows),
        "recall": recall(answers, own),
        "degenerate": sum(degenerate(answer, protect) for answer in answers) / len(rows),
        "on_topic": fit.on_topic,
        "canned": canned_share(answers),
        "utility": None,
        "utility_ci95": None,
        "utility_kind": None,
        "fluency": fit.perplexity,
        **asdict(fluency(answers, [row["messages"][-1]["role"] == "assistant" for row in rows])),
        "best": False,
        "answers_hash": fingerprint(rows),  # a report refuses answers that are not those counted here
    }


def utility(right: Sequence[bool], tuned: Sequence[bool], kind: str, seed: int) -> dict[str, Any]:
    """The fields of a row's utility, and its tests against the tuned model on the same questions.

    Args:
        right: Which questions the row answers rightly.
        tuned: Which the tuned model does.
        kind: The set of questions and how they are scored.
        seed: Of the bootstrap.
    """
    every = [str(number) for number in range(len(right))]
    return {
        "utility": sum(right) / len(right),
        "utility_ci95": list(wilson(sum(right), len(right))),
        "utility_kind": kind,
        "utility_change_ci95": list(paired_bootstrap(right, tuned, every, seed)),
        "utility_mcnemar_p": mcnemar(right, tuned),
    }


def leaks(leaking: Sequence[Sequence[bool]], clusters: Sequence[str], seed: int) -> dict[str, Any]:
    """leak@k for k from 1 to the number of draws, 16 at most, each with its 95 % interval.

    Args:
        leaking: Whether each answer leaks, `[samples][draws]`.
        clusters: The dialog of each sample.
        seed: Of the bootstrap.
    """
    draws = len(leaking[0])
    reach = range(1, min(draws, _MOST) + 1)
    chances = [[leak_at(k, draws, sum(row)) for k in reach] for row in leaking]
    means = [sum(column) / len(leaking) for column in zip(*chances, strict=True)]
    intervals = bootstrap_shares(chances, clusters, seed)
    return {"leak_at": {str(k): [mean, *ends] for k, mean, ends in zip(reach, means, intervals, strict=True)}}


def attack(outcome: Outcome, by_label: Mapping[str, Outcome]) -> dict[str, Any]:
    """The fields of the slot attack, on all slots and for each slot type."""
    labels = {
        label: {"found": own.found, "slots": own.slots, "ci95": list(own.interval)} for label, own in by_label.items()
    }
    return {"attack": outcome.rate, "attack_ci95": list(outcome.interval), "attack_labels": labels}
