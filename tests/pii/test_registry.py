"""Detectors by name: unions with a vote, presets and what they leave out, settings and where they go."""

import re
import sys
from collections.abc import Sequence

import pytest

from nescio.core.errors import NescioError, NotInstalledError
from nescio.pii.base import IGNORED_LABELS, Detector, Span
from nescio.pii.presets import missing_parts
from nescio.pii.registry import DETECTORS, load_detector
from nescio.pii.spacy_detector import SpacyDetector

TEXT = "Ask Tom Baker in Leeds, born on 3 May 1981, about the 4 June 2024."


class Words:
    """Finds the words of its model, with the label X or the one before a slash: `date/May,Leeds`."""

    def __init__(self, model: str, ignore: Sequence[str]) -> None:
        self.name = f"words:{model}"
        self._label, _, words = model.rpartition("/")
        self._words, self.ignore = words.split(","), ignore

    def find(self, texts: Sequence[str]) -> list[list[Span]]:
        return [[self._span(text.index(word), word) for word in self._words if word in text] for text in texts]

    def _span(self, start: int, word: str) -> Span:
        return Span(start, start + len(word), self._label or "X", word)


@pytest.fixture(autouse=True)
def words(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "regex" in DETECTORS  # the package's own are registered
    monkeypatch.setitem(DETECTORS._items, "words", Words)


def found(detector: Detector) -> list[str]:
    return [span.text for span in detector.find([TEXT])[0]]


@pytest.mark.parametrize(
    ("least", "pieces"),
    [
        ("", ["Ask", "Tom Baker", "Leeds"]),
        ("1 of ", ["Ask", "Tom Baker", "Leeds"]),
        ("2 of ", ["Tom Baker", "Leeds"]),
        ("3 of ", ["Leeds"]),
    ],
)
def test_so_many_detectors_must_agree_on_a_piece(least: str, pieces: list[str]) -> None:
    detector = load_detector(f"{least}words:Tom,Leeds + words:Tom Baker,Leeds + words:Ask,Leeds")
    assert found(detector) == pieces
    assert detector.name.startswith(least.replace("1 of ", "") + "words:Tom,Leeds + ")


@pytest.mark.parametrize("name", ["words:Leeds", "regex", "words:Leeds + words:Tom"])
@pytest.mark.parametrize("deny", [[], ["Ask"]])
def test_a_bare_text_is_refused_not_read_letter_by_letter(name: str, deny: list[str]) -> None:
    detector = load_detector(name, deny=deny)
    with pytest.raises(NescioError, match=r"find: got one text, and takes a list of texts; give \[text\]"):
        detector.find(TEXT)
    assert detector.find([]) == []


@pytest.mark.parametrize("name", ["default + words:Tom", "2 of words:Tom + default", "default:x"])
def test_a_preset_stands_alone(name: str) -> None:
    said = rf"detector '{re.escape(name)}': default is several already and stands alone; name its parts instead"
    with pytest.raises(NescioError, match=said):
        load_detector(name)


@pytest.mark.parametrize("name", ["0 of words:Tom", "2 of words:Tom", "3 of words:Tom + words:Ask"])
def test_a_vote_that_cannot_be_won_or_lost_is_one_line(name: str) -> None:
    with pytest.raises(NescioError, match=rf"detector '{name[:6]}.*': {name[0]} of . cannot agree; give 1 to"):
        load_detector(name)


def test_dates_count_by_their_context() -> None:
    name = "words:date/3 May 1981,4 June 2024"
    assert found(load_detector(name)) == ["3 May 1981", "4 June 2024"]
    assert found(load_detector(name, count=["birth_date"])) == ["3 May 1981"]
    assert found(load_detector(name, count=["date"])) == ["4 June 2024"]
    with pytest.raises(NescioError, match=r"count: 'birthday' is not a type"):
        load_detector(name, count=["birthday"])


def test_the_papers_detector_is_spacy_alone_and_says_which() -> None:
    paper = load_detector("paper")
    assert "presidio" not in paper.name and "rampart" not in paper.name
    small = SpacyDetector("en_core_web_sm", IGNORED_LABELS)
    if "reduced" in paper.name:
        assert paper.name == "paper, reduced to spacy:en_core_web_sm (spacy:en_core_web_trf not installed)"
        texts = [TEXT, "She paid $ 300 to Acme Ltd. on Monday.", ""]
        assert paper.find(texts) == small.find(texts)


@pytest.mark.parametrize("name", ["default", "paper"])
def test_what_is_missing_is_known_without_loading_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    said = re.search(r"\((.*) not installed\)", load_detector(name).name)
    assert missing_parts(name) == (said[1].split(", ") if said else [])
    monkeypatch.setitem(sys.modules, "presidio_analyzer", None)
    assert ("presidio" in missing_parts(name)) == (name == "default")
    assert missing_parts("spacy:en_core_web_sm") == []


def test_the_default_leaves_out_what_is_not_installed_and_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(model: str, ignore: Sequence[str]) -> Detector:
        raise NotInstalledError("not here")

    for kind in ("presidio", "rampart"):
        monkeypatch.setitem(DETECTORS._items, kind, missing)
    default = load_detector()
    assert default.name == "default, reduced to spacy:en_core_web_sm + regex (presidio, rampart not installed)"
    text = f"{TEXT} Write to tom@example.com, card 4111 1111 1111 1111; $ 30 on Monday."
    assert [span.type for span in default.find([text])[0]] == ["person", "place", "birth_date", "email", "card"]
    for kind in ("spacy", "regex"):
        monkeypatch.setitem(DETECTORS._items, kind, missing)
    with pytest.raises(NotInstalledError, match="not here"):
        load_detector()


def test_a_part_that_fails_for_another_reason_is_not_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(model: str, ignore: Sequence[str]) -> Detector:
        raise NescioError("rampart: its file is broken")

    monkeypatch.setitem(DETECTORS._items, "rampart", broken)
    monkeypatch.setitem(DETECTORS._items, "presidio", lambda model, ignore: Words("Tom", ignore))
    with pytest.raises(NescioError, match="its file is broken"):
        load_detector()


@pytest.mark.parametrize(
    ("thresholds", "message"),
    [
        ({"phone": 1.5}, r"thresholds\.phone: 1\.5 is out of range; give a number from 0 to 1"),
        ({"default": -1}, r"thresholds\.default: -1 is out of range"),
        ({"fone": 0.5}, r"thresholds: 'fone' is not a type of personal data"),
    ],
)
def test_a_wrong_threshold_is_one_line(thresholds: dict[str, float], message: str) -> None:
    with pytest.raises(NescioError, match=message):
        load_detector("presidio", thresholds=thresholds)


def test_a_setting_goes_to_who_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[object] = []

    def sure(model: str, ignore: Sequence[str], thresholds: object = None) -> Detector:
        told.append(thresholds)
        return Words(model, ignore)

    monkeypatch.setitem(DETECTORS._items, "sure", sure)
    load_detector("words:Tom + sure:Ask", thresholds={"person": 0.9})
    load_detector("sure:Ask")
    assert told == [{"person": 0.9}, None]
    with pytest.raises(NescioError, match=r"detector 'words:Tom' has no thresholds; these have: .*presidio.*sure"):
        load_detector("words:Tom", thresholds={"person": 0.9})


@pytest.mark.parametrize("key", ["ignore", "allow", "deny"])
def test_a_text_where_a_list_is_wanted_is_refused(key: str) -> None:
    with pytest.raises(NescioError, match=rf"detector: {key}: got one text, .* give \['Falcon'\]"):
        load_detector("regex", **{key: "Falcon"})  # type: ignore[arg-type]
