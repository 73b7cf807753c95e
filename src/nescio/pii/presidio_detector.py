"""Presidio: recognisers of e-mail addresses, cards, identity numbers and more, by pattern, checksum and context."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from nescio.core.errors import NescioError, first_line
from nescio.core.extras import require
from nescio.core.yaml_config import yaml_value
from nescio.pii.base import IGNORED_LABELS, Span, find_in_pieces, merge
from nescio.pii.registry import DETECTORS
from nescio.pii.spacy_detector import BATCH, open_pipeline
from nescio.pii.thresholds import Thresholds

_AS_IN_SPACY = {"DATE_TIME": "DATE"}  # what Presidio calls a label that spaCy, and so the list of ignored ones, has
_WORDS = "nescio_words"


@DETECTORS.register("presidio")
class PresidioDetector:
    """Everything Presidio recognises but the ignored labels; spans that overlap become one.

    Args:
        model: An installed spaCy pipeline or a folder, whose entities are found as well; empty: recognisers alone.
        ignore: Labels that do not count.
        thresholds: Least score by type of the taxonomy, from 0 to 1; `default` is that of the others.
        languages: Whose recognisers are asked. The entities are found in the pipeline's own language only.
        recognizers: YAML file with more recognisers, in Presidio's form.

    Raises:
        NescioError: Presidio or the pipeline is not installed, a threshold or a language is wrong, or the YAML file is.
    """

    def __init__(
        self,
        model: str = "",
        ignore: Sequence[str] = IGNORED_LABELS,
        thresholds: Mapping[str, float] | None = None,
        languages: Sequence[str] = ("en",),
        recognizers: Path | str | None = None,
    ) -> None:
        self.name = f"presidio:{model}" if model else "presidio"
        self._thresholds = Thresholds(thresholds, f"detector {self.name}")
        self._languages = _checked_languages(languages, self.name)
        self._batches = _engine(model, self.name, self._languages, Path(recognizers) if recognizers else None)
        pipelines = self._batches.analyzer_engine.nlp_engine.nlp
        self.reads = tuple(language for language, pipeline in pipelines.items() if "ner" in pipeline.pipe_names)
        self._ignore = frozenset(ignore)

    def find(self, texts: Sequence[str]) -> list[list[Span]]:
        """Return the spans of each text, in order of their start."""
        return find_in_pieces(texts, self._found)

    def _found(self, texts: list[str]) -> Iterator[list[Span]]:
        least = self._thresholds.least
        analyzed = [
            self._batches.analyze_iterator(texts, language, batch_size=BATCH, score_threshold=least)
            for language in self._languages
        ]
        for text, *of_languages in zip(texts, *analyzed, strict=True):
            results = [result for of_language in of_languages for result in of_language]
            spans = [
                (Span(result.start, result.end, result.entity_type, text[result.start : result.end]), result.score)
                for result in sorted(results, key=lambda result: -result.score)
                if not {result.entity_type, _AS_IN_SPACY.get(result.entity_type)} & self._ignore
            ]
            yield merge((span for span, score in spans if self._thresholds.passes(span.type, score)), text)


def _checked_languages(languages: Sequence[str], detector: str) -> list[str]:
    spacy = require("spacy", "presidio", f"detector {detector}")
    if isinstance(languages, str) or not languages:
        raise NescioError(f"detector {detector}: languages: {languages!r} is not a list; write it as [en, de]")
    for language in languages:
        try:
            spacy.util.get_lang_class(language)
        except (ImportError, TypeError) as error:
            raise NescioError(
                f"detector {detector}: languages: {language!r} is none that spaCy knows; give codes such as en and de"
            ) from error
    return list(dict.fromkeys(languages))


def _engine(model: str, detector: str, languages: Sequence[str], recognizers: Path | None) -> Any:
    analyzer = require("presidio_analyzer", "presidio", f"detector {detector}")
    nlp_engine = require("presidio_analyzer.nlp_engine", "presidio", f"detector {detector}")
    tldextract = require("tldextract", "presidio", f"detector {detector}")
    # Its check of e-mail addresses would fetch a list of domains; a detector makes no requests.
    tldextract.extract = tldextract.TLDExtract(suffix_list_urls=(), cache_dir=None)
    logging.getLogger("presidio-analyzer").setLevel(logging.ERROR)  # it warns of each recogniser of other languages
    # 1) Pipelines: the model's for its own language, words alone for the others.
    pipelines = _pipelines(model, detector, languages)
    nlp = nlp_engine.SpacyNlpEngine(models=[{"lang_code": language, "model_name": ""} for language in languages])
    nlp.nlp = pipelines
    # 2) Recognisers.
    registry = analyzer.RecognizerRegistry(supported_languages=list(languages))
    registry.load_predefined_recognizers(languages=list(languages), nlp_engine=nlp)
    if recognizers is not None:
        _add(registry, recognizers)
    engine = analyzer.AnalyzerEngine(registry=registry, nlp_engine=nlp, supported_languages=list(languages))
    return analyzer.BatchAnalyzerEngine(engine)


def _pipelines(model: str, detector: str, languages: Sequence[str]) -> dict[str, Any]:
    spacy = require("spacy", "presidio", f"detector {detector}")
    if not spacy.Language.has_factory(_WORDS):
        spacy.Language.component(_WORDS, func=_words_as_lemmas)
    pipelines = {}
    for language in languages:
        try:
            pipelines[language] = spacy.blank(language)
        except ImportError as error:
            raise NescioError(
                f"detector {detector}: languages: {language!r}: {first_line(error)}; install that, or leave it out"
            ) from error
    if model:
        own = open_pipeline(model, detector)
        if own.lang not in pipelines:
            raise NescioError(
                f"detector {detector}: the pipeline reads {own.lang!r}, which languages lacks; add it, or leave it out"
            )
        pipelines[own.lang] = own
    for pipeline in pipelines.values():
        pipeline.add_pipe(_WORDS)
    return pipelines


def _words_as_lemmas(doc: Any) -> Any:
    """Give each token its word as its lemma: context words are looked for in those, as parts of words."""
    for token in doc:
        token.lemma_ = token.lower_
    return doc


def _add(registry: Any, path: Path) -> None:
    try:
        content = yaml_value(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise NescioError(f"{path}: cannot be read as YAML; correct what detector.recognizers names") from error
    rows = content.get("recognizers") if isinstance(content, dict) else None
    if not isinstance(rows, list) or not rows:
        raise NescioError(f"{path}: recognizers: missing or empty; give a list in Presidio's form")
    for number, row in enumerate(rows):
        try:
            registry.add_pattern_recognizer_from_dict(row)
        except (TypeError, ValueError, KeyError, AttributeError) as error:
            raise NescioError(
                f"{path}: recognizers[{number}]: {first_line(error)}; give it in Presidio's form"
            ) from error
