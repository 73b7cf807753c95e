"""Gated guidance, simulated: how little of the negative branch would do, and what comes out then?

A gate looks at the positive branch alone and says at each token whether the negative one is asked. Tokens that it lets
by unasked have to be caught up when it opens again, since the negative branch reads them too: so every token before an
answer's last opening is computed in the end. This script computes both branches always, and counts what a gated decoder
would have computed. Gates are fitted on the run's training samples and tried on its held-out ones:

* `sure`: closed where the likeliest token of the positive branch has at least that probability;
* `head`: a logistic regression on the positive branch's last hidden state, which says where guidance would choose
  another token; thresholds keep so many of the places open at which it did, on the training samples;
* `oracle`: open exactly where guidance chooses another token, which no gate can know: what exact gating costs at least.

    python benchmarks/gate.py --run runs/demo
"""

import argparse
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from _result import leave, needs, options_of
from torch import Tensor

from nescio.core.guidance import Guidance
from nescio.engines.base import Prompt, Request
from nescio.engines.decode.loop import Job
from nescio.engines.torch_engine import TorchEngine, load
from nescio.evaluation.measures import words
from nescio.evaluation.measures.everyday import prompts as everyday_prompts
from nescio.evaluation.statistics import bootstrap_total
from nescio.pipeline.context import Context
from nescio.pipeline.recipe import load_recipe

KEPT = (0.5, 0.8, 0.95)  # shares of the training samples' places that stay open
SURE = 0.7
Row = dict[str, Any]
Gate = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
"""From the positive branch's log-probabilities `[rows, vocab]` and last hidden states `[rows, width]`, and, for the
oracle, the guided and the positive choice `[rows]`, to whether it is open `[rows]`."""


@dataclass(eq=False)
class Gated:
    """An engine whose guided requests pass a gate; counts tokens.

    Attributes:
        engine: The engine; its loop is told here what a request's distribution is.
        gate: Open or closed; None: always open, and what a gate is fitted on is kept.
        opened: For each answer, by the number that is its seed, whether the gate was open at each token.
        seen: Hidden states, and whether guidance chose another token, at each step without a gate.
    """

    engine: TorchEngine
    gate: Gate | None = None
    opened: dict[int, list[bool]] = field(default_factory=lambda: defaultdict(list))
    seen: list[tuple[Tensor, Tensor]] = field(default_factory=list)

    def __post_init__(self) -> None:
        head = self.engine.model.get_input_embeddings().weight.detach().float()  # [vocab, width], tied to the head
        self._back = head @ torch.linalg.inv(head.T @ head)  # logits to the hidden state that they are of
        whole = self.engine._loop._distributions

        def distributions(logits: dict[int, Tensor]) -> Iterator[tuple[list[Job], Tensor]]:
            for jobs, guided in whole(logits):  # all requests here are guided
                yield jobs, self._passed(jobs, torch.stack([logits[id(job.rows[0])] for job in jobs]), guided)

        self.engine._loop._distributions = distributions  # type: ignore[method-assign]

    def ask(self, prompts: Sequence[Prompt], how: Guidance, max_tokens: int, gate: Gate | None) -> list[str]:
        """Greedy answers under a gate."""
        self.gate = gate
        self.opened.clear()
        self.engine.forget()
        asked = [Request(prompt, how, max_tokens=max_tokens, seed=number) for number, prompt in enumerate(prompts)]
        return [answer.text for answer in self.engine.generate(asked)]

    @property
    def counts(self) -> Row:
        """Shares of the tokens at which the gate was open, and that the negative branch computes with those caught up.

        The token at which an answer ends is one of them; to open there costs as much as elsewhere.
        """
        own = list(self.opened.values())
        tokens = sum(map(len, own))
        last = [max((at + 1 for at, is_open in enumerate(each) if is_open), default=0) for each in own]
        return {
            "open": sum(map(sum, own)) / tokens,
            "computed": sum(last) / tokens,
            "never_open": last.count(0) / len(own),
        }

    def _passed(self, jobs: list[Job], logits: Tensor, guided: Tensor) -> Tensor:
        """From the positive branch's logits and the guided log-probabilities, `[rows, vocab]`, to those that decide."""
        positive, hidden = logits.float().log_softmax(-1), logits.float() @ self._back
        choices = guided.argmax(-1), positive.argmax(-1)
        if self.gate is None:
            self.seen.append((hidden, choices[0] != choices[1]))
            is_open = torch.ones(len(jobs), dtype=torch.bool)
        else:
            is_open = self.gate(positive, hidden, *choices)
        for job, each in zip(jobs, is_open.tolist(), strict=True):
            self.opened[job.request.seed].append(each)
        return torch.where(is_open[:, None], guided, positive)


def head_of(hidden: Tensor, needed: Tensor) -> Callable[[Tensor], Tensor]:
    """A logistic regression with a ridge, both classes of equal weight: from hidden states to scores."""
    mean, spread = hidden.mean(0), hidden.std(0) + 1e-6
    inputs = (hidden - mean) / spread
    weight = torch.zeros(hidden.shape[1] + 1, requires_grad=True)
    share = needed.float().mean()
    balance = torch.where(needed, 0.5 / share, 0.5 / (1 - share))
    optimizer = torch.optim.LBFGS([weight], max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        scores = inputs @ weight[:-1] + weight[-1]
        own = torch.nn.functional.binary_cross_entropy_with_logits(scores, needed.float(), balance)
        total: Tensor = own + 0.01 * weight[:-1].square().sum()
        total.backward()  # type: ignore[no-untyped-call]
        return total

    optimizer.step(loss)  # type: ignore[no-untyped-call]
    fitted = weight.detach()
    return lambda states: ((states - mean) / spread) @ fitted[:-1] + fitted[-1]


def gates(hidden: Tensor, needed: Tensor) -> Iterator[tuple[str, Gate]]:
    """The gates to try, by name."""
    yield "always open", lambda positive, *_: torch.ones(len(positive), dtype=torch.bool)
    yield "always closed", lambda positive, *_: torch.zeros(len(positive), dtype=torch.bool)
    yield "oracle", lambda _, __, guided, alone: guided != alone
    yield f"sure {SURE:g}", lambda positive, *_: positive.amax(-1).exp() < SURE
    score = head_of(hidden, needed)
    scores = score(hidden[needed]).sort(descending=True).values
    for kept in KEPT:
        least = float(scores[min(len(scores) - 1, int(kept * len(scores)))])
        yield f"head {kept:g}", lambda _, states, *__, least=least: score(states) >= least


def measured(options: argparse.Namespace) -> Iterator[Row]:
    run = Context(load_recipe(options.run / "recipe.yaml"), options.run, print)
    bake, evaluate = run.recipe.bake, run.recipe.evaluate
    positive, negative = run.sentences
    how = replace(bake.guidance if bake else Guidance(3.0), positive=positive, negative=negative)
    few = 4 if options.quick else None
    train, test = run.samples("train")[:few], run.table_samples()[: few or options.samples]
    questions, everyday = words.drawn(few or options.words), everyday_prompts(few or options.everyday)
    with load(run.start, run.trained) as engine:
        gated = Gated(engine)
        # 1) where guidance chooses another token, on the training samples
        gated.ask([sample.messages for sample in train], how, evaluate.max_tokens, None)
        hidden, needed = (torch.cat(each) for each in zip(*gated.seen, strict=True))
        print(f"{len(needed)} places, guidance chooses another token at {int(needed.sum())}")
        # 2) each gate on the held-out samples, the questions and the everyday prompts
        for name, gate in gates(hidden, needed):
            answers = gated.ask([sample.messages for sample in test], how, evaluate.max_tokens, gate)
            pieces = [len(spans) for spans in run.detector.find(answers)]
            row = {"gate": name, "samples": len(test), "pii": sum(pieces), **gated.counts}
            row["pii_ci95"] = list(bootstrap_total(pieces, [sample.dialog_id for sample in test], run.recipe.seed))
            said = gated.ask([question.messages for question in questions], how, words.MAX_TOKENS, gate)
            row["words"] = sum(map(words.is_right, questions, said)) / len(said)
            row["words_computed"] = gated.counts["computed"]
            gated.ask([prompt.messages for prompt in everyday], how, evaluate.max_tokens, gate)
            row["everyday_computed"] = gated.counts["computed"]
            print("  ".join(f"{key} {value}" for key, value in row.items()), flush=True)
            yield row


def main() -> None:
    """Try every gate."""
    parser = options_of(__doc__, "gate", "four samples")
    parser.add_argument("--run", type=Path, default=Path("runs/demo"), help="a finished run with a trained teacher")
    parser.add_argument("--samples", type=int, default=100, help="held-out samples")
    parser.add_argument("--words", type=int, default=60, help="plain questions")
    parser.add_argument("--everyday", type=int, default=30, help="everyday prompts")
    options = parser.parse_args()
    needs(parser, options, "eval/results.json")
    rows = list(measured(options))
    ratios = {f"computed, {row['gate']}": round(row["computed"], 3) for row in rows}
    leave(options, ("torch", "transformers"), rows, ratios)


if __name__ == "__main__":
    main()
