"""Names of version 0.1.0 in today's terms: keys of recipes and results, and what its stages depend on."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Place = tuple[str, ...]
"""The keys that lead to a value, outermost first; items of a list are numbers, as text."""

_RENAMED: dict[Place, Place] = {
    ("evaluate", "draws"): ("evaluate", "leak_draws"),
    ("evaluate", "drawn"): ("evaluate", "leak_samples"),
    ("evaluate", "attacked"): ("evaluate", "attack_samples"),
    ("evaluate", "harmless"): ("evaluate", "harmless_prompts"),
}
_ROW_GUIDANCE = ("scale", "space", "positive", "negative", "plausibility", "adaptive")


@dataclass(slots=True)
class Translation:
    """A mapping in today's names.

    Attributes:
        content: The mapping.
        written: The place that the user wrote, by today's place, for places that moved.
        notes: One line for each old name.
    """

    content: dict[str, Any]
    written: dict[Place, Place] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def moved(self, old: Place, new: Place, today: str) -> None:
        """Record that a value stands elsewhere today, and what to write there."""
        self.written[new] = old
        self.notes.append(f"{'.'.join(old)}: the name of nescio 0.1.0, still read; write {today}")


def recipe(content: Mapping[str, Any]) -> Translation:
    """Translate the mapping of a recipe, before it is validated.

    Where an old and a new name both stand, the old one stays, and validation refuses it.
    """
    done = Translation(dict(content))
    if isinstance(evaluate := content.get("evaluate"), dict):
        # 1) Rename keys.
        section = done.content["evaluate"] = dict(evaluate)
        for old, new in _RENAMED.items():
            if old[-1] in section and new[-1] not in section:
                section[new[-1]] = section.pop(old[-1])
                done.moved(old, new, ".".join(new))
        # 2) Nest the options of the engine.
        _nest_engine(section, ("evaluate",), done)
        # 3) Nest the guidance of rows.
        if isinstance(section.get("rows"), list):
            section["rows"] = [_nest_guidance(row, number, done) for number, row in enumerate(section["rows"])]
    generate = content.get("generate")
    if isinstance(generate, dict) and isinstance(generate.get("sources"), list):
        # 4) The same for the engines of sources.
        sources = [dict(source) if isinstance(source, dict) else source for source in generate["sources"]]
        done.content["generate"] = generate | {"sources": sources}
        for number, source in enumerate(sources):
            if isinstance(source, dict):
                _nest_engine(source, ("generate", "sources", str(number)), done)
    return done


def recipe_place(place: Place, value: Any) -> Place:
    """Return where a setting such as `--set evaluate.draws=3` belongs in a translated recipe."""
    if place[:2] == ("evaluate", "vllm"):
        return ("evaluate", "engine", "options", *place[2:])
    if place == ("evaluate", "engine") and isinstance(value, str):
        return (*place, "kind")
    return (*_RENAMED.get(place[:2], place[:2]), *place[2:])


def results_row(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row of `results.json` in today's names: in 0.1.0 `words` was the mean length of an answer."""
    if "words" in row and "words_ci95" not in row:
        return {"answer_words" if key == "words" else key: value for key, value in row.items()}
    return row


def _nest_engine(section: dict[str, Any], place: Place, done: Translation) -> None:
    """Make `engine: {kind, options}` of `engine: NAME` and `vllm: {…}`."""
    if isinstance(name := section.get("engine"), str):
        section["engine"] = {"kind": "torch" if name == "local" else name}
        done.written[*place, "engine", "kind"] = (*place, "engine")
        if name == "local":
            done.moved((*place, "engine"), (*place, "engine", "kind"), "engine: torch")
    engine, options = section.get("engine"), section.get("vllm")
    if options == {}:
        del section["vllm"]
    elif options and isinstance(engine, dict) and engine.get("kind") == "vllm" and "options" not in engine:
        section["engine"] = engine | {"options": section.pop("vllm")}
        done.moved((*place, "vllm"), (*place, "engine", "options"), "engine: {kind: vllm, options: {…}}")


def _nest_guidance(row: Any, number: int, done: Translation) -> Any:
    """Make `guidance: {…}` of the settings that 0.1.0 wrote flat in a row of the table."""
    flat = [name for name in row if name in _ROW_GUIDANCE] if isinstance(row, dict) else []
    if not flat or "guidance" in row:
        return row
    place = ("evaluate", "rows", str(number))
    for name in flat:
        done.moved((*place, name), (*place, "guidance", name), f"guidance: {{{name}: …}}")
    others = {name: value for name, value in row.items() if name not in flat}
    return others | {"guidance": {name: row[name] for name in flat}}


# What 0.1.0 wrote into each section of a run's recipe.yaml, nested; None is a plain value.
_FIT = dict.fromkeys(
    ("epochs", "batch_size", "gradient_accumulation", "learning_rate", "max_length", "row_tokens", "report_to"
    , "gradient_checkpointing")
) | {"lora": dict.fromkeys(("r", "alpha", "dropout", "targets"))}  # fmt: skip
_SECTIONS: dict[str, Any] = {
    "data": dict.fromkeys(
        ("dialogs", "pii", "skip_bad", "synthetic", "test_share", "train_samples", "validation_samples")
    ),
    "detector": dict.fromkeys(("model", "ignore", "allow", "deny", "regex", "recognizers")),
    "tune": _FIT,
    "subtract": dict.fromkeys(("coefficient", "relu", "include", "exclude")),
    "generate": {
        "max_tokens": None, "tries": None,
        "sources": dict.fromkeys((
            "base_url", "key_env", "name", "engine", "vllm", "model", "strategies", "temperature", "share", "budget",
            "tokenizer", "concurrency", "timeout", "price",
        )),
    },
    "pairs": dict.fromkeys(("twins", "positive", "negative", "sources", "balance", "per_source")),
    "train": _FIT | dict.fromkeys(("method", "nll_over", "beta", "max_prompt_length", "keep", "patience")),
    "evaluate": dict.fromkeys((
        "engine", "vllm", "samples", "max_tokens", "scales", "spaces", "plausibility", "adaptive", "baselines",
        "questions", "question_count", "harmless", "draws", "drawn", "attacked",
    )) | {
        "rows": dict.fromkeys(("name", "model", "adapter", "system", "nudge", "protect", "mask", *_ROW_GUIDANCE)),
        "judge": dict.fromkeys(("base_url", "key_env", "model")),
    },
}  # fmt: skip


def stage_sections(plain: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Return a recipe as 0.1.0 would have written it, for the keys of stages: what 0.1.0 finished stays finished.

    Args:
        plain: The recipe with every default written out.
        defaults: The same of a recipe that sets nothing. A key that 0.1.0 did not know is left out at its default.
    """
    old, unset = dict(plain), dict(defaults)
    for name in ("bake", "preset"):  # they decide through the stages and the values that they set
        old.pop(name, None)
    for name, known in _SECTIONS.items():
        if plain.get(name) is not None:
            old[name] = _known(_flat(name, plain[name]), known, _flat(name, unset[name]))
    return old


def _flat(name: str, section: Mapping[str, Any]) -> dict[str, Any]:
    """Undo what `recipe` does to a section."""
    old = dict(section)
    if name == "train":
        del old["anchors"], old["validation_questions"]  # what they decide stands in the stage's own list
    if name == "generate":
        old["sources"] = [_flat_engine(source, "local") for source in section["sources"]]
    if name == "evaluate":
        old = _flat_engine(old, "torch")
        old["rows"] = [
            {key: value for key, value in row.items() if key != "guidance"} | row["guidance"] for row in old["rows"]
        ]
        for before, today in _RENAMED.items():
            old[before[-1]] = old.pop(today[-1])
    return old


def _flat_engine(section: Mapping[str, Any], torch: str) -> dict[str, Any]:
    kind, options = section["engine"]["kind"], section["engine"]["options"]
    if options and kind != "vllm":
        return dict(section)  # 0.1.0 had no word for it
    return {**section, "engine": torch if kind == "torch" else kind, "vllm": options}


def _known(value: Any, known: Any, default: Any) -> Any:
    if isinstance(value, list) and known is not None:
        return [_known(item, known, default[0]) for item in value]
    if not isinstance(value, dict) or known is None:
        return value
    kept = {key for key in value if key in known or value[key] != default[key]}
    return {key: _known(value[key], known.get(key), default[key]) for key in value if key in kept}


def trained_before_anchors(stages: Mapping[str, Any]) -> bool:
    """Whether the manifest's stages are those of a run that was trained before anchors and baking were the default."""
    return "train" in stages and "anchors" not in stages
