"""A report that can be shown, and a run whose personal data is deleted: nothing of it is left in what stays."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from nescio.cli.main import app
from nescio.core.files import write_jsonl, write_text
from nescio.pipeline.context import Context
from nescio.pipeline.purge import masker
from nescio.pipeline.recipe import load_recipe, recipe_of
from nescio.report.redact import redacted, redacted_row

# Those that tests/report/conftest.py makes a run of.
PEOPLE = ["Aaron Avila", "Kate Rasmussen", "Henry Duarte", "Tyrone Mueller", "Ana Harrington", "Alicia Odom"]
PLACES = ["Wellington", "Miami", "Portland", "Geneva", "Lisbon", "Turin"]


@pytest.fixture
def run(make_run: Callable[..., Path]) -> Path:
    """A run whose dialogs record the names that its prompts and answers say."""
    out = make_run()
    recipe = yaml.safe_load((out / "recipe.yaml").read_text())
    recipe |= {"detector": {"model": "regex", "deny": ["Zed Monk"]}}
    write_text(out / "recipe.yaml", yaml.safe_dump(recipe))
    slots = {f"NAME-{n}": name for n, name in enumerate(PEOPLE)} | {f"LOC-{n}": place for n, place in enumerate(PLACES)}
    messages = [
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": f"Ask {', '.join(slots.values())}."},
    ]
    write_jsonl(out / "data/train.jsonl", [{"id": "a", "messages": messages, "pii": slots}])
    write_jsonl(
        out / "data/test.jsonl",
        [{"id": "b", "messages": [messages[0], {"role": "assistant", "content": "No."}], "pii": {}}],
    )
    rows = json.loads((out / "eval/results.json").read_text())
    said = f"It is {PEOPLE[1]}."
    asked = [{"role": "user", "content": f"Where is {PEOPLE[2]}?"}]
    quoted = {"person": "a", "what": "name", "asked": asked, "answer": said, "read": None, "said": "exact",
              "value": PEOPLE[1], "places": [[6, 6 + len(PEOPLE[1])]]}  # fmt: skip
    rows[0] |= {
        "attacked": {"plain": {"title": "plain", "share": 1.0, "share_ci95": [0, 1], "guessed": 0.0, "facts": 1}},
        "attacked_worst": "plain", "attacked_most": 1.0, "attacked_examples": [quoted],
    }  # fmt: skip
    write_text(out / "eval/results.json", json.dumps(rows))
    for name in ("kept/answers.jsonl", "forgotten/1/pairs.jsonl", ".train.abc/checkpoints/x", "paid.jsonl"):
        write_text(out / name, PEOPLE[0])
    write_text(out / "adapter/adapter_config.json", "{}")
    write_text(out / "tuned/config.json", "{}")
    write_text(out / "certificates/1/certificate.json", "{}")
    return out


def nescio(*arguments: object) -> str:
    result = CliRunner().invoke(app, list(map(str, arguments)))
    assert result.exit_code == 0, (result.output, result.exception)
    return result.output


def names_in(text: str) -> list[str]:
    return [name for name in (*PEOPLE, *PLACES, "Zed Monk") if name in text]


def test_old_names_in_the_recipe_are_noted_once(run: Path) -> None:
    recipe = yaml.safe_load((run / "recipe.yaml").read_text())
    recipe["evaluate"] |= {"draws": 3}
    write_text(run / "recipe.yaml", yaml.safe_dump(recipe))
    assert nescio("report", run, "--redact").count("evaluate.draws: the name of nescio 0.1.0") == 1


def test_a_redacted_report_says_no_name(run: Path) -> None:
    said = nescio("report", run, "--redact")
    assert "report-redacted.html" in said
    assert len(names_in((run / "report.html").read_text())) > 8, "the report itself quotes all"
    shown = (run / "report-redacted.html").read_text()
    assert names_in(shown) == []
    assert "[PERSON]" in shown and "[PII]" in shown
    # Counts are those of the whole report.
    figures = [re.findall(r"<td[^>]*>[^<]*\d[^<]*</td>", page) for page in ((run / "report.html").read_text(), shown)]
    assert len(figures[0]) > 20 and figures[0] == figures[1]


def test_recorded_values_are_masked_in_any_surroundings(run: Path) -> None:
    slots = {"NAME": "Ann", "LOC": "Geneva", "PERSON": "田中"}
    said = "[Ann], **Ann**, Ann/Bob, Ann-Marie, ANN and Ann's friend; Geneva's centre; 田中さんです"
    messages = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": said}]
    write_jsonl(run / "data/train.jsonl", [{"id": "a", "messages": messages, "pii": slots}])
    personal = masker(Context(load_recipe(run / "recipe.yaml"), run, print))
    masked = redacted({"answer": said, "spans": []}, personal)["answer"]
    assert not re.search("ann|geneva|田中", masked.replace("and", ""), re.IGNORECASE), masked


@pytest.mark.parametrize(
    ("recorded", "counted", "shown", "marks"),
    [
        ("14 Elm Close, Leeds", ["Leeds"], "She lives at [GPE].", ["[GPE]"]),
        ("14 Elm Close", ["lives at 14", "Leeds"], "She [GPE], [GPE].", ["[GPE]", "[GPE]"]),
        ("14 Elm Close, Leeds", ["Elm Close", "Leeds"], "She lives at [GPE][GPE].", ["[GPE]", "[GPE]"]),
        ("14 Elm Close", ["Leeds"], "She lives at [PII], [GPE].", ["[GPE]"]),
        ("Leeds", ["14 Elm Close, Leeds"], "She lives at [GPE].", ["[GPE]"]),
    ],
)
def test_what_is_recorded_is_masked_whole_where_part_of_it_was_counted(
    recorded: str, counted: list[str], shown: str, marks: list[str]
) -> None:
    said = "She lives at 14 Elm Close, Leeds."

    def place(piece: str) -> tuple[int, int]:
        return said.index(piece), said.index(piece) + len(piece)

    spans = [dict(zip(("start", "end", "label"), (*place(piece), "GPE"), strict=True)) for piece in counted]
    quoted = redacted({"answer": said, "spans": spans}, lambda _: [(*place(recorded), "PII")])
    assert quoted["answer"] == shown
    assert [shown[span["start"] : span["end"]] for span in quoted["spans"]] == marks


def test_what_an_attack_found_is_masked_in_the_form_in_which_it_was_found() -> None:
    quoted = {"person": "a", "asked": "When?", "answer": "On 3 May 1980.", "places": [[3, 13]], "value": "1980-05-03",
              "read": None, "said": "exact"}  # fmt: skip
    (shown,) = redacted_row({"attacked_examples": [quoted]}, lambda _: [])["attacked_examples"]
    assert shown["answer"] == "On [value]." and shown["places"] == [[3, 10]]
    assert "1980" not in json.dumps(shown)


def test_purging_lists_first(run: Path) -> None:
    before = sorted(path for path in run.rglob("*"))
    said = nescio("purge", run)
    assert "Nothing is deleted yet" in said and f"{run / 'kept'}" in said and "tuned" in said
    assert sorted(run.rglob("*")) == before


def test_purging_leaves_no_name_in_any_file(run: Path) -> None:
    said = nescio("purge", run, "--yes")
    assert said.rstrip().endswith("deleted")
    left = {str(path.relative_to(run)): path.read_text(errors="ignore") for path in run.rglob("*") if path.is_file()}
    assert {name: names_in(text) for name, text in left.items() if names_in(text)} == {}
    for name in (
        "report.html",
        "eval/results.json",
        "adapter/log.jsonl",
        "certificates/1/certificate.json",
        "manifest.json",
    ):
        assert name in left
    assert "tuned/config.json" in left and not any(name.startswith((".train", "eval/tuned", "data")) for name in left)
    assert "keeps nothing" not in said
    nescio("purge", run, "--models", "--yes")
    assert not (run / "tuned").exists() and (run / "adapter").exists()


def test_purging_empties_the_texts_of_the_recipe_and_keeps_the_rest(run: Path) -> None:
    recipe = yaml.safe_load((run / "recipe.yaml").read_text())
    recipe["detector"] |= {"deny": ["Zed Monk", "Kim"], "allow": ["Nescio"], "regex": {"ID": "AB[0-9]+"}}
    write_text(run / "recipe.yaml", yaml.safe_dump(recipe))
    before = recipe_of(run)
    told = "recipe.yaml  (0.0 MiB): detector.deny holds 2 texts; it is emptied"
    stays = "recipe.yaml: detector.allow (1 text) and detector.regex (1 pattern) may name people"
    listed = nescio("purge", run)
    assert told in listed and stays in listed and recipe_of(run) == before
    nescio("purge", run, "--yes")
    assert recipe_of(run) == before.model_copy(update={"detector": before.detector.model_copy(update={"deny": []})})
    again = nescio("purge", run)
    assert "deny" not in again and "keeps nothing" in again and stays in again


def test_a_purge_that_was_stopped_goes_on(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from nescio.pipeline import purge

    delete, left = purge._delete, [4]

    def break_off(path: Path) -> None:
        left[0] -= 1
        if not left[0]:
            raise KeyboardInterrupt
        delete(path)

    monkeypatch.setattr(purge, "_delete", break_off)
    CliRunner().invoke(app, ["purge", str(run), "--yes"])
    assert (run / "data").exists(), "the dialogs go last"
    assert "Zed Monk" in (run / "recipe.yaml").read_text(), "what masks stays as long as there is something to mask"
    monkeypatch.undo()
    nescio("purge", run, "--yes")
    assert not (run / "data").exists() and names_in((run / "eval/results.json").read_text()) == []


def test_what_a_row_says_to_everybody_is_masked() -> None:
    """A detector may miss a name in an answer that the recorded values hold."""
    said = [{"words": "ask ann lee", "answers": 9, "tuned": 0}]
    shown = redacted_row({"filler_words": said}, lambda _: [(4, 11, "NAME")])
    assert shown == {"filler_words": [{"words": "ask [NAME]", "answers": 9, "tuned": 0}]}


def test_a_projects_own_folder_is_not_purged(run: Path) -> None:
    (run / "manifest.json").unlink()
    done = CliRunner().invoke(app, ["purge", str(run), "--yes"])
    assert "no run folder, no stage was finished in it" in str(done.exception)
    assert (run / "data/train.jsonl").exists() and (run / "paid.jsonl").exists()
