"""How long an idle engine waits for the next item, by what arrivals and runs have taken so far."""

from __future__ import annotations

_NEWEST = 0.25
"""The weight of the last gap in the mean of gaps."""


class BatchDelay:
    """Says whether an idle engine should wait for an item that is still being decoded.

    A run has a fixed cost, whatever its size. An item that shares a run saves it. Waiting costs the
    gap until the item comes, once for each item that is ready and once for the engine. While
    callers are few, images come slowly and nothing waits; the more come, the fuller are the runs.
    """

    def __init__(self) -> None:
        self._last: float | None = None
        """When the last item came, if others were expected then."""
        self._gap_s: float | None = None
        self._runs: list[tuple[int, float]] = []
        self.fixed_s: float | None = None
        """Seconds of a run beside those for its items; None while runs of one size are known."""

    def on_item(self, now: float, *, others: bool) -> None:
        """An item came. `others` says that more are being decoded."""
        if self._last is not None:
            gap_s = now - self._last
            mean_s = gap_s if self._gap_s is None else self._gap_s
            self._gap_s = mean_s + _NEWEST * (gap_s - mean_s)
        self._last = now if others else None

    def on_run(self, items: int, seconds: float) -> None:
        """A run of `items` items took so many seconds. The last 16 are fitted by a line."""
        self._runs = [*self._runs[-15:], (items, seconds)]
        count = len(self._runs)
        mean_items = sum(n for n, _ in self._runs) / count
        mean_s = sum(s for _, s in self._runs) / count
        spread = sum((n - mean_items) ** 2 for n, _ in self._runs)
        if spread:
            slope = sum((n - mean_items) * (s - mean_s) for n, s in self._runs) / spread
            self.fixed_s = max(0.0, mean_s - max(0.0, slope) * mean_items)

    def pays(self, ready: int) -> bool:
        """Whether it pays to wait for one more item while `ready` ones could run. True while
        nothing is known."""
        if self._gap_s is None or self.fixed_s is None:
            return True
        return (ready + 1) * self._gap_s <= self.fixed_s
