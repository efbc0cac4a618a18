"""Stop sequences: where an answer's text ends while it comes in pieces, whatever the engine."""

from __future__ import annotations

from collections.abc import Sequence


class StopScanner:
    """Passes text on up to the first stop sequence, and holds back what could become one.

    The first is the one that begins first; of two that begin together, the shorter. It does not
    depend on how the text is cut into pieces.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        """`stops` are not empty texts. Without any, all text passes at once."""
        self._stops = sorted(stops, key=len)
        self._longest = max(map(len, stops), default=0)
        self._held = ""
        """The end of the text so far, which is a stop sequence or could become one."""
        self.found = ""
        """The stop sequence that ended the text. Everything after it is dropped."""

    def feed(self, piece: str) -> str:
        """Takes the next piece of the text, and returns what can be sent by now."""
        if self.found:
            return ""
        text = self._held + piece
        start, stop = self._first(text)
        open_start = self._open(text)
        if stop and start <= open_start:
            return self._end(text, start, stop)
        # A stop sequence that is there waits for one that would begin before it.
        self._held = text[open_start:]
        return text[:open_start]

    def finish(self) -> str:
        """The text has ended: returns what was held back of it."""
        text, self._held = self._held, ""
        start, stop = self._first(text)
        return self._end(text, start, stop) if stop else text

    def _end(self, text: str, start: int, stop: str) -> str:
        self.found, self._held = stop, ""
        return text[:start]

    def _first(self, text: str) -> tuple[int, str]:
        """Where the first stop sequence begins, and which it is; an empty one if there is none."""
        found = [(text.find(stop), stop) for stop in self._stops if stop in text]
        # `min` keeps the earlier of equals, and the stop sequences are sorted by length.
        return min(found, key=lambda entry: entry[0], default=(len(text), ""))

    def _open(self, text: str) -> int:
        """Where the text that could become a stop sequence begins; the text's end if none could."""
        for start in range(max(0, len(text) - self._longest + 1), len(text)):
            end = text[start:]
            if any(len(end) < len(stop) and stop.startswith(end) for stop in self._stops):
                return start
        return len(text)
