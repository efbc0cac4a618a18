"""Captions as a person would write them, and the keys by which names and captions are compared."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence

GENDER = re.compile(
    r"\b(man|woman|person|men|women|people|male|female|boy|girl|child|adult)('s)?\b:?"
)
"""Words by which gendered forms of one emoji differ."""

_FILLER = frozenset({"a", "an", "the", "of", "with", "and", "in", "on", "icon", "symbol", "sign"})
_QUOTES = str.maketrans({"’": "'", "‘": "'", "“": None, "”": None, "(": None, ")": None})
_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])")


def name_key(text: str) -> str:
    """A name's letters and digits, in lower case and without accents.

    `Flag: Côte d’Ivoire` becomes `flagcotedivoire`: names that differ only in punctuation or
    spacing have one key.
    """
    text = unicodedata.normalize("NFKD", text.replace("&", " and ").replace("’", ""))
    return re.sub(r"[^a-z0-9]", "", text.encode("ascii", "ignore").decode().lower())


def caption_key(caption: str) -> str:
    """The key of a caption: captions with one key count as the same.

    Word order, plurals, accents, case, punctuation and filler words do not matter: `Clocks, alarm`
    and `alarm clock` have one key.
    """
    text = unicodedata.normalize("NFKD", caption.replace("’", "'")).lower()
    words = re.findall(r"[a-z0-9]+", re.sub(r"'s?\b", "", text.encode("ascii", "ignore").decode()))
    kept = [word for word in words if word not in _FILLER] or words
    return " ".join(sorted(_singular(word) for word in kept))


def _singular(word: str) -> str:
    if len(word) > 4 and word.endswith("ies"):
        return word[:-3] + "y"
    if len(word) > 4 and word.endswith(("ches", "shes", "xes", "sses")):
        return word[:-2]
    if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")):
        return word[:-1]
    return word


def gender_neutral(label: str) -> str:
    """A label without gender words and direction: `man running: facing right` -> `running`."""
    text = label.translate(_QUOTES).lower().replace(": facing right", "")
    text = re.sub(r"\s+", " ", GENDER.sub(" ", text)).strip(" :,")
    return text or "person"


def emoji_caption(label: str) -> str:
    """The canonical caption of an emoji: its CLDR label, read as a phrase.

    `flag: Norway` -> `flag of Norway`; `man: red hair` -> `man with red hair`.
    """
    text = label.translate(_QUOTES).replace("&", "and")
    head, colon, tail = text.partition(": ")
    if not colon:
        return text
    if head == "flag":
        return f"flag of {tail}"
    if tail == "facing right":
        return f"{head} facing right"
    if head in ("man", "woman", "person"):
        return "bald " + head if tail == "bald" else f"{head} with {tail}"
    if head == "keycap":
        return f"keycap {tail}"
    parts = tail.split(", ")
    joined = " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)
    return f"{head} of {joined}"


def name_caption(name: str, strip: Sequence[str] = ()) -> str:
    """An icon's name as a phrase: `alarm-clock-2-flat` -> `alarm clock` with the right `strip`."""
    for pattern in strip:
        shorter = re.sub(pattern, "", name)
        name = shorter or name
    return re.sub(r"[-_\s]+", " ", name).strip()


def has_word(caption: str) -> bool:
    """Whether a caption holds a word: digits, hashes and single letters do not count."""
    return re.search(r"[^\W\d_]{2,}", caption) is not None


def category_slug(category: str) -> str:
    """`Food & Drink`, `FoodDrink` and `food-drink` all become `food-drink`."""
    words = re.findall(r"[A-Za-z0-9]+", _CAMEL.sub(" ", category))
    return "-".join(word.lower() for word in words if word.lower() != "and")


def alternatives(caption: str, other_names: Iterable[str], keywords: Sequence[str]) -> list[str]:
    """The captions of a sample, the canonical one first, each once.

    Other names stand alone; keywords are listed after the caption, a few and then all.
    """
    words = [w for w in keywords if caption_key(w) != caption_key(caption)]
    captions = [caption, *other_names]
    # Keyword lists are alphabetical, so a stride samples them more evenly than a prefix.
    for few in (words[::3][:3], words[1::3][:3]):
        if few:
            captions.append(", ".join([caption, *few]))
    if len(words) > 3:
        captions.append(", ".join([caption, *words[:12]]))
    unique: dict[str, str] = {}
    for text in captions:
        unique.setdefault(text.casefold(), text)
    return list(unique.values())
