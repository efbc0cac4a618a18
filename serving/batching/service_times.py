"""How long the work ahead of a call will take, by what work has taken so far."""

from __future__ import annotations

import collections

BUSY_ITEMS = 32
"""While so many items are admitted, every stage has work: decoding, waiting and the engine."""

_MARGIN = 1.1
"""A busy server counts on this many times of what items have taken. Without a margin, half of the
calls of a full queue would be answered too late."""

_FORGOTTEN_S = 10.0


class ServiceTimes:
    """Measures runs, and how fast items leave while the server is busy.

    A run's time says little about a busy server, whose cores also decode the next images. How many
    items leave per second says all of it, but only while enough items are there.
    """

    def __init__(self) -> None:
        self._run_times: collections.deque[float] = collections.deque(maxlen=16)
        self._item_times: collections.deque[float] = collections.deque(maxlen=16)
        self._busy: collections.deque[tuple[float, int]] = collections.deque(maxlen=16)
        """Seconds since the run before, and how many items left."""
        self._last_end: float | None = None
        """When the last run ended, if the server was busy then."""
        self._now = 0.0
        # Admission asks far more often than runs end.
        self.run_s = 0.0
        """Seconds of a run; 0 before the first one."""
        self._idle_item_s = self._busy_item_s = 0.0

    def observe(self, run_s: float, items: int, *, runs: int, admitted: int, now: float) -> None:
        """Records a run that has ended at `now`.

        It took `run_s` seconds for `items` items, as one of `runs` concurrent ones; `admitted`
        items, these included, were admitted and not yet answered.
        """
        self._run_times.append(run_s)
        self._item_times.append(run_s / items / runs)
        if self._last_end is not None:
            self._busy.append((now - self._last_end, items))
        self._last_end = now if admitted - items >= BUSY_ITEMS else None
        self._now = now
        self.run_s = _lower_quartile(self._run_times)
        self._idle_item_s = _lower_quartile(self._item_times)
        self._busy_item_s = _MARGIN * self._mean_busy_s()

    def item_s(self, admitted: int, now: float) -> float:
        """Seconds for which each of the `admitted` items holds up those behind it; 0 before the
        first run."""
        is_busy = admitted >= BUSY_ITEMS and now - self._now < _FORGOTTEN_S
        return max(self._idle_item_s, self._busy_item_s) if is_busy else self._idle_item_s

    def _mean_busy_s(self) -> float:
        """The mean over the last runs of a busy server, without the slowest one: it may be a stall
        that is over."""
        kept = sorted(self._busy)[:-1]
        items = sum(count for _, count in kept)
        return sum(seconds for seconds, _ in kept) / items if items else 0.0


def _lower_quartile(times: collections.deque[float]) -> float:
    """Small batches and stalls make runs look slower than they usually are. An estimate that is too
    high refuses calls for nothing; one that is too low is corrected by the deadline."""
    return sorted(times)[len(times) // 4] if times else 0.0
