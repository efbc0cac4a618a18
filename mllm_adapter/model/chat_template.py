"""A tokenizer's chat template, rendered within bounds.

A template is a program that a bundle brings along. Jinja's sandbox keeps it from files and code,
but not from loops in loops, which would hold a thread for ever.
"""

from __future__ import annotations

import resource
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any

MAX_LINES = 1_000_000
"""Lines of Python that one rendering may run; real templates run some thousands."""

MAX_GROWTH_KIB = 512 * 1024
"""How much memory the process may gain while a template is rendered."""

_LINES_PER_MEMORY_CHECK = 16


class TemplateError(ValueError):
    """A chat template that cannot be rendered."""


def render(tokenizer: Any, messages: Sequence[dict[str, str]], answer: bool) -> str:
    """The text of a conversation. With `answer` it ends where the assistant's turn begins.

    A template that lets a model think before it answers is told not to: an adapter learns answers
    alone.

    Raises TemplateError for a template that fails, or that runs longer or takes more memory than
    any real one.
    """
    try:
        with _bounded():
            text = tokenizer.apply_chat_template(
                list(messages),
                tokenize=False,
                add_generation_prompt=answer,
                enable_thinking=False,
            )
    except _BudgetError as error:
        raise TemplateError(f"the chat template {error}") from None
    except Exception as error:  # Jinja raises its own errors and whatever a template provokes
        detail = " ".join(str(error).split())[:200]
        raise TemplateError(f"the chat template cannot be rendered: {detail}") from None
    return str(text)


class _BudgetError(BaseException):
    """Raised inside of a template; not an Exception, which the code around it might catch."""


@contextmanager
def _bounded() -> Iterator[None]:
    """Counts the lines that this thread runs in the block, and ends it when there are too many."""
    lines, peak = 0, _peak_kib()

    def on_line(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal lines
        if event == "line":
            lines += 1
            if lines > MAX_LINES:
                raise _BudgetError("runs too long")
            if lines % _LINES_PER_MEMORY_CHECK == 0 and _peak_kib() - peak > MAX_GROWTH_KIB:
                raise _BudgetError("takes too much memory")
        return on_line

    before = sys.gettrace()  # a debugger's, or that of coverage
    sys.settrace(on_line)
    try:
        yield
    finally:
        sys.settrace(before)


def _peak_kib() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak // 1024 if sys.platform == "darwin" else peak
