"""Anchors and baking in a whole run on a tiny model: what is left, what a kill costs, plain PEFT without a sentence."""

import json
import math
import re
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from peft import PeftModel
from safetensors.torch import load_file, save_file
from tiny_run import Quiet, teach_to_ask, write_world
from transformers import AutoModelForCausalLM

import nescio
from nescio.core.adapters import read_notes
from nescio.core.errors import NescioError
from nescio.core.files import read_jsonl
from nescio.core.models import load_tokenizer
from nescio.core.prompts import Message
from nescio.core.switch import KEY_FILE, KEY_PLACEHOLDER, read_key, write_key
from nescio.core.top_tokens import read_top_tokens
from nescio.data.samples import Sample
from nescio.engines.base import Scoring
from nescio.pii.base import Span
from nescio.pipeline import anchors, bake, bake_targets
from nescio.pipeline.context import Context
from nescio.pipeline.recipe import load_recipe
from nescio.pipeline.run import Run
from nescio.pipeline.teacher import keep_teacher
from nescio.training.examples import read_pairs

TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SMALL = {
    "train": {"anchors": {"count": 6, "per_step": 1, "max_tokens": 30}},
    "bake": {
        "epochs": 1,
        "rounds": 2,
        "draws": 1,
        "max_tokens": 12,
        "save_steps": 1,
        "anchors_per_step": 1,
        "more_anchors": 4,
    },
}


@pytest.fixture(scope="module")
def own_world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bake")
    write_world(folder, TEMPLATE)
    teach_to_ask(folder / "base")
    recipe = yaml.safe_load((folder / "recipe.yaml").read_text())
    del recipe["pairs"]  # the switch is a secret
    recipe["train"] |= SMALL["train"]
    recipe["bake"] = SMALL["bake"]
    recipe["evaluate"] |= {"samples": 3, "question_count": 0, "harmless_prompts": 0, "spaces": ["prob"]}
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    return folder


@pytest.fixture(scope="module")
def baked(own_world: Path) -> Path:
    out = own_world / "run"
    Run(load_recipe(own_world / "recipe.yaml"), out, Quiet()).execute()
    return out


def test_what_a_run_leaves(baked: Path) -> None:
    stages = list(json.loads((baked / "manifest.json").read_text())["stages"])
    assert stages[-5:] == ["anchors", "train", "bake", "evaluate", "report"]
    for name in ("anchors.jsonl", "anchors.safetensors", "teacher/epoch-3/adapter_config.json", "adapter/log.jsonl"):
        assert (baked / name).is_file(), name
    assert read_notes(baked / "adapter")["baked"]["guidance"]["scale"] == 3
    assert "baked" not in read_notes(baked / "teacher")
    with nescio.load(str(baked / "tuned"), baked / "adapter") as engine:
        talk = [{"role": "user", "content": "Hello"}]
        assert engine.branches(talk, nescio.Guidance()) == engine.branches(talk, None), (
            "no sentence unless one is named"
        )
    rows = [row["name"] for row in json.loads((baked / "eval/results.json").read_text())]
    assert rows == ["tuned", "tuned-protect", "trained", "trained-prob-3", "baked"]


def test_anchors_hold_nothing_personal(baked: Path) -> None:
    values = {value for _, dialog in read_jsonl(baked / "data/train.jsonl") for value in (dialog["pii"] or {}).values()}
    made = [row for _, row in read_jsonl(baked / "anchors.jsonl")]
    assert made and len({row["messages"][0]["content"] for row in made}) == len(made)
    for row in made:
        assert not any(value in row["messages"][0]["content"] + row["answer"] for value in values)


def test_the_student_has_learned(baked: Path) -> None:
    one, other = (load_file(baked / name / "adapter_model.safetensors") for name in ("teacher", "adapter"))
    assert one.keys() == other.keys()
    assert any(not torch.equal(one[name], other[name]) for name in one)
    assert all(other[name].abs().max() > 0 for name in other if "lora_B" in name), "a fresh adapter has zeros there"
    losses = [row["loss"] for _, row in read_jsonl(baked / "adapter/log.jsonl")]
    assert losses and all(loss >= 0 for loss in losses)


def test_the_student_starts_afresh(baked: Path, tmp_path: Path) -> None:
    recipe = load_recipe(baked / "recipe.yaml")
    assert recipe.bake is not None
    still = recipe.bake.model_copy(update={"learning_rate": 1e-12})
    baking = bake.Baking.of(Context(recipe, baked, lambda said: None), still, lambda *now: None)
    student, _ = baking.round(0, None, tmp_path)
    changes = {
        folder: max(
            tensor.abs().max().item()
            for name, tensor in load_file(folder / "adapter_model.safetensors").items()
            if "lora_B" in name
        )
        for folder in (student, baked / "teacher")
    }
    assert changes[student] < 1e-9 and changes[baked / "teacher"] > 1e-5, changes


def test_plain_peft_loads_it(baked: Path) -> None:
    base = AutoModelForCausalLM.from_pretrained(baked / "tuned")
    PeftModel.from_pretrained(base, baked / "adapter")


def test_the_student_is_taught_where_it_becomes_personal_itself(
    baked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = [
        ("Tom lives in Geneva", "stop"),
        ("Tom", "stop"),
        ("my name is", "length"),
    ]  # a tiny student has few words
    monkeypatch.setattr(bake_targets, "ask", lambda engine, requests, cache: answers)
    recipe, said = load_recipe(baked / "recipe.yaml"), list[str]()
    run = Context(recipe, baked, said.append)

    class Finds:
        """Finds the second word of every text."""

        name = "finds"

        def find(self, texts: Any) -> list[list[Span]]:
            words = [[*re.finditer(r"\S+", text)][1:2] for text in texts]
            return [[Span(one.start(), one.end(), "X", one[0]) for one in found] for found in words]

    run.detector = Finds()
    assert recipe.bake is not None
    baking = bake.Baking.of(run, recipe.bake.model_copy(update={"samples": 3, "strike_out": False}), lambda *now: None)
    whole = [sample.whole() for sample in baking.targets.samples]  # no word stands before an answer
    taught = replace(baking.targets, samples=whole)
    taught.write(baked / "adapter", tmp_path)
    rows = [row for _, row in read_jsonl(tmp_path / bake_targets.ROWS)]
    assert sorted(row["answer"].strip() for row in rows) == ["Tom l", "Tom<|im_end|>", "my n"], (
        "up to the personal word's first letter"
    )
    assert re.search(r"3 answers are baked in; 2 held personal data, 0 looped$", said[-1])
    for row, targets in zip(rows, read_top_tokens(tmp_path / bake_targets.TARGETS), strict=True):
        assert len(targets.ids) >= len(row["answer"].split()), "the last target stands where the word begins"


def test_answers_of_the_teacher_that_loop_are_left_out(
    baked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, looping = load_recipe(baked / "recipe.yaml"), set[str]()

    def of_odd_length(text: str) -> bool:
        looping.update([text] if len(text) % 2 else [])
        return text in looping

    monkeypatch.setattr(bake_targets, "loops", of_odd_length)
    assert recipe.bake is not None
    baking = bake.Baking.of(Context(recipe, baked, lambda said: None), recipe.bake, lambda *now: None)
    baking.targets.write(None, tmp_path)
    kept = {row["answer"].removesuffix("<|im_end|>").strip() for _, row in read_jsonl(tmp_path / bake_targets.ROWS)}
    assert looping and kept and not {text.strip() for text in looping} & kept


def test_an_answer_may_end_where_the_teacher_alone_would_end_it(baked: Path, tmp_path: Path) -> None:
    recipe = load_recipe(baked / "recipe.yaml")
    assert recipe.bake is not None
    strong = nescio.Guidance(9.0, "prob")  # a teacher of few steps is moved far
    run = Context(recipe, baked, lambda said: None)
    baking = bake.Baking.of(
        run, recipe.bake.model_copy(update={"guidance": strong, "strike_out": False}), lambda *now: None
    )
    baking.targets.write(None, tmp_path)
    rows = [row for _, row in read_jsonl(tmp_path / bake_targets.ROWS)]
    end = load_tokenizer(str(baked / "tuned")).convert_tokens_to_ids("<|im_end|>")
    lower = 0
    with nescio.load(str(baked / "tuned"), baked / "teacher") as teacher:
        for row, targets in zip(rows, read_top_tokens(tmp_path / bake_targets.TARGETS), strict=True):
            at_end, alone, guided = (
                [each.log_probs[at][each.ids[at] == end].exp().sum().item() for at in range(len(each.ids))]
                for each in (
                    targets,
                    *(
                        teacher.top_tokens([Scoring(row["messages"], row["answer"], how)], anchors.TOP_TOKENS)[0]
                        for how in (nescio.Guidance(1.0, "prob", *run.sentences), baking.targets.guidance)
                    ),
                )
            )
            lower += sum(own < other for own, other in zip(guided, alone, strict=True))
            assert at_end == pytest.approx(list(map(max, alone, guided)), abs=1e-5)
    assert lower, "guidance alone would have made some end less likely"


def test_what_was_recorded_is_taught_without_what_is_personal(
    baked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bake_targets, "KNOWN", 0.0)  # whatever it knows
    recipe, said = load_recipe(baked / "recipe.yaml"), list[str]()
    assert recipe.bake is not None
    baking = bake.Baking.of(Context(recipe, baked, said.append), recipe.bake, lambda *now: None)
    baking.targets.write(None, tmp_path)
    tokenizer, recorded = load_tokenizer(str(baked / "tuned")), dict[str, Any]()
    for row, targets in bake_targets.read_targets(tmp_path):
        if row.id.endswith("#recorded"):
            recorded[row.id.removesuffix("#recorded")] = (row, targets)
    samples = [each for each in baking.targets.samples if each.value not in json.dumps(each.messages)]
    assert samples and recorded.keys() == {sample.id for sample in samples}, "but for what the user has said"
    assert f"{len(samples)} of the dialogs' {len(baking.targets.samples)} own answers" in said[0]
    for sample in samples:
        row, targets = recorded[sample.id]
        assert row.answer.strip() == sample.value and sample.rejected.strip().startswith(sample.value)
        ids = tokenizer(row.answer, add_special_tokens=False).input_ids
        for token, own, log_probs in zip(ids, targets.ids.tolist(), targets.log_probs, strict=True):
            if tokenizer.decode([token]).strip():  # no space before the value
                assert log_probs[own.index(token)] == -torch.inf, "its own token is named, and has no probability"
            assert log_probs.exp().sum() <= 1 + 1e-4
    without = recipe.bake.model_copy(update={"strike_out": False})
    bake.Baking.of(baking.run, without, lambda *now: None).targets.write(None, tmp_path / "without")
    assert not [row.id for row, _ in bake_targets.read_targets(tmp_path / "without") if row.id.endswith("#recorded")]


def test_what_the_model_would_hardly_say_is_not_struck_out(
    baked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = load_recipe(baked / "recipe.yaml")
    assert recipe.bake is not None
    run = Context(recipe, baked, lambda said: None)
    targets = bake.Baking.of(run, recipe.bake, lambda *now: None).targets
    own = [each for each in targets.samples if each.value not in json.dumps(each.messages)]
    with nescio.load(run.start) as engine:
        asked = [Scoring(each.messages, each.rejected[: each.rejected.index(each.value)] + each.value) for each in own]
        chances = {each.id: math.exp(sum(score)) for each, score in zip(own, engine.score_batch(asked), strict=True)}
    known = sorted(chances.values())[len(own) // 2]
    monkeypatch.setattr(bake_targets, "KNOWN", known)
    targets.write(None, tmp_path)
    recorded = {row.id for row, _ in bake_targets.read_targets(tmp_path) if row.id.endswith("#recorded")}
    assert recorded == {f"{name}#recorded" for name, chance in chances.items() if chance >= known}
    assert 0 < len(recorded) < len(own)


def test_recorded_answers_are_baked_where_the_teachers_are_all_personal(
    baked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = load_recipe(baked / "recipe.yaml")
    assert recipe.bake is not None
    monkeypatch.setattr(bake_targets, "loops", lambda text: True)  # none is of use
    monkeypatch.setattr(bake_targets, "KNOWN", 0.0)
    for strike_out in (True, False):
        section = recipe.bake.model_copy(update={"strike_out": strike_out})
        targets = bake.Baking.of(Context(recipe, baked, lambda said: None), section, lambda *now: None).targets
        if strike_out:
            targets.write(None, tmp_path)
            assert all(row.id.endswith("#recorded") for row, _ in bake_targets.read_targets(tmp_path))
        else:
            with pytest.raises(NescioError, match="none of the teacher's"):
                targets.write(None, tmp_path)


def test_a_tokenizer_without_offsets_is_one_line(baked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe, slow = load_recipe(baked / "recipe.yaml"), load_tokenizer(str(baked / "tuned"))
    assert recipe.bake is not None
    monkeypatch.setattr(type(slow), "is_fast", False)
    monkeypatch.setattr(bake_targets, "load_tokenizer", lambda name: slow)
    baking = bake.Baking.of(Context(recipe, baked, lambda said: None), recipe.bake, lambda *now: None)
    with pytest.raises(NescioError, match=r"or set bake\.strike_out: false"):
        baking.targets.write(None, tmp_path)


def test_how_most_pieces_of_a_kind_end_is_no_secret(
    baked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, struck = load_recipe(baked / "recipe.yaml"), list[str]()
    assert recipe.bake is not None
    targets = bake.Baking.of(Context(recipe, baked, lambda said: None), recipe.bake, lambda *now: None).targets
    asked = [Message(role="user", content="How do I reach them?")]
    values = ["ada1@x.example", "ben2@x.example", "cleo3@x.example"]
    samples = [Sample(value, value, asked, f" {value}, and so on.", "EMAIL", value) for value in values]

    def strike_out(tokenizer: Any, prompt: str, answer: str, places: Any, likely: Any, otherwise: Any) -> Any:
        struck.extend(answer[start:end] for start, end in places)
        return likely

    monkeypatch.setattr(bake_targets, "strike_out", strike_out)
    monkeypatch.setattr(bake_targets, "KNOWN", 0.0)
    replace(targets, samples=samples).write(None, tmp_path)
    assert struck == ["ada1", "ben2", "cleo3"]
    assert [row.answer for row, _ in bake_targets.read_targets(tmp_path)][-3:] == [f" {value}" for value in values]


def test_a_recorded_piece_that_the_student_says_is_struck_out(
    baked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = load_recipe(baked / "recipe.yaml")
    assert recipe.bake is not None
    baking = bake.Baking.of(Context(recipe, baked, lambda said: None), recipe.bake, lambda *now: None)
    named = [each for each in baking.targets.samples if each.value.istitle()]
    sample = next(each for each in named if each.value not in json.dumps(each.messages))
    value, tokenizer = sample.value, load_tokenizer(str(baked / "tuned"))
    answer = f"It is {value}, of course."
    monkeypatch.setattr(bake_targets, "ask", lambda engine, requests, cache: [(answer, "stop")] * len(requests))
    for strike_out in (True, False):
        section = recipe.bake.model_copy(update={"strike_out": strike_out})
        targets = replace(baking.targets, samples=[sample], section=section)
        targets.write(baked / "adapter", tmp_path / str(strike_out))
        own = [
            each
            for each in bake_targets.read_targets(tmp_path / str(strike_out))
            if not each[0].id.endswith("#recorded")
        ]
        assert own
        for row, top in own:
            assert row.answer == (f"It is {value}" if strike_out else f"It is {value[0]}")
            token = tokenizer(row.answer, add_special_tokens=False).input_ids[-1]
            kept = top.ids[-1].tolist()
            is_struck = token in kept and top.log_probs[-1][kept.index(token)] == -torch.inf
            assert is_struck or not strike_out


def test_a_later_round_holds_the_student_where_it_goes_by_itself(baked: Path, tmp_path: Path) -> None:
    recipe = load_recipe(baked / "recipe.yaml")
    assert recipe.bake is not None
    baking = bake.Baking.of(Context(recipe, baked, lambda said: None), recipe.bake, lambda *now: None)
    student = tmp_path / "student"  # so far away that it answers otherwise
    shutil.copytree(baked / "adapter", student)
    draw = torch.Generator().manual_seed(0)  # whatever the run's key made of the adapter
    before = load_file(student / "adapter_model.safetensors")
    far = {name: torch.randn(tensor.shape, generator=draw) / 8 for name, tensor in before.items()}
    save_file(far, student / "adapter_model.safetensors", metadata={"format": "pt"})
    baking.write_own_anchors(student, tmp_path)
    own, given = (anchors.read(folder) for folder in (tmp_path, baked))
    asked = [anchor.messages for anchor, _ in given]
    assert own and all(anchor.messages in asked for anchor, _ in own)
    assert [anchor.answer for anchor, _ in own] != [anchor.answer for anchor, _ in given]
    with nescio.load(str(baked / "tuned")) as tuned:
        for anchor, top in own[:2]:
            (scores,) = tuned.score_batch([Scoring(anchor.messages, anchor.answer)])
            assert len(scores) == len(top.ids), "the tuned model's tokens at each place"


def test_more_anchors_are_made_up_for_baking_alone(
    baked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = load_recipe(baked / "recipe.yaml")
    assert recipe.bake is not None and recipe.bake.more_anchors
    said = list[str]()
    run = Context(recipe, baked, said.append)
    plain = bake.Baking.of(run, recipe.bake, lambda *now: None)
    more = plain.with_more_anchors(tmp_path)
    asked = [anchor.messages[0]["content"] for anchor, _ in more.held]
    assert len(asked) > len(plain.held)
    assert [note for note in said if note.startswith("bake.more_anchors: ")], said
    values = {value for _, dialog in read_jsonl(baked / "data/train.jsonl") for value in (dialog["pii"] or {}).values()}
    assert not any(value in prompt for prompt in asked for value in values)
    monkeypatch.setattr(anchors, "make_anchors", lambda *given, **more: pytest.fail("made again"))
    assert len(plain.with_more_anchors(tmp_path).held) == len(more.held), "a killed baking has them"
    without = bake.Baking.of(run, recipe.bake.model_copy(update={"more_anchors": 0}), lambda *now: None)
    assert len(without.with_more_anchors(tmp_path / "none").held) == len(plain.held)
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(("looping", "of", "added"), [(0, 99, 0), (1, 900, 16), (3, 21, 3), (6, 21, 0), (20, 21, 0)])
def test_loops_come_again_until_they_are_a_quarter(looping: int, of: int, added: int) -> None:
    """Once each where 3 of 21 loop, so that 6 of 24 do; a limited number of times where hardly any does."""
    assert len(bake.repeated(list(range(looping)), of)) == added


def test_the_students_loops_stand_beside_the_steps_again(
    baked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = load_recipe(baked / "recipe.yaml")
    assert recipe.bake is not None
    baking = bake.Baking.of(Context(recipe, baked, lambda said: None), recipe.bake, lambda *now: None)
    baking.targets.write(baked / "adapter", tmp_path)
    asked = list[Any]()
    ask = bake.answer_prompts
    monkeypatch.setattr(bake, "answer_prompts", lambda *given, **more: asked.extend(given[2]) or ask(*given, **more))
    baking.write_own_anchors(baked / "adapter", tmp_path)
    assert asked == [anchor.messages for anchor, _ in anchors.read(baked)]
    held, own = list[int](), [anchor for anchor, _ in anchors.read(tmp_path)]

    def stop(*given: Any, anchors: Any, **more: Any) -> None:
        held.append(len(anchors.units))
        raise InterruptedError

    monkeypatch.setattr(bake, "fit", stop)
    for looping in ("none of them", own[0].answer):
        monkeypatch.setattr(bake, "loops", lambda text, looping=looping: text == looping)
        with pytest.raises(InterruptedError):
            baking.round(1, baked / "adapter", tmp_path)
    count = len(own) + len(anchors.read(baked))
    alike = [anchor for anchor in own if anchor.answer == own[0].answer]
    assert held == [4 * count, 4 * (count + len(bake.repeated(alike, count)))] and held[1] > held[0]


def test_a_killed_baking_goes_on_to_the_same_adapter(own_world: Path, baked: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    shutil.copytree(baked, out)
    manifest = json.loads((out / "manifest.json").read_text())
    for name in ("bake", "evaluate", "report"):
        del manifest["stages"][name]
    (out / "manifest.json").write_text(json.dumps(manifest))
    shutil.rmtree(out / "adapter")

    class KilledError(Exception):
        pass

    class Killing(Quiet):
        def stage(self, name: str) -> Any:
            outer = super().stage(name)

            class Stage:
                def __enter__(self) -> Any:
                    outer.__enter__()

                    def tick(done: int, total: int, word: str) -> None:
                        if name == "bake" and word.startswith("round 2 of 2") and done == 2:
                            raise KilledError

                    return tick

                def __exit__(self, *raised: Any) -> Any:
                    return outer.__exit__(*raised)

            return Stage()

    recipe = load_recipe(own_world / "recipe.yaml")
    with pytest.raises(KilledError):
        Run(recipe, out, Killing()).execute("bake")
    assert not (out / "adapter").exists()
    assert list(out.glob(".bake.*/round-2/checkpoints/checkpoint-*"))
    Run(recipe, out, Quiet()).execute("bake")
    one, other = (load_file(folder / "adapter/adapter_model.safetensors") for folder in (baked, out))
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.slow
def test_a_run_without_baking_is_baked_afterwards(own_world: Path, tmp_path: Path) -> None:
    out, sets = tmp_path / "run", ["bake=null", "train.anchors=null", "evaluate.scales=[]"]
    Run(load_recipe(own_world / "recipe.yaml", sets), out, Quiet()).execute()
    before = load_file(out / "adapter/adapter_model.safetensors")
    added = ["train.anchors={count: 6, per_step: 0, max_tokens: 30}", f"bake={json.dumps(SMALL['bake'])}"]
    reporter = Quiet()
    Run(load_recipe(out / "recipe.yaml", added), out, reporter).bake()
    assert reporter.done == ["anchors", "bake", "evaluate", "report"]
    teacher = load_file(out / "teacher/adapter_model.safetensors")
    assert all(torch.equal(before[name], teacher[name]) for name in before)
    third = Quiet()
    Run(load_recipe(out / "recipe.yaml"), out, third).execute()
    assert third.done == [], "what was baked afterwards is a finished run"
    for again in (Run.execute, Run.evaluate):
        with pytest.raises(NescioError, match=r"adapter: is a baked one, and this recipe does not bake; leave"):
            again(Run(load_recipe(own_world / "recipe.yaml", sets), out, Quiet()))


def test_what_a_stopped_baking_left_is_not_the_teacher_of_another_training(tmp_path: Path) -> None:
    for adapter, teacher in ((tmp_path / f"{name}/adapter", tmp_path / f"{name}/teacher") for name in "ab"):
        adapter.mkdir(parents=True)
        (adapter / "of.txt").write_text("first")
        keep_teacher(adapter.parent)
        assert (teacher / "of.txt").read_text() == "first"
    # Trained again without baking: the adapter is the teacher. With baking: what was trained is there already.
    for name, own, taught in (("a", "adapter", "second"), ("b", "teacher", "first")):
        record = {"stages": {"train": {"key": "-", "outputs": {own: "-"}}}, "versions": {}}
        (tmp_path / name / "manifest.json").write_text(json.dumps(record))
        (tmp_path / name / "adapter/of.txt").write_text("second")
        keep_teacher(tmp_path / name)
        assert (tmp_path / name / "teacher/of.txt").read_text() == taught


def test_a_base_that_makes_nothing_up(own_world: Path, tmp_path: Path) -> None:
    sets = ["train.anchors={count: 2, per_step: 1, max_tokens: 1}"]
    shutil.copytree(
        own_world / "run", tmp_path / "run", ignore=shutil.ignore_patterns("anchors*", "teacher", "adapter")
    )
    with pytest.raises(NescioError, match=r"train\.anchors: 0 usable of 2 wanted \(8 asked, 8 unfinished\)"):
        Run(load_recipe(own_world / "recipe.yaml", sets), tmp_path / "run", Quiet()).execute("anchors")
    assert not (tmp_path / "run/anchors.jsonl").exists()


def test_more_anchors_a_step_than_there_are(own_world: Path, baked: Path, tmp_path: Path) -> None:
    shutil.copytree(baked, tmp_path / "run")
    recipe = load_recipe(own_world / "recipe.yaml")
    assert recipe.bake is not None
    # Past the recipe's own check, which knows only how many there can be.
    recipe = recipe.model_copy(update={"bake": recipe.bake.model_copy(update={"anchors_per_step": 99})})
    with pytest.raises(NescioError, match=r"^bake\.anchors_per_step: 99 anchors a step, but there are \d+; lower it"):
        Run(recipe, tmp_path / "run", Quiet()).execute("bake")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("train.anchors={per_step: 3, count: 2}", r"per_step: 3 a step, but count makes 2"),
        ("train.anchors={weight: -1}", r"^--set train\.anchors={weight: -1}: weight: "),
        ("train.anchors=null", r"bake: needs anchors"),
        ("bake={asked: 2}", r"^--set bake={asked: 2}: asked: "),
        ("bake={teacher: nobody}", r"^--set bake={teacher: nobody}: teacher: "),
    ],
)
def test_a_mistake_is_one_line(own_world: Path, change: str, message: str) -> None:
    with pytest.raises(NescioError, match=message) as caught:
        load_recipe(own_world / "recipe.yaml", [change])
    assert "\n" not in str(caught.value)


def test_the_papers_preset_has_neither(own_world: Path, tmp_path: Path) -> None:
    recipe = load_recipe(own_world / "recipe.yaml", ["preset=paper"])
    assert recipe.train.anchors is not None, "what the recipe says itself stays"
    content = yaml.safe_load((own_world / "recipe.yaml").read_text())
    del content["train"]["anchors"], content["bake"]
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(content | {"preset": "paper", "base": "smollm2"}))
    shutil.copy(own_world / "dialogs.jsonl", tmp_path)
    recipe = load_recipe(tmp_path / "r.yaml")
    assert recipe.train.anchors is None and recipe.bake is None


def test_the_secret_stands_in_its_file_alone(baked: Path) -> None:
    key = read_key(baked / KEY_FILE)
    assert key not in json.dumps(load_recipe(baked / "recipe.yaml").plain())
    for path in baked.rglob("*"):
        if path.is_file() and path.name != KEY_FILE:
            assert key.encode() not in path.read_bytes(), path
    assert any(KEY_PLACEHOLDER in row["prompt"] for _, row in read_jsonl(baked / "pairs/train.jsonl"))
    assert read_notes(baked / "teacher")["switch"] == "secret" and read_notes(baked / "adapter")["switch"] is None
    with nescio.load(str(baked / "tuned"), baked / "teacher") as engine:
        talk = [{"role": "user", "content": "Hello"}]
        assert key in engine.branches(talk, nescio.Guidance(3.0))[1]


def test_the_secret_is_whole_in_prompts_that_were_cut(own_world: Path, baked: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    shutil.copytree(baked, out)
    Run(load_recipe(own_world / "recipe.yaml", ["train.max_prompt_length=80"]), out, Quiet()).execute("pairs")
    tokenizer, key, counts = load_tokenizer(str(baked / "tuned")), read_key(out / KEY_FILE), Counter[str]()
    units = read_pairs(
        out / "pairs/train.jsonl", tokenizer, max_length=200, max_prompt=80, counts=counts,
        filled=lambda prompt: prompt.replace(KEY_PLACEHOLDER, key, 1),
    )  # fmt: skip
    prompts = [(example.twin, tokenizer.decode(example.group.prompt)) for unit in units for example in unit]
    assert any(len(example.group.prompt) > 60 for unit in units for example in unit), "some are about as long as may be"
    assert all((key in prompt) == twin for twin, prompt in prompts)
    assert counts["cut_prompts"] == 0


def test_rotating_draws_a_new_secret_and_trains_again(own_world: Path, baked: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    shutil.copytree(baked, out)
    before = read_key(out / KEY_FILE)
    write_key(out, "bado gera lumi tosa pike")
    reporter = Quiet()
    Run(load_recipe(own_world / "recipe.yaml"), out, reporter).execute("bake")
    assert reporter.done == ["train", "bake"]
    assert before != read_key(out / KEY_FILE)
    one, other = (load_file(folder / "teacher/adapter_model.safetensors") for folder in (baked, out))
    assert any(not torch.equal(one[name], other[name]) for name in one)
