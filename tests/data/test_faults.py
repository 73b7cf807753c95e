"""An endpoint that goes wrong in every way: each sample is answered in the end or listed as failed, once."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from endpoint import ANSWER, Endpoint, running

from nescio.core.errors import NescioError
from nescio.core.files import read_jsonl
from nescio.core.prompts import Message
from nescio.data.rewrite import Rewriting, Source, rewrite
from nescio.data.samples import Sample
from nescio.engines.openai_engine import OpenAIEngine
from nescio.pii.base import Span

FAULTS = ("429", "500", "503", "hang", "cut", "garbage")
SAMPLES = [
    Sample(f"s{n}", f"d{n}", [Message(role="user", content=f"Question {n}?")], "Tom knows.", "NAME", "Tom")
    for n in range(18)
]


class Nothing:
    """Finds nothing personal."""

    name = "nothing"

    def find(self, texts: Sequence[str]) -> list[list[Span]]:
        return [[] for _ in texts]


def asked(endpoint: Endpoint, folder: Path, samples: Sequence[Sample] = SAMPLES, **options: Any) -> list[Any]:
    """Ask about samples; the candidates."""
    engine = OpenAIEngine("m", endpoint.url, None, **{"timeout": 30.0, "retries": 2} | options)
    source = Source("desk", engine, "m", "m", ("chat-nudge",), concurrency=6, together=1)
    rewrite(samples, [source], Nothing(), Rewriting(tries=1), folder, folder / "paid.jsonl")
    return [row for _, row in read_jsonl(folder / "candidates.jsonl")]


def number(question: str) -> int:
    return int(question.split("Question ")[1].split("?", maxsplit=1)[0])


def test_every_sample_is_answered_once_whatever_goes_wrong(tmp_path: Path) -> None:
    with running(lambda question, times: FAULTS[number(question) % 6] if times == 1 else None) as endpoint:
        candidates = asked(endpoint, tmp_path, timeout=3.0)
    assert [(row["sample_id"], row["text"]) for row in candidates] == [(sample.id, ANSWER) for sample in SAMPLES]
    assert set(endpoint.came.values()) == {2} and set(endpoint.answered.values()) == {1}
    assert not list(read_jsonl(tmp_path / "failed.jsonl"))
    assert len(list(read_jsonl(tmp_path / "paid.jsonl"))) == len(SAMPLES)
    assert endpoint.keys == {None}, "without a key none is sent: a server may refuse one that it does not know"


@pytest.mark.parametrize(
    ("fault", "said", "timeout"),  # 3 s: a busy machine answers within it
    [
        ("500", "HTTP 500", 30.0),
        ("hang", "no answer in 3 s", 3.0),
        ("cut", "cannot be reached", 30.0),
        ("garbage", "else than the API", 30.0),
    ],
)
def test_what_never_gets_an_answer_is_listed_and_asked_again_by_the_next_run(
    tmp_path: Path, fault: str, said: str, timeout: float
) -> None:
    with running(lambda question, times: fault if number(question) in (3, 8) else None) as endpoint:
        candidates = asked(endpoint, tmp_path, timeout=timeout, retries=1)
        failed = [row for _, row in read_jsonl(tmp_path / "failed.jsonl")]
        assert [row["sample_id"] for row in failed] == ["s3", "s8"]
        assert all(said in row["error"] and "sk-secret" not in row["error"] for row in failed)
        ids = Counter(row["sample_id"] for row in [*candidates, *failed])
        assert ids == Counter(sample.id for sample in SAMPLES), "none lost, none twice"
        endpoint.fault = lambda question, times: None
        before = endpoint.came.total()
        assert len(asked(endpoint, tmp_path)) == len(SAMPLES)
        assert endpoint.came.total() - before == 2
    assert not list(read_jsonl(tmp_path / "failed.jsonl"))


@pytest.mark.parametrize(
    ("status", "said"), [("401", "the key in MY_KEY is refused"), ("403", "is refused"), ("404", "no such model")]
)
def test_a_wrong_key_and_an_unknown_model_stop_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: str, said: str
) -> None:
    monkeypatch.setenv("MY_KEY", "sk-mine")
    with running(lambda question, times: status) as endpoint:
        source = Source("desk", OpenAIEngine("m", endpoint.url, "MY_KEY"), "m", "m", ("chat-nudge",), together=1)
        with pytest.raises(NescioError, match=said) as stopped:
            rewrite(SAMPLES, [source], Nothing(), Rewriting(), tmp_path, tmp_path / "paid.jsonl")
    assert endpoint.came.total() == 1 and endpoint.keys == {"Bearer sk-mine"}
    assert "sk-" not in str(stopped.value) and "\n" not in str(stopped.value)
    assert not (tmp_path / "paid.jsonl").exists()


def test_an_endpoint_that_wants_a_key_and_gets_none_says_so(tmp_path: Path) -> None:
    with running(lambda question, times: "401") as endpoint, pytest.raises(NescioError, match="give key_env"):
        asked(endpoint, tmp_path)


def test_an_endpoint_that_is_down_ends_the_job_in_one_line(tmp_path: Path) -> None:
    with running() as endpoint:
        pass
    with pytest.raises(NescioError, match=r"source desk: 6 requests in a row got no answer.*cannot be reached"):
        asked(endpoint, tmp_path, retries=0)
