"""`nescio audit`: what a model gives away about people, under each attack."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nescio.cli.options import DetectorOption, names_of, open_detector
from nescio.cli.quiet import quiet_libraries
from nescio.core.errors import NescioError

if TYPE_CHECKING:
    from nescio.audit.ask import Price
    from nescio.audit.people import Fact
    from nescio.audit.plan import Plan
    from nescio.pii.base import Detector
    from nescio.pipeline.progress import Terminal
    from nescio.pipeline.relearn import Relearning


ModelArgument = Annotated[
    str,
    typer.Argument(help="Hub id, folder, .gguf file, adapter folder or smollm2; with --base-url, a name there."),
]
DialogsOption = Annotated[
    Path | None, typer.Option(help="Conversations whose personal data is asked for, in any format.")
]
PeopleOption = Annotated[
    Path | None, typer.Option(help="Instead: people and their facts, as CSV or JSON lines with a name.")
]
OutOption = Annotated[Path, typer.Option("--out", help="Folder of the result; answers in it are not asked again.")]
QuickOption = Annotated[bool, typer.Option("--quick", help="A first look: few facts and five attacks.")]
AttacksOption = Annotated[
    str | None, typer.Option(help="Attacks, as inverse,prefix. Default: all (nescio plugins lists them).")
]
WeightsOption = Annotated[
    str | None, typer.Option(help="Ask again with other weights: q8_0,q4_0,q4_1,nf4,half,detached (the adapter).")
]
RelearnOption = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Fine-tune on N lines about other people and, separately, on N harmless ones; measure what comes back.",
    ),
]
FactsOption = Annotated[
    int | None, typer.Option(min=1, help="Most facts that are asked for. Default: 100; 12 if quick.")
]
DrawsOption = Annotated[int, typer.Option(min=1, help="Answers that many_draws samples to each question.")]
SearchOption = Annotated[int, typer.Option(min=1, help="Values that searched_prefix scores to find its best prefix.")]
MaxTokensOption = Annotated[
    int, typer.Option(min=1, help="Most tokens of an answer; half as many where its beginning is given.")
]
SystemOption = Annotated[
    str | None, typer.Option(help="Sentence that your service puts before every conversation, as the system message.")
]
BaseUrlOption = Annotated[str | None, typer.Option(help="Address of an OpenAI-compatible API, up to /v1.")]
KeyEnvOption = Annotated[str | None, typer.Option(help="Environment variable with the API's key.")]
PriceOption = Annotated[
    str | None, typer.Option(help="Dollars per million prompt and answer tokens, such as 0.15,0.60.")
]
BudgetOption = Annotated[float | None, typer.Option(min=0, help="Most dollars to spend, by --price.")]
EngineOption = Annotated[str, typer.Option(help="Engine that answers here: torch, vllm, or a plugin's.")]
SeedOption = Annotated[int, typer.Option(help="Seed of all draws.")]
ParaphraserOption = Annotated[
    str | None,
    typer.Option(help="Model that says the questions in other words, for the attack paraphrase; as MODEL."),
]
ParaphraserUrlOption = Annotated[str | None, typer.Option(help="Address of the paraphraser's API, up to /v1.")]
ParaphraserKeyOption = Annotated[str | None, typer.Option(help="Environment variable with the key of that API.")]
DryRunOption = Annotated[
    bool, typer.Option("--dry-run", help="Print the number of questions and the cost; ask nothing.")
]


def audit(
    model: ModelArgument,
    dialogs: DialogsOption = None,
    people: PeopleOption = None,
    out: OutOption = Path("runs/audit"),
    quick: QuickOption = False,
    attacks: AttacksOption = None,
    weights: WeightsOption = None,
    relearn: RelearnOption = None,
    facts: FactsOption = None,
    draws: DrawsOption = 16,
    search: SearchOption = 600,
    max_tokens: MaxTokensOption = 64,
    system: SystemOption = None,
    base_url: BaseUrlOption = None,
    key_env: KeyEnvOption = None,
    price: PriceOption = None,
    budget: BudgetOption = None,
    engine: EngineOption = "torch",
    detector: DetectorOption = None,
    paraphraser: ParaphraserOption = None,
    paraphraser_url: ParaphraserUrlOption = None,
    paraphraser_key_env: ParaphraserKeyOption = None,
    seed: SeedOption = 0,
    dry_run: DryRunOption = False,
) -> None:
    """Audit what a model gives away about people: how much, of whom, under which attack. Needs no training.

    Every question is also asked about made-up people, which tells memory from guessing. Run the same command again to
    go on where it stopped. It ends with audit.html and audit.json.
    """
    cost, changes = _price(price, budget), names_of(weights)
    _check(dialogs, people, changes, relearn, base_url, key_env, system)
    where = _paraphraser(paraphraser, paraphraser_url, paraphraser_key_env)
    quiet_libraries()
    from nescio.audit.ask import Asker
    from nescio.audit.base import Setting
    from nescio.audit.page import in_a_line, relearned, sentence, warnings, write
    from nescio.audit.plan import FACTS, QUICK, QUICK_FACTS, plan
    from nescio.audit.result_folder import NAME, check_result, opened
    from nescio.audit.run import audit as carry_out
    from nescio.audit.victim import open_endpoint, open_local, setup_of
    from nescio.core.files import write_json
    from nescio.core.models import load_tokenizer
    from nescio.pipeline.progress import Terminal, standard
    from nescio.pipeline.relearn import Relearning
    from nescio.pipeline.relearn import relearn as train_further

    terminal = Terminal(standard())
    # 1) What is asked, and what it costs. The detector takes longest to load, so what may be wrong comes before it.
    setup = None if base_url else setup_of(model, system)
    how = Relearning(lines=relearn) if relearn else None
    audited = {
        "model": setup.model if setup else model, "adapter": setup.adapter if setup else None, "endpoint": base_url,
        "system": system, "source": "people" if people else "dialogs", "file": (people or dialogs or out).name,
    }  # fmt: skip
    check_result(out, audited)
    if setup:
        _check_weights(setup.model, changes, how)
    tokenizer = load_tokenizer(setup.model) if setup else None
    finder = open_detector(detector)
    setting = Setting(
        tokenizer=tokenizer, continues=base_url is None, draws=draws, max_tokens=max_tokens, scorings=search, seed=seed
    )  # fmt: skip
    names = names_of(attacks) or (QUICK if quick else ())
    most = facts or (QUICK_FACTS if quick else FACTS)
    known = _people(dialogs, people, finder)
    planned = plan(known, names, most, setting, changes)
    if how:
        assert setup is not None  # `_check` refuses to train what is behind an endpoint
        how.check_people(planned, known)
        how.check_work(setup, planned, known, out / "relearned")
    terminal.note(_announced(planned, cost, setup.model if setup else None, how, paraphraser))
    if dry_run:
        return
    with opened(out):
        # 2) Questions in other words, where a model says them.
        if paraphraser:
            planned = _in_other_words(planned, *where, out / "wordings.jsonl", terminal)
        # 3) The answers, attack by attack.
        victim = open_local(setup, engine) if setup else open_endpoint(model, base_url or "", key_env, system)
        with victim.engine, terminal.stage("audit") as tick:
            asker = Asker(victim, out / "answers.jsonl", cost, tick)
            result = carry_out(planned, asker, finder, lambda row: terminal.note(in_a_line(row)))
            if how:
                result["relearned"] = train_further(how, planned, asker, known, out / "relearned")
                terminal.note("\n".join(relearned(result, row) for row in result["relearned"]["rows"]))
    # 4) The result.
    result |= {"file": audited["file"], "paraphraser": paraphraser}
    write_json(out / NAME, result)
    terminal.note("\n".join(["", sentence(result), *warnings(result), f"Report: {write(result, out)}"]))


def _check_weights(model: str, changes: list[str], how: "Relearning | None") -> None:
    from nescio.audit.weights import check_model

    check_model(model, changes)
    if how:
        how.check(model)


def _paraphraser(model: str | None, url: str | None, key_env: str | None) -> tuple[str, str | None, str | None]:
    if model is None and (url or key_env):
        raise NescioError("--paraphraser-url, --paraphraser-key-env: are for --paraphraser; name its model")
    if key_env and not url:
        raise NescioError("--paraphraser-key-env: is for an endpoint; give its address as --paraphraser-url")
    return model or "", url, key_env


def _in_other_words(
    planned: "Plan", model: str, url: str | None, key_env: str | None, path: Path, terminal: "Terminal"
) -> "Plan":
    """Return the plan with what the paraphraser says."""
    from nescio.audit.victim import open_endpoint, open_local, setup_of
    from nescio.audit.wordings import in_other_words

    other = open_endpoint(model, url, key_env) if url else open_local(setup_of(model))
    facts = [*planned.facts, *planned.made_up.values()]
    with other.engine, terminal.stage("wordings") as tick:
        return planned.in_other_words(in_other_words(facts, other, path, planned.setting.seed, tick))


def _check(
    dialogs: Path | None, people: Path | None, changes: list[str], relearn: int | None, base_url: str | None,
    key_env: str | None, system: str | None,
) -> None:  # fmt: skip
    from nescio.audit.weights import check

    check(changes)
    if (dialogs is None) == (people is None):
        raise NescioError("give either --dialogs FILE or --people FILE, one of the two")
    if system is not None and not system.strip():
        raise NescioError("--system: is empty; give the sentence, or leave it out")
    if key_env and not base_url:
        raise NescioError("--key-env: is for an endpoint; give its address as --base-url")
    if base_url and (changes or relearn):
        option = "--weights" if changes else "--relearn"
        raise NescioError(f"{option}: needs a model of this machine; leave --base-url out")


def _price(price: str | None, budget: float | None) -> "Price | None":
    from nescio.audit.ask import Price

    if price is None:
        if budget is not None:
            raise NescioError("--budget: needs --price, as --price 0.15,0.60 for a million tokens of prompts, answers")
        return None
    try:
        prompt, answer = map(float, price.split(","))
    except ValueError as error:
        raise NescioError(f"--price {price}: must be two numbers, as 0.15,0.60") from error
    if not all(0 <= each < math.inf for each in (prompt, answer)):
        raise NescioError(f"--price {price}: must be two numbers of at least 0, as 0.15,0.60")
    return Price(prompt=prompt, answer=answer, budget=budget)


def _people(dialogs: Path | None, people: Path | None, detector: "Detector") -> "list[list[Fact]]":
    from nescio.audit.people import facts_of_dialogs, read_people

    return list(read_people(people) if people else facts_of_dialogs(dialogs or Path(), detector))


def _announced(
    planned: "Plan", cost: "Price | None", model: str | None, how: "Relearning | None", paraphraser: str | None
) -> str:
    """Say what will be asked, how long it takes here or what it costs there, and what is left out."""
    from nescio.audit.attacks.paraphrase import NAME as PARAPHRASE
    from nescio.audit.wordings import WORDINGS, questions_of
    from nescio.pipeline.estimate import answering
    from nescio.pipeline.estimate_table import duration

    prompts, answers = planned.tokens
    asked = sum(bool(own) for own in planned.questions.values())
    lines = [
        f"{planned.total} questions at most: {len(planned.facts)} facts and as many made-up ones, "
        f"{asked} {'attack' if asked == 1 else 'attacks'}"
    ]
    if scored := sum(map(planned.scorings, planned.attacks)):
        lines[0] += f", {scored} values scored in a search"
    if model is not None:
        time = answering(model, planned.total, (prompts + answers) / max(planned.total, 1)).seconds
        lines[0] += f"; about {duration(time)} here, within a factor of two"
        if how:
            time = answering(model, how.cost(planned), (prompts + answers) / max(planned.total, 1)).seconds
            lines.append(f"Then two trainings on at most {how.lines} lines each; about {duration(time)}")
    else:
        lines[0] += f"; about {prompts} tokens of prompts and at most {answers} of answers"
        lines[0] += f", ${cost.of(prompts, answers):.2f} at most" if cost else "; give --price to see the cost"
        if cost and cost.budget is not None and cost.of(prompts, answers) > cost.budget:
            lines.append(f"That may be more than --budget {cost.budget:g}; the audit stops there.")
    if paraphraser:
        if not planned.questions.get(PARAPHRASE):
            raise NescioError(f"--paraphraser: the attack {PARAPHRASE} is not asked; add it to --attacks")
        count = len(questions_of([*planned.facts, *planned.made_up.values()]))
        lines.append(f"{paraphraser} first says {count} questions in up to {WORDINGS} other ways, asked in addition")
    lines += [f"Not asked: {planned.attacks[name].title}, {why}" for name, why in planned.why_not.items()]
    if planned.left_out:
        shown = "; ".join(f"{fact.value!r} of {fact.person} ({why})" for fact, why in planned.left_out[:3])
        more = ", …" if len(planned.left_out) > 3 else ""
        lines.append(f"Left out, {len(planned.left_out)} in all, because they prove nothing: {shown}{more}")
    return "\n".join(lines)
