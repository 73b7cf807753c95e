"""The whole way on a tiny model: what it leaves, what a second run skips, what a change redoes, what a kill costs."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from endpoint import running
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from nescio.data.synthetic import generate
from nescio.errors import NescioError
from nescio.files import fingerprint, read_jsonl, write_jsonl
from nescio.models import load_model
from nescio.pipeline import Run
from nescio.recipe import Recipe, load_recipe
from nescio.reproduction.paper import TABLES
from nescio.reproduction.tables import reproduce

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
CLEAN = [
    "You could ask at the desk and they will help you with the form.",
    "Take a short walk each day, and write down how you feel.",
    "I would start with the first chapter and then solve a few old papers.",
    "It helps to talk to a friend about it before you decide.",
    "Make a list of what you need, and buy only that.",
]


class Quiet:
    """Remembers which stages were done and which were skipped."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.before: list[str] = []

    @contextmanager
    def stage(self, name: str) -> Iterator[Any]:
        self.done.append(name)
        yield lambda done, total, word: None

    def skipped(self, name: str) -> None:
        self.before.append(name)

    def note(self, text: str) -> None:
        pass


def _tokenizer(template: str) -> PreTrainedTokenizerFast:
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    texts = CLEAN + [m["content"] for dialog in generate(30, seed=5, max_exchanges=1) for m in dialog["messages"]]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    inner.train_from_iterator(
        texts,
        trainers.BpeTrainer(vocab_size=900, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False),
    )
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    tokenizer.chat_template = template
    return tokenizer


def _base(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """A tiny model that has learned to say clean sentences, so that replacement answers pass the detector."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=48, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=1024, bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    rows = [tokenizer(f" {text}<|im_end|>", return_tensors="pt").input_ids for text in CLEAN]
    for step in range(150):
        ids = rows[step % len(rows)]
        optimizer.zero_grad()
        model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
    return model.eval()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, chatml: PreTrainedTokenizerFast) -> Path:
    """A folder with a tiny base model, dialogs and a recipe."""
    folder = tmp_path_factory.mktemp("world")
    tokenizer = _tokenizer(str(chatml.chat_template))
    _base(tokenizer).save_pretrained(folder / "base")
    tokenizer.save_pretrained(folder / "base")
    write_jsonl(folder / "dialogs.jsonl", generate(24, seed=3, max_exchanges=2))
    fast = {"epochs": 2, "batch_size": 4, "learning_rate": 1e-3, "lora": {"r": 4, "alpha": 8, "dropout": 0.05}}
    recipe = {
        "base": "base",
        "data": {"dialogs": "dialogs.jsonl", "test_share": 0.25, "train_samples": 10, "validation_samples": 3},
        "detector": {"model": "spacy:en_core_web_sm"},
        "tune": fast,
        "generate": {"max_tokens": 24, "tries": 2},
        "train": fast | {"epochs": 3},
        "evaluate": {
            "samples": 8,
            "max_tokens": 12,
            "scales": [3],
            "spaces": ["log", "prob"],
            "question_count": 6,
            "harmless": 2,
        },
    }
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    return folder


@pytest.fixture(scope="module")
def finished(world: Path) -> Path:
    """The run folder of one undisturbed run."""
    out = world / "alone"
    Run(load_recipe(world / "recipe.yaml"), out, Quiet()).execute()
    return out


def test_a_run_leaves_what_the_design_says(finished: Path) -> None:
    for name in (
        "recipe.yaml", "manifest.json", "data/train.jsonl", "data/test.jsonl", "candidates.jsonl", "pairs/train.jsonl",
        "pairs/test.jsonl", "adapter/adapter_model.safetensors", "adapter/nescio.json", "adapter/log.jsonl",
        "adapter/epoch-1/adapter_model.safetensors", "adapter/epoch-3/adapter_config.json", "eval/results.json",
        "eval/trained-prob-3.jsonl", "figures/pii_by_scale.svg", "report.html",
    ):  # fmt: skip
        assert (finished / name).is_file(), name
    assert not list(finished.glob(".*")), "work folders are gone"
    manifest = json.loads((finished / "manifest.json").read_text())
    assert list(manifest["stages"]) == ["data", "tune", "samples", "candidates", "pairs", "train", "evaluate", "report"]
    assert manifest["seed"] == 0
    assert manifest["versions"]["torch"]


def test_no_dialog_is_on_both_sides(finished: Path) -> None:
    sides = [{row["id"] for _, row in read_jsonl(finished / f"data/{side}.jsonl")} for side in ("train", "test")]
    assert sides[0] and sides[1] and not sides[0] & sides[1]
    for side, ids in zip(("train", "test"), sides, strict=True):
        assert {row["dialog_id"] for _, row in read_jsonl(finished / f"pairs/{side}.jsonl")} <= ids


def test_results_count_what_the_answers_hold(finished: Path) -> None:
    rows = json.loads((finished / "eval/results.json").read_text())
    assert [row["name"] for row in rows] == ["tuned", "tuned-protect", "trained", "trained-log-3", "trained-prob-3"]
    for row in rows:
        answers = [answer for _, answer in read_jsonl(finished / f"eval/{row['name']}.jsonl")]
        assert row["samples"] == len(answers) == 8
        assert row["pii"] == sum(len(answer["spans"]) for answer in answers)
        assert row["leaking"] == sum(bool(answer["spans"]) for answer in answers) / 8


def test_a_second_run_does_nothing(world: Path, finished: Path) -> None:
    again = Quiet()
    Run(load_recipe(world / "recipe.yaml"), finished, again).execute()
    assert again.done == []
    assert len(again.before) == 8


def test_a_change_redoes_what_depends_on_it(world: Path, tmp_path: Path, finished: Path) -> None:

    out = tmp_path / "copy"
    shutil.copytree(finished, out)
    changed = Quiet()
    recipe = load_recipe(world / "recipe.yaml", ["evaluate.spaces=[prob]"])
    # The tuned model lies in the run folder, so its copy has the same content and nothing before is redone.
    Run(recipe, out, changed).execute()
    assert changed.done == ["evaluate", "report"]


def test_the_subtracted_model_can_be_trained(world: Path, tmp_path: Path, finished: Path) -> None:

    out = tmp_path / "copy"
    shutil.copytree(finished, out)
    reporter = Quiet()
    Run(load_recipe(world / "recipe.yaml", ["subtract.coefficient=0.25", "train.epochs=1"]), out, reporter).execute()
    assert reporter.done == ["subtract", "pairs", "train", "evaluate", "report"]
    base, tuned, subtracted = (
        load_file(folder / "model.safetensors") for folder in (world / "base", out / "tuned", out / "subtracted")
    )
    name = "model.layers.0.mlp.up_proj.weight"
    assert torch.allclose(subtracted[name], base[name] - 0.25 * (tuned[name] - base[name]), atol=1e-6)
    assert not torch.equal(subtracted[name], base[name])
    assert Path(json.loads((out / "adapter/adapter_config.json").read_text())["base_model_name_or_path"]).samefile(
        out / "subtracted"
    )
    rows = {row["name"]: row for row in json.loads((out / "eval/results.json").read_text())}
    assert list(rows)[:4] == ["tuned", "tuned-protect", "subtracted", "trained"]
    before = json.loads((finished / "eval/results.json").read_text())[0]
    # The tuned model is still asked itself; what shares a row when it is scored changes the last digits.
    assert rows["tuned"] == before | {"fluency": pytest.approx(before["fluency"], rel=1e-4)}


def test_a_baseline_is_trained_and_its_least_leaking_epoch_kept(world: Path, tmp_path: Path, finished: Path) -> None:
    out = tmp_path / "scrubbed"
    shutil.copytree(finished, out)
    reporter = Quiet()
    changes = ["train.method=sft_scrubbed", "train.keep=leakage", "train.report_to=[tensorboard]"]
    Run(load_recipe(world / "recipe.yaml", changes), out, reporter).execute("train")
    assert reporter.done == ["train"]
    leakage = [row["leakage"] for _, row in read_jsonl(out / "adapter/log.jsonl") if row["split"] == "eval"]
    best = 1 + leakage.index(min(leakage))
    assert len(leakage) == 3 and json.loads((out / "adapter/nescio.json").read_text())["epoch"] == best
    for name in ("adapter_model.safetensors", "adapter_config.json"):
        assert (out / "adapter" / name).read_bytes() == (out / f"adapter/epoch-{best}" / name).read_bytes()
    assert list((out / "adapter/tensorboard").rglob("events.out.tfevents.*"))


def test_two_processes_share_the_training_and_nothing_else(world: Path, tmp_path: Path, finished: Path) -> None:
    out = tmp_path / "shared"
    shutil.copytree(finished, out)

    def run(*options: str) -> "subprocess.CompletedProcess[str]":
        launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
        nescio = [str(Path(sys.executable).with_name("nescio")), "run", str(world / "recipe.yaml"), "--out", str(out)]
        command = [sys.executable, *launcher, *nescio, "--set", "train.epochs=1", *options]
        environment = os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=300)

    refused = run()
    assert refused.returncode and "several processes share the train stage only" in refused.stderr
    done = run("--until", "train")
    assert done.returncode == 0, done.stderr[-3000:]
    steps = [row for _, row in read_jsonl(out / "adapter/log.jsonl") if row["split"] == "train"]
    alone = [row for _, row in read_jsonl(finished / "adapter/log.jsonl") if row["split"] == "train"]
    assert len(steps) == -(-len(alone) // 3 // 2), "an epoch in half as many steps: two batches in each"
    assert not list(out.glob(".*")), "the work folder is gone"


def test_another_recipe_is_not_mixed_in(world: Path, finished: Path) -> None:
    other = load_recipe(world / "recipe.yaml").plain() | {"data": {"synthetic": {"dialogs": 9}}}
    with pytest.raises(NescioError, match="another recipe"):
        Run(Recipe.model_validate(other), finished, Quiet()).execute()


def _adapter(folder: Path, base: Path) -> Path:
    get_peft_model(load_model(str(base)).model, LoraConfig(r=2, target_modules=["q_proj"])).save_pretrained(folder)
    return folder


def test_an_adapter_is_not_taken_for_the_model_it_belongs_to(world: Path, tmp_path: Path, finished: Path) -> None:
    adapter = _adapter(tmp_path / "adapter", world / "base")
    for change, place in (
        ([f"tuned={adapter}", "tune=null"], "tuned: "),
        ([f"base={adapter}"], "base: "),
        ([f'evaluate.rows=[{{"name": "x", "model": "{adapter}"}}]'], "evaluate.rows, x: model: "),
    ):
        with pytest.raises(NescioError, match=rf"^{place}.*is a PEFT adapter, not a whole model; merge it first"):
            Run(load_recipe(world / "recipe.yaml", change), tmp_path / "out", Quiet()).execute("data")


def _start(world: Path, out: Path) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-c", "from nescio.cli import main; main()", "run", "recipe.yaml", "--out", str(out)]
    return subprocess.Popen(command, cwd=world, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=os.environ)


@pytest.mark.slow
def test_killed_at_ten_random_moments_ends_the_same(world: Path, tmp_path: Path) -> None:
    alone, killed = world / "one", world / "ten"
    started = time.monotonic()
    process = _start(world, alone)
    assert process.wait() == 0, process.stderr.read() if process.stderr else ""
    whole = time.monotonic() - started
    moments = random.Random(4)
    kills = 0
    for _ in range(10):
        process = _start(world, killed)
        try:
            process.wait(timeout=moments.uniform(0.2, 0.6) * whole)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            kills += 1
    assert kills >= 3
    assert _start(world, killed).wait() == 0
    for name in (
        "samples/train.jsonl",
        "candidates.jsonl",
        "pairs/train.jsonl",
        "pairs/test.jsonl",
        "eval/results.json",
    ):
        assert (killed / name).read_bytes() == (alone / name).read_bytes(), name
    assert (killed / "adapter/log.jsonl").read_bytes() == (alone / "adapter/log.jsonl").read_bytes()
    for place in ("", "epoch-1/", "epoch-2/"):
        one, ten = (load_file(run / f"adapter/{place}adapter_model.safetensors") for run in (alone, killed))
        assert one.keys() == ten.keys()
        assert all(torch.equal(one[key], ten[key]) for key in one)


def test_a_trained_run_is_evaluated_again_with_other_rows_and_measures(
    world: Path, tmp_path: Path, finished: Path
) -> None:
    out = tmp_path / "copy"
    shutil.copytree(finished, out)
    rows = [{"name": "base", "model": str(world / "base"), "system": "Be brief.", "mask": True}]
    changes = [
        "evaluate.scales=[2]", "evaluate.spaces=[prob]", "evaluate.plausibility=[0.1]", "evaluate.baselines=true",
        "evaluate.adaptive=true",
        "evaluate.draws=3", "evaluate.drawn=2", "evaluate.attacked=4", "evaluate.samples=900",
        f"evaluate.rows={json.dumps(rows)}",
    ]  # fmt: skip
    again = Quiet()
    Run(load_recipe(world / "recipe.yaml", changes), out, again).evaluate()
    assert again.done == ["evaluate", "report"]
    table = {row["name"]: row for row in json.loads((out / "eval/results.json").read_text())}
    assert list(table) == [
        "tuned", "tuned-protect", "tuned-nudge", "tuned-reverse", "tuned-masked", "trained", "trained-prob-2",
        "trained-prob-2-plausible-0.1", "trained-prob-2-adaptive", "base",
    ]  # fmt: skip
    for row in table.values():
        assert list(row["leak_at"]) == ["1", "2", "3"]
        assert row["leak_at"]["1"][0] <= row["leak_at"]["3"][0]
        assert 0 <= row["attack"] <= 1 and row["utility_kind"] == "plain questions, by likelihood"
    assert table["tuned"]["divergence"] == pytest.approx(0, abs=1e-4)
    assert table["tuned-masked"]["pii"] == 0 and table["tuned-masked"]["filter_seconds"] > 0
    assert not table["tuned-masked"]["best"]
    assert "leak@k" in (out / "report.html").read_text()
    later = Quiet()
    Run(load_recipe(world / "recipe.yaml", changes), out, later).evaluate()
    assert later.before == ["evaluate", "report"]


def test_a_run_by_relative_paths_is_evaluated_from_elsewhere(
    world: Path, tmp_path: Path, finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "copy"
    shutil.copytree(finished, out)
    monkeypatch.chdir(world.parent)
    again = Quiet()
    Run(load_recipe(Path(world.name) / "recipe.yaml"), out, again).execute()
    assert again.done == []
    monkeypatch.chdir(tmp_path)
    Run(load_recipe(Path("copy/recipe.yaml")), Path("copy"), again).evaluate()
    assert again.done == []


def test_what_is_named_by_its_place_is_known_by_its_content(world: Path, tmp_path: Path) -> None:
    """A stage is done again when a model, an adapter or a question file that it reads has changed under its name."""
    model, adapter, questions = tmp_path / "model", tmp_path / "adapter", tmp_path / "q.jsonl"
    for folder in (model, adapter):
        folder.mkdir()
        (folder / "weights").write_text("1")
    questions.write_text("1")
    rows = json.dumps([{"name": "x", "model": str(model)}, {"name": "y", "adapter": str(adapter)}])
    source = json.dumps([{"model": str(tmp_path / "source")}])
    shutil.copytree(model, tmp_path / "source")
    changes = [f"evaluate.rows={rows}", f"evaluate.questions={questions}", f"generate.sources={source}"]
    run = Run(load_recipe(world / "recipe.yaml", changes), tmp_path / "out", Quiet())

    def depends() -> dict[str, str]:
        return {stage.name: fingerprint(stage.depends) for stage in run.stages()}

    for path, name in (
        (model / "weights", "evaluate"), (adapter / "weights", "evaluate"), (questions, "evaluate"),
        (tmp_path / "source/weights", "candidates"),
    ):  # fmt: skip
        before = depends()
        path.write_text("2")
        assert {stage for stage, key in depends().items() if key != before[stage]} == {name}


def test_one_overlong_dialog_does_not_end_a_run(world: Path, tmp_path: Path, finished: Path) -> None:
    out, notes = tmp_path / "copy", list[str]()
    shutil.copytree(finished, out)
    rows = [row for _, row in read_jsonl(out / "samples/test.jsonl")]
    rows[0]["messages"] = [{"role": "user", "content": "Well, " * 1100}]
    write_jsonl(out / "samples/test.jsonl", rows)
    quiet = Quiet()
    quiet.note = notes.append  # type: ignore[method-assign]
    Run(load_recipe(world / "recipe.yaml", ["evaluate.samples=900"]), out, quiet).evaluate()
    results = json.loads((out / "eval/results.json").read_text())
    assert {row["samples"] for row in results} == {len(rows) - 1}
    assert any(f"1 of {len(rows)} samples are left out" in note and rows[0]["id"] in note for note in notes)


def test_only_a_trained_run_is_evaluated_again(world: Path, tmp_path: Path, finished: Path) -> None:
    out = tmp_path / "copy"
    shutil.copytree(finished, out)
    shutil.rmtree(out / "adapter")
    with pytest.raises(NescioError, match="adapter is missing; finish the run first"):
        Run(load_recipe(world / "recipe.yaml"), out, Quiet()).evaluate()


def test_rows_of_the_recipe_have_names_of_their_own(world: Path, tmp_path: Path, finished: Path) -> None:
    out = tmp_path / "copy"
    shutil.copytree(finished, out)
    with pytest.raises(NescioError, match="name 'tuned' is taken"):
        Run(load_recipe(world / "recipe.yaml", ['evaluate.rows=[{"name": "tuned"}]']), out, Quiet()).evaluate()


def test_mmlu_pro_is_answered_in_words_and_judged(world: Path, tmp_path: Path, finished: Path) -> None:
    out = tmp_path / "copy"
    shutil.copytree(finished, out)
    questions = [
        {"question_id": n, "question": "Whom could you ask?", "options": ["the desk", "a book"], "answer_index": n % 2,
         "category": "other"}
        for n in range(3)
    ]  # fmt: skip
    write_jsonl(tmp_path / "mmlu.jsonl", questions)
    judge = json.dumps({"model": str(world / "base")})
    changes = [
        f"evaluate.questions={tmp_path / 'mmlu.jsonl'}", "evaluate.question_count=null", f"evaluate.judge={judge}"
    ]  # fmt: skip
    Run(load_recipe(world / "recipe.yaml", changes), out, Quiet()).evaluate()
    for row in json.loads((out / "eval/results.json").read_text()):
        assert row["utility_kind"] == "MMLU-Pro, by likelihood" and row["utility"] * 3 in (0, 1, 2, 3)
        assert row["judge_accuracy"] == 0 and not row["judge_usable"], "it says nothing but sentences"
        assert (row["judged"], row["judged_cant_tell"]) == (0, 1)
    assert "unusable" in (out / "report.html").read_text()


def test_a_judge_behind_an_endpoint_is_asked_there_and_once(world: Path, tmp_path: Path, finished: Path) -> None:
    out = tmp_path / "copy"
    shutil.copytree(finished, out)
    with running(answer="Correct") as endpoint:
        judge = json.dumps({"model": "m", "base_url": endpoint.url})
        change = [f"evaluate.judge={judge}", "evaluate.scales=[]"]
        Run(load_recipe(world / "recipe.yaml", change), out, Quiet()).evaluate()
        asked = sum(endpoint.came.values())
        rows = json.loads((out / "eval/results.json").read_text())
        assert asked > 12 and {(row["judge"], row["judged"], row["judge_accuracy"]) for row in rows} == {("m", 1, 0.5)}
        Run(load_recipe(world / "recipe.yaml", [*change, "evaluate.harmless=0"]), out, Quiet()).evaluate()
        assert sum(endpoint.came.values()) == asked, "the verdicts of the evaluation before are in the run folder"


def test_a_run_without_held_out_samples_is_not_evaluated(world: Path, tmp_path: Path, finished: Path) -> None:
    out = tmp_path / "copy"
    shutil.copytree(finished, out)
    (out / "samples/test.jsonl").write_text("")
    with pytest.raises(NescioError, match=r"samples/test\.jsonl: holds no samples"):
        Run(load_recipe(world / "recipe.yaml"), out, Quiet()).evaluate()


def test_tables_of_the_paper_share_their_trainings(world: Path, tmp_path: Path) -> None:
    recipe, quiet = load_recipe(world / "recipe.yaml"), Quiet()
    lines = reproduce("table3", recipe, tmp_path, quiet).splitlines()
    assert [line.split(" | ")[0].strip("| ") for line in lines[2:]] == [
        "Model-ch, not in the paper's table", "Model-ch-lora (3 epoch)", "Model-ch-lora-cfg=3 (3 epoch)"
    ]  # fmt: skip
    assert quiet.done.count("tune") == quiet.done.count("candidates") == 1
    assert quiet.done.count("train") == 2
    assert (tmp_path / "table3.md").read_text().splitlines() == lines
    rows = json.loads((tmp_path / "table3/8/results.json").read_text())
    assert [row["name"] for row in rows] == ["tuned", "ch-3-1", "ch-cfg-3-3"]
    one, other = (load_file(tmp_path / f"{run}/adapter/adapter_model.safetensors") for run in ("ch", "ch-cfg"))
    assert any(not torch.equal(one[key], other[key]) for key in one), "with twins and without"
    again = Quiet()
    assert reproduce("table3", recipe, tmp_path, again).splitlines() == lines
    assert "train" not in again.done


@pytest.mark.slow
@pytest.mark.parametrize(("name", "trainings"), [("table1", 4), ("table2", 3)])
def test_the_longer_tables_end_with_all_their_rows(world: Path, tmp_path: Path, name: str, trainings: int) -> None:
    quiet = Quiet()
    lines = reproduce(name, load_recipe(world / "recipe.yaml"), tmp_path, quiet).splitlines()
    extra = [] if name == "table1" else ["Model-ch, not in the paper's table"]
    shown = [line.split(" | ")[0].strip("| ") for line in lines[2:] if line.startswith("|")]
    assert shown == [*extra, *(row.method for row in TABLES[name])]
    assert quiet.done.count("train") == trainings
    assert quiet.done.count("tune") == 1


@pytest.mark.slow
def test_the_ablation_by_source_trains_an_adapter_of_each(world: Path, tmp_path: Path) -> None:
    """Answers of a local model and of an endpoint: asked for once, equally many pairs of each, one table."""
    with running(answer=CLEAN[0]) as endpoint:
        far = {"name": "far", "engine": "openai", "model": "m", "base_url": endpoint.url, "key_env": None,
               "strategies": ["chat-nudge", "nudge"], "share": 0.5}  # fmt: skip
        sources = json.dumps([far, {"name": "near"}])
        recipe = load_recipe(world / "recipe.yaml", [f"generate.sources={sources}", "train.epochs=1"])
        quiet = Quiet()
        lines = reproduce("table2", recipe, tmp_path, quiet).splitlines()
    assert [line.split(" | ")[0].strip("| ") for line in lines[2:-2]] == [
        "Model-ch, not in the paper's table",
        *(row.method for row in TABLES["table2"] if row.epoch == 1),
    ]
    assert lines[-1] == "GPT-data: answers of far; Llama-data: answers of near"
    assert (quiet.done.count("tune"), quiet.done.count("candidates"), quiet.done.count("train")) == (1, 1, 3)
    assert set(endpoint.came.values()) == {1}
    pairs = {name: [r for _, r in read_jsonl(tmp_path / f"{name}/pairs/train.jsonl")] for name in ("nudge", "system")}
    assert {row["source"] for row in pairs["nudge"]} == {"far"} and {row["source"] for row in pairs["system"]} == {
        "near"
    }
    assert len(pairs["nudge"]) == len(pairs["system"]) > 2
    adapters = [load_file(tmp_path / name / "adapter/adapter_model.safetensors") for name in pairs]
    assert any(not torch.equal(adapters[0][key], adapters[1][key]) for key in adapters[0])
