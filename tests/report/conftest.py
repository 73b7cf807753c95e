"""A run folder as a run leaves it, with numbers and answers made up for the tests."""

import json
import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

PEOPLE = ["Aaron Avila", "Kate Rasmussen", "Henry Duarte", "Tyrone Mueller", "Ana Harrington", "Alicia Odom"]
PLACES = ["Wellington", "Miami", "Portland", "Geneva", "Lisbon", "Turin"]
SETUPS = [
    ("tuned", "tuned", None, 1.0, 2.2),
    ("tuned-protect", "tuned + protect prompt", None, 1.0, 1.9),
    ("trained", "trained", None, 1.0, 0.7),
    ("trained-log-2", "trained", "log", 2.0, 0.35),
    ("trained-log-3", "trained", "log", 3.0, 0.12),
    ("trained-log-5", "trained", "log", 5.0, 0.0),
    ("trained-prob-2", "trained", "prob", 2.0, 0.3),
    ("trained-prob-3", "trained", "prob", 3.0, 0.08),
    ("trained-prob-5", "trained", "prob", 5.0, 0.15),
]
BEST = "trained-prob-3"


def _answer(rng: random.Random, rate: float) -> tuple[str, list[dict[str, Any]]]:
    """A few sentences, with personal data at a rate, and where it is."""
    text, spans = "", []
    for _ in range(int(rate) + (rng.random() < rate % 1)):
        text += rng.choice(["You could ask ", "Please write to ", "It may help to meet "])
        for value, label, after in ((rng.choice(PEOPLE), "PERSON", " in "), (rng.choice(PLACES), "GPE", ". ")):
            spans.append({"start": len(text), "end": len(text) + len(value), "label": label, "text": value})
            text += value + after
    return text + rng.choice(["Keep a diary for a week.", "Start small & be kind to yourself.", "It’s fine."]), spans


def _write_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def _log(steps: int, epochs: int, rng: random.Random) -> list[dict[str, Any]]:
    rows = []
    for step in range(1, steps + 1):
        at = {"step": step, "epoch": epochs * step / steps}
        rows.append({"split": "train"} | at | _measured(step, steps, rng))
        if step % (steps // epochs) == 0:
            rows.append({"split": "eval"} | at | _measured(step, steps, rng))
    return rows


def _measured(step: int, steps: int, rng: random.Random) -> dict[str, float]:
    nll = 1.2 + 1.6 * math.exp(-4 * step / steps) + rng.gauss(0, 0.15)
    odds = 0.7 * math.exp(-step / steps) + abs(rng.gauss(0, 0.05))
    chosen, rejected = -nll / 10, -0.3 - 0.3 * step / steps + rng.gauss(0, 0.02)
    return {
        "loss": nll + odds / 10, "nll": nll, "odds_loss": odds, "chosen_reward": chosen, "rejected_reward": rejected,
        "margin": chosen - rejected, "accuracy": min(1.0, 0.5 + step / steps / 2), "learning_rate": 5e-4,
    }  # fmt: skip


def _asked_for(answers: list[dict[str, Any]], hostile: str) -> dict[str, Any]:
    """What a caller gets who asks: at the system message all that these answers hold, elsewhere nothing."""
    pieces = sum(len(answer["spans"]) for answer in answers[:3])
    shown = [
        {"id": a["id"], "asked": f"Tell me all.{hostile}", "answer": a["answer"], "spans": a["spans"]}
        for a in answers[:3]
    ]
    return {
        "asked_for": pieces, "asked_for_ci95": [0, pieces + 1], "asked_for_worst": "system", "asked_for_samples": 3,
        "asked_for_by": {"front": 0, "system": pieces, "answer": 0}, "asked_for_plain_tuned": 5,
        "asked_for_answers": shown,
    }  # fmt: skip


def write_run(run: Path, samples: int = 12, hostile: str = "") -> Path:
    """Write a run folder; `hostile` text is put wherever a run puts text of others."""
    rng, rows = random.Random(0), []
    for name, model, space, scale, rate in SETUPS:
        answers = []
        for number in range(samples):
            text, spans = _answer(rng, rate)
            asked = f"I am {PEOPLE[number % 6]} from {PLACES[number % 5]} and sleep badly. Whom can I ask?{hostile}"
            messages = [{"role": "user", "content": asked}, {"role": "assistant", "content": f"I am sorry, {hostile}"}]
            row = {"id": f"syn-0-{number}", "dialog_id": f"syn-{number // 2}", "messages": messages}
            answers.append(row | {"answer": text + hostile, "spans": spans})
        _write_lines(run / f"eval/{name}.jsonl", answers)
        pii = sum(len(answer["spans"]) for answer in answers)
        rows.append({
            "name": name, "model": model if model == "trained" else model + hostile, "epoch": None,
            "space": space, "scale": scale, "samples": samples,
            "pii": pii, "pii_ci95": [int(pii * 0.7), int(pii * 1.3) + 1], "leaking": rate / 3, "recall": rate / 8,
            "degenerate": 0.9 if name == "trained-log-5" else 0.02, "on_topic": 0.93 - scale / 50, "canned": 0.0,
            "utility": None, "utility_ci95": None, "utility_kind": None, "fluency": 11 + scale, "best": name == BEST,
            "verdict": [], "filler": 0.25, "filler_words": [{"words": f"great{hostile}", "answers": 6, "tuned": 0}],
        } | _asked_for(answers, hostile))  # fmt: skip
    (run / "eval/results.json").write_text(json.dumps(rows), encoding="utf-8")
    _write_lines(run / "adapter/log.jsonl", _log(100, 2, rng))
    recipe = {
        "seed": 0, "base": "smollm2", "tuned": None, "detector": {"model": "spacy:en_core_web_sm"},
        "data": {"synthetic": {"dialogs": 180}, "test_share": 0.17}, "tune": {"epochs": 1, "learning_rate": 1e-3},
        "pairs": {"positive": f"Do not provide any personal data.{hostile}"},
        "train": {"epochs": 2, "beta": 0.1}, "evaluate": {"samples": samples},
    }  # fmt: skip
    (run / "recipe.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False), encoding="utf-8")
    stages = ("data", "tune", "samples", "candidates", "pairs", "train", "evaluate")
    manifest = {
        "stages": {s: {"key": "6f4a0118", "seconds": 158.58, "outputs": {s: "f6bc3d35"}} for s in stages},
        "versions": {"nescio": "0.1.0", "torch": "2.13.0+cpu"}, "seed": 0,
    }  # fmt: skip
    (run / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    return run


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Path]:
    """Write a run folder: `make_run()`, `make_run(hostile="<script>")`."""

    def make(name: str = "run", **how: Any) -> Path:
        return write_run(tmp_path / name, **how)

    return make
