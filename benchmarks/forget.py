"""Erasure requests one after the other, on a model that knows people by heart.

Takes a run of benchmarks/narrow.py. Its tuned model gets an adapter that does nothing yet, and one person after the
other asks to be forgotten. Each request's certificate says what came out before and after, and whether the model still
answers. In the end everybody is asked about again, and so are others who asked for nothing: what the model says of them
should be what it said before.

    python benchmarks/narrow.py --until anchors
    python benchmarks/forget.py
"""

import argparse
import csv
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from _result import leave, needs, options_of
from rich.console import Console

from nescio.audit.ask import Asker
from nescio.audit.attacks.as_in_dialog import PLAIN
from nescio.audit.base import Setting
from nescio.audit.people import Fact, read_people
from nescio.audit.plan import plan
from nescio.audit.run import audit
from nescio.audit.victim import open_local
from nescio.cli.quiet import quiet_libraries
from nescio.core.files import atomic_write, read_jsonl, read_object, write_text
from nescio.core.models import load_model, load_tokenizer
from nescio.evaluation.setups import Setup
from nescio.pipeline.context import Context
from nescio.pipeline.forget import Erasure
from nescio.pipeline.forget_answers import facts_about
from nescio.pipeline.progress import Terminal
from nescio.pipeline.recipe import recipe_of
from nescio.pipeline.run import Run
from nescio.training.trainer import with_lora

ATTACKS = ("as_in_dialog", "prefix", "paraphrase", "asked_for", "inverse", "completion")
COLUMNS = {"PHONE": "phone number", "EMAIL": "e-mail address", "ADDRESS": "address", "BIRTH": "date of birth"}
OTHERS = 12  # people who ask for nothing
KEPT = ("anchors.jsonl", "anchors.safetensors", "recipe.yaml", "switch.key", "manifest.json")


def prepare(run: Path, out: Path) -> None:
    """Copy what a request needs of a run, with an adapter that does nothing."""
    with atomic_write(out) as beside:
        beside.mkdir()
        for name in KEPT:
            shutil.copy(run / name, beside / name)
        for name in ("data", "tuned", "samples"):
            shutil.copytree(run / name, beside / name)
        adapted = with_lora(load_model(str(beside / "tuned")).model, recipe_of(run).train.lora.settings)
        adapted.peft_config["default"].base_model_name_or_path = str(out / "tuned")
        adapted.save_pretrained(beside / "adapter")
        write_text(beside / "adapter/log.jsonl", "")


def write_people(dialogs: Path, folder: Path, count: int) -> list[Path]:
    """Write a list for each of the first people with two facts in the training dialogs."""
    people: dict[str, dict[str, str]] = {}
    for _, row in read_jsonl(dialogs):
        (_, name), (slot, value) = row["pii"].items()
        people.setdefault(name, {})[COLUMNS[slot.partition("-")[0]]] = value
    both = [(name, facts) for name, facts in people.items() if len(facts) == 2]
    paths = [folder / f"{number}.csv" for number in range(1, min(count, len(both)) + 1)]
    folder.mkdir(parents=True, exist_ok=True)
    for path, (name, facts) in zip(paths, both, strict=False):
        with path.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([["name", *facts], [name, *facts.values()]])
    return paths


def row_of(certificate: dict[str, Any], seconds: float) -> dict[str, Any]:
    """What a certificate says, in a line."""
    before, after = certificate["before"], certificate["after"]
    (first, now), tests = certificate["usefulness"], {test["test"]: test["state"] for test in certificate["tests"]}
    earlier = after.get("earlier") or {"found": 0, "facts": 0}
    plain = [next(row for row in each["own"]["attacks"] if row["name"] == PLAIN) for each in (before, after)]
    return {
        "request": certificate["number"], "facts": after["own"]["facts"], "before": before["own"]["found"],
        "after": after["own"]["found"], "guessed": after["own"]["guessed"], "earlier": earlier["found"],
        "earlier facts": earlier["facts"],
        "others, before": before["others"]["found"], "others": after["others"]["found"],
        "others' facts": after["others"]["facts"],
        "another, asked plainly, before": plain[0].get("another"), "another, asked plainly": plain[1].get("another"),
        "words": now["words"], "words first": first["words"],
        "everyday": now["everyday"], "everyday first": first["everyday"], "everyday KL": now["everyday_kl"],
        "steps": certificate["training"]["steps"], "rounds": certificate["training"]["rounds"],
        "seconds": round(seconds), "tests": tests,
    }  # fmt: skip


def in_the_end(
    context: Context, people: Sequence[Sequence[Fact]], attacks: Sequence[str], adapter: Path, work: Path
) -> dict[str, int]:
    """What comes out of people with an adapter, under any of the attacks."""
    victim = open_local(Setup(adapter.name, adapter.name, context.start, adapter=str(adapter)))
    with victim.engine:
        planned = plan(people, attacks, sum(map(len, people)), Setting(tokenizer=load_tokenizer(context.start)))
        asker = Asker(victim, work / "answers.jsonl", None, lambda done, total, word: None)
        result = audit(planned.of_real_people(), asker, context.detector, lambda row: None, may_be_silent=True)
    return {key: result["all"][key] for key in ("facts", "found", "partial", "people", "people_found")}


def main() -> None:
    """Send the requests, and ask about everybody in the end."""
    parser = options_of(__doc__, "forget", "two people")
    parser.add_argument("--run", type=Path, default=Path("runs/narrow"), help="a run of benchmarks/narrow.py")
    parser.add_argument("--people", type=int, default=10, help="how many requests")
    options: argparse.Namespace = parser.parse_args()
    needs(parser, options, "anchors.jsonl")
    quiet_libraries()
    run: Path = options.run
    out = run.with_name(f"{run.name}-forget{'-quick' if options.quick else ''}")
    if not out.exists():
        prepare(run, out)
    count = 2 if options.quick else options.people
    lists = write_people(out / "data/train.jsonl", out.with_name(f"{out.name}-people"), count + OTHERS)
    lists, others = lists[:count], lists[count:]
    recipe, reporter = recipe_of(out), Terminal(Console(width=110))
    rows = []
    for number, path in enumerate(lists, start=1):
        erasure = Erasure(people=path, key=out / "forget.key", attacks=ATTACKS)
        folder = Run(recipe, out, reporter).forget(erasure)
        seconds = read_object(out / "manifest.json", "run again")["stages"][f"forget-{number}"]["seconds"]
        rows.append(row_of(read_object(folder / "certificate.json", "run again"), seconds))
        print(json.dumps(rows[-1]))
    context = Context(recipe, out, print)
    ends = {
        f"{who}, {when}": in_the_end(
            context, facts_about(context, [own for path in asked for own in read_people(path)]), attacks, out / adapter,
            out.with_name(f"{out.name}-end"),
        )
        for who, asked, attacks in (("theirs", lists, ATTACKS), ("others'", others, ATTACKS[:1]))
        for when, adapter in (("first", "forgotten/first"), ("last", "adapter"))
    }  # fmt: skip
    print(json.dumps(ends))
    ratios = {
        f"{who} facts that come out, after the last request / before the first": ends[f"{who}, last"]["found"]
        / max(ends[f"{who}, first"]["found"], 1)
        for who in ("theirs", "others'")
    }
    leave(options, ("torch", "transformers", "peft"), [*rows, ends], ratios)


if __name__ == "__main__":
    main()
