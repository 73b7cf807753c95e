"""`{"prompt", "completion"}`: two texts, as in OpenAI's earliest format, or two lists of turns, as in TRL."""

from typing import Any

from nescio.data.formats import FORMATS, Format
from nescio.data.formats.turns import has_turns, plain_turns


def _recognises(row: dict[str, Any]) -> bool:
    both = row.get("prompt"), row.get("completion")
    return not has_turns(row) and any(all(isinstance(part, kind) for part in both) for kind in (str, list))


def _read(row: dict[str, Any]) -> dict[str, Any]:
    prompt, completion = row["prompt"], row["completion"]
    if isinstance(prompt, list):
        turns = [*prompt, *completion]
    else:  # OpenAI's completions begin with a space
        turns = [{"role": "user", "content": prompt}, {"role": "assistant", "content": completion.strip()}]
    return {"messages": plain_turns(row | {"messages": turns}, "messages")}


PROMPT_COMPLETION = FORMATS.register("prompt_completion")(Format(recognises=_recognises, read=_read))
