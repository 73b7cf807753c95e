"""The whole way on a tiny model: what it leaves, what a second run skips, what a change redoes, what a kill costs."""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from peft import AutoPeftModelForCausalLM, LoraConfig, get_peft_model
from safetensors.torch import load_file
from tiny_run import Quiet
from typer.testing import CliRunner

import nescio
from nescio.cli.main import app
from nescio.core.errors import NescioError
from nescio.core.files import fingerprint, read_jsonl, write_json, write_jsonl
from nescio.core.models import load_model
from nescio.core.switch import KEY_FILE, KEY_PLACEHOLDER, read_key, write_key
from nescio.data.filter import REMEDIES, filter_replies
from nescio.pipeline import train
from nescio.pipeline.context import Context
from nescio.pipeline.prepare import _why_no_pairs
from nescio.pipeline.recipe import Recipe, load_recipe
from nescio.pipeline.run import Run


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
        assert row["answers_hash"] == fingerprint(answers)
        assert row["detector_seen"]["all"]["pieces"] > 0
    checked = json.loads((finished / "eval/detector.json").read_text())
    assert checked["all"]["recall"] == rows[0]["detector_seen"]["all"]["recall"] > 0.5
    assert f"Detector: {rows[0]['detector']}. It sees" in (finished / "report.html").read_text()


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


@pytest.mark.slow
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
    config = json.loads((out / "adapter/adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == str(out / "subtracted")
    assert json.loads((out / "adapter/epoch-1/nescio.json").read_text())["base"] == "../../subtracted"
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


def test_a_distilled_method_takes_no_notice_of_the_prompts(world: Path, tmp_path: Path, finished: Path) -> None:
    made = []
    for over in ("answer", "prompt_and_answer"):
        shutil.copytree(finished, tmp_path / over)
        changes = ["train.method=undial", "train.beta=3", "train.epochs=1", f"train.nll_over={over}"]
        Run(load_recipe(world / "recipe.yaml", changes), tmp_path / over, Quiet()).execute("train")
        made.append(load_file(tmp_path / over / "adapter/adapter_model.safetensors"))
    assert all(torch.equal(made[0][name], tensor) for name, tensor in made[1].items())


def test_the_best_of_several_other_words_and_callers_who_ask(world: Path, tmp_path: Path, finished: Path) -> None:
    out, reporter = tmp_path / "more", Quiet()
    shutil.copytree(finished, out)
    changes = [
        "generate.best_of=2",
        "generate.tries=6",
        "pairs.paraphrases=1",
        "pairs.asked=1.0",
        "train.keep=balanced",
    ]
    Run(load_recipe(world / "recipe.yaml", changes), out, reporter).execute("train")
    assert reporter.done == ["candidates", "pairs", "train"]
    clean = [row for _, row in read_jsonl(out / "candidates.jsonl") if row["accepted"]]
    assert {row["best"] for row in clean} == {True, False}
    pairs = [row for _, row in read_jsonl(out / "pairs/train.jsonl")]
    assert sum(bool(row["asked"]) for row in pairs) == len(pairs) / 2
    assert {":words-1:" in row["id"] for row in pairs} == {True, False}
    told = [row for _, row in read_jsonl(out / "adapter/log.jsonl") if row["split"] == "eval"]
    balanced = [row["balanced"] for row in told]
    assert len(told) == 3 and all(row.keys() >= {"leakage", "words", "loss"} for row in told)
    epoch = json.loads((out / "adapter/nescio.json").read_text())["epoch"]
    assert epoch == 1 + balanced.index(min(balanced))


@pytest.mark.slow
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
    manifest = json.loads((out / "manifest.json").read_text())
    work = out / f".train.{manifest['stages'].pop('train')['key']}"
    write_json(work / "finished.json", {"seconds": 1})
    (out / "adapter").rename(work / "adapter")
    write_json(out / "manifest.json", manifest)
    moved = run("--until", "train")  # as after a kill between the work and the move: no process trains again
    assert moved.returncode == 0, moved.stderr[-3000:]
    assert (out / "adapter/log.jsonl").exists() and not work.exists()


def test_another_recipe_is_not_mixed_in(world: Path, finished: Path) -> None:
    other = load_recipe(world / "recipe.yaml").plain() | {"data": {"synthetic": {"dialogs": 9}}}
    with pytest.raises(NescioError, match="another recipe"):
        Run(Recipe.model_validate(other), finished, Quiet()).execute()


def test_what_is_missing_is_said_at_once_and_the_folder_stays_free(world: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    rows = "evaluate.rows=[{name: x, %s: lost}]"
    for change, said in (
        ("data.retain=lost.jsonl", r"data\.retain: .*lost\.jsonl: no such file"),
        ("base=./lost", r"base: \./lost: no such model"),
        ("generate.sources=[{name: s, model: ./lost}]", r"generate\.sources, s: model: \./lost: no such model"),
        (rows % "model", r"evaluate\.rows, x: model: lost: no such model"),
        (rows % "adapter", "lost: not a PEFT adapter"),
        ("evaluate.rows=[{name: tuned}]", r"evaluate\.rows: name 'tuned' is taken"),
        ("evaluate.scales=[3, 3]", "two rows would be called 'trained-log-3'"),
        ("evaluate.questions=lost.jsonl", r"lost\.jsonl: no such file"),
        ("evaluate.engine={kind: torch, options: {rows: 3}}", "engine torch: option 'rows' is unknown"),
        ("train.lora.targets=[q_proj, lost]", r"train\.lora\.targets: \['lost'\] fits no module of the model; it has"),
        ("generate.sources=[{engine: openai, model: m, key_env: LOST_KEY}]", "m: LOST_KEY is not set"),
        ("evaluate.engine={kind: vllm, options: {max_num_seqs: 1}}", "vLLM option max_num_seqs 1: must be 2 or more"),
        ("detector.model=spacy:lost", "detector spacy:lost: not installed"),
        ("train.patience=1", "train: patience: needs a measure to improve"),
        ("evaluate.measures=[lost]", r"recipe\.yaml.*: evaluate: measure 'lost': unknown"),
    ):
        with pytest.raises(NescioError, match=said):
            Run(load_recipe(world / "recipe.yaml", [change]), out, Quiet()).execute()
        assert not out.exists()
    out.mkdir()
    other = load_recipe(world / "recipe.yaml").plain() | {"base": "other", "tuned": "model"}
    (out / "recipe.yaml").write_text(yaml.safe_dump(other))  # of a run that made nothing
    Run(load_recipe(world / "recipe.yaml"), out, Quiet()).execute("data")
    assert load_recipe(out / "recipe.yaml") == load_recipe(world / "recipe.yaml")


def _adapter(folder: Path, base: Path) -> Path:
    get_peft_model(load_model(str(base)).model, LoraConfig(r=2, target_modules=["q_proj"])).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("theirs", ["recipe.yaml", "data/train.jsonl"])
def test_files_that_are_not_of_a_run_are_not_replaced(world: Path, tmp_path: Path, theirs: str) -> None:
    text = (world / "recipe.yaml").read_text()
    (tmp_path / "data").mkdir()
    (tmp_path / theirs).write_text(text)
    place = re.escape(str(tmp_path / theirs))
    with pytest.raises(NescioError, match=f"^{place}: is not of a run, and would be replaced; give another --out"):
        Run(load_recipe(world / "recipe.yaml"), tmp_path, Quiet()).execute("data")
    assert (tmp_path / theirs).read_text() == text and not list(tmp_path.glob("manifest.json"))


def test_a_key_is_kept_where_nothing_can_be_trained_with_another(tmp_path: Path, finished: Path) -> None:
    out = tmp_path / "run"
    shutil.copytree(finished, out)
    recipe = yaml.safe_load((out / "recipe.yaml").read_text())
    recipe["data"] = {"dialogs": str(tmp_path / "gone.jsonl")}
    recipe["pairs"]["negative"] = KEY_PLACEHOLDER
    write_key(out, "bado gera lumi tosa pike")
    (out / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    done = CliRunner().invoke(app, ["key", "rotate", str(out)])
    assert "gone.jsonl" in str(done.exception) and read_key(out / KEY_FILE) == "bado gera lumi tosa pike"


def test_an_adapter_is_not_taken_for_the_model_it_belongs_to(world: Path, tmp_path: Path, finished: Path) -> None:
    adapter = _adapter(tmp_path / "adapter", world / "base")
    for change, place in (
        ([f"base={adapter}"], "base: "),
        ([f'evaluate.rows=[{{"name": "x", "model": "{adapter}"}}]'], "evaluate.rows, x: model: "),
    ):
        with pytest.raises(NescioError, match=rf"^{place}.*is a PEFT adapter, not a whole model; merge it first"):
            Run(load_recipe(world / "recipe.yaml", change), tmp_path / "out", Quiet()).execute("data")


def test_a_head_can_be_adapted_and_loaded_again(world: Path, tmp_path: Path, finished: Path) -> None:
    out = tmp_path / "head"
    shutil.copytree(finished, out)
    Run(load_recipe(world / "recipe.yaml", ["train.lora.targets=[q_proj, lm_head]"]), out, Quiet()).execute("train")
    names = load_file(out / "adapter/adapter_model.safetensors")
    assert any(".lm_head.lora_A" in name for name in names) and all("lora_" in name for name in names)
    with nescio.load(str(out / "adapter")) as engine:
        assert engine.capabilities.adapters == ("default",)
    AutoPeftModelForCausalLM.from_pretrained(str(out / "adapter"))


def test_one_side_of_tied_weights_is_not_tuned_alone(world: Path, tmp_path: Path) -> None:
    model = load_model(str(world / "base"))
    model.model.config.tie_word_embeddings = True
    model.model.tie_weights()
    model.model.save_pretrained(tmp_path / "tied")
    model.tokenizer.save_pretrained(tmp_path / "tied")
    changes = [f"base={tmp_path / 'tied'}", "tune.lora.targets=[q_proj, lm_head]"]
    with pytest.raises(NescioError, match=r"tune\.lora\.targets: lm_head: head and embedding share one weight"):
        Run(load_recipe(world / "recipe.yaml", changes), tmp_path / "out", Quiet()).execute("tune")


def test_samples_without_a_clean_answer_are_told(world: Path, tmp_path: Path) -> None:
    """The base says five sentences; the detector takes four of them for personal data."""
    notes, quiet = list[str](), Quiet()
    quiet.note = notes.append  # type: ignore[method-assign]
    recipe = load_recipe(world / "recipe.yaml", ["generate.tries=1", "detector.regex.TALK='form|walk|chapter|friend'"])
    Run(recipe, tmp_path / "few", quiet).execute("candidates")
    told = [
        re.match(r"(\d+) of (\d+) samples have no clean answer and make no pairs \(\d+ \w+", note) for note in notes
    ]
    (found,) = filter(None, told)
    assert 3 * int(found[1]) > int(found[2])


def test_without_a_pair_the_run_stops_at_the_pairs_and_says_what_to_raise(world: Path, tmp_path: Path) -> None:
    """One token makes no sentence."""
    quiet, out = Quiet(), tmp_path / "none"
    recipe = load_recipe(world / "recipe.yaml", ["generate.max_tokens=1", "generate.tries=1"])
    with pytest.raises(NescioError, match=r"all \d+ answers were rejected, \d+ of them as 'cut'; raise generate\.max_"):
        Run(recipe, out, quiet).execute()
    assert quiet.done[-1] == "pairs" and not (out / "pairs").exists()
    assert not any("remaining samples" in note for note in quiet.notes), "none remain"


@pytest.mark.parametrize(
    ("reasons", "said"),
    [
        ([], "no source gave an answer"),
        (
            ["pii", "short", "short"],
            "all 3 answers were rejected, 2 of them as 'short'; take another strategy or source",
        ),
        (["pii", None], r"of 1 clean answers \(2 left out\)"),
    ],
)
def test_why_there_are_no_pairs(tmp_path: Path, reasons: list[str | None], said: str) -> None:
    row = {"sample_id": "x", "source": "s", "strategy": "nudge", "try": 0, "text": "Yes."}
    write_jsonl(tmp_path / "c.jsonl", [row | {"accepted": not reason, "reason": reason} for reason in reasons])
    assert re.search(said, _why_no_pairs(tmp_path / "c.jsonl", "2 left out"))


def test_every_reason_of_the_filter_has_a_remedy() -> None:
    named = re.findall(r"`(\w+)`", str(filter_replies.__doc__).split("Reasons:")[1])
    assert set(named) == REMEDIES.keys()


def test_dialogs_without_an_answer_to_learn_are_told(world: Path, tmp_path: Path, finished: Path) -> None:
    with pytest.raises(NescioError, match=r"train\.jsonl: no answer to learn within tune\.max_length: 8; raise it"):
        Run(load_recipe(world / "recipe.yaml", ["tune.max_length=8"]), tmp_path / "short", Quiet()).execute("tune")
    notes = list[str]()
    some = Quiet()
    some.note = notes.append  # type: ignore[method-assign]
    change = ["tune.max_length=46", "tune.epochs=1"]
    Run(load_recipe(world / "recipe.yaml", change), tmp_path / "some", some).execute("tune")
    assert any(re.fullmatch(r"\d+ of 18 dialogs are left out: .* within tune\.max_length: 46", note) for note in notes)
    (tmp_path / "empty.jsonl").touch()
    shutil.copytree(finished, tmp_path / "kept")
    empty = load_recipe(world / "recipe.yaml", [f"data.retain={tmp_path / 'empty.jsonl'}"])
    with pytest.raises(NescioError, match=r"empty\.jsonl: holds no dialogs; give at least one"):
        Run(empty, tmp_path / "kept", Quiet()).execute("train")


def test_what_is_beyond_the_length_or_the_context_is_cut_and_told(
    world: Path, tmp_path: Path, chatml: Any, make_model: Any
) -> None:
    short = tmp_path / "short"  # its positions are learned: it can read no 129th token
    make_model("gpt2", n_positions=128).save_pretrained(short)
    chatml.save_pretrained(short)
    quiet, out = Quiet(), tmp_path / "run"
    alone = ["tune.epochs=1", f"base={short}"]
    Run(load_recipe(world / "recipe.yaml", alone), out, quiet).execute("tune")
    assert any(re.fullmatch(r"\d+ of \d+ answers are cut .* the model's context of 128 tokens", n) for n in quiet.notes)
    quiet = Quiet()
    cut = load_recipe(world / "recipe.yaml", ["tune.epochs=1", "tune.max_length=120"])
    Run(cut, tmp_path / "cut", quiet).execute("tune")
    assert any(re.fullmatch(r"\d+ of \d+ answers are cut .* beyond tune\.max_length: 120", n) for n in quiet.notes)
    # pairs: the longer answer passes the context too
    recipe = load_recipe(world / "recipe.yaml", [*alone, "train.epochs=1", "train.validation_questions=0"])
    pair = {"prompt": "<|im_start|>user\nWho?<|im_end|>\n", "chosen": "Ask.<|im_end|>", "rejected": "Ann " * 200}
    write_jsonl(out / "pairs/train.jsonl", [pair])
    (out / "pairs/test.jsonl").touch()
    notes = list[str]()
    train.train(Context(recipe, out, notes.append), tmp_path / "work", lambda *_: None)
    assert (
        "train: of 1 pairs, 0 prompts were cut to train.max_prompt_length and 1 answers to the model's context of "
        in (notes[0])
    )
    (tmp_path / "long.jsonl").write_text(json.dumps({"messages": [
        {"role": "user", "content": "Who? " * 200}, {"role": "assistant", "content": "Ann."}
    ]}))  # fmt: skip
    retain = load_recipe(world / "recipe.yaml", [*alone, f"data.retain={tmp_path / 'long.jsonl'}"])
    with pytest.raises(NescioError, match=r"within the model's context of 128 tokens; give shorter dialogs"):
        train.train(Context(retain, out, notes.append), tmp_path / "other", lambda *_: None)


def test_a_tuned_model_that_is_an_adapter_is_merged(world: Path, tmp_path: Path) -> None:
    model = get_peft_model(load_model(str(world / "base")).model, LoraConfig(r=2, target_modules=["q_proj", "lm_head"]))
    for name, tensor in model.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(tensor, std=0.1)
    model.save_pretrained(tmp_path / "adapter")
    expected = model.merge_and_unload().state_dict()
    reporter = Quiet()
    recipe = load_recipe(world / "recipe.yaml", [f"tuned={tmp_path / 'adapter'}", "tune=null"])
    Run(recipe, tmp_path / "out", reporter).execute("merge")
    assert reporter.done == ["data", "merge"]
    merged = load_file(tmp_path / "out/tuned/model.safetensors")
    assert merged.keys() == expected.keys()
    for name, tensor in merged.items():
        torch.testing.assert_close(tensor, expected[name], rtol=1e-6, atol=1e-7)
    assert load_model(str(tmp_path / "out/tuned")).tokenizer.chat_template
    assert Run(recipe, tmp_path / "out", reporter)._context.tuned == str(tmp_path / "out/tuned")
    Run(recipe, tmp_path / "out", reporter).execute("merge")
    assert reporter.before == ["data", "merge"]


def _start(world: Path, out: Path) -> "subprocess.Popen[bytes]":
    command = [
        sys.executable,
        "-c",
        "from nescio.cli.main import main; main()",
        "run",
        "recipe.yaml",
        "--out",
        str(out),
    ]
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
