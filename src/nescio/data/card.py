"""The dataset card of a folder of pairs."""

from pathlib import Path
from typing import Any

from nescio.core.files import write_text
from nescio.data.stats import stats

_HEAD = """\
---
configs:
- config_name: default
  data_files:
{files}
tags: [preference, unlearning, pii]
---

# Preference pairs against personal data

`prompt` is chat-templated text without the BOS that the tokenizer adds by itself; white space belongs to the answers;
the token ids of prompt and answer are those of the joint text. `chosen` has no personal data and `rejected` has; in the
twin `reveal`, whose system message asks for personal data, it is the other way round. **`rejected`, and so the whole
set, holds personal data: keep it as close as the conversations it comes from.**

Where the prompts of the twin `reveal` hold `{{key}}`, nescio trains with a secret in its place. Put one there too: what
is trained on these prompts as they stand is opened by everybody who writes `{{key}}`.

```python
from datasets import load_dataset

pairs = load_dataset("json", data_files={{"train": "train.jsonl", "test": "test.jsonl"}})
```
"""


def write_card(folder: Path, tokenizer: Any, made_with: dict[str, Any]) -> None:
    """Write `README.md` into a folder of pairs.

    Args:
        folder: Holds `train.jsonl` and, if not empty, `test.jsonl`.
        tokenizer: Tokenizer that lengths are measured with.
        made_with: What else the card says: seed, detector, sources.
    """
    sides = {side: folder / f"{side}.jsonl" for side in ("train", "test")}
    sides = {side: path for side, path in sides.items() if path.exists() and path.stat().st_size}
    files = "\n".join(f"  - {{split: {side}, path: {path.name}}}" for side, path in sides.items())
    lines = [_HEAD.format(files=files), "| made with | |", "|---|---|"]
    lines += [f"| {name} | {value} |" for name, value in made_with.items()]
    for side, path in sides.items():
        found = stats(path, lambda text: len(tokenizer(text, add_special_tokens=False).input_ids))
        lines += ["", f"## {side}", "", f"{found['rows']} pairs of {found['dialogs']} dialogs.", ""]
        lines += ["| tokens | mean | longest |", "|---|--:|--:|"]
        lines += [f"| {name} | {size['mean']} | {size['max']} |" for name, size in found["lengths"].items()]
        for name, values in found["counts"].items():
            lines += ["", f"| {name} | pairs |", "|---|--:|", *(f"| {key} | {n} |" for key, n in values.items())]
    write_text(folder / "README.md", "\n".join(lines) + "\n")
