"""A local task of lm-evaluation-harness, on disk, under guidance."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from lm_eval import simple_evaluate
from lm_eval.tasks import TaskManager

import nescio
from nescio.core.errors import NescioError
from nescio.engines.base import Scoring
from nescio.integrations.lm_eval import NescioLM

ROWS = [
    {"question": "My name is", "choices": [" Anna", " Tom"], "answer": 0},
    {"question": "I live in", "choices": [" the garden", " Geneva"], "answer": 1},
    {"question": "Please write", "choices": [" to my friend", " about"], "answer": 0},
]


@pytest.fixture
def task(tmp_path: Path) -> TaskManager:
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    config = {
        "task": "names", "dataset_path": "json", "test_split": "test", "output_type": "multiple_choice",
        "dataset_kwargs": {"data_files": {"test": str(tmp_path / "rows.jsonl")}},
        "doc_to_text": "{{question}}", "doc_to_choice": "{{choices}}", "doc_to_target": "{{answer}}",
        "target_delimiter": "", "metric_list": [{"metric": "acc"}],
    }  # fmt: skip
    folder = tmp_path / "tasks"
    folder.mkdir()
    (folder / "names.yaml").write_text(yaml.safe_dump(config))
    return TaskManager(include_path=str(folder), include_defaults=False)


@pytest.mark.parametrize(("scale", "space"), [(1.0, "prob"), (3.0, "log")])
def test_a_local_task_is_scored_under_guidance(
    tiny_folder: Path, task: TaskManager, scale: float, space: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    arguments = {"model": str(tiny_folder), "scale": scale, "space": space}
    found = simple_evaluate("nescio", arguments, tasks=["names"], task_manager=task, bootstrap_iters=0)
    engine, guidance = nescio.load(str(tiny_folder)), nescio.Guidance(scale, space)
    right = 0
    for row in ROWS:
        asked: Any = [{"role": "user", "content": row["question"]}]
        scores = engine.score_batch([Scoring(asked, choice, guidance) for choice in row["choices"]])  # type: ignore[attr-defined]
        right += sum(scores[row["answer"]]) == max(map(sum, scores))  # type: ignore[call-overload]
    assert found is not None
    assert found["results"]["names"]["acc,none"] == pytest.approx(right / len(ROWS))


class Asked:
    def __init__(self, *args: Any) -> None:
        self.args = args


def test_greedy_is_what_greedy_decoding_gives(tiny_folder: Path) -> None:
    model = NescioLM(str(tiny_folder), scale=2.0)
    contexts = [f"Hi {number}" for number in range(30)]
    begun = model.generate_until([Asked(context, {"until": [], "max_gen_toks": 1}) for context in contexts])
    context, first = next(
        (context, text) for context, text in zip(contexts, begun, strict=True)
        if len(text) > 1 and len(model._tokens(context, text)) == 1
    )  # fmt: skip
    said = [first, first + " and more", "~", first[:1]]  # the last begins the greedy text, but is another token
    scored = model.loglikelihood([Asked(context, continuation) for continuation in said])
    assert [greedy for _, greedy in scored] == [True, False, False, False]
    assert all(value < 0 for value, _ in scored)
    (text,) = model.generate_until([Asked("Hi", {"until": [], "max_gen_toks": 4})])
    cut = text[1:3]
    assert model.generate_until([Asked("Hi", {"until": cut, "max_gen_toks": 4})]) == [text.partition(cut)[0]]


def test_every_setting_of_guidance_is_a_model_argument(tiny_folder: Path) -> None:
    how = {"scale": 4.0, "space": "log", "plausibility": 0.2, "adaptive": True, "positive": "Say no names."}
    asked: Any = [Asked("Who is Anna?", " Tom is my friend")]
    engine = nescio.load(str(tiny_folder))
    message: Any = [{"role": "user", "content": "Who is Anna?"}]
    for left_out in [*how, None]:
        own: Any = {name: value for name, value in how.items() if name != left_out}
        ((score, _),) = NescioLM(str(tiny_folder), batch_size=1, **own).loglikelihood(asked)
        (expected,) = engine.score_batch([Scoring(message, " Tom is my friend", nescio.Guidance(**own))])
        assert score == pytest.approx(sum(expected))


def test_samples_follow_the_harness_seed(tiny_folder: Path) -> None:
    model = NescioLM(str(tiny_folder))

    def drawn(seed: int, **options: Any) -> list[str]:
        torch.manual_seed(seed)  # as the harness does with --seed
        return model.generate_until([Asked("Hi", {"until": [], "max_gen_toks": 8} | options)] * 2)

    sampled = {"do_sample": True, "temperature": 1.0}
    one, two = drawn(1234, **sampled)
    assert one != two, "repeats of one context are drawn apart"
    assert drawn(1234, **sampled) == drawn(1234, temperature=1.0) == [one, two]
    assert drawn(5, **sampled) != [one, two]
    assert len({*drawn(1), *drawn(2), *drawn(1, do_sample=False, temperature=1.0)}) == 1, "greedy"


def test_what_cannot_be_guided_is_refused(tiny_folder: Path) -> None:
    with pytest.raises(NescioError, match="nothing is left to guide by"):
        NescioLM(str(tiny_folder), scale=2.0, protect=False)
    with pytest.raises(NescioError, match="model_args: sclae: unknown; known here: model, adapter, protect, scale"):
        NescioLM(str(tiny_folder), sclae=2.0)
    with pytest.raises(NescioError, match="guidance space 'lin'"):
        NescioLM(str(tiny_folder), space="lin")
    with pytest.raises(NescioError, match="no prompt to guide by"):
        NescioLM(str(tiny_folder)).loglikelihood_rolling([])
