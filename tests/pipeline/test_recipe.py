"""Recipes: the paper's numbers for defaults, and one line for every mistake."""

from importlib.resources import files
from pathlib import Path

import pytest
import yaml

from nescio.core.errors import NescioError
from nescio.core.guidance import REVEAL
from nescio.pipeline.recipe import load_recipe, parse_recipe
from nescio.pipeline.train_sections import TrainSection

GOOD = "base: smollm2\ntuned: smollm2\ndata:\n  dialogs: d.jsonl\n"


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "r.yaml"
    path.write_text(text)
    return path


def test_an_empty_train_section_is_the_papers(tmp_path: Path) -> None:
    train = load_recipe(write(tmp_path, GOOD + "train: {}\n")).train
    assert train == TrainSection()
    assert (train.lora.r, train.lora.alpha, train.lora.dropout) == (16, 32, 0.01)
    assert (train.epochs, train.beta, train.batch_size, train.learning_rate) == (3, 0.1, 2, 1e-4)
    assert (train.max_length, train.max_prompt_length) == (2048, 1900)
    assert load_recipe(write(tmp_path, GOOD)).generate.sources[0].temperature == 0.7


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (GOOD + "trian: {}\n", r"r\.yaml:5: trian: unknown key; known here: preset, seed, base"),
        (GOOD + "train:\n  lr: 1\n", r"r\.yaml:6: train\.lr: unknown key; known here: epochs"),
        (GOOD + "train:\n  epochs: many\n", r"r\.yaml:6: train\.epochs: .*is 'many'"),
        (GOOD + "train:\n  epochs: 0\n", r"r\.yaml:6: train\.epochs: .*greater than 0, is 0"),
        (GOOD + "train:\n  lora:\n    r: -1\n", r"r\.yaml:7: train\.lora\.r: "),
        (
            GOOD + "train:\n  anchors: {count: 20}\nbake:\n  more_anchors: 9\n  anchors_per_step: 117\n",
            r"bake\.anchors_per_step: 117 a step, but there are 116 at most; .*, or bake\.more_anchors higher",
        ),
        (
            GOOD + "train:\n  lora: {targets: q_proj}\n",
            r"r\.yaml:6: train\.lora\.targets: must be all-linear or a list of modules, .*, is 'q_proj'$",
        ),
        (GOOD + "evaluate:\n  spaces: [lin]\n", r"r\.yaml:6: evaluate\.spaces\.0: guidance space 'lin': unknown"),
        (
            GOOD + "evaluate:\n  rows:\n    - {name: a, guidance: {scal: 3}}\n",
            r"r\.yaml:7: evaluate\.rows\.0\.guidance\.scal: unknown key; known here: scale, space, positive",
        ),
        (
            GOOD + "evaluate:\n  rows:\n    - {name: a, guidance: {scale: -3}}\n",
            r"r\.yaml:7: evaluate\.rows\.0\.guidance: guidance scale -3\.0: must be a number of 0 or more",
        ),
        (
            GOOD + "evaluate:\n  rows:\n    - {name: a, guidance: {scale: 3}, space: log}\n",
            r"r\.yaml:7: evaluate\.rows\.0\.space: unknown key; known here: name, model",
        ),
        (GOOD + "evaluate:\n  scales: [.nan]\n", r"evaluate\.scales\.0: "),
        (
            GOOD + "train:\n  max_length: 1024\n",
            r"r\.yaml:5: train: max_prompt_length: 1900 leaves no room .* of 1024; set",
        ),
        (GOOD + "evaluate:\n  leak_draws: 2\n  leak_samples: 0\n", r"evaluate: leak_samples: 0 leaves no sample"),
        (GOOD + "evaluate:\n  question_count: 0\n  judge: {model: x}\n", r"evaluate: judge: has nothing to judge"),
        (
            GOOD + "evaluate:\n  judge: {model: x, key_env: sk-1}\n",
            "judge: key_env: must be the name of an env.*itself$",
        ),
        (GOOD + "evaluate:\n  judge: {model: x, base_url: 'https://a:b@c/v1'}\n", "judge: base_url: must hold no pass"),
        ("base: smollm2\ndata: {dialogs: d}\n", "give either tuned: MODEL, or tune:"),
        ("base: smollm2\ntuned: x\ndata: {}\n", "give either dialogs: PATH or synthetic:"),
        ("tuned: x\ndata: {dialogs: d}\n", "base: missing; add it"),
        ("a: [1\n", r"r\.yaml:2: not YAML"),
        (GOOD + "seed: 2001-99-99\n", r"r\.yaml:5: not YAML \(a value reads as timestamp, but is none\)"),
        (GOOD + f"seed: {'9' * 5000}\n", r"r\.yaml:5: not YAML \(a value reads as int, but is none\)"),
        (GOOD + "seed: !!bool x\n", r"r\.yaml:5: not YAML \(a value reads as bool"),
        (GOOD + "generate: {best_of: 4}\n", r"generate: best_of: 4 clean answers of 3 tries; raise tries"),
        (
            GOOD + "generate:\n  sources: [{strategies: [system, paraphrase]}]\n",
            "pairs.paraphrases: 0, but source base has paraphrase; set it to 1",
        ),
        (
            GOOD + "pairs: {negative: Do not provide any personal data.}\n",
            "pairs: negative: the same sentence",
        ),
        (
            GOOD + "pairs: {positive: 'No {key}'}\n",
            r"r\.yaml:5: pairs\.positive: the secret \{key\} opens, .* in negative",
        ),
        (GOOD + "pairs: {asked: 2}\n", r"pairs\.asked: .*less than or equal to 1"),
        (GOOD + "pairs: {sources: [x]}\n", r"pairs\.sources: x is not a source; generate\.sources has base"),
        (GOOD + "pairs: {balance: [base, x]}\n", r"pairs\.balance: x is not a source; generate\.sources has base"),
        (GOOD + "base: other\n", r"r\.yaml:5: base: given twice; keep one"),
        (GOOD + "train:\n  epochs: yes\n", r"r\.yaml:6: train\.epochs: must be a number, is true or false"),
        (GOOD + 'base: "a\\0b"\n', r"r\.yaml:5: not YAML \(a text holds a null character\)"),
        (GOOD + "train:\n  beta: 1\n  beta: 2\n", r"r\.yaml:7: beta: given twice"),
        (
            GOOD + "detector: {model: magic}\n",
            r"r\.yaml:5: detector: detector 'magic' is unknown; use default, paper, .*spacy",
        ),
        (GOOD + "detector:\n  regex: {A: '['}\n", r"r\.yaml:5: detector: regex: A: no regular expression"),
        (GOOD + "detector:\n  regex: {A: 'a{99999999999}'}\n", r"r\.yaml:5: detector: regex: A: no regular expression"),
        (GOOD + "detector: {thresholds: {phone: 2}}\n", r"r\.yaml:5: detector: thresholds\.phone: 2.* is out of range"),
        (GOOD + "detector: {count: [fone]}\n", r"r\.yaml:5: detector: count: 'fone' is not a type of personal data"),
        (
            GOOD + "detector: {model: regex, languages: [en]}\n",
            r"r\.yaml:5: detector: detector 'regex' has no languages",
        ),
        (GOOD + "detector: {model: 3 of regex + rampart}\n", r"r\.yaml:5: detector: .*: 3 of 2 cannot agree"),
        (
            GOOD + "detector: {recognizers: ~nosuch/r.yaml}\n",
            r"r\.yaml:5: detector\.recognizers: ~nosuch/r\.yaml: no such user",
        ),
        (GOOD + "train: {learning_rate: .inf}\n", r"train\.learning_rate: input should be a finite number"),
        (GOOD + "seed: -1\n", r"r\.yaml:5: seed: input should be greater than or equal to 0"),
        (GOOD + f"seed: {10**30}\n", r"r\.yaml:5: seed: "),
        ("a: &a [*a]\n", r"r\.yaml: a value contains itself"),
        ("- 1\n", r"not a mapping of keys; `nescio init` writes a recipe"),
    ],
)
def test_a_mistake_is_one_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(NescioError, match=message) as caught:
        load_recipe(write(tmp_path, text))
    assert "\n" not in str(caught.value)


def test_a_mapping_takes_paths(tmp_path: Path) -> None:
    (tmp_path / "chats.jsonl").write_text("")
    recipe = parse_recipe({"base": tmp_path, "tune": {}, "data": {"dialogs": tmp_path / "chats.jsonl"}})
    assert recipe.base == str(tmp_path)
    texts = {"base": str(tmp_path), "tune": {}, "data": {"dialogs": str(tmp_path / "chats.jsonl")}}
    assert recipe == parse_recipe(texts)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(NescioError, match=r"none\.yaml: cannot be read \(No such file"):
        load_recipe(tmp_path / "none.yaml")


def test_set(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD)
    recipe = load_recipe(path, ["train.lora.r=4", "evaluate.scales=[1, 2]", "data.train_samples=null"])
    assert recipe.train.lora.r == 4
    assert recipe.evaluate.scales == [1, 2]
    for wrong, message in (
        ("train", "must read a.b=value"),
        ("base.x=1", "base is not a section"),
        ("a=[", "not YAML"),
    ):
        with pytest.raises(NescioError, match=message):
            load_recipe(path, [wrong])
    with pytest.raises(NescioError, match=r"^--set seed=2024-99-99: the value is not YAML"):
        load_recipe(path, ["seed=2024-99-99"])
    with pytest.raises(NescioError, match=r"^--set train\.lr=3: unknown key"):
        load_recipe(path, ["train.lr=3"])


@pytest.mark.parametrize(
    ("given", "quoted"),
    [
        (["seed=x", "seed=y"], "seed=y: input"),
        (["train={epochs: 1}", "train.epochs=x"], "train.epochs=x: input"),
        (["train.epochs=x", "train={epochs: y}"], "train={epochs: y}: epochs: input"),
        (["train.epochs=1", "train={epochs: 2}", "train.epochs=x"], "train.epochs=x: input"),
        (["train={epochs: 1, beta: x}", "train.epochs=2"], "train={epochs: 1, beta: x}: beta: input"),
    ],
)
def test_an_error_quotes_the_last_setting_of_its_key(tmp_path: Path, given: list[str], quoted: str) -> None:
    with pytest.raises(NescioError) as caught:
        load_recipe(write(tmp_path, GOOD), given)
    assert str(caught.value).startswith(f"--set {quoted}")


def test_a_setting_changes_one_of_two_sections_that_are_one_alias(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text(
        "base: smollm2\ntune: {epochs: 2, lora: &small {r: 4}}\ntrain: {epochs: 3, lora: *small}\n"
        "data: {synthetic: {}}\n"
    )
    recipe = load_recipe(tmp_path / "r.yaml", ["train.lora.r=8"])
    assert recipe.tune and (recipe.tune.lora.r, recipe.train.lora.r) == (4, 8)


def test_paths_are_relative_to_the_recipe(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    recipe = load_recipe(write(tmp_path, GOOD.replace("tuned: smollm2", "tuned: mine")))
    assert recipe.data.dialogs == tmp_path / "d.jsonl"
    assert recipe.tuned == str(tmp_path / "mine")
    assert recipe.base == "smollm2"


def test_paths_mean_the_same_from_any_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("mine", "adapter", "ner", "judge", "tokenizer", "test"):
        (tmp_path / name).mkdir()
    for name in ("q.jsonl", "more.jsonl"):
        (tmp_path / name).touch()
    (tmp_path / "more.jsonl").rename(tmp_path.parent / "more.jsonl")
    text = GOOD + (
        "detector: {model: 'spacy:ner + presidio:en_core_web_sm', recognizers: r.yaml}\n"
        "generate: {sources: [{model: mine}, {name: far, engine: {kind: openai}, model: mine, tokenizer: tokenizer}]}\n"
        "evaluate:\n  questions: q.jsonl\n  judge: {model: judge}\n"
        "  rows: [{name: x, model: mine, adapter: adapter}, {name: y, model: owner/hub}]\n"
    )
    write(tmp_path, text)
    monkeypatch.chdir(tmp_path.parent)
    recipe = load_recipe(Path(tmp_path.name) / "r.yaml")
    assert recipe.data.dialogs == tmp_path / "d.jsonl" and recipe.detector.recognizers == tmp_path / "r.yaml"
    assert recipe.detector.model == f"spacy:{tmp_path / 'ner'} + presidio:en_core_web_sm"
    assert [source.model for source in recipe.generate.sources] == [str(tmp_path / "mine"), "mine"]
    assert recipe.generate.sources[1].tokenizer == str(tmp_path / "tokenizer")
    section = recipe.evaluate
    assert section.questions == str(tmp_path / "q.jsonl") and section.judge
    assert section.judge.model == str(tmp_path / "judge")
    assert [(row.model, row.adapter) for row in section.rows] == [
        (str(tmp_path / "mine"), str(tmp_path / "adapter")), ("owner/hub", None)
    ]  # fmt: skip
    given = load_recipe(tmp_path / "r.yaml", ["evaluate.questions=more.jsonl"]).evaluate.questions
    assert given == str(tmp_path.parent / "more.jsonl"), "what a command names lies in the working directory"
    assert load_recipe(tmp_path / "r.yaml", ["evaluate.questions=test"]).evaluate.questions == "test"


def test_the_recipes_that_ship_are_good(tmp_path: Path) -> None:
    folder = files("nescio") / "recipes"
    template = (folder / "template.yaml").read_text()
    recipe = load_recipe(write(tmp_path, template))
    shown, defaults = yaml.safe_load(template), load_recipe(write(tmp_path, GOOD)).plain()
    for section in ("detector", "generate", "pairs", "train", "bake", "evaluate"):
        assert shown[section] == defaults[section] == recipe.plain()[section], "what the template shows is the default"
    assert load_recipe(write(tmp_path, (folder / "demo.yaml").read_text())).base == "smollm2"


def test_the_papers_recipes_have_the_papers_numbers() -> None:
    folder = Path(__file__).parents[2] / "recipes/paper"
    recipes = {path.stem: load_recipe(path) for path in folder.glob("llama*.yaml")}
    assert recipes.keys() == {"llama-3-8b", "llama-3.1-8b", "llama-3-8b-sub"}
    for recipe in recipes.values():
        section = recipe.train
        assert (section.epochs, section.batch_size, section.beta, section.learning_rate) == (3, 2, 0.1, 1e-4)
        assert (section.lora.r, section.lora.alpha, section.lora.dropout) == (16, 32, 0.01)
        assert (section.max_length, section.max_prompt_length, section.method) == (2048, 1900, "orpo")
        assert recipe.detector.model == "spacy:en_core_web_trf" and recipe.pairs.twins
        assert recipe.bake is None and recipe.train.anchors is None and recipe.pairs.negative == REVEAL


def test_an_unknown_loss_names_the_line_and_the_known_ones(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD + "train:\n  method: orpoo\n")
    with pytest.raises(NescioError, match=r"method: .*loss 'orpoo': unknown; known here: dpo, duet") as caught:
        load_recipe(path)
    assert "\n" not in str(caught.value) and ":" in str(caught.value).removeprefix(str(path))
