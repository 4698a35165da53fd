"""Counts that go on when the process that counts is replaced by another."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

__all__ = ["Key", "Owner", "Totals"]

Owner = tuple[str, str]  # what it is, and its name
Key = tuple[str, ...]  # what is counted, and of which part


class Totals:
    """Sums over all processes that an owner has had. A process is another when its id or a smaller count
    says so."""

    def __init__(self) -> None:
        self._process: dict[Owner, int] = {}
        self._ended: dict[Owner, Counter[Key]] = {}  # of processes that are gone
        self._now: dict[Owner, dict[Key, float]] = {}

    def see(self, owner: Owner, process_id: int | None, counts: Mapping[Key, float]) -> None:
        ended, now = self._ended.setdefault(owner, Counter()), self._now.setdefault(owner, {})
        known = self._process.get(owner)
        another = known is not None and process_id is not None and process_id != known
        for key in {*counts, *now}:
            count, last = counts.get(key, 0), now.get(key, 0)
            if another or count < last:
                ended[key] += last  # type: ignore[assignment]
            now[key] = count
        if process_id is not None:
            self._process[owner] = process_id

    def of(self, owner: Owner, *key: str) -> float:
        return self._ended[owner][key] + self._now[owner].get(key, 0)

    def parts(self, owner: Owner, name: str) -> Iterator[tuple[str, float]]:
        """Of the counts under ``name``, the rest of the key and the sum."""
        keys = {*self._ended[owner], *self._now[owner]}
        return ((key[1], self.of(owner, *key)) for key in keys if key[0] == name)

    def keep(self, owners: set[Owner]) -> None:
        """Forget all others: cameras that are in the configuration no more."""
        for known in (self._process, self._ended, self._now):
            for owner in known.keys() - owners:
                del known[owner]  # type: ignore[attr-defined]
