"""Drawings of one colour: used for the captions that no other set draws, a few of each."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set

from training.data.captions import caption_key, name_caption
from training.data.data_recipe import MonoSpec, SetSpec
from training.data.emoji import EmojiTable
from training.data.english import EnglishWords
from training.data.icons import Drawing, Dropped

STYLE = "mono"
"""The style of all these drawings: they are told from other styles by how they are painted."""


def known_captions(
    drawings: Iterable[Drawing], sets: Mapping[str, SetSpec], table: EmojiTable
) -> set[str]:
    """Caption keys of colour drawings, and every name of every emoji."""
    keys = {caption_key(name) for emoji in table.values() for name in emoji.aliases}
    for drawing in drawings:
        name = drawing.caption or name_caption(drawing.name, sets[drawing.set].strip)
        keys.add(caption_key(name))
    return keys


def choose_mono(
    drawings: Sequence[Drawing],
    sets: Mapping[str, SetSpec],
    spec: MonoSpec,
    known: Set[str],
    english: EnglishWords,
) -> Iterator[Drawing | Dropped]:
    """The drawings to use, in the order given; for each other one, why it is not.

    A caption is used when it consists of English words and is not one of `known`. Of the drawings
    of a set that have one caption, which are variants, one is used. Short captions come first, then
    a hash of the caption decides, so a new set changes little of the choice.
    """
    reasons: dict[str, str] = {}
    by_caption: dict[str, list[Drawing]] = defaultdict(list)
    for drawing in drawings:
        caption = name_caption(drawing.name, sets[drawing.set].strip)
        key = caption_key(caption)
        if not english.knows_all(caption):
            reasons[drawing.source] = "not all words are English"
        elif key in known:
            reasons[drawing.source] = "another set has the caption"
        else:
            by_caption[key].append(drawing)
    uses: Counter[str] = Counter()  # captions by word
    for key in sorted(by_caption, key=lambda key: (key.count(" "), _hash(key))):
        words = set(key.split())
        if any(uses[word] >= spec.captions_per_word for word in words):
            reasons |= {d.source: "a word has enough captions" for d in by_caption[key]}
        else:
            uses.update(words)
            reasons |= _variants(by_caption[key], spec.per_caption)
    for drawing in drawings:
        reason = reasons.get(drawing.source)
        yield Dropped(set=drawing.set, name=drawing.name, reason=reason) if reason else drawing


def _variants(same: Sequence[Drawing], most: int) -> dict[str, str]:
    """Why drawings of one caption are not used, by source; `most` sets give one each."""
    reasons: dict[str, str] = {}
    seen: set[str] = set()
    for drawing in sorted(same, key=lambda d: _hash(f"{d.set}/{d.name}")):
        if drawing.set in seen:
            reasons[drawing.source] = "variant"
        elif len(seen) >= most:
            reasons[drawing.source] = "enough of the caption"
        else:
            seen.add(drawing.set)
    return reasons


def _hash(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()
