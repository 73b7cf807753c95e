"""The most likely tokens of a distribution: what a student model is held to, small enough to be kept on disk."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from nescio.core.errors import NescioError
from nescio.core.files import atomic_write
from nescio.core.token_log_probs import token_log_probs

_RUN = 5  # tokens; as long a run comes twice in an answer of a few sentences where it loops, hardly elsewhere
_LEAST_REST = 1e-6  # probability below which the tokens that are not kept count for nothing


@dataclass(frozen=True, slots=True)
class TopTokens:
    """The k most likely tokens at each of n positions.

    Attributes:
        ids: `[n, k]`.
        log_probs: `[n, k]`, of the whole distribution: their probabilities add up to at most 1.
    """

    ids: Tensor
    log_probs: Tensor

    @classmethod
    def of(cls, log_probs: Tensor, k: int) -> "TopTokens":
        """Keep the k most likely tokens of normalised log-probabilities `[n, vocab]`."""
        top = log_probs.float().topk(min(k, log_probs.shape[-1]))
        return cls(top.indices.cpu(), top.values.cpu())

    def without_repeats(self, answer: Sequence[int]) -> "TopTokens":
        """Take away the tokens by which an answer says the same words again, so that no student learns to loop.

        Where the answer's token ends a run of `_RUN` tokens that the answer has held before, it gets no probability,
        and the others share its own. Inside a loop, a model foresees the loop going on; held to that in its own
        answers, a student that loops would learn it (cf. unlikelihood training, arXiv 1908.04319).

        Args:
            answer: The n tokens of which each position holds the alternatives.
        """
        seen, repeated = set[tuple[int, ...]](), torch.zeros(len(answer), dtype=torch.bool)
        for end in range(_RUN, len(answer) + 1):
            run = tuple(answer[end - _RUN : end])
            repeated[end - 1] = run in seen
            seen.add(run)
        return self.without(repeated[:, None] & (self.ids == torch.tensor(answer)[:, None]))

    def without(self, struck: Tensor) -> "TopTokens":
        """Take the probability of some tokens away; at the same place, the others share it.

        Args:
            struck: `[n, k]`: which tokens.
        """
        log_probs = self.log_probs.masked_fill(struck, -torch.inf)
        rest = 1 - self.log_probs.exp().sum(-1, keepdim=True)  # [n, 1], of the tokens that are not kept
        rest = torch.where(rest > _LEAST_REST, rest, 0).log()  # less is noise of the sum
        left = torch.cat([log_probs, rest], dim=-1).logsumexp(-1, keepdim=True)
        # Where none that is kept is left, all probability goes to the tokens that are not kept.
        is_shared = struck.any(-1, keepdim=True) & (left > -torch.inf)
        return TopTokens(self.ids, torch.where(is_shared, log_probs - left, log_probs))

    def naming(self, tokens: Sequence[Collection[int]]) -> "TopTokens":
        """Keep some tokens by name, too, with no probability and in the place of the least likely ones.

        Args:
            tokens: Those of each of the n positions; what is kept already stays as it is.
        """
        ids, log_probs = self.ids.clone(), self.log_probs.clone()  # [n, k]
        for at, own in enumerate(tokens):
            kept, least = ids[at].tolist(), log_probs[at].argsort(stable=True).tolist()
            others = (place for place in least if kept[place] not in own)
            for token, place in zip(sorted(set(own) - set(kept)), others, strict=False):
                ids[at, place], log_probs[at, place] = token, -torch.inf
        return TopTokens(ids, log_probs)

    def where(self, condition: Tensor, other: "TopTokens") -> "TopTokens":
        """Return these tokens where a condition `[n, 1]` holds, and another's elsewhere."""
        return TopTokens(
            torch.where(condition, self.ids, other.ids), torch.where(condition, self.log_probs, other.log_probs)
        )

    def ending_as(self, other: "TopTokens", end: int) -> "TopTokens":
        """Let the end be at least as likely as in another distribution; the other tokens share what is left.

        Args:
            other: Distribution at the same n positions.
            end: Id of the token that ends an answer.
        """
        ids, log_probs = self.ids.clone(), self.log_probs.clone()  # [n, k], the most likely first
        for at, (tokens, wanted) in enumerate(zip(other.ids, other.log_probs.exp(), strict=True)):
            least, own = wanted[tokens == end].sum(), log_probs[at].exp()[ids[at] == end].sum()
            if least <= own:
                continue
            if end not in ids[at]:
                ids[at, -1] = end
            log_probs[at] += (-least).log1p() - (-own).log1p()
            log_probs[at, ids[at] == end] = least.log()
        return TopTokens(ids, log_probs)

    def divergence(self, logits: Tensor) -> Tensor:
        """Return KL(kept distribution ‖ other) at each position, `[n]`, in nats.

        The tokens that are not kept count as a single outcome, so the value is a lower bound of the whole divergence,
        and 0 only where the kept tokens have the same probabilities in both.

        Args:
            logits: `[n, vocab]`, normalised or not: the other distribution.
        """
        own = self.log_probs.to(logits.device)
        other = token_log_probs(logits, self.ids.to(logits.device).long())  # [n, k]
        # A token of no probability adds nothing; its -inf would make a NaN.
        kept = torch.where(own == -torch.inf, 0.0, own.exp() * (own - other)).sum(-1)
        rest = 1 - own.exp().sum(-1)
        others_rest = (1 - other.exp().sum(-1)).clamp_min(_LEAST_REST)
        missing = torch.where(rest > _LEAST_REST, rest * (rest.clamp_min(_LEAST_REST) / others_rest).log(), 0.0)
        return kept + missing


def write_top_tokens(path: Path, each: Sequence[TopTokens], made_of: str = "") -> None:
    """Write the top tokens of many answers into one safetensors file.

    Args:
        path: The file.
        each: Those of each answer.
        made_of: What they were made of, in any words; `read_top_tokens` compares it.

    Raises:
        NescioError: There is nothing to write.
    """
    from safetensors.torch import save_file

    if not each:
        raise NescioError(f"{path}: no answers to keep the likely tokens of")
    tensors = {
        "ids": torch.cat([top.ids for top in each]).int(),
        "log_probs": torch.cat([top.log_probs for top in each]),
        "lengths": torch.tensor([len(top.ids) for top in each]),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as scratch:
        save_file(tensors, scratch, {"made_of": made_of} if made_of else None)


def read_top_tokens(path: Path, made_of: str = "") -> list[TopTokens]:
    """Read what `write_top_tokens` wrote.

    Raises:
        NescioError: The file is missing or damaged, or says that it was made of something else.
    """
    from safetensors import SafetensorError, safe_open
    from safetensors.torch import load_file

    try:
        with safe_open(path, "pt") as file:
            theirs = (file.metadata() or {}).get("made_of", made_of)
        tensors = load_file(path)
        lengths = tensors["lengths"].tolist()
        parts = zip(*(torch.split(tensors[name], lengths) for name in ("ids", "log_probs")), strict=True)
    except (SafetensorError, OSError, KeyError, RuntimeError) as error:
        raise NescioError(f"{path}: missing or damaged; delete it and run again") from error
    if made_of and theirs != made_of:
        raise NescioError(f"{path}: likely tokens of another loss, beta or other answers; give another file")
    return [TopTokens(ids, log_probs) for ids, log_probs in parts]
