"""The samples of each split, from rendered drawings: captions, metadata, and what is refused."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from training.data.captions import (
    alternatives,
    caption_key,
    category_slug,
    has_word,
    name_caption,
)
from training.data.data_recipe import DataRecipe
from training.data.emoji import Emoji
from training.data.icons import Drawing
from training.data.mono import STYLE as MONO
from training.data.shards import Sample
from training.data.sources import PackageContents
from training.data.split import SPLITS, SplitPlan, plan_splits


def assemble(
    contents: PackageContents, images: Mapping[int, bytes], recipe: DataRecipe
) -> dict[str, list[Sample]]:
    """The samples of every split, in the order of a hash of their keys.

    `images` are PNG bytes by index into `contents.drawings`. Every drawing that is left out is
    counted in `contents.dropped` with its reason. A split without samples is left out.
    """
    set_names = [
        (d.codepoint, name_caption(d.name, recipe.sets[d.set].strip))
        for d in contents.drawings
        if d.codepoint is not None and recipe.sets[d.set].kind == "emoji"
    ]
    plan = plan_splits(contents.table.values(), recipe.splits, set_names)
    by_caption = {caption_key(emoji.caption): emoji for emoji in contents.table.values()}
    splits: dict[str, list[Sample]] = {name: [] for name in SPLITS}
    digests: set[tuple[str, bytes]] = set()  # of the images so far, by set
    for i, drawing in enumerate(contents.drawings):
        if i not in images:
            continue
        emoji = contents.table.get(drawing.codepoint) if drawing.codepoint else None
        split = plan.split_of(recipe.sets[drawing.set].role, drawing.codepoint, drawing.set)
        meta = describe(drawing, emoji, by_caption, recipe, plan, train=split == "train")
        image = (drawing.set, hashlib.sha256(images[i]).digest())
        duplicate = image in digests
        reason = "same image" if duplicate else refusal(drawing, split, meta, plan)
        if split is None or reason:
            contents.dropped[f"{drawing.set}: {reason}"] += 1
            continue
        digests.add(image)
        splits.setdefault(split, []).append(
            Sample(key=sample_key(drawing), png=images[i], meta=meta)
        )
    # A style is only tested on what the training styles show.
    trained = {sample.meta["codepoint"] for sample in splits["train"]}
    for name in ("val_style", "test_style"):
        untrained = [s for s in splits[name] if s.meta["codepoint"] not in trained]
        contents.dropped.update(f"{s.meta['set']}: codepoint not trained" for s in untrained)
        splits[name] = [s for s in splits[name] if s.meta["codepoint"] in trained]
    names = [*SPLITS, *sorted(set(splits) - set(SPLITS))]
    return {name: sorted(splits[name], key=_hash_order) for name in names if splits[name]}


def _hash_order(sample: Sample) -> bytes:
    return hashlib.sha256(sample.key.encode()).digest()


def refusal(drawing: Drawing, split: str | None, meta: Mapping[str, Any], plan: SplitPlan) -> str:
    """Why a drawing may not be used; empty when it may."""
    if split is None:
        return "held out elsewhere"
    if not has_word(meta["caption"]):
        return "no words"
    if split == "train" and names_held_out(drawing, meta["caption"], plan):
        return "caption is held out"
    # A colour icon may say `add calendar` while `calendar` is held out. Drawings of one colour are
    # many, and would tell far more about held-out emoji.
    if split == "train" and meta["style"] == MONO and plan.holds_caption(meta["caption"]):
        return "part of the caption is held out"
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
    recipe: DataRecipe,
    plan: SplitPlan,
    *,
    train: bool,
) -> dict[str, Any]:
    """The metadata of one sample; a training sample has no caption of a held-out emoji."""
    strip = recipe.sets[drawing.set].strip
    caption = emoji.caption if emoji else drawing.caption or name_caption(drawing.name, strip)
    # An icon named exactly like an emoji shows the same thing: its keywords apply.
    same = emoji or by_caption.get(caption_key(caption))
    keywords = list(drawing.keywords) + list(same.keywords if same else ())
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
        "style": MONO if recipe.sets[drawing.set].kind == "mono" else drawing.set,
        "codepoint": drawing.codepoint,
        "group": plan.groups[drawing.codepoint] if drawing.codepoint else None,
        "category": category,
        "subcategory": emoji.subgroup if emoji else None,
        "licence": drawing.licence,
        "source": drawing.source,
    }
