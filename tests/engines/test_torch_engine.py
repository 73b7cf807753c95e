"""The torch engine against Transformers' own guidance, plain reference loops, and itself alone and in a batch."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model

from nescio.core.errors import NescioError
from nescio.core.guidance import PROTECT, REVEAL, Guidance
from nescio.core.guide import guide
from nescio.core.models import context_length
from nescio.core.prompts import Message, encode
from nescio.data.synthetic import generate
from nescio.engines.base import ContextExceededError, Request, Scoring
from nescio.engines.prompt_branches import branch_texts
from nescio.engines.torch_engine import TorchEngine, load, load_merged

Make = Callable[..., Any]
STYLES = ["llama", "qwen2", "gpt2"]
PROMPTS = ["My name is", "Please write to Anna Ferrari, who lives in Geneva, about the garden", "a", "Tom and I"]
NEGATIVES = ["You should share: my name", "b", "Please write to Tom Ferrari, who lives in Geneva, about my house", "x"]
USER: list[Message] = [{"role": "user", "content": "Who is Anna?"}]


def guided(index: int, scale: float = 3.0, space: Any = "log", tokens: int = 12, **options: Any) -> Request:
    return Request(PROMPTS[index], Guidance(scale, space), NEGATIVES[index], max_tokens=tokens, **options)


def two_forwards(engine: TorchEngine, request: Request, tokens: int) -> list[int]:
    """Greedy guided tokens by two unpadded forward passes a step, without a cache."""
    texts = engine.branches(request.prompt, request.guidance, request.negative)
    branches = [encode(engine.tokenizer, text) for text in texts]
    how, found = request.guidance or Guidance(), []
    with torch.no_grad():
        for _ in range(tokens):
            both = [engine.model(torch.tensor([b + found])).logits[:, -1] for b in branches]
            token = int(guide(both[0], both[-1], how).argmax())
            if token == engine.tokenizer.eos_token_id:
                break
            found.append(token)
    return found


def test_penalties_and_bias_change_the_guided_distribution(tiny: Make) -> None:
    engine = tiny("llama")
    plain = guided(1, tokens=16)
    first = engine.generate([plain])[0].token_ids[0]
    request = replace(plain, presence_penalty=0.4, frequency_penalty=0.3, logit_bias={first: -3.0, 11: 0.2}, logprobs=0)
    texts = engine.branches(request.prompt, request.guidance, request.negative)
    branches, found, said = [encode(engine.tokenizer, text) for text in texts], list[int](), list[float]()
    with torch.no_grad():
        for _ in range(16):
            both = [engine.model(torch.tensor([b + found])).logits[:, -1] for b in branches]
            log_probs = guide(both[0], both[1], request.guidance)[0]
            scores = log_probs.tolist()
            for token in range(len(scores)):
                scores[token] -= 0.4 * (token in found) + 0.3 * found.count(token)
            scores[first] -= 3.0
            scores[11] += 0.2
            token = max(range(len(scores)), key=scores.__getitem__)
            if token == engine.tokenizer.eos_token_id:
                break
            found.append(token)
            said.append(float(log_probs[token]))
    alone, other = engine.generate([request, plain])
    assert alone.token_ids == found != other.token_ids
    assert [one.logprob for one in alone.logprobs] == pytest.approx(said, abs=1e-4), "those before the penalties"
    assert other.token_ids == engine.generate([plain])[0].token_ids, "a neighbour is left alone"
    with pytest.raises(NescioError, match="the model has no token 9999999; its ids end at"):
        engine.generate([replace(plain, logit_bias={9999999: 1.0})])


def transformers_guided(engine: TorchEngine, request: Request) -> list[int]:
    texts = engine.branches(request.prompt, request.guidance, request.negative)
    prompt, negative = (torch.tensor([encode(engine.tokenizer, text)]) for text in texts)
    given = engine.model.generate(
        prompt, attention_mask=torch.ones_like(prompt), do_sample=False, max_new_tokens=request.max_tokens,
        guidance_scale=request.guidance.scale if request.guidance else None,
        negative_prompt_ids=negative, negative_prompt_attention_mask=torch.ones_like(negative),
        eos_token_id=engine.tokenizer.eos_token_id, pad_token_id=0,
    )[0, prompt.shape[1] :].tolist()  # fmt: skip
    end = engine.tokenizer.eos_token_id
    return given[: given.index(end)] if end in given else given


class Waits:
    """A tokenizer that reads one text only when it is let."""

    def __init__(self, tokenizer: Any, text: str) -> None:
        self._tokenizer, self._text = tokenizer, text
        self.reads, self.may_read = threading.Event(), threading.Event()
        self.lengths = list[int]()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tokenizer, name)

    def __call__(self, text: str, **options: Any) -> Any:
        self.lengths.append(len(text))
        if text == self._text:
            self.reads.set()
            assert self.may_read.wait(60)
        return self._tokenizer(text, **options)


def test_a_prompt_that_is_being_read_holds_up_no_other(make_model: Make, chatml: Any) -> None:
    tokenizer = Waits(chatml, "slow")
    engine = TorchEngine(make_model("llama"), tokenizer)
    slow = ThreadPoolExecutor(1).submit(lambda: engine.submit(Request("slow", max_tokens=2)).answer)
    assert tokenizer.reads.wait(60)
    assert len(engine.submit(Request("quick", max_tokens=2)).answer.token_ids) == 2
    assert not slow.done()
    tokenizer.may_read.set()
    assert len(slow.result(60).token_ids) == 2


def test_an_adapter_that_is_dropped_while_a_prompt_is_read(make_model: Make, chatml: Any, tmp_path: Path) -> None:
    config = LoraConfig(r=4, target_modules=["q_proj"], init_lora_weights=False)
    get_peft_model(make_model("llama"), config).save_pretrained(tmp_path)
    tokenizer = Waits(chatml, "slow")
    engine = TorchEngine(make_model("llama"), tokenizer)
    for loads_again in (True, False):
        engine.load_adapter("own", tmp_path)
        tokenizer.reads.clear()
        tokenizer.may_read.clear()
        asked = Request("slow", adapter="own", max_tokens=2)
        slow = ThreadPoolExecutor(1).submit(lambda asked=asked: engine.submit(asked).answer)
        assert tokenizer.reads.wait(60)
        engine.drop_adapter("own")
        if loads_again:
            engine.load_adapter("own", tmp_path)
        tokenizer.may_read.set()
        if loads_again:
            assert len(slow.result(60).token_ids) == 2
            engine.drop_adapter("own")
        else:
            with pytest.raises(NescioError, match="adapter 'own' is not loaded"):
                slow.result(60)


def test_what_can_not_fit_is_refused_by_its_beginning(make_model: Make, chatml: Any) -> None:
    tokenizer = Waits(chatml, "")
    engine = TorchEngine(make_model("llama"), tokenizer)
    with pytest.raises(ContextExceededError, match=r"of \d+ or more tokens and 1 new ones exceed") as raised:
        engine.submit(Request("word " * 100_000, max_tokens=1))
    assert raised.value.tokens_left < 1 and max(tokenizer.lengths) < 10_000


@pytest.mark.parametrize("style", ["llama", "qwen2"])
@pytest.mark.parametrize("scale", [1.5, 3.0])
def test_guided_greedy_tokens_are_those_of_transformers(tiny: Make, style: str, scale: float) -> None:
    engine = tiny(style)
    requests = [guided(i, scale) for i in range(len(PROMPTS))]
    ours = engine.generate(requests)
    theirs = [transformers_guided(engine, request) for request in requests]
    assert [answer.token_ids for answer in ours] == theirs
    assert len({tuple(row) for row in theirs}) == len(PROMPTS), "the comparison is empty"


@pytest.mark.parametrize("scale", [1.5, 3.0])
def test_the_embedded_models_guided_greedy_tokens_are_those_of_transformers(smollm2: TorchEngine, scale: float) -> None:
    requests = [guided(i, scale, tokens=8) for i in range(2)]
    ours = smollm2.generate(requests)
    assert [a.token_ids for a in ours] == [transformers_guided(smollm2, request) for request in requests]


@pytest.mark.slow
@pytest.mark.parametrize("scale", [1.5, 3.0])
def test_so_are_its_answers_to_twenty_conversations(smollm2: TorchEngine, scale: float) -> None:
    how = Guidance(scale, "log", PROTECT, REVEAL)
    requests = [Request(row["messages"][:1], how, max_tokens=24) for row in generate(20, seed=0, max_exchanges=1)]
    ours = smollm2.generate(requests)
    assert [a.token_ids for a in ours] == [transformers_guided(smollm2, request) for request in requests]
    assert len({tuple(answer.token_ids) for answer in ours}) == 20


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("space", ["log", "prob"])
def test_guided_greedy_tokens_are_those_of_two_plain_forwards(tiny: Make, style: str, space: str) -> None:
    engine = tiny(style)
    requests = [guided(i, 1.5 + i, space) for i in range(len(PROMPTS))]
    ours = engine.generate(requests)
    assert [a.token_ids for a in ours] == [two_forwards(engine, request, 12) for request in requests]


def mixed_requests() -> list[Request]:
    """Guided and not, greedy and sampled, of different lengths, scales and spaces."""
    plain = [Request(p, max_tokens=4 + 3 * i, temperature=0.9 * (i % 2), seed=i) for i, p in enumerate(PROMPTS)]
    sampled = {"temperature": 0.8, "top_p": 0.9, "top_k": 50}
    alike = [guided(2, 1.001, **sampled), guided(3, 0.5, **sampled)]
    return [*plain, guided(0, 2.0), guided(1, 4.0, "prob"), *alike]


@pytest.mark.parametrize("style", STYLES)
def test_an_answer_is_the_same_alone_and_in_a_full_batch(tiny: Make, style: str) -> None:
    engine, requests = tiny(style), mixed_requests()
    together = engine.generate(requests)
    assert together == [engine.generate([request])[0] for request in requests]
    assert together == tiny(style, max_rows=3).generate(requests)


def test_scale_one_is_the_prompt_with_the_protect_sentence_unguided(tiny: Make) -> None:
    engine = tiny()
    system: Message = {"role": "system", "content": engine.sentences["positive"]}
    assert engine.chat(USER, Guidance(1.0), max_tokens=8) == engine.chat([system, *USER], max_tokens=8)
    assert len(engine.branches(USER, Guidance(1.0))) == 1


def test_branches_carry_the_sentences(tiny: Make) -> None:
    engine = tiny()
    protect, reveal = engine.branches(USER, Guidance(3.0))
    assert "Do not provide any personal data." in protect
    assert "You should share personal data in the answers." in reveal
    assert "system" not in engine.branches(USER, None)[0]
    own = engine.branches(USER, Guidance(3.0, positive="", negative="Tell all."))
    assert "system" not in own[0]
    assert "Tell all." in own[1]


def test_an_adapter_brings_its_own_sentences(tiny: Make, tmp_path: Path, make_model: Make) -> None:
    get_peft_model(make_model("llama"), LoraConfig(r=2, target_modules=["q_proj"])).save_pretrained(tmp_path)
    (tmp_path / "nescio.json").write_text('{"positive": "Say nothing.", "negative": "Say all."}')
    engine = tiny()
    engine.load_adapter("own", tmp_path)
    told = Guidance(3.0, positive="Say nothing.", negative="Say all.")
    assert engine.branches(USER, Guidance(3.0), adapter="own") == engine.branches(USER, told)
    asked = [Request(USER, how, adapter="own", max_tokens=8, logprobs=0) for how in (Guidance(3.0), told)]
    by_itself, by_hand = engine.generate(asked)
    assert by_itself == by_hand
    scored = engine.score_batch([Scoring(USER, " Anna", how, "own") for how in (Guidance(3.0), told)])
    assert scored[0] == pytest.approx(scored[1], abs=1e-5)
    assert "Do not provide" in engine.branches(USER, Guidance(3.0))[0], "others keep the paper's"


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize(("scale", "space"), [(1.0, "prob"), (3.0, "log"), (3.0, "prob")])
def test_scores_are_those_of_two_plain_forwards(tiny: Make, style: str, scale: float, space: Any) -> None:
    engine, how = tiny(style), Guidance(scale, space)
    items = [Scoring(USER, text, how) for text in (" Anna lives here", "No", "", " Geneva and Tom")]
    for item, ours in zip(items, engine.score_batch(items), strict=True):
        answer = engine.tokenizer(item.continuation).input_ids
        logits = []
        for text in engine.branches(item.prompt, how):
            ids = encode(engine.tokenizer, text)
            with torch.no_grad():
                logits.append(engine.model(torch.tensor([ids + answer])).logits[0, len(ids) - 1 : -1])
        expected = guide(logits[0], logits[-1], how) if answer else torch.zeros(0, 320)
        assert ours == pytest.approx(expected[range(len(answer)), answer].tolist(), abs=1e-4)


def test_an_unguided_score_takes_the_positive_branch_of_a_guided_one(tiny: Make) -> None:
    engine, answer = tiny(), " Anna lives here"
    asked = [Scoring(USER, answer, Guidance(1.0)), Scoring(USER, answer, Guidance(3.0)), Scoring(USER, "No")]
    apart = [engine.score_batch([item])[0] for item in asked]
    tokens = list[int]()
    count = engine.model.register_forward_pre_hook(
        lambda model, args, kwargs: tokens.append(kwargs["input_ids"].numel()), with_kwargs=True
    )
    together = engine.score_batch(asked)
    all_three = sum(tokens)
    tokens.clear()
    engine.score_batch(asked[1:])
    count.remove()
    assert all_three == sum(tokens)
    assert together == [pytest.approx(each, abs=1e-4) for each in apart]


def test_at_scale_one_no_option_of_guidance_counts_in_answers_or_scores(tiny: Make) -> None:
    engine, how = tiny(), Guidance(1.0, plausibility=1.0, adaptive=True)
    text = engine.chat(USER, how, max_tokens=12, temperature=1.5)
    assert text == engine.chat(USER, Guidance(1.0), max_tokens=12, temperature=1.5)
    assert engine.score(USER, text, how) == engine.score(USER, text, Guidance(1.0))


def test_stop_texts_end_an_answer_before_them_and_in_mid_token(tiny: Make) -> None:
    engine = tiny()
    whole = engine.complete(PROMPTS[1], max_tokens=30)
    for at in (3, len(whole) // 2):
        stop = whole[at : at + 3]
        answer = engine.generate([Request(PROMPTS[1], max_tokens=30, stop=("never", stop))])[0]
        assert answer.text == whole[: whole.find(stop)]
        assert answer.finish == "stop"


@pytest.mark.parametrize("stop", [(), ("e",), ("th", "a b")])
@pytest.mark.parametrize("style", ["llama", "gpt2"])
def test_a_stream_is_what_generate_gives(tiny: Make, style: str, stop: tuple[str, ...]) -> None:
    engine = tiny(style)
    for index in range(len(PROMPTS)):
        request = guided(index, 1.5, stop=stop, tokens=40)
        pieces = list(engine.stream(request))
        assert "".join(pieces) == engine.generate([request])[0].text
        assert all(pieces)


def test_leading_white_space_belongs_to_the_answer(smollm2: TorchEngine) -> None:
    assert smollm2.complete("The capital of France", max_tokens=1) == " is"
    opened: list[Message] = [{"role": "user", "content": "Capital of France?"}, {"role": "assistant", "content": "The"}]
    assert smollm2.chat(opened, max_tokens=1) == " capital"


def test_an_answer_has_at_most_max_tokens(tiny: Make) -> None:
    engine = tiny()
    for most in (1, 5):
        answer = engine.generate([Request(PROMPTS[0], max_tokens=most)])[0]
        assert (len(answer.token_ids), answer.finish) == (most, "length")


def test_a_seed_gives_the_same_sample_and_another_seed_another(tiny: Make) -> None:
    engine = tiny()
    draws = [engine.complete(PROMPTS[0], temperature=1.5, seed=seed, max_tokens=20) for seed in (1, 1, 2)]
    assert draws[0] == draws[1] != draws[2]
    greedy = engine.complete(PROMPTS[0], max_tokens=20)
    assert engine.complete(PROMPTS[0], temperature=1.5, top_k=1, max_tokens=20) == greedy
    assert engine.complete(PROMPTS[0], temperature=1.5, top_p=1e-6, max_tokens=20) == greedy


def test_an_adapter_is_attached_and_detached_by_request(tmp_path: Path, make_model: Make, chatml: Any) -> None:
    torch.manual_seed(1)
    targets = ["q_proj", "v_proj", "down_proj"]
    config = LoraConfig(r=4, lora_alpha=16, target_modules=targets, init_lora_weights=False)
    get_peft_model(make_model("llama"), config).save_pretrained(tmp_path)
    with_adapter = TorchEngine(make_model("llama"), chatml)
    with_adapter.load_adapter("default", tmp_path)
    merged = TorchEngine(PeftModel.from_pretrained(make_model("llama"), str(tmp_path)).merge_and_unload(), chatml)
    plain = TorchEngine(make_model("llama"), chatml)
    requests = [Request(p, max_tokens=10, adapter=a) for p in PROMPTS for a in ("default", None)]
    given = with_adapter.generate(requests)
    assert given[::2] == merged.generate(requests[::2])
    assert given[1::2] == plain.generate(requests[1::2])
    assert given[::2] != given[1::2]
    for adapter, reference in (("default", merged), (None, plain)):
        item = Scoring(PROMPTS[0], " Anna", adapter=adapter)
        assert with_adapter.score_batch([item])[0] == pytest.approx(reference.score(PROMPTS[0], " Anna"), abs=1e-4)


def test_a_merged_adapter_answers_as_the_attached_one(tmp_path: Path, tiny_folder: Path, make_model: Make) -> None:
    torch.manual_seed(1)
    config = LoraConfig(r=4, lora_alpha=16, target_modules=["q_proj", "down_proj"], init_lora_weights=False)
    folder = tmp_path / "adapter"
    get_peft_model(make_model("llama"), config).save_pretrained(folder)
    (folder / "nescio.json").write_text('{"positive": "Say nothing.", "negative": "Say it."}', encoding="utf-8")
    merged, attached, plain = (
        load_merged(str(tiny_folder), folder),
        load(str(tiny_folder), folder),
        load(str(tiny_folder)),
    )
    asked = [[Message(role="user", content=str(prompt))] for prompt in PROMPTS]
    requests = [Request(each, guidance, max_tokens=10) for each in asked for guidance in (None, Guidance(scale=3.0))]
    assert merged.generate(requests) == attached.generate(requests) != plain.generate(requests)
    assert "Say nothing." in merged.branches(asked[0], Guidance(scale=3.0))[0]


def test_a_head_that_is_tied_stays_apart(tmp_path: Path, make_model: Make, chatml: Any) -> None:
    torch.manual_seed(1)
    base = make_model("llama", tie_word_embeddings=True)
    base.save_pretrained(tmp_path / "tied")
    chatml.save_pretrained(tmp_path / "tied")
    config = LoraConfig(r=4, lora_alpha=16, target_modules=["q_proj", "lm_head"], init_lora_weights=False)
    get_peft_model(base, config).save_pretrained(tmp_path / "adapter")
    merged, attached = (opened(str(tmp_path / "tied"), tmp_path / "adapter") for opened in (load_merged, load))
    requests = [Request(prompt, max_tokens=8) for prompt in PROMPTS]
    assert merged.generate(requests) == attached.generate(requests)


def test_progress_counts_every_request_once(tiny: Make) -> None:
    seen: list[tuple[int, int]] = []
    requests = [Request(p, max_tokens=i + 1) for i, p in enumerate(PROMPTS)]
    tiny(max_rows=2).generate(requests, lambda done, total: seen.append((done, total)))
    assert seen == [(i + 1, len(PROMPTS)) for i in range(len(PROMPTS))]


def test_what_cannot_be_served_is_refused_before_anything_is_generated(tiny: Make) -> None:
    engine = tiny()
    good = Request(PROMPTS[0], max_tokens=2)
    for bad, said in [
        (Request("word " * 600, max_tokens=2), "context"),
        (Request(PROMPTS[0], max_tokens=512), "context"),
        (Request(PROMPTS[0], adapter="none"), "adapter 'none' is not loaded"),
        (Request(PROMPTS[0], Guidance(2.0)), "negative prompt"),
    ]:
        seen: list[int] = []
        with pytest.raises(NescioError, match=said):
            engine.generate([good, bad], lambda done, _, seen=seen: seen.append(done))
        assert seen == []
    assert engine.generate([]) == []


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"prompt": ""}, "empty prompt"), ({"prompt": []}, "empty prompt"), ({"max_tokens": 0}, "max_tokens"),
        ({"temperature": -1.0}, "temperature"), ({"temperature": float("nan")}, "temperature"),
        ({"temperature": float("inf")}, "temperature"), ({"top_p": 0.0}, "top_p"), ({"top_p": float("nan")}, "top_p"),
        ({"top_k": -1}, "top_k"), ({"negative": "b"}, "negative prompt without guidance"),
        ({"negative": "b", "guidance": Guidance(1.0)}, "negative prompt without guidance"),
    ],
)  # fmt: skip
def test_bad_requests_are_one_line(options: dict[str, Any], said: str) -> None:
    with pytest.raises(NescioError, match=said):
        Request(**({"prompt": "a"} | options))


def test_a_submitted_answer_comes_in_pieces_with_the_log_probabilities_of_its_tokens(tiny: Make) -> None:
    engine = tiny()
    request = guided(1, 2.0, tokens=12, logprobs=3)
    stream = engine.submit(request)
    pieces, answer = list(stream), stream.answer
    assert answer == engine.generate([request])[0]
    assert "".join(piece.text for piece in pieces) == answer.text
    assert [token for piece in pieces for token in piece.token_ids] == answer.token_ids
    assert answer.logprobs == [told for piece in pieces for told in piece.logprobs or []]
    assert [told.token_id for told in answer.logprobs] == answer.token_ids
    assert all(told.top[0].logprob == told.logprob and len(told.top) == 3 for told in answer.logprobs), "greedy"
    assert answer.prompt_tokens == len(encode(engine.tokenizer, PROMPTS[1]))
    assert engine.generate([guided(1, 2.0)])[0].logprobs is None


def test_a_cancelled_answer_is_the_beginning_of_the_whole_one(tiny: Make) -> None:
    engine = tiny()
    whole = engine.complete(PROMPTS[1], max_tokens=400)
    stream = engine.submit(Request(PROMPTS[1], max_tokens=400))
    next(stream)
    stream.cancel()
    assert stream.answer.finish == "cancelled"
    assert whole.startswith(stream.answer.text) and len(stream.answer.text) < len(whole)


def test_a_closed_engine_ends_what_is_left_and_takes_nothing_more(tiny: Make) -> None:
    engine = tiny()
    left = engine.submit(Request(PROMPTS[1], max_tokens=400))
    engine.close()
    engine.close()
    with pytest.raises(NescioError, match="closed"):
        _ = left.answer
    with pytest.raises(NescioError, match="closed"):
        engine.submit(Request(PROMPTS[1]))


def test_an_engine_tells_its_control_tokens_and_the_room_left(tiny: Make) -> None:
    engine = tiny()
    assert {"<|im_start|>", "<|im_end|>"} <= set(engine.capabilities.control_tokens)
    with pytest.raises(ContextExceededError) as caught:
        engine.submit(Request(PROMPTS[0], max_tokens=512))
    answer = engine.submit(Request(PROMPTS[0], max_tokens=caught.value.tokens_left, stop=("e",))).answer
    assert answer.prompt_tokens + caught.value.tokens_left == 512


def test_what_is_longer_than_learned_positions_is_not_scored(tiny: Make) -> None:
    fits, too_long = Scoring("a" * 500, "bc"), Scoring("a" * 511, "bc")
    assert len(tiny("gpt2").score_batch([fits])[0]) == 2
    with pytest.raises(ContextExceededError, match="exceed the model's context of 512"):
        tiny("gpt2").score_batch([fits, too_long])


def test_a_request_that_ends_does_not_take_its_double_with_it(make_model: Any, make_tokenizer: Any) -> None:
    engine = TorchEngine(make_model("llama"), make_tokenizer())
    long, short = (Request("Anna lives in Geneva", max_tokens=tokens) for tokens in (9, 3))
    alone = engine.generate([long])[0].token_ids
    both = engine.generate([long, short])
    assert [answer.token_ids for answer in both] == [alone, alone[:3]]


def test_an_answer_ends_at_the_templates_end_of_a_turn(make_model: Any, make_tokenizer: Any) -> None:
    tokenizer, model = make_tokenizer(), make_model("llama")
    tokenizer.add_special_tokens({"eos_token": "<|endoftext|>"})  # a base model's; the template ends turns otherwise
    first = TorchEngine(model, tokenizer).generate([Request(USER, max_tokens=1)])[0].token_ids[0]
    with torch.no_grad():  # the model now ends its turn at once
        model.lm_head.weight[tokenizer.convert_tokens_to_ids("<|im_end|>")] = 2 * model.lm_head.weight[first]
    answer = TorchEngine(model, tokenizer).generate([Request(USER, max_tokens=8)])[0]
    assert (answer.finish, answer.token_ids) == ("stop", [])


@pytest.mark.parametrize("stop", ["nd", ["nd"], ("nd",)])
def test_a_single_stop_text_is_one_text(stop: Any) -> None:
    assert Request("x", stop=stop).stop == ("nd",)


@pytest.mark.parametrize("turn", [{"role": "user"}, {"role": "user", "content": None}, "user", {"content": "x"}])
def test_a_message_that_is_none_is_one_line(turn: Any) -> None:
    with pytest.raises(NescioError, match="message 2: must have a role and a content"):
        Request([{"role": "user", "content": "x"}, turn])


def test_the_context_is_that_of_the_text_model() -> None:
    from transformers import Gemma3Config

    assert context_length(Gemma3Config(text_config={"max_position_embeddings": 77})) == 77


def test_both_branches_see_the_tools(make_tokenizer: Any, make_model: Any) -> None:
    template = (
        "{{ tools | tojson if tools }}{% for m in messages %}<|im_start|>{{ m['content'] }}<|im_end|>{% endfor %}"
    )
    tool = {"type": "function", "function": {"name": "mail"}}
    with TorchEngine(make_model("llama"), make_tokenizer(template)) as engine:
        request = Request([{"role": "user", "content": "Hi"}], Guidance(3.0), tools=(tool,), max_tokens=2)
        texts = branch_texts(engine.tokenizer, engine.sentences, request.prompt, request.guidance, None, request.tools)
        assert len(texts) == 2 and all('"mail"' in text for text in texts)
        with_tools, without = (
            engine.generate([each])[0].prompt_tokens for each in (request, replace(request, tools=()))
        )
        assert with_tools > without
