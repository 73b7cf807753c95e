"""The published metrics of the unlearning benchmarks, by their published formulas.

TOFU: Maini et al. 2024 (2401.06121), section 2.2. LUME and SemEval-2025 Task 4: Ramakrishna et al. 2025 (2502.15097).
"""

import math
from collections.abc import Sequence
from statistics import fmean, harmonic_mean

from nescio.core.extras import require

_LEAST = 1e-12  # of a mean that is harmonic: a single 0 makes the whole 0


def rouge_l(reference: str, said: str) -> float:
    """Return ROUGE-L recall: the longest common subsequence of words, as a share of the reference's.

    Lin 2004, "ROUGE: A Package for Automatic Evaluation of Summaries", eq. 2, with stemmed words, as in TOFU and LUME.

    Raises:
        NescioError: The library rouge-score is not installed.
    """
    scorer = require("rouge_score.rouge_scorer", "eval", "ROUGE-L").RougeScorer(["rougeL"], use_stemmer=True)
    return float(scorer.score(reference, said)["rougeL"].recall)


def is_exact(reference: str, said: str) -> bool:
    """Whether an answer is the reference, but for case and white space around it (SemEval's exact match)."""
    return reference.strip().lower() == said.strip().lower()


def truth_ratio(paraphrased: float, wrong: Sequence[float]) -> float:
    """Return TOFU's truth ratio: how likely wrong answers are beside the right one in other words.

    Eq. 1, with the geometric mean over the wrong answers, as the authors' code takes it for forget quality.

    Args:
        paraphrased: Mean log-probability of a token of the paraphrased answer.
        wrong: The same of each wrong answer.
    """
    return math.exp(fmean(wrong) - paraphrased)


def forget_quality(ratios: Sequence[float], retrained: Sequence[float]) -> float:
    """Return TOFU's forget quality: the p-value of a two-sample Kolmogorov-Smirnov test of truth ratios.

    It is high where the model cannot be told from one that never saw the forget half, and has no power on few
    questions: with n on each side no p-value is below 2 / C(2n, n).

    Args:
        ratios: Ratios of the unlearned model, on the forget half.
        retrained: Ratios of the model that was trained without it, on the same questions.

    Raises:
        NescioError: SciPy is not installed.
    """
    return float(require("scipy.stats", "eval", "forget quality").ks_2samp(ratios, retrained).pvalue)


def true_share(right: float, wrong: Sequence[float]) -> float:
    """Return TOFU's probability of a question with wrong answers: P(right) / (P(right) + Σ P(wrong)).

    Args:
        right: Mean log-probability of a token of the right answer.
        wrong: The same of each wrong answer.
    """
    chances = [math.exp(value) for value in (right, *wrong)]
    return chances[0] / sum(chances)


def model_utility(values: Sequence[float]) -> float:
    """Return TOFU's model utility: the harmonic mean of probability, ROUGE-L and max(0, 1 - truth ratio) of each set.

    Args:
        values: Three for each of the sets that are not to be forgotten.
    """
    return harmonic_mean([max(value, _LEAST) for value in values])


def extraction_strength(hits: Sequence[bool]) -> float:
    """Return the share of an answer that a model goes on with by itself, given as little of it as is needed.

    1 - k/n, k being the fewest first tokens after which all others are the greedy ones; 0 where the last one is not.
    Carlini et al. 2021, "Extracting Training Data from Large Language Models"; Wang et al. 2025 (2406.09179).

    Args:
        hits: Whether each token of the answer is the greedy one behind the tokens before it.
    """
    suffix = next((length for length, hit in enumerate(reversed(hits)) if not hit), len(hits))
    return suffix / len(hits)


def min_k(log_probs: Sequence[float], share: float = 0.2) -> float:
    """Return Min-K % Prob: the mean log-probability of an answer's least likely tokens.

    Shi et al. 2024, "Detecting Pretraining Data from Large Language Models" (2310.16789), eq. 1.

    Args:
        log_probs: Log-probability of each token.
        share: Share of the tokens that are looked at; one token at least.
    """
    return fmean(sorted(log_probs)[: max(1, int(len(log_probs) * share))])


def auc(members: Sequence[float], others: Sequence[float]) -> float:
    """Return the chance that a member scores above another, ties counting half: the area under the ROC curve.

    Args:
        members: Scores of texts that the model was trained on, such as the mean log-probability of a token.
        others: Scores of texts that it never saw.
    """
    wins = sum((member > other) + 0.5 * (member == other) for member in members for other in others)
    return wins / (len(members) * len(others))


def mia_score(area: float) -> float:
    """Return SemEval-2025 Task 4's score of a membership attack: 1 where it can only guess, 0 where it is never wrong.

    Args:
        area: The attack's `auc`.
    """
    return 1 - abs(area - 0.5) * 2


def task_aggregate(forget: Sequence[float], retain: Sequence[float]) -> float:
    """Return SemEval-2025 Task 4's aggregate: the harmonic mean over both halves, the forget half's turned round.

    Args:
        forget: ROUGE-L recall of completions and exact match of questions, of each task of the forget half.
        retain: The same of the retain half.
    """
    values = [*(1 - value for value in forget), *retain]
    return 0.0 if min(values) <= 0 else harmonic_mean(values)


def semeval_score(aggregate: float, mia: float, general: float) -> float:
    """Return SemEval-2025 Task 4's final score: the mean of the task aggregate, the attack's score and MMLU.

    Args:
        aggregate: `task_aggregate`.
        mia: `mia_score`.
        general: Share of general questions answered right; MMLU's in the challenge.
    """
    return fmean([aggregate, mia, general])
