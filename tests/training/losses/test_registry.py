"""Which answers a method sees, which twins it is taught, and what the model said before training."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_training import LORA, SETTINGS, UNITS, adapter_of

from nescio.core.errors import NescioError
from nescio.core.files import read_jsonl, write_jsonl
from nescio.core.shared_prefix import Continuation, Group
from nescio.training.batch import Example, Likelihoods, lay_out, likelihoods
from nescio.training.losses.registry import LOSSES, PairLoss, open_loss, restrict
from nescio.training.reference import with_reference, with_targets
from nescio.training.trainer import fit, with_lora

PAIR = Example("pair", Group([1, 2], [Continuation([3]), Continuation([4, 5])]))
TWIN = Example("twin", Group([1, 6], [Continuation([4, 5]), Continuation([3])]), twin=True)


@pytest.mark.parametrize("name", ["sft", "sft_scrubbed"])
def test_fine_tuning_sees_the_chosen_answer_only(name: str) -> None:
    ((example,),) = restrict([[PAIR, TWIN], [TWIN]], open_loss(name))
    assert (example.name, example.group.continuations) == ("pair", [Continuation([3])])


@pytest.mark.parametrize("name", ["npo", "simnpo", "gradient_ascent"])
def test_unlearning_sees_the_rejected_answer_only(name: str) -> None:
    ((example,),) = restrict([[PAIR, TWIN]], open_loss(name))
    assert (example.name, example.group.continuations) == ("pair", [Continuation([4, 5])])


@pytest.mark.parametrize("name", ["orpo", "dpo", "flat"])
def test_preferences_see_both_answers_and_the_twin(name: str) -> None:
    assert restrict([[PAIR, TWIN], [PAIR]], open_loss(name)) == [[PAIR, TWIN], [PAIR]]


@pytest.mark.parametrize("name", LOSSES.names())
def test_every_method_trains(make_model: Callable[..., Any], tmp_path: Path, name: str) -> None:
    loss = open_loss(name)
    model, units = make_model("llama"), restrict(UNITS, loss)
    if loss.needs_reference:
        units = with_reference(model, units, 1024, tmp_path / "reference.jsonl")
    prompt_wanted = loss.teacher is None  # a teacher's targets are those of the answers
    if loss.teacher:
        units = with_targets(model, units, loss, 0.5, tmp_path / "teacher.safetensors", lambda each: [5, 1])
    lora = replace(LORA, dropout=0.0)
    settings = replace(SETTINGS, epochs=4, lora=lora, prompt_wanted=prompt_wanted, states_at=loss.states_at)
    bound = loss.bind(beta=0.5, nll_over="prompt_and_answer")
    done = fit(model, units, loss=bound, settings=settings, work=tmp_path / "work")
    losses = [row["loss"] for row in done.log]
    assert sum(losses[-3:]) < sum(losses[:3]), "the last epoch's loss is below the first's"


@pytest.mark.parametrize("name", [name for name in LOSSES.names() if name != "duet"])
def test_the_documented_code_trains_every_method(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    text = (Path(__file__).parents[3] / "docs/training.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"## From Python\n\n```python\n(.+?)```", text, re.S)
    monkeypatch.chdir(tmp_path)
    names = ("Tom", "Ann", "Max")
    pairs = ({"prompt": f"Who is {n}?", "chosen": " I can't say.", "rejected": f" {n} Lee."} for n in names)
    write_jsonl(Path("pairs.jsonl"), pairs)
    exec(code.replace('"smollm2"', repr(str(tiny_folder))).replace('"orpo"', repr(name)), {})
    assert (tmp_path / "adapter/adapter_model.safetensors").is_file()


@pytest.mark.parametrize(
    ("name", "lacks"),
    [
        ("simnpo", r"looks at rejected alone, and there are 2 answers; train on restrict\(units, loss\)"),
        ("dpo", r"compares with the model before training; train on with_reference\("),
        ("undial", r"learns from a teacher; train on with_targets\("),
        ("orpo", r"beta is not given; give it by bind\(beta=…\)"),
    ],
)
def test_what_a_loss_lacks_is_named(make_model: Callable[..., Any], tmp_path: Path, name: str, lacks: str) -> None:
    loss = open_loss(name)
    units, bound = (UNITS, loss) if name in ("simnpo", "orpo") else (restrict(UNITS, loss), loss.bind(beta=0.1))
    bound = loss.bind(beta=0.1) if name == "simnpo" else bound
    with pytest.raises(NescioError, match=f"loss {name}:? {lacks}"):
        fit(make_model("llama"), units, loss=bound, settings=SETTINGS, work=tmp_path)


def test_no_examples_are_refused(make_model: Callable[..., Any], tmp_path: Path) -> None:
    with pytest.raises(NescioError, match="training: there are no examples; give at least one unit"):
        fit(make_model("llama"), [], loss=open_loss("flat"), settings=SETTINGS, work=tmp_path)


def test_kept_targets_are_those_of_one_loss_and_beta(make_model: Callable[..., Any], tmp_path: Path) -> None:
    model, undial, cache = make_model("llama"), open_loss("undial"), tmp_path / "teacher.safetensors"
    units = restrict(UNITS, undial)
    found = with_targets(model, units, undial, 3.0, cache)
    assert len(with_targets(None, units, undial, 3.0, cache)) == len(found)
    for other, beta, less in ((undial, 10.0, units), (open_loss("shred"), 3.0, units), (undial, 3.0, units[1:])):
        with pytest.raises(NescioError, match="likely tokens of another loss, beta or other answers"):
            with_targets(model, less, other, beta, cache)
    with pytest.raises(NescioError, match="loss duet: its teacher has prompts of its own"):
        with_targets(model, units, open_loss("duet"), 3.0, tmp_path / "duet.safetensors")


def test_the_reference_is_the_model_without_its_adapter_and_is_kept(
    make_model: Callable[..., Any], tmp_path: Path
) -> None:
    bare, cache = make_model("llama"), tmp_path / "reference.jsonl"
    expected = likelihoods(bare, lay_out([unit[0] for unit in UNITS], 1024)).sums().reshape(-1, 2)
    adapted = with_lora(make_model("llama"), SETTINGS.lora)
    for tensor in (p for name, p in adapted.named_parameters() if "lora_" in name):
        torch.nn.init.normal_(tensor)
    found = with_reference(adapted.train(), UNITS, 1024, cache)
    torch.testing.assert_close(torch.tensor([unit[0].reference for unit in found]), expected, rtol=1e-5, atol=1e-5)
    assert adapted.training and adapter_of(adapted)
    written = [row["log_probs"] for _, row in read_jsonl(cache)]
    assert written == [list(unit[0].reference) for unit in found]
    assert with_reference(None, UNITS, 1024, cache) == found, "read again, without a model"
    fewer = with_reference(None, UNITS[:2], 1024, cache)
    assert [unit[0].reference for unit in fewer] == [unit[0].reference for unit in found[:2]]


def test_npo_and_dpo_start_at_no_reward(make_model: Callable[..., Any], tmp_path: Path) -> None:
    model = make_model("llama")
    units = with_reference(model, UNITS, 1024, tmp_path / "r.jsonl")
    terms = open_loss("dpo").bind(beta=0.1)(likelihoods(model, lay_out([unit[0] for unit in units], 1024)))
    assert terms["margin"].abs().max() < 1e-5
    assert terms["loss"].tolist() == pytest.approx([0.6931] * 6, abs=1e-3)


def test_a_plain_function_is_a_loss_of_pairs_and_names_the_settings_it_needs() -> None:
    def mine(of: Likelihoods, beta: float) -> dict[str, torch.Tensor]:
        return {"loss": beta * of.sums()}

    def greedy(of: Likelihoods, temperature: float) -> dict[str, torch.Tensor]:
        return {"loss": temperature * of.sums()}

    LOSSES.register("mine")(mine)
    try:
        assert restrict([[PAIR, TWIN]], open_loss("mine")) == [[PAIR, TWIN]]
        of = Likelihoods(
            tokens=torch.ones(1), answer_of=torch.zeros(1, dtype=torch.long), in_prompt=torch.zeros(1).bool(),
            answers=1, reference=torch.empty(0),
        )  # fmt: skip
        assert open_loss("mine").bind(beta=3.0, nll_over="answer")(of)["loss"].tolist() == [3.0]
    finally:
        LOSSES._items.pop("mine")
    with pytest.raises(NescioError, match="loss greedy: parameter temperature is not a setting; use beta, nll_over"):
        PairLoss(function=greedy).bind(beta=0.1, nll_over="answer")
    with pytest.raises(NescioError, match="loss 'orpoo': unknown; known here: dpo, duet, flat, gradient_ascent"):
        open_loss("orpoo")
