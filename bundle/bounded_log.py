"""A log for what fails once per item: a broken model fails for thousands of them in a second."""

from __future__ import annotations

import logging
import threading
import time

FIRST_LINES = 20
"""Lines that are written in full before they are counted."""
EVERY_S = 10.0
"""How often one line says how many there were, and how long a pause makes all begin again."""


class BoundedLog:
    """Writes the first lines in full. Then it counts, and writes one line in EVERY_S with the count
    and the last of them. Its methods may be called in any thread."""

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._lock = threading.Lock()
        self._started = -EVERY_S
        self._written = 0
        """Lines in full since `_started`."""
        self._counted = 0
        """Lines since the last count was written."""
        self._level, self._last = logging.ERROR, ""
        self._timer: threading.Timer | None = None

    def write(
        self, level: int, message: str, *args: object, error: BaseException | None = None
    ) -> None:
        """Writes a line as `logging.Logger.log` does, with the traceback of an error, or counts
        it."""
        with self._lock:
            now = time.monotonic()
            if self._timer is None and now - self._started >= EVERY_S:
                self._started, self._written = now, 0
            in_full = self._written < FIRST_LINES
            if in_full:
                self._written += 1
            else:
                self._counted += 1
                # As text: an error would keep in memory what its frames hold.
                self._last = message % args + (f": {error!r}" if error else "")
                self._level = level
                self._start_timer()
        if in_full:
            self._log.log(level, message, *args, exc_info=error)

    def error(self, message: str, *args: object) -> None:
        """Writes or counts a line of the level ERROR."""
        self.write(logging.ERROR, message, *args)

    def close(self) -> None:
        """Writes what is counted. Lines may follow."""
        if self._timer is not None:
            self._timer.cancel()
        self._write_count()

    def _start_timer(self) -> None:
        if self._timer is None:
            self._timer = threading.Timer(EVERY_S, self._write_count)
            self._timer.daemon = True
            self._timer.start()

    def _write_count(self) -> None:
        with self._lock:
            count, last, level = self._counted, self._last, self._level
            self._counted, self._timer, self._started = 0, None, time.monotonic()
        if count:
            self._log.log(level, "%s more lines like this one: %s", f"{count:,}", last)
