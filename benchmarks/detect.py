"""Finding personal data: texts a second of our detectors, of one text after the other, and of Presidio's analyzer.

The author's way is spaCy's pipeline called with one text after the other; Presidio's is one call of its analyzer a
text. All look at the same answers, and the spans that each finds are told; the best of the repetitions counts.

    python benchmarks/detect.py
"""

import time
from collections.abc import Callable, Iterator
from typing import Any

import spacy
from _result import leave, options_of
from presidio_analyzer import AnalyzerEngine
from presidio_analyzer.nlp_engine import SpacyNlpEngine

from nescio.data.synthetic import generate
from nescio.pii.base import IGNORED_LABELS
from nescio.pii.registry import load_detector
from nescio.pii.spacy_detector import installed

MODEL = "en_core_web_sm"
Row = dict[str, Any]


def answers(count: int) -> list[str]:
    """Assistant turns of made-up dialogs."""
    rows = generate(count, seed=0)
    return [m["content"] for row in rows for m in row["messages"] if m["role"] == "assistant"][:count]


def best(run: Callable[[], int], texts: int, times: int) -> tuple[float, int]:
    """Texts a second of the fastest of some runs, and what it found."""
    rates = []
    for _ in range(times):
        start = time.perf_counter()
        found = run()
        rates.append(texts / (time.perf_counter() - start))
    return max(rates), found


def contenders(package: str, texts: list[str]) -> Iterator[tuple[str, Callable[[], int]]]:
    """Names, and what each does with all texts; it returns how many spans it finds."""
    nlp = spacy.load(package)
    yield (
        "author's way (spaCy, one text at a time)",
        lambda: sum(entity.label_ not in IGNORED_LABELS for text in texts for entity in nlp(text).ents),
    )
    ours = load_detector(f"spacy:{MODEL}")
    yield "nescio spacy", lambda: sum(map(len, ours.find(texts)))
    both = load_detector(f"presidio:{MODEL}")  # before Presidio's own: keeps its recognisers from asking the network
    engine = SpacyNlpEngine(models=[{"lang_code": "en", "model_name": package}])
    engine.load()
    analyzer = AnalyzerEngine(nlp_engine=engine, supported_languages=["en"])
    yield "Presidio's AnalyzerEngine, one text at a time", lambda: sum(len(analyzer.analyze(t, "en")) for t in texts)
    yield "nescio presidio", lambda: sum(map(len, both.find(texts)))


def main() -> None:
    parser = options_of(__doc__, "detect", "few texts")
    parser.add_argument("--texts", type=int, help="how many; 2,000, or 100 with --quick")
    parser.add_argument("--repeat", type=int, default=3, help="runs of each contender, of which the best counts")
    options = parser.parse_args()
    texts = answers(options.texts or (100 if options.quick else 2000))
    rows: list[Row] = []
    for name, run in contenders(installed(MODEL, MODEL), texts):
        rate, spans = best(run, len(texts), options.repeat)
        rows.append({"contender": name, "texts_per_second": round(rate, 1), "spans": spans})
        print(f"{name:<46}{rate:>9.1f} texts/s{spans:>8} spans", flush=True)
    author, ours, presidio, batched = (row["texts_per_second"] for row in rows)
    ratios = {
        "spacy_over_authors_way": ours / author,
        "spacy_over_presidio_one_by_one": ours / presidio,
        "presidio_over_presidio_one_by_one": batched / presidio,
    }
    ratios = {name: round(value, 2) for name, value in ratios.items()}
    leave(options, ("spacy", "presidio_analyzer"), rows, ratios, texts=len(texts))


if __name__ == "__main__":
    main()
