"""Finding personal data: how much each detector sees, how right it is, and how long it takes.

Recall and precision by type, as `nescio detect check` counts them, on sentences filled with Faker's values of eight
locales (detect_templates.txt), beside texts that hold no personal data but look like it; on more of them that the rules
had not seen (detect_held_out.txt); and on the recorded slots of made-up dialogs. Time is that of the process on one
core, so that other work on the machine does not count.

    python benchmarks/detect.py
"""

import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import spacy
from _detect_texts import dialogs, filled
from _result import leave, options_of
from presidio_analyzer import AnalyzerEngine
from presidio_analyzer.nlp_engine import SpacyNlpEngine

from nescio.core.files import write_text
from nescio.pii.base import Detector
from nescio.pii.check import Check, check
from nescio.pii.labelled import Labelled
from nescio.pii.registry import load_detector
from nescio.pii.spacy_detector import installed

MODEL = "en_core_web_sm"
DETECTORS = {
    "paper, small": f"spacy:{MODEL}",
    "presidio": "presidio",
    "rampart": "rampart",
    "regex": "regex",
    "default": "default",
}
DEFAULT = "default"
Row = dict[str, Any]


def seconds(run: Callable[[], object], times: int) -> float:
    """Processor time of the fastest of some runs."""
    taken = []
    for _ in range(times):
        start = time.process_time()
        run()
        taken.append(time.process_time() - start)
    return min(taken)


def speed(detector: Detector, texts: Sequence[str], times: int) -> tuple[float, float]:
    """Milliseconds a text, batched and one text at a time."""
    together = seconds(lambda: detector.find(texts), times)
    alone = seconds(lambda: [detector.find([text]) for text in texts], times)
    return 1000 * together / len(texts), 1000 * alone / len(texts)


def outside(texts: Sequence[str], times: int) -> dict[str, float]:
    """Milliseconds a text of what users would write without nescio: one call a text of spaCy, and of Presidio."""
    package = installed(MODEL, MODEL)
    nlp = spacy.load(package)
    load_detector(f"presidio:{MODEL}")  # keeps Presidio's recognisers from asking the network
    engine = SpacyNlpEngine(models=[{"lang_code": "en", "model_name": package}])
    engine.load()
    analyzer = AnalyzerEngine(nlp_engine=engine, supported_languages=["en"])
    ways = {
        "author's way (spaCy, one text at a time)": lambda: [nlp(text) for text in texts],
        "Presidio's AnalyzerEngine, one text at a time": lambda: [analyzer.analyze(text, "en") for text in texts],
    }
    return {name: 1000 * seconds(way, times) / len(texts) for name, way in ways.items()}


def table(checks: dict[str, Check]) -> str:
    """Recall by a piece's own type and, behind the bar, precision by the type that the detector gave, in percent."""
    rows = {name: done.as_row() for name, done in checks.items()}
    types = sorted({kind for row in rows.values() for kind in row["types"]})
    lines = [f"{'recall | precision, %':<22}" + "".join(f"{name:>20}" for name in rows)]
    for kind in [*types, "all"]:
        cells = [row["all"] if kind == "all" else row["types"].get(kind, {}) for row in rows.values()]
        shares = [[cell.get(key) for key in ("recall", "precision")] for cell in cells]
        words = [" | ".join("  –" if share is None else f"{100 * share:3.0f}" for share in pair) for pair in shares]
        pieces = max(cell.get("pieces", 0) for cell in cells)
        lines.append(f"{kind:<14}{pieces:>6}  " + "".join(f"{word:>20}" for word in words))
    return "\n".join(lines)


def brief(tally: Row) -> Row:
    """Counts, recall and precision with their intervals, to three digits."""
    kept = ("pieces", "found", "recall", "recall_ci95", "precision", "precision_ci95")
    return {key: json.loads(json.dumps(tally[key]), parse_float=lambda text: round(float(text), 3)) for key in kept}


def examples(done: Check, path: Path) -> None:
    """Write what was missed and what was a false alarm, by type, to read."""
    lines = [f"{done.detector}: {done.texts} texts"]
    for title, found in (("missed", done.missed), ("false alarm", done.false_alarms)):
        lines += sorted(f"{title}\t{one.type}\t{one.place}\t{one.context}" for one in found)
    write_text(path, "\n".join(lines) + "\n")


def main() -> None:
    parser = options_of(__doc__, "detect", "each sentence once, 20 dialogs")
    parser.add_argument("--repeat", type=int, default=3, help="runs that are timed, of which the fastest counts")
    parser.add_argument("--examples", type=Path, help="file for the default's misses and false alarms, to read")
    options = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-1:])
    texts: dict[str, list[Labelled]] = {
        "sentences": filled("detect_templates.txt", 0, every_locale=not options.quick),
        "held-out sentences": filled("detect_held_out.txt", 0, every_locale=not options.quick),
        "dialogs": list(dialogs(20 if options.quick else 100)),
    }
    timed = [one.text for one in texts["sentences"]][:: 4 if options.quick else 8]
    detectors = {name: load_detector(spec) for name, spec in DETECTORS.items()}
    rows: list[Row] = []
    for kind, labelled in texts.items():
        checks = {name: check(labelled, detector) for name, detector in detectors.items()}
        print(f"\n{kind}: {len(labelled)} texts\n{table(checks)}", flush=True)
        for name, done in checks.items():
            row = done.as_row()
            shares = {"all": brief(row["all"]), "types": {kind: brief(own) for kind, own in row["types"].items()}}
            rows.append({"texts_of": kind, "contender": name, "detector": row["detector"], **shares})
        if options.examples:
            examples(checks[DEFAULT], options.examples.with_stem(f"{options.examples.stem}-{kind.replace(' ', '-')}"))
    print(f"\nms a text on one core ({len(timed)} sentences): batched, one at a time", flush=True)
    times = {name: speed(detector, timed, options.repeat) for name, detector in detectors.items()}
    for name, (together, alone) in times.items():
        print(f"{name:<46}{together:>9.2f}{alone:>9.2f}", flush=True)
        rows.append({"contender": name, "ms_per_text": round(together, 3), "ms_one_at_a_time": round(alone, 3)})
    for name, alone in outside(timed, options.repeat).items():
        print(f"{name:<46}{'':>9}{alone:>9.2f}", flush=True)
        rows.append({"contender": name, "ms_one_at_a_time": round(alone, 3)})
    ratios = {
        f"{name}_batched_over_one_at_a_time": round(alone / together, 2) for name, (together, alone) in times.items()
    }
    sizes = {"texts": {kind: len(labelled) for kind, labelled in texts.items()}, "timed": len(timed)}
    leave(options, ("spacy", "presidio_analyzer", "onnxruntime", "faker"), rows, ratios, **sizes)


if __name__ == "__main__":
    if os.environ.get("PYTHONHASHSEED") != "0":  # Faker draws some towns and numbers from sets: others in each process
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | {"PYTHONHASHSEED": "0"})
    main()
