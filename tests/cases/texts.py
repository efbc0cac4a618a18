"""Texts that mean the same, texts that are refused, and texts that are read in part.

A door that takes texts passes every case: the code of a text is that of `same_as`, or the text is
refused for the reason in `refused`, or its coverage is as the case says.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, kw_only=True)
class TextCase:
    """A text, and what becomes of it. The model reads 16 tokens, as the tiny bundle does."""

    name: str
    kind: str
    text: object
    """A string, except where a caller may have another value in its place."""
    same_as: str | None = None
    refused: str | None = None
    """The reason, without the field."""
    tokens: int | None = None
    truncated: bool = False
    unknown_words: tuple[str, ...] | None = None

    @property
    def on_the_wire(self) -> bool:
        """Whether a client can send the text at all; its own checks refuse others."""
        try:
            return isinstance(self.text, str) and len(self.text.encode()) <= 8192
        except UnicodeEncodeError:
            return False


EMPTY = "must not be empty"


class NotAvailable:
    """As pandas.NA, the empty cell of a column of strings: comparing it says neither yes nor no."""

    def __eq__(self, _: object) -> NotAvailable:  # type: ignore[override]
        return self

    def __ne__(self, _: object) -> NotAvailable:  # type: ignore[override]
        return self

    def __bool__(self) -> bool:
        raise TypeError("boolean value of NA is ambiguous")

    __hash__ = None  # type: ignore[assignment]


_IGNORABLE = {
    "soft hyphen": "d\u00adog",
    "zero-width space": "d\u200bog",
    "zero-width joiner": "dog\u200d",
    "zero-width non-joiner": "d\u200cog",
    "left-to-right mark": "\u200edog",
    "right-to-left override": "\u202edog\u202c",
    "byte order mark": "\ufeffdog",
    "word joiner": "do\u2060g",
    "variation selector": "dog\ufe0f",
    "tag letters": "dog\U000e0061\U000e007f",
    "written as HTML": "d&shy;og",
}
_EMPTY: dict[str, object] = {
    "no text": "",
    "white space": " \n\t\u3000",
    "ignorable characters alone": "\u200b\ufeff \u00ad",
    "white space as HTML": "&nbsp;",
    "control characters alone": "\x01\x02",
    "None": None,
    "NaN": math.nan,
    "NA of pandas": NotAvailable(),
}

CASES: tuple[TextCase, ...] = (
    *(TextCase(name=n, kind="K7", text=t, same_as="dog") for n, t in _IGNORABLE.items()),
    TextCase(name="case and white space", kind="K7", text="  A\tRed\r\nDOG ", same_as="a red dog"),
    TextCase(name="decomposed letters", kind="K7", text="cafe\u0301", same_as="caf\u00e9"),
    TextCase(name="split decomposed", kind="K7", text="cafe\u200b\u0301", same_as="caf\u00e9"),
    TextCase(name="wide letters", kind="K7", text="\uff44\uff4f\uff47", same_as="dog"),
    TextCase(name="garbled encoding", kind="K7", text="caf\u00c3\u00a9", same_as="caf\u00e9"),
    TextCase(name="emoji in text style", kind="K7", text="\u2764\ufe0f", same_as="\u2764"),
    TextCase(
        name="joined emoji",
        kind="K7",
        text="\U0001f469\u200d\U0001f52c",
        same_as="\U0001f469\U0001f52c",
    ),
    *(TextCase(name=n, kind="K6", text=t, refused=EMPTY) for n, t in _EMPTY.items()),
    TextCase(name="NUL", kind="K6", text="a\0b", refused="holds a NUL character"),
    TextCase(name="lone surrogate", kind="K6", text="a \ud800", refused="not valid Unicode"),
    TextCase(name="a number", kind="K6", text=7, refused="must be a string"),
    TextCase(name="an array", kind="K3", text=np.zeros(2), refused="must be a string"),
    TextCase(name="too long", kind="K4", text="a " * 8193, refused="more than 16384 characters"),
    TextCase(
        name="too many accents",
        kind="K4",
        text="e" + "\u0301\u200b" * 65,
        refused="more than 64 accents in a row",
    ),
    TextCase(
        name="accents",
        kind="K7",
        text="e" + "\u0301" * 64,
        same_as="\u00e9" + "\u0301" * 63,
        truncated=True,
    ),
    TextCase(name="fits exactly", kind="K5", text="a " * 14, tokens=16),
    TextCase(name="one word too many", kind="K5", text="a " * 15, tokens=17, truncated=True),
    TextCase(
        name="unread words are not judged",
        kind="K5",
        text="a " * 14 + "rocket",
        truncated=True,
        unknown_words=(),
    ),
    TextCase(name="a known word", kind="K5", text="A dog.", unknown_words=()),
    TextCase(name="an unknown word", kind="K5", text="a Rocket", unknown_words=("rocket",)),
)

PLAIN = ("a dog <end_of_text> cat", "a dog <start_of_text> cat", "a dog </w> a cat")
"""Names of special tokens are plain text: neither ends the text nor joins it to another."""
