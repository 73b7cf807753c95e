"""The whole path in Python, in minutes: dialogs, a model that leaks, an adapter that stops it, and the table.

python examples/quickstart.py                   # the embedded model, runs/quickstart
python examples/quickstart.py MODEL FOLDER      # another chat model and another run folder
"""

import sys
from pathlib import Path

import yaml

import nescio
from nescio.pipeline.progress import Terminal, standard
from nescio.pipeline.recipe import load_recipe
from nescio.pipeline.run import Run
from nescio.report import table

MODEL = sys.argv[1] if len(sys.argv) > 1 else "smollm2"
FOLDER = Path(sys.argv[2] if len(sys.argv) > 2 else "runs/quickstart")

# 1) A recipe. With chats of your own, give `data: {dialogs: chats.jsonl}` and `tuned:`, the model that learned them, in
#    the place of `synthetic` and `tune`. What is left out has the paper's value.
RECIPE = {
    "base": MODEL,
    "data": {"synthetic": {"dialogs": 24, "max_exchanges": 1}, "test_share": 0.25, "train_samples": 12},
    "detector": {"model": "spacy:en_core_web_sm"},
    "tune": {"epochs": 1, "batch_size": 4, "learning_rate": 5e-4},
    "generate": {"max_tokens": 24, "tries": 3},
    "train": {"epochs": 1, "batch_size": 2, "learning_rate": 2.5e-3, "anchors": {"count": 24}},
    "bake": {"epochs": 1, "max_tokens": 24},
    "evaluate": {
        "samples": 6, "max_tokens": 24, "scales": [3], "spaces": ["prob"], "question_count": 0, "harmless_prompts": 0,
        "words": 20, "asked_for_samples": 2,
    },
}  # fmt: skip


def main() -> None:
    """Run the recipe, print its table, and ask the adapter."""
    FOLDER.parent.mkdir(parents=True, exist_ok=True)
    path = FOLDER.with_suffix(".yaml")
    path.write_text(yaml.safe_dump(RECIPE), encoding="utf-8")

    # 2) The run: every stage writes its output into the folder. A second call goes on where the first one stopped.
    Run(load_recipe(path), FOLDER, Terminal(standard())).execute()

    # 3) The result: one row for each model and guidance. report.html in the folder shows the answers too.
    print(table.markdown(table.read(FOLDER)))

    # 4) The baked adapter: no sentence, no second branch. `serve` and `chat` do the same from the command line.
    messages = [{"role": "user", "content": "Hi, I'm Ann Lee from Boston. Who can help me with my taxes?"}]
    with nescio.load(str(FOLDER / "adapter")) as engine:
        print(engine.chat(messages, max_tokens=48))


if __name__ == "__main__":
    main()
