"""Computing the prompts of new rows: no prefix twice, whether it is cached or shared with another new row."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from nescio.engines.decode.batch import Batch, Row
from nescio.engines.decode.prefix_cache import Key, PrefixCache, common

_STEP = 2048  # most prompt tokens computed in one step, so that no answer waits long for another's prompt
_FORWARD = 64  # tokens of padding, or of a shared prefix, that cost as much as another forward


class Prefill:
    """Computes prompts.

    Args:
        batch: Computes the rows.
        prefixes: Cache of computed prompts; the new ones are added.
        max_rows: Maximum number of rows in one forward.
    """

    def __init__(self, batch: Batch, prefixes: PrefixCache, max_rows: int) -> None:
        self._batch = batch
        self._prefixes = prefixes
        self._max_rows = max_rows

    def __call__(self, slots: Sequence[Row], first: int) -> dict[int, Tensor]:
        """Compute the prompts of all rows from a slot on.

        Args:
            slots: The row in each slot.
            first: The first slot with a new row.

        Returns:
            Logits `[vocab]` after the prompt of each new row, by the row's `id`.
        """
        logits: dict[int, Tensor] = {}
        # 1) group rows with equal prompts; the first of each group is computed
        groups: dict[Key, list[int]] = {}
        for slot in range(first, len(slots)):
            groups.setdefault((slots[slot].adapter, tuple(slots[slot].ids)), []).append(slot)
        leaders = [slot for slot, *_ in groups.values()]
        # 2) take what the cache has of each prompt
        for (adapter, ids), (slot, *_) in groups.items():
            found = self._prefixes.find(adapter, ids) if self._batch.has_cache else None
            if found is None:
                continue
            self._batch.slots.write(slot, found.kv, found.tokens)
            slots[slot].held = found.tokens
            if found.logits is not None:
                logits[id(slots[slot])] = found.logits
        # 3) compute the prompts, those that begin like another one after it and from a copy of its prefix
        followers = self._followers(slots, leaders) if self._batch.has_cache else {}
        self._compute(slots, [slot for slot in leaders if slot not in followers], logits)
        for slot, (leader, tokens) in followers.items():
            self._copy(slots, leader, slot, tokens)
        self._compute(slots, list(followers), logits)
        # 4) copy each prompt to the rows that are equal to it
        for slot, *others in groups.values():
            for other in others:
                self._copy(slots, slot, other, slots[slot].held)
                logits[id(slots[other])] = logits[id(slots[slot])]
        return logits

    def _followers(self, slots: Sequence[Row], candidates: Sequence[int]) -> dict[int, tuple[int, int]]:
        """Return the slots whose rows begin like another new row: `{slot: (that row's slot, shared tokens)}`."""
        leaders: list[int] = []
        found: dict[int, tuple[int, int]] = {}
        for slot in candidates:
            row = slots[slot]
            shared = [
                (min(common(row.ids, slots[leader].ids), len(row.ids) - 1), leader)
                for leader in leaders
                if slots[leader].adapter == row.adapter
            ]
            most, leader = max(shared, default=(0, slot))
            if row.missing and most - row.held >= _FORWARD // 8:
                found[slot] = leader, most
            else:
                leaders.append(slot)
        saved = sum(tokens - slots[slot].held for slot, (_, tokens) in found.items())
        return found if saved > _FORWARD else {}

    def _copy(self, slots: Sequence[Row], source: int, target: int, tokens: int) -> None:
        if self._batch.has_cache:
            self._batch.slots.copy(source, target, tokens)
        slots[target].held = tokens

    def _compute(self, slots: Sequence[Row], wanted: Sequence[int], logits: dict[int, Tensor]) -> None:
        """Compute what the rows of slots miss, add their logits, and cache their prompts."""
        for run in self._runs(slots, wanted):
            for slot, out in zip(run, self._extend(slots, run), strict=True):
                row = slots[slot]
                logits[id(row)] = out
                if self._batch.has_cache and self._prefixes.accepts(len(row.ids)):
                    kv = self._batch.slots.read(slot, len(row.ids))
                    self._prefixes.add(row.adapter, tuple(row.ids), kv, out.clone())

    def _runs(self, slots: Sequence[Row], wanted: Sequence[int]) -> Iterator[list[int]]:
        """Yield neighbouring slots to compute together, as many at a time as budget and padding allow."""
        run: list[int] = []
        for slot in wanted:
            if not slots[slot].missing:
                continue
            missing = [slots[s].missing for s in (*run, slot)]
            padded = len(missing) * max(missing)
            fits = len(run) < self._max_rows and padded <= _STEP and padded - sum(missing) <= _FORWARD
            if run and (slot != run[-1] + 1 or not fits):
                yield run
                run = []
            run.append(slot)
        if run:
            yield run

    def _extend(self, slots: Sequence[Row], run: list[int]) -> list[Tensor]:
        """Compute neighbouring rows in chunks; return the logits `[vocab]` after each."""
        out: list[Tensor] = [torch.empty(0)] * len(run)
        while left := [place for place, slot in enumerate(run) if slots[slot].missing]:
            # Once the shorter rows are complete, the others may be no neighbours any more and run one by one.
            for part in [left] if len(left) == len(run) else [[place] for place in left]:
                rows = [slots[run[place]] for place in part]
                extended = self._batch.extend(run[part[0]], rows, max(2, _STEP // len(rows)))
                for place, logits in zip(part, extended, strict=True):
                    out[place] = logits
        return out
