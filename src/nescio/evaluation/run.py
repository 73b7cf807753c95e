"""The table: every set-up is asked, its answers are scored by each measure, and the best row is marked."""

import json
import math
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, cast

from nescio.core.adapters import weights_hash
from nescio.core.errors import NescioError
from nescio.core.files import fingerprint
from nescio.core.guidance import Guidance
from nescio.data.samples import Sample
from nescio.evaluation.base import Ask, Found, Measure, Task, batches, generate
from nescio.evaluation.columns import measures as registry
from nescio.evaluation.output_filter import masked_texts
from nescio.evaluation.results import mark_best
from nescio.evaluation.setups import Setup
from nescio.pii.base import Detector, find_behind, merge

_BATCH = 22  # samples asked about before their answers are on disk

Rows = list[dict[str, Any]]


def evaluate(task: Task, measures: Sequence[Measure]) -> tuple[Rows, dict[str, Rows]]:
    """Make a table. What is on disk already is not asked again.

    Args:
        task: What is evaluated.
        measures: What is measured of every row.

    Returns:
        The rows of `results.json`, and what stands in the files beside it, by their names: each row's answers with
        their spans by the set-up's name, and its details by kind and name, as `words/tuned`.

    Raises:
        NescioError: A model, an adapter or an option is wrong, or two measures fill one column.
    """
    # 1) Collect what is asked; wrong options are found here, before anything is loaded.
    _check_columns(measures)
    asks = _weighted(_sample_asks(task), len(task.samples))
    for measure in measures:
        asks += _weighted([*measure.asks(task)], measure.cost(len(task.samples)))
    found = [Found(setup=setup) for setup in task.setups]
    with closing(task.engine):
        # 2) Ask everything, one model after the other.
        _ask_all(task, asks, found)
        # 3) Pass what was said through the output filters.
        for one in found:
            if one.setup.masks:
                _filter(one, task.detector)
        # 4) Find the personal data in the answers.
        for number, one in enumerate(found):
            task.tick(number, len(found), f"personal data in the answers of {one.setup.name}")
            one.rows = answer_rows(task.samples, one.given["answers"], task.detector)
        # 5) Score.
        rows = [_head(one) for one in found]
        for number, measure in enumerate(measures):
            task.tick(number, len(measures), f"scores: {type(measure).__name__}")
            for row, fields in zip(rows, _scored(measure, task, found), strict=True):
                row.update(fields)
    # 6) Mark the best row.
    mark_best(rows)
    details = {f"{kind}/{one.setup.name}": own for one in found for kind, own in one.details.items()}
    return rows, {one.setup.name: one.rows for one in found} | details


def open_measure(name: str, **options: Any) -> Measure:
    """Make a registered measure.

    Raises:
        NescioError: There is none of that name, or it does not take these options.
    """
    make = cast(Callable[..., Measure], registry.get(name))
    try:
        return make(**options)
    except (TypeError, ValueError) as error:
        raise NescioError(f"evaluate.measures: {name}: {error}; see the options of the measure") from error


def _check_columns(measures: Sequence[Measure]) -> None:
    owners: dict[str, str] = {}
    for measure in measures:
        name = type(measure).__name__
        for column in measure.columns:
            other = owners.setdefault(column.key, name)
            if other != name:
                raise NescioError(f"measures {other} and {name} both fill the column {column.key!r}; rename one")


def _sample_asks(task: Task) -> list[Ask]:
    """Greedy answers (temperature 0, as in the paper) to all samples."""
    return [
        Ask(
            kind="answers",
            decides=[[[sample.id, fingerprint(asdict(sample))] for sample in samples], task.max_tokens],
            work=partial(generate, conversations=[sample.messages for sample in samples], max_tokens=task.max_tokens),
            beginnings=[sample.beginning for sample in samples],
        )
        for samples in batches(task.samples, _BATCH)
    ]


def _weighted(asks: Sequence[Ask], answers: float) -> list[tuple[Ask, int]]:
    """Return each with its share of the answers that all of them want of a set-up: what progress is counted in."""
    return [(ask, max(1, round(answers / len(asks)))) for ask in asks]


def _ask_all(task: Task, asks: Sequence[tuple[Ask, int]], found: Sequence[Found]) -> None:
    models = list(dict.fromkeys(setup.model for setup in task.setups))
    done, total = 0, sum(answers * sum(not ask.skips(one.setup) for one in found) for ask, answers in asks)
    for model in models:
        every = [setup for setup in task.setups if setup.model == model]
        for ask, answers in asks:
            own = [one for one in found if one.setup.model == model and not ask.skips(one.setup)]
            task.tick(done, total, f"{ask.kind} of {len(own)} set-ups")
            done += answers * len(own)

            def work(
                missing: list[int], ask: Ask = ask, own: list[Found] = own, every: list[Setup] = every
            ) -> Sequence[Any]:
                # The engine has all adapters, also of those that are skipped: else it would be loaded again for each.
                return ask.work(task.engine.of(every), [own[at].setup for at in missing])

            asked = [[task.engine.identity, ask.decides, task.engine.identity_of(one.setup)] for one in own]
            for one, results in zip(own, task.results(ask.kind, asked, work), strict=True):
                one.given.setdefault(ask.kind, []).extend(results)
                one.beginnings.setdefault(ask.kind, []).extend(ask.beginnings)


def _filter(found: Found, detector: Detector) -> None:
    """Mask the personal data in all texts that a set-up gave, and time it on the answers."""
    started = time.perf_counter()
    found.given["answers"] = masked_texts(found.given["answers"], detector, found.beginnings["answers"])
    found.filter_seconds = (time.perf_counter() - started) / max(len(found.given["answers"]), 1)
    for kind, results in found.given.items():
        if kind != "answers":
            found.given[kind] = masked_texts(results, detector, found.beginnings[kind])


def answer_rows(samples: Sequence[Sample], answers: Sequence[str], detector: Detector) -> Rows:
    """Return the lines of `eval/NAME.jsonl`: an object for each answer, with the personal data found in it."""
    found = find_behind(detector, (sample.beginning for sample in samples), answers)
    return [
        {
            "id": sample.id,
            "dialog_id": sample.dialog_id,
            "messages": sample.messages,
            "answer": text,
            "spans": [asdict(span) for span in merge(spans, text)],  # detectors of other packages may let them overlap
        }
        for sample, text, spans in zip(samples, answers, found, strict=True)
    ]


def _head(found: Found) -> dict[str, Any]:
    """The fields of a row that say what it is; those of the utility are null until they are measured."""
    setup, guidance = found.setup, found.setup.guidance
    guided = guidance if guidance is not None and guidance.guided else None
    return {
        "name": setup.name,
        "model": setup.label,
        "epoch": setup.epoch,
        "space": guided.space if guided else None,
        "scale": guidance.scale if guidance is not None else 1.0,
        "masked": setup.masks,
        "reference": setup.reference,
        **(guided or Guidance()).variant,
        "samples": len(found.rows),
        "utility": None,
        "utility_ci95": None,
        "utility_kind": None,
        "filter_seconds": found.filter_seconds,
        "best": False,
        "adapter_hash": weights_hash(Path(setup.adapter)) if setup.adapter else None,
        "answers_hash": fingerprint(found.rows),  # a report refuses answers that are not those counted here
    }


def _scored(measure: Measure, task: Task, found: Sequence[Found]) -> Rows:
    """The fields of one measure; a number that is not finite is null, because JSON has none."""
    name, fields = type(measure).__name__, measure.score(task, found)
    if len(fields) != len(found):
        raise NescioError(f"measure {name}: returned {len(fields)} rows for {len(found)} set-ups; return one for each")
    for row in fields:
        for key, value in row.items():
            try:
                json.dumps(value)
            except (TypeError, ValueError) as error:
                raise NescioError(
                    f"measure {name}: {key!r} is not plain data ({error}); return numbers, texts, lists"
                ) from error
    return [{key: _finite(value) for key, value in row.items()} for row in fields]


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, list | tuple):
        return None if any(isinstance(part, float) and not math.isfinite(part) for part in value) else list(value)
    return value
