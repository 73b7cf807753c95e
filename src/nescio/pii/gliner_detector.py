"""GLiNER: a model that finds whatever it is told the name of; here the types of the taxonomy."""

from collections.abc import Iterator, Mapping, Sequence

from nescio.core.errors import NescioError, first_line
from nescio.core.extras import require
from nescio.pii.base import IGNORED_LABELS, Span, find_in_pieces, merge
from nescio.pii.registry import DETECTORS
from nescio.pii.taxonomy import PiiType
from nescio.pii.thresholds import Thresholds

_BATCH = 16
_LONGEST = 1_000  # characters: GLiNER reads 384 words, and leaves out what follows
_ASKED: dict[str, PiiType] = {
    "person": "person", "organization": "organisation", "location": "place", "address": "address",
    "phone number": "phone", "email address": "email", "website": "url", "ip address": "ip",
    "date of birth": "birth_date", "date": "date", "age": "age", "national identification number": "national_id",
    "passport number": "licence", "driver's license number": "licence", "credit card number": "card",
    "bank account number": "account", "username": "secret", "password": "secret", "medical record number": "medical",
    "amount of money": "money",
}  # fmt: skip


@DETECTORS.register("gliner")
class GlinerDetector:
    """Everything that is of a type of the taxonomy, but for the ignored labels.

    Args:
        model: Folder, or id on the hub, as `urchade/gliner_multi_pii-v1`.
        ignore: Labels that do not count, in capitals with underscores, as `DATE` or `PHONE_NUMBER`.
        thresholds: Least score by type of the taxonomy, from 0 to 1; `default` is that of the others.

    Raises:
        NescioError: GLiNER is not installed, or the model cannot be loaded.
    """

    def __init__(
        self,
        model: str,
        ignore: Sequence[str] = IGNORED_LABELS,
        thresholds: Mapping[str, float] | None = None,
    ) -> None:
        self.name = f"gliner:{model}"
        if not model:
            raise NescioError("detector gliner: names no model; use gliner:MODEL, a folder or an id on the hub")
        gliner = require("gliner", "gliner", f"detector {self.name}")
        try:
            self._model = gliner.GLiNER.from_pretrained(model)
        except Exception as error:  # a hub id that is none, a file that is missing: GLiNER raises many kinds
            raise NescioError(
                f"detector {self.name}: cannot be loaded ({first_line(error)}); "
                "give a folder or a hub id of a GLiNER model"
            ) from error
        self._thresholds = Thresholds(thresholds, f"detector {self.name}")
        self._asked = [asked for asked in _ASKED if _label(asked) not in ignore]

    def find(self, texts: Sequence[str]) -> list[list[Span]]:
        """Return the spans of each text, in order of their start."""
        return find_in_pieces(texts, self._found, _LONGEST)

    def _found(self, texts: list[str]) -> Iterator[list[Span]]:
        for start in range(0, len(texts), _BATCH):
            some = texts[start : start + _BATCH]
            found = self._model.batch_predict_entities(some, self._asked, threshold=self._thresholds.least)
            for text, entities in zip(some, found, strict=True):
                spans = (
                    Span(one["start"], one["end"], _label(one["label"]), text[one["start"] : one["end"]], kind)
                    for one in entities
                    if self._thresholds.passes(kind := _ASKED[one["label"]], one["score"])
                )
                yield merge(spans, text)


def _label(asked: str) -> str:
    return asked.replace("'", "").replace(" ", "_").upper()
