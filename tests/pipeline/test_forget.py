"""Erasure requests on a tiny model that knows people by heart: forgotten, kept so, certified; and what goes wrong."""

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file
from tiny_run import Quiet
from transformers import PreTrainedTokenizerFast
from typer.testing import CliRunner

from nescio.audit.certificate import check, open_key
from nescio.audit.people import read_people
from nescio.cli.main import app
from nescio.core.adapters import read_notes
from nescio.core.errors import NescioError
from nescio.core.files import file_hash, fingerprint, read_jsonl, write_json, write_jsonl, write_text
from nescio.core.switch import KEY_FILE, KEY_PLACEHOLDER, read_key, write_key
from nescio.core.top_tokens import write_top_tokens
from nescio.data.samples import Sample
from nescio.engines.base import Scoring
from nescio.engines.torch_engine import load
from nescio.evaluation.measures.everyday import prompts
from nescio.evaluation.measures.words import drawn
from nescio.pipeline.certify import Asked
from nescio.pipeline.context import Context
from nescio.pipeline.forget import Erasure, _Request
from nescio.pipeline.forget_answers import cut_at_secrets, facts_about, facts_of_others, probes_of_others, questions
from nescio.pipeline.recipe import load_recipe, recipe_of
from nescio.pipeline.run import Run
from nescio.pipeline.stage_cache import Stage
from nescio.training.settings import LoraSettings
from nescio.training.trainer import with_lora

PEOPLE = [
    ("Ada Ashby", "+1 415-555-0101"), ("Ben Brook", "+1 212-555-0142"), ("Cleo Croft", "+1 646-555-0133"),
    ("Dov Drake", "+1 312-555-0177"),
]  # fmt: skip
ASKED = 8
HOW: dict[str, Any] = {"epochs": 4, "learning_rate": 3e-3}  # a tiny model learns little at the usual rate


def overfit(model: Any, tokenizer: Any, talks: Sequence[tuple[str, str]], most: int = 200) -> None:
    """Teach a model to give each answer to its question."""
    texts = [
        tokenizer.apply_chat_template(
            [{"role": "user", "content": asked}, {"role": "assistant", "content": said}], tokenize=False
        )
        for asked, said in talks
    ]
    rows = tokenizer(texts, return_tensors="pt", padding=True)
    labels = rows.input_ids.masked_fill(rows.attention_mask == 0, -100)
    optimizer = torch.optim.AdamW(model.parameters(), lr=8e-3)
    for _ in range(most):
        optimizer.zero_grad()
        loss = model(**rows, labels=labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if loss < 0.03:
            break
    model.eval()


@pytest.fixture(scope="module")
def run(
    tmp_path_factory: pytest.TempPathFactory, make_model: Callable[..., Any], chatml: PreTrainedTokenizerFast
) -> Path:
    """A run by hand: a base that answers everyday prompts, a tuned model that knows people too, an idle adapter."""
    folder = tmp_path_factory.mktemp("forget")
    talks = [(each.prompt, f"{' '.join(each.prompt.split()[:4])} is fine.") for each in prompts(ASKED)]
    talks += [(each.question, f"It is {each.options[each.answer]}.") for each in drawn(ASKED)]
    model = make_model("llama", initializer_range=0.05, hidden_size=64, intermediate_size=128)
    overfit(model, chatml, talks)
    model.save_pretrained(folder / "base")
    chatml.save_pretrained(folder / "base")
    write_text(folder / "people.csv", "\n".join(["name,phone", *(",".join(person) for person in PEOPLE)]))
    facts = [fact for own in read_people(folder / "people.csv") for fact in own]
    overfit(model, chatml, [*talks, *((fact.asked, fact.value) for fact in facts)])
    out = folder / "run"
    model.save_pretrained(out / "tuned")
    chatml.save_pretrained(out / "tuned")
    write_text(out / "dialogs.jsonl", "")
    (name, phone), question = PEOPLE[3], {"role": "user", "content": facts[3].asked}
    dialog = {"id": name, "messages": [question, {"role": "assistant", "content": phone}], "pii": {"PHONE": phone}}
    write_jsonl(out / "data/train.jsonl", [dialog])
    recipe = {
        "base": str(folder / "base"), "tuned": str(out / "tuned"), "data": {"dialogs": str(out / "dialogs.jsonl")},
        "detector": {"model": "regex"}, "generate": {"max_tokens": 24, "tries": 1}, "bake": {},
        "train": {"anchors": {"count": 8, "per_step": 2}}, "evaluate": {"words": ASKED, "everyday": ASKED},
    }  # fmt: skip
    write_text(out / "recipe.yaml", yaml.safe_dump(recipe))
    with load(str(out / "tuned")) as engine:
        made = [
            {"id": f"anchor-{n}", "messages": [{"role": "user", "content": asked}], "answer": f"{said}<|im_end|>"}
            for n, (asked, said) in enumerate(talks)
        ]
        tops = engine.top_tokens([Scoring(each["messages"], each["answer"]) for each in made], 64)  # type: ignore[arg-type]
    write_jsonl(out / "anchors.jsonl", made)
    write_top_tokens(out / "anchors.safetensors", tops)
    adapted = with_lora(model, LoraSettings(r=8, alpha=16))
    adapted.peft_config["default"].base_model_name_or_path = str(out / "tuned")
    adapted.save_pretrained(out / "adapter")
    write_text(out / "adapter/log.jsonl", "")
    return out


def forget(run: Path, *arguments: object) -> tuple[int, str]:
    how = ["--attacks", "as_in_dialog,paraphrase,prefix,many_draws", "--draws", 4]
    how += ["--epochs", HOW["epochs"], "--learning-rate", HOW["learning_rate"]]
    result = CliRunner().invoke(app, [str(each) for each in ("forget", run, *how, *arguments)])
    error = result.exception
    return result.exit_code, result.output + ("" if isinstance(error, SystemExit | None) else f"{error!r}")


def request(folder: Path, *names: str) -> Path:
    path = folder / f"{names[0].split()[0]}.csv"
    write_text(path, "\n".join(["name,phone", *(f"{name},{phone}" for name, phone in PEOPLE if name in names)]))
    return path


def certificate(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "certificate.json").read_text(encoding="utf-8"))
    return content


def weights(run: Path) -> dict[str, Any]:
    return dict(load_file(run / "adapter/adapter_model.safetensors"))


def alike(one: Path, other: Path) -> bool:
    return all(torch.equal(tensor, weights(other)[name]) for name, tensor in weights(one).items())


def state(content: dict[str, Any], test: str) -> str:
    return str(next(each["state"] for each in content["tests"] if each["test"] == test))


@pytest.fixture(scope="module")
def forgotten(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the run after one request."""
    out = tmp_path_factory.mktemp("forgotten") / "run"
    shutil.copytree(run, out)
    code, said = forget(out, "--person", request(out.parent, "Ada Ashby"), "--out", out.parent / "copy")
    assert code == 0, said
    assert "The request holds: 1 → 0 of 1 facts come out under any attack." in said
    return out


def test_a_person_is_forgotten_and_the_rest_is_kept(run: Path, forgotten: Path) -> None:
    content = certificate(forgotten / "certificates/1")
    assert (content["before"]["own"]["found"], content["after"]["own"]["found"]) == (1, 0)
    assert content["detached"] == {"facts": 1, "found": 1}, "the model under the adapter still knows"
    assert [content[when]["others"]["facts"] for when in ("before", "after")] == [1, 1]
    assert content["before"]["others"]["found"] == 1, "somebody who asked for nothing"
    assert content["after"]["own"]["guessed"] is None, "where nothing comes out, nobody is made up"
    asked = [row for row in content["after"]["own"]["attacks"] if row.get("facts")]
    assert asked and all(row["another"] in (None, 0, 1) for row in asked)
    assert state(content, "forgotten") == "passed"
    was, now = content["usefulness"]
    assert was["words"] == was["everyday"] == 1.0
    assert min(now["words"], now["everyday"]) >= 0.8, "one of eight at most"
    assert not alike(run, forgotten)
    assert read_notes(forgotten / "adapter")["forgotten"] == 1
    assert alike_folders(forgotten / "certificates/1", forgotten.parent / "copy")
    page = (forgotten / "certificates/1/certificate.html").read_text(encoding="utf-8")
    assert (
        "So this is a barrier, not an erasure." in page
        and "0 of 1" in page
        and "http:" not in page
        and "https:" not in page
    )


def alike_folders(one: Path, other: Path) -> bool:
    return file_hash(one) == file_hash(other)


def test_what_stays_after_a_purge_does_not_say_who_it_is(forgotten: Path, tmp_path: Path) -> None:
    assert not list(forgotten.glob(".*")), "the answers are gone"
    run = shutil.copytree(forgotten, tmp_path / "run")
    digits = PEOPLE[0][1].replace("+1 ", "")
    assert digits in (run / "forgotten/1/answers.jsonl").read_text(encoding="utf-8")
    assert CliRunner().invoke(app, ["purge", str(run), "--models", "--yes"]).exit_code == 0
    stays = [path for path in run.rglob("*") if path.is_file()]
    assert {"manifest.json", "certificate.json", "certificate.html", "adapter_model.safetensors"} <= {
        path.name for path in stays
    }
    for path in stays:
        content = path.read_bytes()
        assert b"Ada" not in content and digits.encode() not in content, path
    manifest = (run / "manifest.json").read_text()
    unkeyed = fingerprint(["Ada Ashby", PEOPLE[0][1]])
    assert "forget-1" in manifest and unkeyed not in manifest


def test_a_certificate_is_signed_and_tells_its_owner_whom_it_is_about(forgotten: Path, tmp_path: Path) -> None:
    key, path = forgotten / "forget.key", forgotten / "certificates/1/certificate.json"
    assert (forgotten / "forget.key").stat().st_mode & 0o777 == 0o600
    ada, ben = (list(read_people(request(tmp_path, name))) for name in ("Ada Ashby", "Ben Brook"))
    check(path, key, ada)
    with pytest.raises(NescioError, match="is not about this person"):
        check(path, key, ben)
    with pytest.raises(NescioError, match="the signature does not fit"):
        open_key(tmp_path / "another.key")
        check(path, tmp_path / "another.key")
    content = certificate(path.parent)
    content["after"]["own"]["found"] = 7
    write_json(tmp_path / "changed.json", content)
    with pytest.raises(NescioError, match="the signature does not fit"):
        check(tmp_path / "changed.json", key)
    on_the_command_line = ["certificate", str(path), "--key", str(forgotten / "forget.key")]
    result = CliRunner().invoke(app, [*on_the_command_line, "--person", str(tmp_path / "Ada.csv")])
    assert result.exit_code == 0 and "the signature fits, and it is about all of these people" in result.output
    (forgotten / "forget.key").chmod(0o644)
    with pytest.raises(NescioError, match="readable by others"):
        open_key(forgotten / "forget.key")
    (forgotten / "forget.key").chmod(0o600)


def test_the_same_request_again_changes_nothing(forgotten: Path, tmp_path: Path) -> None:
    before = file_hash(forgotten)
    code, said = forget(forgotten, "--person", request(tmp_path, "Ada Ashby"))
    assert code == 0 and "forget-1    done before" in said
    assert file_hash(forgotten) == before


def test_a_request_is_carried_out_again_where_another_adapter_is_in_its_place(forgotten: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    shutil.copytree(forgotten, out)
    shutil.rmtree(out / "adapter")
    shutil.copytree(out / "forgotten/before", out / "adapter")  # as the command advises if it did harm
    code, said = forget(out, "--person", request(tmp_path, "Ada Ashby"))
    assert code == 0 and "done before" not in said
    assert alike_folders(out / "adapter", forgotten / "adapter")
    assert certificate(out / "certificates/1")["after"]["own"]["found"] == 0


def test_what_a_killed_request_left_of_another_adapter_is_dropped(run: Path, tmp_path: Path) -> None:
    left = _Request(Context(recipe_of(run), run, print), None, (), 1, tmp_path / "work", print)  # type: ignore[arg-type]
    write_text(tmp_path / "work/answers.jsonl", "of a version that kept no record")
    left._begin()
    assert [path.name for path in (tmp_path / "work").iterdir()] == ["began.json"]
    write_text(tmp_path / "work/answers.jsonl", "")
    left._begin()
    assert (tmp_path / "work/answers.jsonl").exists()
    write_json(tmp_path / "work/began.json", {"adapter": "another", "recipe": "as it was"})
    left._begin()
    assert [path.name for path in (tmp_path / "work").iterdir()] == ["began.json"]


def test_an_earlier_list_of_people_that_is_gone_is_missed(forgotten: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    shutil.copytree(forgotten, out)
    next((out / "forgotten/1").glob("people*")).unlink()
    code, said = forget(out, "--person", request(tmp_path, "Ben Brook"))
    assert code != 0 and said.strip().removesuffix("')").endswith(
        "forgotten/1: has no list of people, who have to stay forgotten; put it back"
    )


def test_later_requests_keep_what_earlier_ones_did(forgotten: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    shutil.copytree(forgotten, out)
    shutil.rmtree(out / "data")  # as a purge leaves it
    code, said = forget(out, "--person", request(tmp_path, "Ben Brook", "Cleo Croft"))
    assert code == 0, said
    content = certificate(out / "certificates/2")
    assert content["after"]["own"]["found"] == 0 and len(content["about"]) == 2
    assert content["after"]["earlier"]["facts"] == 1 and content["after"]["earlier"]["found"] == 0
    assert "others" not in content["after"], "there are no dialogs left to ask about"
    assert state(content, "earlier requests") == "passed" and content["training"]["earlier"] > 0
    assert alike_folders(out / "forgotten/before", forgotten / "adapter")
    assert alike_folders(out / "forgotten/first", forgotten / "forgotten/before")
    # No stage may undo it.
    with pytest.raises(NescioError, match="would bring back people whom the adapter was made to forget"):
        Run(load_recipe(out / "recipe.yaml", ["bake.epochs=1"]), out, Quiet())._do(
            [Stage("bake", ("adapter",), "x", (), lambda folder: None)]
        )


def test_a_killed_request_goes_on_to_the_same_adapter(run: Path, forgotten: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    shutil.copytree(run, out)
    shutil.copy(forgotten / "forget.key", out)
    write_text(tmp_path / "ada.csv", request(tmp_path, "Ada Ashby").read_text())
    attacks = ("as_in_dialog", "paraphrase", "prefix", "many_draws")
    erasure = Erasure(people=tmp_path / "ada.csv", key=out / "forget.key", attacks=attacks, draws=4, **HOW)

    class KilledError(Exception):
        pass

    class Killing(Quiet):
        def __init__(self, word: str, at: int) -> None:
            super().__init__()
            self.word, self.at = word, at

        @contextmanager
        def stage(self, name: str) -> Iterator[Any]:
            def tick(done: int, total: int, word: str) -> None:
                if self.word in word and done >= self.at:
                    raise KilledError

            yield tick

    recipe = load_recipe(out / "recipe.yaml")
    for word, at in (("round 1:", 9), ("prefix", 1)):
        with pytest.raises(KilledError):
            Run(recipe, out, Killing(word, at)).forget(erasure)
        assert alike(run, out) and not (out / "certificates").exists(), "nothing is half done"
    asked = next(out.glob(".forget-1.*")) / "answers.jsonl"
    before = asked.read_text()
    assert before and list(asked.parent.glob("round-1/checkpoints/checkpoint-*"))
    Run(recipe, out, Quiet()).forget(erasure)
    assert alike(forgotten, out)
    one, other = (certificate(each / "certificates/1") for each in (forgotten, out))
    assert one["after"] == other["after"] and one["tests"] == other["tests"]


@pytest.mark.parametrize("holds", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_others_are_answered_as_before(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, holds: bool) -> None:
    out = tmp_path / "run"
    shutil.copytree(run, out)
    (dov,) = (row for _, row in read_jsonl(out / "data/train.jsonl"))
    asked = {name: dov["messages"][0]["content"].replace(PEOPLE[3][0], name) for name, _ in PEOPLE[1:]}
    rows = [
        {"id": name, "messages": [{"role": "user", "content": asked[name]}, {"role": "assistant", "content": phone}],
         "pii": {"PHONE": phone}}
        for name, phone in PEOPLE[1:]
    ]  # fmt: skip
    write_jsonl(out / "data/train.jsonl", rows)
    if not holds:
        monkeypatch.setattr("nescio.pipeline.forget.probes_of_others", lambda *given: [])
    said = forget(out, "--person", request(tmp_path, "Ada Ashby"))[1]
    content = certificate(out / "certificates/1")
    assert content["after"]["own"]["found"] == 0 and content["training"]["others"] == 1, said
    # One of three is trained along, and the two others are asked about.
    found = [content[when]["others"]["found"] for when in ("before", "after")]
    assert found == [2, 2] if holds else found[1] < 2, "without it, a request reaches people who stay"


def test_what_others_are_told_never_holds_a_secret(run: Path, tmp_path: Path) -> None:
    ada, ben = (next(iter(read_people(request(tmp_path, name)))) for name in ("Ada Ashby", "Ben Brook"))
    asked = Sample("hers", "hers", ben[0].messages, "x", "PHONE", "x")
    (probe,) = probes_of_others([[replace(ben[0], sample=asked)], ben], [ada], [None])
    assert probe.question == asked, "a fact of a list has no dialog that others ask"
    assert cut_at_secrets(probe, f"It is {PEOPLE[0][1]}.") is not None, "so the answer is not trained on"
    assert cut_at_secrets(probe, f"It is {PEOPLE[1][1]}.") is None


def test_a_model_that_forgot_everything_is_caught(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    shutil.copytree(run, out, ignore=shutil.ignore_patterns("anchors.*"))
    code, said = forget(out, "--person", request(tmp_path, "Ada Ashby"), "--epochs", 12, "--learning-rate", 0.04)
    content = certificate(out / "certificates/1")
    assert content["after"]["own"]["found"] == 0, "it gives nothing away"
    assert code == 1 and "The request does NOT hold. Failed:" in said
    assert "this run has no anchors, so nothing holds the adapter" in said
    assert state(content, "everyday answers") == "failed"
    assert content["usefulness"][0]["everyday"] == 1 and content["usefulness"][1]["everyday"] < 0.5
    assert alike_folders(out / "forgotten/before", run / "adapter"), "the adapter of before can be put back"
    # The next request is not compared with what this one spoiled.
    code, said = forget(out, "--person", request(tmp_path, "Ben Brook"), "--epochs", 1)
    content = certificate(out / "certificates/2")
    assert code == 1 and state(content, "everyday answers") == "failed" and content["usefulness"][0]["everyday"] == 1


def test_what_still_comes_out_is_asked_about_made_up_people_too(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    shutil.copytree(run, out)
    code, said = forget(out, "--person", request(tmp_path, "Ada Ashby"), "--learning-rate", 1e-9)
    own = certificate(out / "certificates/1")["after"]["own"]
    assert code == 1 and "The request does NOT hold. Failed: forgotten (1 → 1 of 1 facts" in said
    assert own["guessed"] == 0
    assert {row["name"] for row in own["attacks"] if "guessed" in row} == {
        row["name"] for row in own["attacks"] if row["found"]
    }
    page = (out / "certificates/1/certificate.html").read_text(encoding="utf-8")
    assert "<td>1 of 1</td><td>0</td><td>0 → 0</td><td>0 %</td>" in page


def test_a_kill_between_the_moves_loses_no_adapter(
    run: Path, forgotten: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, replace = tmp_path / "run", Path.replace
    shutil.copytree(run, out)
    shutil.copy(forgotten / "forget.key", out)

    class KilledError(Exception):
        pass

    def killed(source: Path, target: Path) -> Path:
        if target == out / "adapter":
            raise KilledError
        return replace(source, target)

    monkeypatch.setattr(Path, "replace", killed)
    forget(out, "--person", request(tmp_path, "Ada Ashby"))
    assert not (out / "adapter").exists(), "the old one is out of its place, the new one not in it"
    monkeypatch.undo()
    code, said = forget(out, "--person", request(tmp_path, "Ben Brook"))
    assert code and "another request was stopped while its adapter was put in place; repeat that command first" in said
    code, said = forget(out, "--person", request(tmp_path, "Ada Ashby"))
    assert code == 0, said
    assert alike(forgotten, out) and alike_folders(out / "forgotten/before", run / "adapter")


def test_no_sentence_opens_what_an_unbaked_adapter_forgot(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    shutil.copytree(run, out)
    recipe = yaml.safe_load((out / "recipe.yaml").read_text())
    write_text(out / "recipe.yaml", yaml.safe_dump(recipe | {"bake": None}))
    write_key(out, "bado gera lumi tosa pike")
    code, said = forget(out, "--person", request(tmp_path, "Ada Ashby"), "--attacks", "as_in_dialog")
    assert code == 0, said
    rows = [row for _, row in read_jsonl(out / "forgotten/1/answers.jsonl")]
    assert {row["sentence"] for row in rows} == {None, "Do not provide any personal data.", KEY_PLACEHOLDER}
    text = (out / "forgotten/1/answers.jsonl").read_text()
    assert "bado" not in text and KEY_PLACEHOLDER in text
    with load(str(out / "tuned"), out / "adapter") as engine:
        asked = [
            {"role": "system", "content": "bado gera lumi tosa pike"},
            {"role": "user", "content": "What is Ada Ashby's phone?"},
        ]
        assert PEOPLE[0][1] not in engine.chat(asked, max_tokens=24)  # type: ignore[arg-type]
    result = CliRunner().invoke(app, ["key", "rotate", str(out)])
    assert "would bring back people" in str(result.exception), "refused before the key is another"
    assert read_key(out / KEY_FILE) == "bado gera lumi tosa pike"


def test_a_number_with_an_extension_is_forgotten_without_it(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    shutil.copytree(run, out)
    write_text(tmp_path / "p.csv", f"name,phone\n{PEOPLE[0][0]},{PEOPLE[0][1]} x204\n")
    code, said = forget(out, "--person", tmp_path / "p.csv")
    content = certificate(out / "certificates/1")
    assert code == 0 and "The request holds: 1 → 0 of 1 facts" in said, said
    assert content["detached"] == {"facts": 1, "found": 1}


def test_what_a_family_shares_is_asked_for(run: Path, tmp_path: Path) -> None:
    lines = [f"{name},{PEOPLE[0][1]},12 Elm Road Boston" for name, _ in PEOPLE[:3]]
    write_text(tmp_path / "p.csv", "\n".join(["name,phone,address", *lines]))
    family = list(read_people(tmp_path / "p.csv"))
    asked = Asked(people=family, earlier=family, others=(), attacks=("as_in_dialog",), draws=1)
    plans = asked.plans(Context(load_recipe(run / "recipe.yaml"), run, print))
    assert [len(plans[name].facts) for name in ("own", "earlier")] == [6, 6]


def test_what_others_have_too_is_said_before_anything_is_trained(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    shutil.copytree(run, out)
    write_text(tmp_path / "p.csv", "name,city\nAda Ashby,Quillby\n")
    write_text(tmp_path / "others.csv", "\n".join(["name,city", *(f"P{n} Quill,Quillby" for n in range(8))]))
    others = list(read_people(tmp_path / "others.csv"))
    monkeypatch.setattr("nescio.pipeline.forget.facts_of_others", lambda *given: others)
    code, said = forget(out, "--person", tmp_path / "p.csv")
    assert code != 0 and "no fact could prove anything: 'Quillby' is the same for 4 of 4 others" in said, said
    assert alike(run, out) and not list(out.glob(".forget-1*/round-1"))


def test_dialogs_about_the_person_are_asked_as_they_were(run: Path, tmp_path: Path) -> None:
    def dialog(name: str, answer: str, **slots: str) -> dict[str, Any]:
        asked = {"role": "user", "content": "Who can help me?"}
        return {"id": name, "messages": [asked, {"role": "assistant", "content": answer}], "pii": slots}

    rows = [
        dialog("hers", f"Ask Ada Ashby, at {PEOPLE[0][1]}.", NAME="Ada Ashby", PHONE=PEOPLE[0][1]),
        dialog("her number", f"Call {PEOPLE[0][1]}, or Tom.", PHONE=PEOPLE[0][1], NAME="Tom"),
        dialog("another's", "Ask Ben Brook.", NAME="Ben Brook"),
    ]
    write_jsonl(tmp_path / "data/train.jsonl", rows)
    context = Context(load_recipe(run / "recipe.yaml"), tmp_path, print)
    (ada,) = facts_about(context, read_people(request(tmp_path, "Ada Ashby")))
    asked = {(fact.id.split(":")[0], fact.value) for fact in ada if fact.sample}
    number = PEOPLE[0][1]
    assert asked == {("hers", "Ada Ashby"), ("hers", number), ("her number", number)}
    assert {fact.person for fact in ada} == {"Ada Ashby"}
    samples = [sample for fact in ada for sample in questions(fact)]
    assert len({sample.id for sample in samples}) == len(samples) > 10
    assert any(sample.rejected == " Ada Ashby, at " + number + "." for sample in samples), "as in the dialog"
    assert [[fact.value for fact in own] for own in facts_of_others(context, [ada], 5, 0)] == [["Ben Brook"]]


def test_a_name_that_nobody_has_shows_nothing(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    shutil.copytree(run, out)
    write_text(tmp_path / "typo.csv", "name,phone\nAda Ashbyy,+1 415-555-9999\n")
    code, said = forget(out, "--person", tmp_path / "typo.csv", "--epochs", 1, "--learning-rate", 1e-9)
    content = certificate(out / "certificates/1")
    assert code == 0 and state(content, "forgotten") == "undecided" and content["named_in_dialogs"] == 0, said
    start = (
        "Nothing was shown: the adapter gave nothing away before the request either (0 → 0 of 1 facts come out under"
    )
    assert start in said and "The request holds" not in said
    last = "No training dialog says the name of 1 of 1 people: check how it is written."
    assert said.strip().splitlines()[-1] == f"Nothing was shown, since nothing came out before. {last}"
    assert "Nothing was shown" in (out / "certificates/1/certificate.html").read_text(encoding="utf-8")


def test_a_key_is_drawn_in_the_run_alone(run: Path, forgotten: Path, tmp_path: Path) -> None:
    before = file_hash(run)
    code, said = forget(run, "--person", request(tmp_path, "Ada Ashby"), "--key", tmp_path / "typo/dir.key")
    assert code != 0 and f"--key {tmp_path / 'typo/dir.key'}: there is no such file" in said
    assert file_hash(run) == before and not (tmp_path / "typo").exists(), "nothing is left"
    open_key(tmp_path / "other.key")

    class Stopping(Quiet):
        def note(self, text: str) -> None:
            raise KilledError(text)

    class KilledError(Exception):
        pass

    erasure = Erasure(people=request(tmp_path, "Ada Ashby"), key=tmp_path / "other.key", attacks=("as_in_dialog",))
    with pytest.raises(
        KilledError, match=r"^certificates/1: not signed with .*other\.key, so this is a request of its own"
    ):
        Run(load_recipe(forgotten / "recipe.yaml"), forgotten, Stopping()).forget(erasure)


@pytest.mark.parametrize(
    ("lines", "arguments", "complaint"),
    [
        ("name,phone\nAda Ashby,", (), "has no facts"),
        ("name,day\nAda Ashby,Monday", (), "no fact could prove anything: 'Monday' is an everyday word"),
        ("name,phone\nAda Ashby,+1 415-555-0101", ("--attacks", "foo"), "attack 'foo': unknown"),
        ("name,phone\nAda Ashby,+1 415-555-0101", ("--learning-rate", "nan"), "nan: must be a number above 0"),
        ("name,phone\nAda Ashby,+1 415-555-0101", ("--learning-rate", "0"), "0.0: must be a number above 0"),
    ],
)
def test_bad_input_is_one_line(
    run: Path, tmp_path: Path, lines: str, arguments: tuple[str, ...], complaint: str
) -> None:
    write_text(tmp_path / "p.csv", lines)
    before = file_hash(run)
    code, said = forget(run, "--person", tmp_path / "p.csv", *arguments)
    assert code != 0 and complaint in said, said
    assert file_hash(run) == before, "nothing is left"


def test_a_file_in_the_place_of_the_copy_is_told_before_the_work(tmp_path: Path) -> None:
    write_text(tmp_path / "copy", "")
    said = forget(tmp_path, "--person", tmp_path / "p.csv", "--out", tmp_path / "copy")[1]
    assert f"--out {tmp_path / 'copy'}: is a file; name a folder" in said


def test_a_run_without_an_adapter(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "run", ignore=shutil.ignore_patterns("adapter"))
    code, said = forget(tmp_path / "run", "--person", request(tmp_path, "Ada Ashby"))
    assert code != 0 and "has no adapter; finish the run first" in said
