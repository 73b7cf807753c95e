"""Presidio: spaCy's entities, and recognisers of e-mail addresses, cards and more."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from nescio.core.errors import NescioError
from nescio.core.extras import require
from nescio.pii.base import IGNORED_LABELS, Span, find_in_pieces, merge
from nescio.pii.registry import DETECTORS
from nescio.pii.spacy_detector import BATCH, installed

_LANGUAGE = "en"
_AS_IN_SPACY = {"DATE_TIME": "DATE"}  # what Presidio calls a label that spaCy, and so the list of ignored ones, has


@DETECTORS.register("presidio")
class PresidioDetector:
    """Everything Presidio recognises but the ignored labels; spans that overlap become one.

    Args:
        model: An installed spaCy pipeline or a folder; Presidio's own choice is `en_core_web_lg`.
        ignore: Labels that do not count.
        recognizers: YAML file with more recognisers, in Presidio's form.

    Raises:
        NescioError: Presidio or the pipeline is not installed, or the YAML file is wrong.
    """

    def __init__(self, model: str, ignore: Sequence[str] = IGNORED_LABELS, recognizers: Path | None = None) -> None:
        self.name = f"presidio:{model}"
        self._batches = _engine(installed(model, self.name), recognizers)
        self._ignore = frozenset(ignore)

    def find(self, texts: Sequence[str]) -> list[list[Span]]:
        """Return the spans of each text, in order of their start."""
        return find_in_pieces(texts, self._found)

    def _found(self, texts: list[str]) -> Iterator[list[Span]]:
        analyzed = self._batches.analyze_iterator(texts, _LANGUAGE, batch_size=BATCH)
        for text, results in zip(texts, analyzed, strict=True):
            surest_first = sorted(results, key=lambda result: -result.score)
            yield merge(
                (
                    Span(result.start, result.end, result.entity_type, text[result.start : result.end])
                    for result in surest_first
                    if not {result.entity_type, _AS_IN_SPACY.get(result.entity_type)} & self._ignore
                ),
                text,
            )


def _engine(package: str, recognizers: Path | None) -> Any:
    analyzer = require("presidio_analyzer", "presidio", "detector presidio")
    nlp_engine = require("presidio_analyzer.nlp_engine", "presidio", "detector presidio")
    tldextract = require("tldextract", "presidio", "detector presidio")
    # Its check of e-mail addresses would fetch a list of domains; a detector makes no requests.
    tldextract.extract = tldextract.TLDExtract(suffix_list_urls=(), cache_dir=None)
    nlp = nlp_engine.SpacyNlpEngine(models=[{"lang_code": _LANGUAGE, "model_name": package}])
    nlp.load()
    registry = analyzer.RecognizerRegistry()
    registry.load_predefined_recognizers(languages=[_LANGUAGE], nlp_engine=nlp)
    if recognizers is not None:
        _add(registry, recognizers)
    engine = analyzer.AnalyzerEngine(registry=registry, nlp_engine=nlp, supported_languages=[_LANGUAGE])
    return analyzer.BatchAnalyzerEngine(engine)


def _add(registry: Any, path: Path) -> None:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise NescioError(f"{path}: cannot be read as YAML; correct what detector.recognizers names") from error
    rows = content.get("recognizers") if isinstance(content, dict) else None
    if not isinstance(rows, list) or not rows:
        raise NescioError(f"{path}: recognizers: missing or empty; give a list in Presidio's form")
    for number, row in enumerate(rows):
        try:
            registry.add_pattern_recognizer_from_dict(row)
        except (TypeError, ValueError, KeyError, AttributeError) as error:
            said = str(error).splitlines()[0]
            raise NescioError(f"{path}: recognizers[{number}]: {said}; give it in Presidio's form") from error
