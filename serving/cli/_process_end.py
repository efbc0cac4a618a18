"""How a command's process ends: by the exit codes of a shell, and with one line at most.

| exit code | the command |
|---|---|
| 130 | was ended by Ctrl-C |
| 141 | wrote to a reader that had left, such as `head` |
| 143 | was ended by SIGTERM |
"""

from __future__ import annotations

import errno
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import click

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}
"""Errors of a write that say something of where the output goes, and nothing of the command."""

_NOT_MINE = _NO_ROOM | {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.ENAMETOOLONG}
"""Errors of a file or a folder that a user can correct."""


@contextmanager
def plain_end() -> Iterator[None]:
    """Runs a command. Raises SystemExit or ClickException for what ends it early."""
    for stream in (sys.stdout, sys.stderr):
        # A terminal that cannot show a character gets its number, and the command goes on.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        with _stopped_by_sigterm():
            yield
            sys.stdout.flush()  # a full disk is noticed here, while it can still be said
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
    except BrokenPipeError:
        _discard_stdout()
        sys.exit(128 + signal.SIGPIPE)
    except OSError as error:
        if error.errno in _NOT_MINE and isinstance(error.filename, str):
            name = os.path.basename(error.filename)
            raise click.ClickException(f"{name}: {error.strerror}") from None
        if error.errno not in _NO_ROOM or error.filename is not None:
            raise
        _discard_stdout()
        problem = f"the output cannot be written: {error.strerror}"
        raise click.ClickException(problem) from None


@contextmanager
def _stopped_by_sigterm() -> Iterator[None]:
    """SIGTERM ends the block as an exception does, so that a command ends what it started."""
    if threading.current_thread() is not threading.main_thread():  # of a test
        yield
        return

    def stop(number: int, frame: object) -> None:
        sys.exit(128 + number)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _discard_stdout() -> None:
    """What is still buffered goes nowhere, instead of failing again when the interpreter ends."""
    try:
        descriptor = sys.stdout.fileno()
    except (OSError, ValueError):  # a test's stand-in for a stream
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, descriptor)
    os.close(nowhere)
