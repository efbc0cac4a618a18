"""Which texts are read, and what is read of them: one rule for training and for every way in."""

from __future__ import annotations

import html
import re
import string
import unicodedata
from functools import cache
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import regex

Cleaning = Literal["lower", "whitespace", "canonicalize", "siglip", "none"]
"""What is done to a text before it is cut into tokens. The first three are open_clip's: repaired,
and in lower case; repaired; repaired, in lower case and without ASCII punctuation. `siglip` is that
of Hugging Face's SiglipTokenizer: in lower case and without ASCII punctuation, but not repaired.
`none` leaves the text to the tokenizer."""

MAX_CHARACTERS = 16_384
"""Longer texts are refused."""
MAX_ACCENTS = 64
"""More combining marks in a row are refused: normalising takes time quadratic in their number.
Unicode's Stream-Safe Text Format allows 30."""

EMPTY = "must not be empty"

_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)
_CANONICAL = _NO_PUNCTUATION | {ord("_"): " "}
"""As open_clip's `canonicalize_text`: words that an underscore joins stay two words."""

_WORD_START = "\u2581"
"""What SentencePiece writes for a space."""

_PLAIN = re.compile(r"[\t\n\r -%'-~]*")
"""ASCII without control characters and without the `&` of HTML: nothing in it needs a repair."""


class TextError(ValueError):
    """A text that is refused. `problem` is the reason without the field, in one sentence."""

    def __init__(self, problem: str) -> None:
        super().__init__(f"text: {problem}")
        self.problem = problem


def clean_text(value: object, cleaning: Cleaning = "lower") -> str:
    """What a model reads of a text: open_clip's default cleaning, and no ignorable characters.

    The encoding is repaired, HTML is unescaped, white space becomes single spaces, and letters
    become lower case, unless `cleaning` says otherwise. Characters that Unicode says to ignore are
    dropped (the property Default_Ignorable_Code_Point: soft hyphens, zero-width marks and joiners,
    direction marks, variation selectors), as in Unicode's own NFKC_Casefold. Composed and
    decomposed letters become the same.

    Raises TextError for what is not a string, is not valid Unicode, holds a NUL or too many accents
    in a row, is longer than MAX_CHARACTERS, or is empty after this cleaning. A table's missing
    values are empty: None, NaN and pandas.NA.
    """
    if not isinstance(value, str):
        raise TextError(EMPTY if _is_missing(value) else "must be a string")
    if len(value) > MAX_CHARACTERS:
        raise TextError(f"more than {MAX_CHARACTERS} characters")
    if "\0" in value:
        raise TextError("holds a NUL character")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise TextError("not valid Unicode") from None
    if cleaning == "none":
        _check_accents(value)
        if is_blank(value):
            raise TextError(EMPTY)
        return value
    if cleaning == "siglip":
        _check_accents(value)
        # Lower case comes first: that of a Greek sigma depends on what follows it.
        text = value.lower().translate(_NO_PUNCTUATION).replace(_WORD_START, " ")
        if is_blank(text):
            raise TextError(EMPTY)
        return " ".join(text.split())
    text = value if _PLAIN.fullmatch(value) else _repaired(value)
    if cleaning == "canonicalize":
        text = text.translate(_CANONICAL)
    text = " ".join(text.split())
    if cleaning != "whitespace":
        text = text.lower()
    if not text:
        raise TextError(EMPTY)
    return text


def _is_missing(value: object) -> bool:
    try:
        return value is None or bool(value != value)
    except TypeError:  # pandas.NA is neither equal nor unequal to itself
        return True
    except ValueError:  # nor is an array, which is not missing
        return False


def _check_accents(value: str) -> None:
    if _accents().search(without_ignorable(value)):
        raise TextError(f"more than {MAX_ACCENTS} accents in a row")


def _repaired(value: str) -> str:
    """The text, with what only other characters than those of _PLAIN need."""
    _check_accents(value)
    import ftfy

    # The soft hyphen is part of many garbled letters, so ignorable characters leave last.
    text = html.unescape(html.unescape(ftfy.fix_text(value)))
    return unicodedata.normalize("NFC", without_ignorable(text))


def folded(name: str) -> str:
    """A name in one spelling, for comparison: as a model reads it, in any case of letters."""
    try:
        return clean_text(name).casefold()
    except TextError:
        return " ".join(without_ignorable(name).casefold().split())


def without_ignorable(text: str) -> str:
    """A text without the characters that Unicode says to ignore."""
    visible: str = _ignorable().sub("", text)
    return visible


def is_blank(text: str) -> bool:
    """Whether a text has nothing but white space and ignorable characters. Far cheaper than
    `clean_text`, for texts that the model does not read."""
    return not without_ignorable(text).strip()


@cache
def _ignorable() -> regex.Pattern[str]:
    import regex

    return regex.compile(r"\p{Default_Ignorable_Code_Point}+")


@cache
def _accents() -> regex.Pattern[str]:
    import regex

    return regex.compile(rf"\p{{M}}{{{MAX_ACCENTS + 1}}}")
