"""The prompts of new rows: nothing is computed that is known already, or that another new row computes.

Knows rows and what is kept of earlier prompts; nothing of requests.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from nescio.engines.decode.batch import Row, Rows
from nescio.engines.decode.prefix_cache import Prefixes, common

_STEP = 2048  # most prompt tokens computed in one step, so that no answer waits long for another's prompt
_FORWARD = 64  # tokens, padded or shared, that are worth a forward of its own

_Key = tuple[int | None, tuple[int, ...]]


class Prefill:
    """Computes prompts.

    Args:
        rows: Computes the batch.
        prefixes: Prompts computed before; those computed now are added.
        max_rows: Most rows in one forward.
    """

    def __init__(self, rows: Rows, prefixes: Prefixes, max_rows: int) -> None:
        self._rows = rows
        self._prefixes = prefixes
        self._max_rows = max_rows

    def __call__(self, slots: Sequence[Row], first: int) -> dict[int, Tensor]:
        """Compute the prompts of the rows from a slot on; a prompt that several of them share is computed once.

        Args:
            slots: The row in each slot.
            first: The first slot with a new row.

        Returns:
            `[vocab]` for each new row, by its `id`: the logits after its prompt.
        """
        logits: dict[int, Tensor] = {}
        alike: dict[_Key, list[int]] = {}
        for slot in range(first, len(slots)):
            alike.setdefault((slots[slot].adapter, tuple(slots[slot].ids)), []).append(slot)
        for key, (slot, *_) in alike.items():
            known = self._known(*key, slot, slots[slot])
            if known is not None:
                logits[id(slots[slot])] = known
        own = [slot for slot, *_ in alike.values()]
        followers = self._followers(slots, own) if self._rows.cached else {}
        self._compute(slots, [slot for slot in own if slot not in followers], logits)
        for slot, (leader, tokens) in followers.items():
            self._copy(slots, leader, slot, tokens)
        self._compute(slots, list(followers), logits)
        for slot, *others in alike.values():
            for other in others:
                self._copy(slots, slot, other, slots[slot].held)
                logits[id(slots[other])] = logits[id(slots[slot])]
        return logits

    def _known(self, adapter: int | None, ids: tuple[int, ...], slot: int, row: Row) -> Tensor | None:
        """Take what is kept of a prompt; the logits after it where all of it is."""
        found = self._prefixes.find(adapter, ids) if self._rows.cached else None
        if found is None:
            return None
        self._rows.slots.write(slot, found.kept, found.tokens)
        row.held = found.tokens
        return found.logits

    def _followers(self, slots: Sequence[Row], own: Sequence[int]) -> dict[int, tuple[int, int]]:
        """Slots whose rows begin like another new one: that one's slot, and for how many tokens."""
        leaders: list[int] = []
        found: dict[int, tuple[int, int]] = {}
        for slot in own:
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
        if self._rows.cached:
            self._rows.slots.copy(source, target, tokens)
        slots[target].held = tokens

    def _compute(self, slots: Sequence[Row], wanted: Sequence[int], logits: dict[int, Tensor]) -> None:
        for run in self._runs(slots, wanted):
            for slot, out in zip(run, self._computed(slots, run), strict=True):
                row = slots[slot]
                logits[id(row)] = out
                if self._rows.cached and self._prefixes.wanted(len(row.ids)):
                    kept = self._rows.slots.read(slot, len(row.ids))
                    self._prefixes.keep(row.adapter, tuple(row.ids), kept, out.clone())

    def _runs(self, slots: Sequence[Row], wanted: Sequence[int]) -> Iterator[list[int]]:
        """Neighbouring slots whose prompts are to be computed, as many at a time as budget and padding allow."""
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

    def _computed(self, slots: Sequence[Row], run: list[int]) -> list[Tensor]:
        out: list[Tensor] = [torch.empty(0)] * len(run)
        while left := [place for place, slot in enumerate(run) if slots[slot].missing]:
            # Rows that are done first leave the run; the rest are still neighbours, or go one by one.
            for part in [left] if len(left) == len(run) else [[place] for place in left]:
                rows = [slots[run[place]] for place in part]
                extended = self._rows.extend(run[part[0]], rows, max(2, _STEP // len(rows)))
                for place, logits in zip(part, extended, strict=True):
                    out[place] = logits
        return out
