"""How a run was made, stage by stage, in words and in the recipe's numbers.

Knows recipes and manifests as plain data.
"""

from collections.abc import Mapping
from typing import Any

_STAGES: dict[str, tuple[str, dict[str, str]]] = {
    "data": (
        "The dialogs were split; those held out were never trained on.",
        {"made-up dialogs": "data.synthetic.dialogs", "dialogs": "data.dialogs", "held out": "data.test_share"},
    ),
    "tune": (
        "The base model was fine-tuned on the training dialogs: this is the tuned model, the one that leaks.",
        {"base": "base", "epochs": "tune.epochs", "learning rate": "tune.learning_rate", "LoRA r": "tune.lora.r"},
    ),
    "subtract": (
        "A fraction of what tuning had changed was subtracted from the base model; training starts from the result.",
        {"fraction": "subtract.coefficient", "ReLU": "subtract.relu"},
    ),
    "samples": (
        "Each piece of personal data in an assistant's turn became a sample: the dialog up to that point.",
        {"detector": "detector.model", "training samples, at most": "data.train_samples"},
    ),
    "candidates": (
        "Other models wrote replacement answers; those without personal data were kept.",
        {"tokens, at most": "generate.max_tokens", "answers asked for, at most": "generate.tries"},
    ),
    "pairs": ("Each replacement (chosen) was paired with what the dialog said (rejected){twins}.", {}),
    "train": (
        "An adapter was trained on the pairs{method}.",
        {"epochs": "train.epochs", "learning rate": "train.learning_rate", "LoRA r": "train.lora.r"},
    ),
    "evaluate": (
        "Every model answered the same held-out samples, and the personal data in its answers was counted.",
        {"samples, at most": "evaluate.samples", "tokens, at most": "evaluate.max_tokens"},
    ),
}
_METHODS = {
    "orpo": " with ORPO",
    "dpo": " with DPO",
    "flat": " with FLAT",
    "sft": " by fine-tuning on the chosen answers",
    "sft_scrubbed": " by fine-tuning on the dialogs' own answers, their personal data masked",
    "npo": " with NPO, on the rejected answers",
    "simnpo": " with SimNPO, on the rejected answers",
    "gradient_ascent": " by gradient ascent on the rejected answers",
}
_OF_BETA = ("orpo", "dpo", "npo", "simnpo")
_OF_TWINS = ("orpo", "dpo", "flat")


def stages(recipe: Mapping[str, Any], manifest: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What was done, in the recipe's numbers, without the report itself: drawing it again changes nothing.

    Args:
        recipe: As in `recipe.yaml`.
        manifest: As in `manifest.json`.
    """
    done = manifest.get("stages")
    told = []
    for name, record in done.items() if isinstance(done, dict) else ():
        if name != "report" and isinstance(record, dict):
            text, fields = _told(name, recipe)
            values = {word: _look_up(recipe, field) for word, field in fields.items()}
            facts = [f"{word}: {_plain(value)}" for word, value in values.items() if value is not None]
            told.append({"name": name, "text": text, "facts": facts} | _record(record))
    return told


def _told(name: str, recipe: Mapping[str, Any]) -> tuple[str, dict[str, str]]:
    """A stage's sentence as this recipe has it, and where its facts stand."""
    text, fields = _STAGES.get(name, ("", {}))
    method, paired = _look_up(recipe, "train.method") or "orpo", _look_up(recipe, "pairs.twins") is not False
    words = {
        "method": _METHODS.get(method, f" with {method}"),
        "twins": " under the protect prompt, and the other way round under the reveal prompt" if paired else "",
    }
    if name == "pairs" and paired:
        fields = {"protect prompt": "pairs.positive", "reveal prompt": "pairs.negative"}
        words["twins"] += "" if method in _OF_TWINS else " (left out in training: its method looks at one answer)"
    if name == "train" and method in _OF_BETA:
        fields = fields | {"β": "train.beta"}
    return text.format(**words), fields


def _record(record: Mapping[str, Any]) -> dict[str, Any]:
    """How long a stage took and what it made, as far as the manifest says."""
    seconds, outputs = record.get("seconds"), record.get("outputs")
    return {
        "duration": _duration(seconds) if isinstance(seconds, int | float) else "",
        "key": record.get("key") or "",
        "outputs": outputs if isinstance(outputs, dict) else {},
    }


def _look_up(recipe: Mapping[str, Any], field: str) -> Any:
    value: Any = recipe
    for name in field.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def _plain(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{seconds:.1f} s"
