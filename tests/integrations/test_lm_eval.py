"""A local task of lm-evaluation-harness, on disk, under guidance."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from lm_eval import simple_evaluate
from lm_eval.tasks import TaskManager

import nescio
from nescio.core.errors import NescioError
from nescio.core.guidance import PROTECT, REVEAL
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
        if len(text) > 1 and len(model._tokens([{"role": "user", "content": context}], text)) == 1
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
        model = NescioLM(str(tiny_folder), batch_size=1, **own)
        assert model._guidance == nescio.Guidance(**own)
        ((score, _),) = model.loglikelihood(asked)
        (expected,) = engine.score_batch([Scoring(message, " Tom is my friend", nescio.Guidance(**own))])
        assert -math.inf in expected or score == pytest.approx(sum(expected))


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


CASE = Path(__file__).parents[2] / "../shared/cases/50-lm-eval/mc.jsonl"


def test_options_that_are_all_ruled_out_are_told_apart_by_the_positive_branch(tiny_folder: Path) -> None:
    given = CASE if CASE.is_file() else None
    rows = [json.loads(line) for line in given.read_text().splitlines()] if given else []
    rows += [{"q": f"{number}?", "c": ["A", "B", "C"]} for number in range(5)]
    rows += [{"q": "Who?", "c": [" Tom Anna", " Tom"]}, {"q": "Who?", "c": [" Tom", " Tom Anna"]}]
    how = {"scale": 3.0, "plausibility": 1.0}
    guided, plain = NescioLM(str(tiny_folder), **how), NescioLM(str(tiny_folder))
    engine = nescio.load(str(tiny_folder))
    decided = []
    for row in rows:
        asked = [Asked(row["q"], option) for option in row["c"]]
        message: Any = [{"role": "user", "content": row["q"]}]
        tokens = engine.score_batch([Scoring(message, option, nescio.Guidance(**how)) for option in row["c"]])
        ruled_out = [sum(value == -math.inf for value in own) for own in tokens]
        found, positive = ([score for score, _ in model.loglikelihood(asked)] for model in (guided, plain))
        assert all(math.isfinite(score) for score in found)
        if len(set(ruled_out)) > 1:
            assert found.index(max(found)) == ruled_out.index(min(ruled_out)), "fewer ruled-out tokens win"
        elif ruled_out[0] and all(len(own) == ruled_out[0] for own in tokens):
            assert found.index(max(found)) == positive.index(max(positive))
            decided.append(positive.index(max(positive)))
    assert 1 in decided, "the first of equals would have won"


def test_a_context_that_is_too_long_loses_its_beginning_and_no_other_result(
    tiny_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = NescioLM(str(tiny_folder), scale=2.0)
    long = " ".join(f"Tom {number}" for number in range(2000)) + " Who is Anna?"
    asked = [Asked("Hi", " Tom"), Asked(long, " Tom"), Asked(long, " my friend"), Asked("Hi", " Anna")]
    scored = model.loglikelihood(asked)
    assert "1 of 2 contexts exceed" in caplog.text
    assert scored[0] == model.loglikelihood(asked[:1])[0]
    assert all(math.isfinite(score) for score, _ in scored)
    (cut,) = model._fitted({long: 3}).values()
    assert cut[0]["content"].endswith("Who is Anna?")
    assert model._most - 8 <= model._length(cut) + 3 <= model._most, "as little as possible is cut"
    options = {"until": [], "max_gen_toks": 5}
    texts = model.generate_until(
        [Asked("Hi", options), Asked(long, options), Asked("Hi", options | {"max_gen_toks": 9999})]
    )
    assert texts[0] == model.generate_until([Asked("Hi", options)])[0]
    assert texts[2].startswith(texts[0]), "an answer longer than the context is cut, not refused"


def test_the_oldest_examples_go_first_and_the_system_message_stays(tiny_folder: Path) -> None:
    model = NescioLM(str(tiny_folder))
    turn = {"user": "Tom is my friend " * 20, "assistant": "Anna"}
    history = [{"role": "system", "content": "Be brief."}]
    history += [{"role": role, "content": f"{number} {text}"} for number in range(40) for role, text in turn.items()]
    history += [{"role": "user", "content": "Who is Anna?"}]
    (cut,) = model._fitted({model.apply_chat_template(history): 5}).values()
    assert cut[0] == history[0]
    assert cut[1:] == history[len(history) - len(cut) + 1 :]
    assert cut[1]["role"] == "user" and 3 < len(cut) < len(history)


@pytest.mark.parametrize("multiturn", [False, True])
def test_a_chat_template_is_applied_with_the_sentences_of_the_branches(
    tiny_folder: Path, task: TaskManager, multiturn: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    seen: list[Any] = []
    score = NescioLM._scores
    monkeypatch.setattr(NescioLM, "_scores", lambda self, items: seen.extend(items) or score(self, items))
    found = simple_evaluate(
        "nescio", {"model": str(tiny_folder), "scale": 2.0}, tasks=["names"], task_manager=task, bootstrap_iters=0,
        apply_chat_template=True, fewshot_as_multiturn=multiturn, system_instruction="Be brief.", num_fewshot=1,
    )  # fmt: skip
    assert found is not None and "acc,none" in found["results"]["names"]
    roles = [message["role"] for message in seen[0].prompt]
    assert roles == (["system", "user", "assistant", "user"] if multiturn else ["system", "user"])
    texts = nescio.load(str(tiny_folder)).branches(seen[0].prompt, nescio.Guidance(2.0))  # type: ignore[attr-defined]
    for text, sentence in zip(texts, (PROTECT, REVEAL), strict=True):
        assert f"Be brief. {sentence}" in text


def test_generation_options_count_or_are_refused_by_name(tiny_folder: Path) -> None:
    model = NescioLM(str(tiny_folder))
    plain = {"until": [], "max_gen_toks": 8}
    (greedy,) = model.generate_until([Asked("Hi", plain)])
    narrow = {"do_sample": True, "temperature": 5.0}
    assert model.generate_until([Asked("Hi", plain | narrow | {"top_k": 1})]) == [greedy]
    assert model.generate_until([Asked("Hi", plain | narrow | {"top_p": 1e-9, "num_beams": 1})]) == [greedy]
    assert model.generate_until([Asked("Hi", {"until": [], "max_new_tokens": 8})]) == [greedy]
    with pytest.raises(NescioError, match="generation option repetition_penalty: not supported"):
        model.generate_until([Asked("Hi", plain | {"repetition_penalty": 1.5})])
