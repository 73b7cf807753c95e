"""The engine on vLLM against the torch engine on the same tiny model, under a cache that is too small."""

import json
import random
import shutil
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from nescio.core.errors import NescioError
from nescio.core.guidance import Guidance
from nescio.core.prompts import Message
from nescio.engines.base import Request, Scoring
from nescio.engines.torch_engine import TorchEngine
from nescio.engines.vllm.settings import engine_config
from nescio.engines.vllm.vllm_engine import load

USER: list[Message] = [{"role": "user", "content": "Who is Anna?"}]
WORDS = ["My", "name", "is", "Anna", "Ferrari", "and", "I", "live", "in", "Geneva", "please", "write", "to", "Tom"]


def text(generator: random.Random, most: int = 12) -> str:
    return " ".join(generator.choices(WORDS, k=generator.randint(1, most)))


def requests(count: int, seed: int, most_tokens: int = 40) -> list[Request]:
    """Greedy requests, most of them guided, of all lengths, with one-letter prompts among them."""
    generator = random.Random(seed)
    made = []
    for number in range(count):
        negative = "a" if number % 7 == 0 else text(generator)
        guidance = Guidance(generator.choice([0.0, 0.5, 1.5, 3.0, 5.0]), generator.choice(["log", "prob"]))
        plain = number % 9 == 0
        made.append(
            Request(
                "b" if number % 11 == 0 else text(generator), None if plain else guidance, None if plain else negative,
                adapter=generator.choice(["default", None]), max_tokens=generator.randint(1, most_tokens),
            )
        )  # fmt: skip
    return made


def nothing_left(engine: Any) -> bool:
    """Whether vLLM holds no request and no block any more, and no half is remembered."""
    scheduler = engine._scheduler
    engine._wait_for(lambda: None)
    pool = scheduler.kv_cache_manager.block_pool
    held = (
        scheduler.running,
        scheduler.waiting,
        scheduler.requests,
        scheduler._branches,
        scheduler._rows,
        engine._jobs,
    )
    return not any(map(len, held)) and pool.get_num_free_blocks() == pool.num_gpu_blocks - 1


def test_greedy_answers_are_the_torch_engines(tight: Any, reference: TorchEngine) -> None:
    asked = [*requests(40, seed=1), *(Request(USER, Guidance(scale, "log"), max_tokens=20) for scale in (1.0, 2.0))]
    assert tight.generate(asked) == reference.generate(asked)
    assert nothing_left(tight)


SCHEMA = {
    "type": "object",
    "properties": {"name": {"enum": ["Anna", "Tom"]}, "age": {"type": "integer", "minimum": 0, "maximum": 99}},
    "required": ["name", "age"],
    "additionalProperties": False,
}
WANTED = {"type": "json_schema", "json_schema": {"name": "answer", "schema": SCHEMA}}
GUIDANCES = [None, Guidance(3.0, "prob"), Guidance(3.0, "log"), Guidance(8.0, "prob", plausibility=0.5, adaptive=True)]


def test_an_answer_matches_its_schema_as_the_torch_engines_does(tight: Any, reference: TorchEngine) -> None:
    """Among requests without one, and with log-probabilities, so that what is forbidden is seen to have none."""
    forms: list[dict[str, Any]] = [
        {"response_format": WANTED}, {"response_format": WANTED, "logprobs": 5}, {},
        {"response_format": {"type": "json_object"}, "max_tokens": 12},
    ]  # fmt: skip
    asked = [Request(USER, guidance, **{"max_tokens": 80, **form}) for guidance in GUIDANCES for form in forms]
    answers, expected = tight.generate(asked), reference.generate(asked)
    for request, answer, right in zip(asked, answers, expected, strict=True):
        assert (answer.text, answer.finish) == (right.text, right.finish), request
        if request.response_format == WANTED:
            assert json.loads(answer.text).keys() == {"name", "age"}
        for told, own in zip(answer.logprobs or (), right.logprobs or (), strict=True):
            assert told.logprob == pytest.approx(own.logprob, abs=1e-3)
    assert nothing_left(tight)


@pytest.mark.parametrize("guidance", GUIDANCES)
def test_a_hot_answer_matches_its_schema(tight: Any, guidance: Guidance | None) -> None:
    asked = [
        Request(USER, guidance, response_format=WANTED, temperature=2.0, seed=seed, max_tokens=80) for seed in range(4)
    ]
    for answer in tight.generate(asked):
        assert answer.finish == "stop" and json.loads(answer.text)["name"] in ("Anna", "Tom")


def test_a_schema_that_cannot_be_followed_is_refused(tight: Any) -> None:
    wrong = {"type": "json_schema", "json_schema": {"name": "answer", "schema": {"type": "strange"}}}
    with pytest.raises(NescioError, match="the schema is refused"):
        tight.submit(Request(USER, response_format=wrong))
    assert tight.generate([Request(USER, max_tokens=2)])


def test_five_hundred_requests_come_and_go_at_random_and_every_finished_answer_is_right(
    tight: Any, reference: TorchEngine, record_property: Any
) -> None:
    generator, asked = random.Random(5), requests(500, seed=5)
    before, preempted = tight.replays, count_preemptions(tight)
    streams: list[Any] = [None] * len(asked)

    def come(own: range) -> None:
        for number in own:
            streams[number] = tight.submit(asked[number])
            if number % 10 == 3:
                for _ in range(generator.randint(0, 3)):
                    next(streams[number], None)
                streams[number].cancel()
            elif number % 4 == 0:
                assert streams[number].answer

    threads = [threading.Thread(target=come, args=(range(start, len(asked), 4),)) for start in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    answers, expected = [stream.answer for stream in streams], reference.generate(asked)
    for given, right in zip(answers, expected, strict=True):
        if given.finish == "cancelled":
            assert given.token_ids == right.token_ids[: len(given.token_ids)]
            assert right.text.startswith(given.text.rstrip("\ufffd"))
        else:
            assert given == right
    assert sum(answer.finish == "cancelled" for answer in answers) > 10
    assert nothing_left(tight), "a half was left behind"
    assert preempted(), "the cache was never too small"
    print(f"\n500 requests: {preempted()} preemptions, {tight.replays - before} replays")


def count_preemptions(engine: Any) -> Any:
    """Count what vLLM puts back into its queue from now on."""
    scheduler, count = engine._scheduler, [0]
    own = type(scheduler)._preempt_request

    def counting(*args: Any, **kwargs: Any) -> None:
        count[0] += 1
        own(scheduler, *args, **kwargs)

    scheduler._preempt_request = counting
    return lambda: count[0]


def test_a_token_chosen_without_the_other_half_never_leaves(tight: Any, reference: TorchEngine) -> None:
    """Some halves are taken out of a step, whatever the scheduler thinks: noticed, replayed, and right in the end."""
    scheduler, before = tight._scheduler, tight.replays
    own, step = scheduler._reserve_prefill_lookahead, [0]

    def careless(request: Any, computed: int, new: int) -> int:
        step[0] += 1
        row = scheduler._rows.get(request.request_id)
        return 0 if row and row.role == "negative" and step[0] % 5 == 0 and computed else own(request, computed, new)

    scheduler._reserve_prefill_lookahead = careless
    try:
        asked = [Request(USER, Guidance(scale, "prob"), max_tokens=24) for scale in (1.5, 3.0, 5.0)]
        assert tight.generate(asked) == reference.generate(asked)
    finally:
        del scheduler._reserve_prefill_lookahead
    assert tight.replays > before
    assert nothing_left(tight)


def test_what_vllm_refuses_ends_that_request_alone(tight: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    add = tight._llm.add_request

    def refusing(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.endswith("/negative"):
            raise ValueError("out of vocabulary\nand more")
        return add(name, *args, **kwargs)

    monkeypatch.setattr(tight._llm, "add_request", refusing)
    refused, other = (
        tight.submit(Request("Tom", Guidance(2.0), "Anna", max_tokens=4)),
        tight.submit(Request("Tom", max_tokens=4)),
    )
    with pytest.raises(NescioError, match=r"vLLM refuses the request \(ValueError: out of vocabulary\)$"):
        _ = refused.answer
    assert other.answer.text
    assert not tight.closed and nothing_left(tight)


def test_a_stream_is_what_generate_gives_and_ends_at_stop_texts(tight: Any, reference: TorchEngine) -> None:
    whole = Request(USER, Guidance(3.0, "log"), max_tokens=40)
    answer = tight.generate([whole])[0]
    assert "".join(tight.stream(whole)) == answer.text
    stop = next(answer.text[at : at + 2] for at in range(4, 30) if "\ufffd" not in answer.text[at : at + 2])
    cut = Request(USER, Guidance(3.0, "log"), max_tokens=40, stop=("never", stop))
    assert tight.generate([cut]) == reference.generate([cut])
    assert "".join(tight.stream(cut)) == answer.text[: answer.text.find(stop)]
    assert nothing_left(tight)


def test_a_stream_left_early_frees_its_rows(tight: Any) -> None:
    pieces = tight.stream(Request("Anna", max_tokens=200))
    next(pieces)
    pieces.close()
    deadline = time.monotonic() + 5
    while tight._jobs and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not tight._jobs


def test_log_probabilities_are_those_of_the_guided_distribution(tight: Any, reference: TorchEngine) -> None:
    for guidance in (Guidance(3.0, "log"), Guidance(2.0, "prob"), None):
        for temperature in (0.0, 1.0):
            asked = Request(USER, guidance, max_tokens=6, logprobs=4, temperature=temperature, seed=3)
            answer = tight.generate([asked])[0]
            assert len(answer.logprobs) == len(answer.token_ids)
            greedy = reference.generate([asked])[0] if not temperature else None
            for place, told in enumerate(answer.logprobs):
                assert told.token_id == answer.token_ids[place]
                assert len(told.top) == 4
                assert [one.logprob for one in told.top] == sorted((o.logprob for o in told.top), reverse=True)
                if greedy:
                    expected = greedy.logprobs[place]
                    assert told.logprob == pytest.approx(expected.logprob, abs=1e-3)
                    assert [one.token_id for one in told.top] == [one.token_id for one in expected.top]


def test_scores_are_the_torch_engines(tight: Any, reference: TorchEngine) -> None:
    guidances = [None, Guidance(1.0), Guidance(3.0, "log"), Guidance(2.0, "prob")]
    items = [Scoring(USER, words, how, adapter) for words in (" Anna lives", "", " Tom") for how in guidances
             for adapter in ("default", None)]  # fmt: skip
    for ours, theirs in zip(tight.score_batch(items), reference.score_batch(items), strict=True):
        assert ours == pytest.approx(theirs, abs=1e-3)


def test_a_seed_gives_the_same_sample_alone_and_in_a_crowd(tight: Any) -> None:
    def sampled(seed: int) -> Request:
        return Request(USER, Guidance(1.5, "log"), max_tokens=12, temperature=1.2, top_p=0.95, top_k=40, seed=seed)

    crowd = tight.generate([*(sampled(seed) for seed in range(6)), *requests(10, seed=2)])
    assert [tight.generate([sampled(seed)])[0] for seed in range(6)] == crowd[:6]
    assert len({tuple(answer.token_ids) for answer in crowd[:6]}) > 3


def test_an_adapter_brings_its_own_sentences(tight: Any, tiny_adapter: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_adapter, tmp_path / "own")
    (tmp_path / "own/nescio.json").write_text('{"positive": "Say nothing.", "negative": "Say all."}')
    tight.load_adapter("own", tmp_path / "own")
    told = Guidance(2.0, "log", positive="Say nothing.", negative="Say all.")
    asked = [Request(USER, how, adapter="own", max_tokens=12) for how in (Guidance(2.0, "log"), told)]
    by_itself, by_hand = tight.generate(asked)
    tight.drop_adapter("own")
    assert by_itself == by_hand


def test_adapters_come_and_go_while_it_runs(tight: Any, tiny_adapter: Path, tmp_path: Path) -> None:
    asked = [Request(USER, Guidance(2.0, "log"), adapter=name, max_tokens=12) for name in ("default", None)]
    with_it, without = tight.generate(asked)
    assert with_it.token_ids != without.token_ids
    tight.load_adapter("again", tiny_adapter)
    assert tight.capabilities.adapters == ("default", "again")
    again = Request(USER, Guidance(2.0, "log"), adapter="again", max_tokens=12)
    stream = tight.submit(again)
    tight.drop_adapter("again")
    assert stream.answer.token_ids == with_it.token_ids
    for refused, said in [
        (lambda: tight.submit(again), "'again' is not loaded"),
        (lambda: tight.drop_adapter("again"), "'again' is not loaded"),
        (lambda: tight.load_adapter("default", tiny_adapter), "loaded already"),
        (lambda: tight.load_adapter("other", tmp_path), "not a PEFT adapter"),
    ]:
        with pytest.raises(NescioError, match=said):
            refused()


def test_what_can_never_be_served_is_refused_before_anything_runs(tight: Any) -> None:
    for bad, said in [
        (Request("Anna " * 300, max_tokens=2), "context of 256"), (Request("a", max_tokens=256), "context of 256"),
        (Request("a", adapter="none", max_tokens=2), "'none' is not loaded"),
        (Request("a", Guidance(2.0), max_tokens=2), "negative prompt"),
        (Request("a", logprobs=21, max_tokens=2), "at most 20"),
    ]:  # fmt: skip
        with pytest.raises(NescioError, match=said):
            tight.submit(bad)
    assert tight.generate([]) == []
    assert nothing_left(tight)


@pytest.mark.parametrize(
    ("options", "said"),
    [({"tensor_paralel_size": 2}, "tensor_paralel_size"), ({"max_model_len": 100000}, "rejects the configuration")],
)
def test_what_vllm_does_not_take_is_one_line(tiny_model: Path, options: dict[str, Any], said: str) -> None:
    with pytest.raises(NescioError, match=said) as error:
        load(str(tiny_model), options=options)
    assert "\n" not in str(error.value)


def test_a_cpus_memory_is_not_all_taken(tiny_model: Path) -> None:
    def cache(**options: Any) -> Any:
        return engine_config(str(tiny_model), "float32", None, {"max_model_len": 128, **options}).cache_config

    assert cache().kv_cache_memory_bytes == 4 << 30
    assert cache(kv_cache_memory_bytes=1 << 28).kv_cache_memory_bytes == 1 << 28
    assert cache(gpu_memory_utilization=0.1).kv_cache_memory_bytes is None
