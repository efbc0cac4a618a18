"""Which split a drawing belongs to: held-out styles, held-out codepoint groups, no shared caption.

Emoji that differ in gender, direction or a detail named by the recipe form one group, and a
group is trained on or held out whole. The choice is a hash of the group's name, so it does not
depend on which drawings exist or in which order they are read.
"""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from training.data.captions import caption_key, neutral
from training.data.emoji import Emoji
from training.data.recipe import SplitSpec

SPLITS = ("train", "val_style", "val_codepoint", "test_style", "test_codepoint", "test_both")
"""Every split, in the order of the index."""

Fate = Literal["train", "val", "test"]
Role = Literal["train", "val_style", "test_style"]


def group_of(emoji: Emoji, spec: SplitSpec) -> str:
    """The group of an emoji: the first matching rule of the recipe, or its gender-free label."""
    label = emoji.label.lower()
    for rule in spec.near:
        found = re.search(rule.match, label)
        if found:
            return found.expand(rule.group)
    return neutral(emoji.label)


def deal(group: str, spec: SplitSpec) -> Fate:
    """The fate of a group, from a hash of its name and the recipe's salt."""
    hashed = hashlib.sha256(f"{spec.salt}:{group}".encode()).digest()
    share = int.from_bytes(hashed[:8], "big") / 2**64
    if share < spec.test_fraction:
        return "test"
    return "val" if share < spec.test_fraction + spec.val_fraction else "train"


@dataclass(frozen=True, kw_only=True)
class SplitPlan:
    """The groups of all codepoints, and every caption that training must not see."""

    groups: dict[str, str]
    """Codepoint -> group."""
    fates: dict[str, Fate]
    """Group -> fate."""
    captions: frozenset[str]
    """Caption keys of held-out emoji: labels and canonical captions."""
    names: frozenset[str]
    """Caption keys of every other name a held-out emoji goes by."""

    def place(self, role: Role, codepoint: str | None) -> str | None:
        """The split of a drawing, or None when no split may use it."""
        fate = "train" if codepoint is None else self.fates[self.groups[codepoint]]
        return _PLACES.get((role, fate))

    def shares_caption(self, caption: str, *, emoji: bool) -> bool:
        """Whether `caption` says what a held-out emoji says.

        A trained emoji has a label of its own, so only labels count against it; any other icon
        is also refused for another name (a shortcode, an icon name) of a held-out emoji.
        """
        key = caption_key(caption)
        return key in self.captions or (not emoji and key in self.names)


_PLACES: dict[tuple[Role, Fate], str] = {
    ("train", "train"): "train",
    ("train", "val"): "val_codepoint",
    ("train", "test"): "test_codepoint",
    ("test_style", "train"): "test_style",
    ("test_style", "test"): "test_both",
    ("val_style", "train"): "val_style",
}
"""A validation style never shows a held-out codepoint, nor a test style a validation one."""


def plan_splits(
    emoji: Iterable[Emoji], spec: SplitSpec, set_names: Iterable[tuple[str, str]] = ()
) -> SplitPlan:
    """Group all emoji and deal the groups out.

    `set_names` are (codepoint, caption) pairs by which drawing sets call an emoji; they are kept
    out of training along with its label.
    """
    table = {one.codepoint: one for one in emoji}
    groups = {code: group_of(one, spec) for code, one in table.items()}
    always = {groups[c] for c, one in table.items() if one.subgroup in spec.always_train}
    fates: dict[str, Fate] = {
        group: "train" if group in always else deal(group, spec) for group in groups.values()
    }
    held = [one for code, one in table.items() if fates[groups[code]] != "train"]
    captions = {caption_key(text) for one in held for text in (one.label, one.caption)}
    names = {caption_key(alias) for one in held for alias in one.aliases}
    by_code: dict[str, set[str]] = defaultdict(set)
    for code, caption in set_names:
        by_code[code].add(caption_key(caption))
    for one in held:
        names |= by_code[one.codepoint]
    return SplitPlan(
        groups=groups, fates=fates, captions=frozenset(captions), names=frozenset(names)
    )
