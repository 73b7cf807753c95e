"""The server's detector: one call for the texts of many streams, and an error for a text that cannot be checked."""

import re
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future

import pytest

from nescio.core.errors import NescioError
from nescio.pii.base import Span
from nescio.serve import detection
from nescio.serve.detection import ServingDetector


class Slow:
    """Takes a while; finds nothing in "plain", fails on "bad", and never comes back from "hang"."""

    name = "slow"

    def __init__(self) -> None:
        self.calls: list[int] = []
        self.threads: set[int] = set()
        self.go_on = threading.Event()

    def find(self, texts: Sequence[str]) -> list[list[Span]]:
        self.calls.append(len(texts))
        self.threads.add(threading.get_ident())
        time.sleep(0.05)
        if "hang" in texts:
            self.go_on.wait(20)
        if "bad" in texts:
            raise RuntimeError("out of memory")
        return [[] if text == "plain" else [Span(0, 1, "PII", text)] for text in texts]


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Slow:
    slow = Slow()
    monkeypatch.setattr(detection, "load_detector", lambda name, **settings: slow)
    return slow


def ask(detector: ServingDetector, texts: Sequence[str]) -> dict[str, object]:
    """What each text gets, all asked at once from threads of their own."""
    got: dict[str, object] = {}

    def one(text: str) -> None:
        try:
            got[text] = [span.text for span in detector.find([text])[0]]
        except Exception as error:
            got[text] = str(error)

    threads = [threading.Thread(target=one, args=(text,)) for text in texts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return got


def test_texts_of_many_streams_share_calls(slow: Slow) -> None:
    texts = [f"text {number}" for number in range(20)]
    assert ask(ServingDetector("slow"), texts) == {text: [text] for text in texts}
    assert (sum(slow.calls), len(slow.calls) < 10, len(slow.threads)) == (20, True, 1)


class Names:
    """Finds names of one or two words; notes what it reads, and does something then."""

    name = "names"

    def __init__(self) -> None:
        self.read: list[list[str]] = []
        self.on_read: Callable[[], object] = lambda: None

    def find(self, texts: Sequence[str]) -> list[list[Span]]:
        self.read.append(list(texts))
        self.on_read()
        names = re.compile("Anna Ferrari|Anna|Ferrari")
        return [[Span(m.start(), m.end(), "PERSON", m[0]) for m in names.finditer(text)] for text in texts]


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Names:
    names = Names()
    monkeypatch.setattr(detection, "load_detector", lambda name, **settings: names)
    return names


@pytest.mark.parametrize("words", ["and so on", "so-on"])
def test_a_long_text_is_read_in_pieces_and_what_lies_across_a_cut_is_found(names: Names, words: str) -> None:
    for at in range(9_980, 10_020):
        text = (words * 2_000)[:at] + " Anna Ferrari " + words * 1_200
        (found,) = ServingDetector("names").find([text])
        place = text.index("Anna")
        assert (place, place + 12) in [(span.start, span.end) for span in found]
        assert all(text[span.start : span.end] == span.text for span in found)
        assert [span.start for span in found] == sorted(span.start for span in found)
    assert max(len(text) for texts in names.read for text in texts) < 11_000


def test_another_text_is_read_between_the_pieces_of_a_long_one(names: Names) -> None:
    detector = ServingDetector("names")
    others = iter([("I am Anna.", Future[list[Span]]())])
    names.on_read = lambda: [detector._asked.put(other) for other in others]
    detector.find(["and so on. " * 20_000])
    (number,) = [number for number, texts in enumerate(names.read) if "I am Anna." in texts]
    assert number <= 2 and len(names.read) > 9
    assert max(sum(map(len, texts)) for texts in names.read) < 32_000


def test_a_text_that_fails_fails_alone(slow: Slow) -> None:
    got = ask(ServingDetector("slow"), ["a", "bad", "b", "plain"])
    assert got == {"a": ["a"], "b": ["b"], "plain": [], "bad": "out of memory"}


def test_a_detector_that_hangs_is_an_error_for_all_who_wait(slow: Slow) -> None:
    detector = ServingDetector("slow", patience=0.3)
    for texts in (["hang"], ["a", "b"]):
        assert set(ask(detector, texts).values()) == {"detector slow: no answer in 0.3 s"}
    slow.go_on.set()
    time.sleep(0.2)
    assert ask(detector, ["c"]) == {"c": ["c"]}, "it works again when the detector comes back"


def test_its_thread_ends_when_nothing_is_left_to_do(slow: Slow, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(detection, "_IDLE", 0.05)
    detector = ServingDetector("slow")
    for _ in range(2):
        assert detector.find(["a", "plain"])[1] == []
        time.sleep(0.3)
        assert not any(thread.name == "detector" and thread.ident in slow.threads for thread in threading.enumerate())


def test_a_detector_that_cannot_be_loaded_is_an_error() -> None:
    with pytest.raises(NescioError, match="unknown"):
        ServingDetector("nothing").find(["a"])
