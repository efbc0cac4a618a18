"""The split of every drawing: held-out styles, held-out codepoint groups, no shared caption.

Emoji that differ in gender, direction or a detail named by the recipe form one group, and a
group is trained on or held out as a whole. A hash of the group's name decides, so the decision does
not depend on which drawings exist or in which order they are read.
"""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

from training.data.captions import caption_key, gender_neutral
from training.data.data_recipe import SplitSpec
from training.data.emoji import Emoji

SPLITS = ("train", "val_style", "val_codepoint", "test_style", "test_codepoint", "test_both")
"""Every split, in the order of the index."""

Subset = Literal["train", "val", "test"]
StyleRole = Literal["train", "val_style", "test_style", "foreign"]


def group_of(emoji: Emoji, spec: SplitSpec) -> str:
    """The group of an emoji: the first matching rule of the recipe, or its gender-free label."""
    label = emoji.label.lower()
    for rule in spec.near:
        match = re.search(rule.match, label)
        if match:
            return match.expand(rule.group)
    return gender_neutral(emoji.label)


def assign_subset(group: str, spec: SplitSpec) -> Subset:
    """The subset of a group, from a hash of its name and the recipe's salt."""
    hashed = hashlib.sha256(f"{spec.salt}:{group}".encode()).digest()
    fraction = int.from_bytes(hashed[:8], "big") / 2**64  # uniform in [0, 1)
    if fraction < spec.test_fraction:
        return "test"
    return "val" if fraction < spec.test_fraction + spec.val_fraction else "train"


@dataclass(frozen=True, kw_only=True)
class SplitPlan:
    """The groups of all codepoints, and every caption that is kept out of training."""

    groups: dict[str, str]
    """Codepoint -> group."""
    subsets: dict[str, Subset]
    """Group -> subset."""
    captions: frozenset[str]
    """Caption keys of held-out emoji: labels and canonical captions."""
    names: frozenset[str]
    """Caption keys of every other name a held-out emoji goes by."""

    def split_of(self, role: StyleRole, codepoint: str | None, set_name: str = "") -> str | None:
        """The split of a drawing, or None when no split may use it."""
        subset = "train" if codepoint is None else self.subsets[self.groups[codepoint]]
        if role == "foreign":
            return set_name if subset == "train" else f"{set_name}_unseen"
        return _SPLIT_OF.get((role, subset))

    def shares_caption(self, caption: str, *, emoji: bool) -> bool:
        """Whether `caption` is a caption of a held-out emoji.

        An emoji that is trained on has a label, so only the labels of held-out emoji count against
        it. Any other icon is also refused for their other names (a shortcode, an icon name).
        """
        key = caption_key(caption)
        return key in self.captions or (not emoji and key in self.names)

    def holds_caption(self, caption: str) -> bool:
        """Whether some words of `caption` are a caption of a held-out emoji: `add calendar` holds
        `calendar`."""
        words = caption_key(caption).split()
        parts = (part for n in range(1, len(words) + 1) for part in combinations(words, n))
        return any(" ".join(part) in self.captions for part in parts)


_SPLIT_OF: dict[tuple[StyleRole, Subset], str] = {
    ("train", "train"): "train",
    ("train", "val"): "val_codepoint",
    ("train", "test"): "test_codepoint",
    ("test_style", "train"): "test_style",
    ("test_style", "test"): "test_both",
    ("val_style", "train"): "val_style",
}
"""A pair that is missing here is not used: a validation style shows no held-out codepoint, and a
test style no validation codepoint."""


def plan_splits(
    emoji: Iterable[Emoji], spec: SplitSpec, set_names: Iterable[tuple[str, str]] = ()
) -> SplitPlan:
    """Groups all emoji and assigns each group to a subset.

    `set_names` are (codepoint, caption) pairs: what sets of drawings call an emoji. The names of a
    held-out emoji are kept out of training along with its label.
    """
    table = {entry.codepoint: entry for entry in emoji}
    groups = {code: group_of(entry, spec) for code, entry in table.items()}
    always = {groups[c] for c, entry in table.items() if entry.subgroup in spec.always_train}
    subsets: dict[str, Subset] = {
        group: "train" if group in always else assign_subset(group, spec)
        for group in groups.values()
    }
    held_out = [entry for code, entry in table.items() if subsets[groups[code]] != "train"]
    captions = {caption_key(text) for entry in held_out for text in (entry.label, entry.caption)}
    names = {caption_key(alias) for entry in held_out for alias in entry.aliases}
    by_code: dict[str, set[str]] = defaultdict(set)
    for code, caption in set_names:
        by_code[code].add(caption_key(caption))
    for entry in held_out:
        names |= by_code[entry.codepoint]
    return SplitPlan(
        groups=groups, subsets=subsets, captions=frozenset(captions), names=frozenset(names)
    )
