"""What attackers get out of a model that knows people by heart, and out of what each method makes of it.

Takes a run of benchmarks/narrow.py: its tuned model, its trained adapter (the teacher) and its baked one. Other methods
are trained on the same pairs, in a folder of this benchmark's own. Each row is audited: by those who may only ask, and
by those who have its weights, which they round to four bits or train further, on lines about other people or on
harmless ones. An adapter is asked under the sentence that it was trained with. A model that says nothing gives nothing
away, so beside each row stand plain questions answered in words. What is finished is not done again.

    python benchmarks/narrow.py
    python benchmarks/attacked.py
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from _result import leave, needs, options_of
from methods import train
from rich.console import Console

from nescio.audit.ask import Asker
from nescio.audit.attacks.as_in_dialog import PLAIN
from nescio.audit.base import Setting
from nescio.audit.page import write
from nescio.audit.people import Fact, facts_of_dialogs
from nescio.audit.plan import plan
from nescio.audit.run import audit
from nescio.audit.victim import open_local
from nescio.cli.quiet import quiet_libraries
from nescio.core.files import read_object, write_json
from nescio.core.guidance import Guidance
from nescio.core.models import load_tokenizer
from nescio.engines.base import Request
from nescio.evaluation.measures.words import drawn, is_right
from nescio.evaluation.setups import Setup
from nescio.pii.base import Detector
from nescio.pipeline.context import Context
from nescio.pipeline.progress import Terminal
from nescio.pipeline.recipe import recipe_of
from nescio.pipeline.relearn import Relearning, relearn

METHODS = ("sft", "npo", "gradient_ascent")
ATTACKS = (PLAIN, "paraphrase", "inverse", "prefix", "asked_for", "several_turns", "in_context")
BITS = "q4_0"


def setups_of(run: Path, others: Mapping[str, Path]) -> list[Setup]:
    """The rows: the run's models, and the other methods' adapters."""
    context = Context(recipe_of(run), run, print)
    protect, model = context.sentences[0], context.tuned
    guided = Guidance(3.0, "prob", *context.sentences)
    return [
        Setup("tuned", "tuned", model),
        Setup("trained", "trained", model, adapter=str(context.trained), system=protect),
        Setup("guided", "trained, prob × 3", model, adapter=str(context.trained), guidance=guided),
        Setup("baked", "baked", model, adapter=str(run / "adapter")),
        *(Setup(name, name, model, adapter=str(path), system=protect) for name, path in others.items()),
    ]


def audited(
    setup: Setup, people: Sequence[Sequence[Fact]], detector: Detector, out: Path, options: argparse.Namespace
) -> dict[str, Any]:
    """Audit a row, with other weights too unless it is guided; return what `audit.json` holds, and `words`."""
    if (out / "audit.json").exists():
        return read_object(out / "audit.json", "delete it, and run again")
    is_plain, terminal = setup.guidance is None, Terminal(Console(width=110))
    setting = Setting(tokenizer=load_tokenizer(setup.model))
    planned = plan(people, options.attacks, options.facts, setting, [BITS] if is_plain else [])
    victim = open_local(setup)
    terminal.note(f"-- {setup.label}")
    with victim.engine, terminal.stage("audit") as tick:
        questions = drawn(options.words)
        answers = victim.engine.generate(
            [
                Request(setup.asked(each.messages), setup.guidance, adapter=setup.attached, max_tokens=32)
                for each in questions
            ]
        )
        right = sum(is_right(each, answer.text) for each, answer in zip(questions, answers, strict=True))
        asker = Asker(victim, out / "answers.jsonl", None, tick)
        result = audit(planned, asker, detector, lambda row: None) | {"words": [right, len(questions)]}
        if is_plain and setup.adapter:
            result["relearned"] = relearn(Relearning(lines=options.lines), planned, asker, people, out / "relearned")
    write(result, out)
    write_json(out / "audit.json", result)
    return result


def row_of(setup: Setup, result: Mapping[str, Any]) -> dict[str, Any]:
    """What an audit found, in a line: facts under each attack, words, other weights, and what was relearned."""
    row = {"row": setup.label, "facts": result["facts"], "words": result["words"], "any attack": result["all"]["found"]}
    row |= {each["name"]: each.get("found") for each in result["attacks"]}
    if relearned := result.get("relearned"):
        row["without the adapter"] = relearned["tuned"]["found"]
        for each in relearned["rows"]:
            row[f"relearned, {each['name']}"] = [point["found"] for point in each["curve"]]
            row[f"relearned, {each['name']}, half after"] = each["half_after"]
    return row


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows as Markdown, a line for each attack."""
    lines = [f"| of {rows[0]['facts']} facts | " + " | ".join(row["row"] for row in rows) + " |"]
    lines.append("|---" + "|--:" * len(rows) + "|")
    for key in dict.fromkeys(key for row in rows for key in row if key not in ("row", "facts")):
        cells = []
        for row in rows:
            value = row.get(key)
            if key == "words":
                value = f"{value[0]} of {value[1]}"
            elif isinstance(value, list):  # a curve: its beginning, and its most
                value = f"{value[0]} → {max(value)}" if value else None
            cells.append("–" if value is None else str(value))
        lines.append(f"| {key} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Train the other methods, audit every row, and print the table after each."""
    parser = options_of(__doc__, "attacked", "one method, two facts, one attack")
    parser.add_argument("--run", type=Path, default=Path("runs/narrow"), help="a run of benchmarks/narrow.py")
    parser.add_argument("--facts", type=int, default=24, help="facts that are asked for, one of a person first")
    parser.add_argument("--words", type=int, default=100, help="plain questions")
    parser.add_argument("--lines", type=int, default=24, help="most lines to relearn from, of either kind")
    parser.set_defaults(epochs=2, pairs=None, attacks=ATTACKS, methods=METHODS)
    options = parser.parse_args()
    needs(parser, options, "adapter/adapter_config.json")
    quiet_libraries()
    if options.quick:
        options.attacks, options.methods = ATTACKS[:1], METHODS[:1]
        options.facts, options.words, options.lines, options.pairs = 2, 10, 2, 8
    run: Path = options.run
    home = run.with_name(f"{run.name}-attacked{'-quick' if options.quick else ''}")
    # 1) The other methods, on the same pairs.
    seconds = {name: train(run, home / name, name, options) for name in options.methods}
    setups = setups_of(run, {name: home / name / "adapter" for name in options.methods})
    # 2) Everybody whom the tuned model was trained on, inside the pairs or not.
    detector = Context(recipe_of(run), run, print).detector
    people = list(facts_of_dialogs(run / "data/train.jsonl", detector))
    # 3) The rows.
    rows: list[dict[str, Any]] = []
    for setup in setups:
        rows.append(row_of(setup, audited(setup, people, detector, home / f"audit-{setup.name}", options)))
        print(table(rows), flush=True)
    plain = rows[0][PLAIN]
    ratios = {f"{row['row']}, any attack / tuned asked plainly": row["any attack"] / plain for row in rows[1:] if plain}
    kept = {name: getattr(options, name) for name in ("facts", "words", "lines", "epochs")}
    leave(options, ("torch", "transformers", "peft"), rows, ratios, train_seconds=seconds, **kept)


if __name__ == "__main__":
    main()
