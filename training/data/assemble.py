"""From rendered drawings to the samples of each split: captions, metadata, and what is refused."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from training.data.captions import (
    alternatives,
    caption_key,
    category_slug,
    name_caption,
    says_something,
)
from training.data.emoji import Emoji
from training.data.icons import Drawing
from training.data.recipe import Recipe
from training.data.shards import Sample
from training.data.sources import Source
from training.data.split import SPLITS, SplitPlan, plan_splits


def assemble(
    source: Source, images: Mapping[int, bytes], recipe: Recipe
) -> dict[str, list[Sample]]:
    """Samples of every split, in stored order: shuffled by a hash of the key, always the same.

    `images` are PNG bytes by position in `source.drawings`; every drawing that is left out is
    counted in `source.dropped` with its reason.
    """
    called = [
        (d.codepoint, name_caption(d.name, recipe.sets[d.set].strip))
        for d in source.drawings
        if d.codepoint is not None and recipe.sets[d.set].kind == "emoji"
    ]
    plan = plan_splits(source.table.values(), recipe.splits, called)
    by_caption = {caption_key(one.caption): one for one in source.table.values()}
    splits: dict[str, list[Sample]] = {name: [] for name in SPLITS}
    seen: set[tuple[str, bytes]] = set()
    for i, drawing in enumerate(source.drawings):
        if i not in images:
            continue
        emoji = source.table.get(drawing.codepoint) if drawing.codepoint else None
        split = plan.place(recipe.sets[drawing.set].role, drawing.codepoint)
        meta = describe(drawing, emoji, by_caption, recipe, plan, train=split == "train")
        image = (drawing.set, hashlib.sha256(images[i]).digest())
        reason = "same image" if image in seen else refusal(drawing, split, meta["caption"], plan)
        if split is None or reason:
            source.dropped[f"{drawing.set}: {reason}"] += 1
            continue
        seen.add(image)
        splits[split].append(Sample(key=sample_key(drawing), png=images[i], meta=meta))
    # A style is only tested on what the training styles show.
    trained = {sample.meta["codepoint"] for sample in splits["train"]}
    for name in ("val_style", "test_style"):
        strange = [s for s in splits[name] if s.meta["codepoint"] not in trained]
        source.dropped.update(f"{s.meta['set']}: codepoint not trained" for s in strange)
        splits[name] = [s for s in splits[name] if s.meta["codepoint"] in trained]
    return {name: sorted(found, key=_shuffled) for name, found in splits.items()}


def _shuffled(sample: Sample) -> bytes:
    return hashlib.sha256(sample.key.encode()).digest()


def refusal(drawing: Drawing, split: str | None, caption: str, plan: SplitPlan) -> str:
    """Why a drawing may not be used, or nothing."""
    if split is None:
        return "held out elsewhere"
    if not says_something(caption):
        return "no words"
    if split == "train" and names_held_out(drawing, caption, plan):
        return "caption is held out"
    return ""


def names_held_out(drawing: Drawing, caption: str, plan: SplitPlan) -> bool:
    """Whether a training drawing is captioned, or tagged by its author, as a held-out emoji."""
    emoji = drawing.codepoint is not None
    return plan.shares_caption(caption, emoji=emoji) or any(
        plan.shares_caption(tag, emoji=True) for tag in drawing.keywords
    )


def sample_key(drawing: Drawing) -> str:
    """`set__name`, without dots and short enough for a tar header."""
    key = f"{drawing.set}__{drawing.name}".replace(".", "_")
    if len(key) > 80:
        key = f"{key[:70]}-{hashlib.sha256(key.encode()).hexdigest()[:8]}"
    return key


def describe(
    drawing: Drawing,
    emoji: Emoji | None,
    by_caption: Mapping[str, Emoji],
    recipe: Recipe,
    plan: SplitPlan,
    *,
    train: bool,
) -> dict[str, Any]:
    """The metadata of one sample."""
    strip = recipe.sets[drawing.set].strip
    caption = emoji.caption if emoji else drawing.caption or name_caption(drawing.name, strip)
    # An icon named exactly like an emoji shows the same thing: its keywords apply.
    known = emoji or by_caption.get(caption_key(caption))
    keywords = list(drawing.keywords) + list(known.keywords if known else ())
    others = list(emoji.names) if emoji else []
    if train:
        keywords = [w for w in keywords if not plan.shares_caption(w, emoji=True)]
        others = [w for w in others if not plan.shares_caption(w, emoji=False)]
    captions = alternatives(caption, others, keywords)
    if train:
        # A caption and a keyword side by side may spell a held-out label: "ship, passenger".
        first, *rest = captions
        captions = [first, *(c for c in rest if not plan.shares_caption(c, emoji=True))]
    category = emoji.category if emoji else drawing.category
    if category and not emoji:
        category = category_slug(category)
    return {
        "caption": caption,
        "captions": captions,
        "keywords": keywords,
        "name": drawing.name,
        "set": drawing.set,
        "style": drawing.set,
        "codepoint": drawing.codepoint,
        "group": plan.groups[drawing.codepoint] if drawing.codepoint else None,
        "category": category,
        "subcategory": emoji.subgroup if emoji else None,
        "licence": drawing.licence,
        "source": drawing.source,
    }
