"""Which pairs are held out, where the data have no splits of their own.

A digest of the image decides, so that equal images are on one side, in every run and on every
machine. With links, images that look alike and pairs with an equal caption are on one side, too.

N images, G groups.
"""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.csgraph import connected_components

from training.loading.likeness import pairs_alike
from training.loading.pair_records import PairRecords
from training.loading.sources.base import Found, Pair

HELD_OUT_OF = 20
"""One of this many pairs is held out, where the data have no splits of their own."""

MAX_CAPTION_THINGS = 10
"""A caption of more things is a label, such as `a photo`, and links nothing. A thing is an image
with all that look like it."""

MAX_THINGS_PER_CAPTION = 2.0
"""With more things for each distinct caption on average, all captions of the data are labels."""

MAX_GROUP_SHARE = 0.02
MIN_LARGE_GROUP = 10
"""A group of more images than both is trained on: it would be most of what is held out."""

Side = Literal["train", "held_out", "all"]


@dataclass(frozen=True, kw_only=True)
class LinkCounts:
    """What was found when pairs were linked."""

    pairs: int
    """Good pairs."""
    held_out: int = 0
    """Good pairs that are held out."""
    repeated_images: int = 0
    """Pairs whose image, byte by byte, is that of another pair before it."""
    like_another: int = 0
    """Pairs with an image that looks like another one."""
    equal_captions: int = 0
    """Pairs that share a caption with another thing, and are linked by it."""
    labels: int = 0
    """Captions that too many things have: they link nothing."""
    labelled: int = 0
    """Pairs with such a caption: training and the held-out part may share it."""
    all_labels: bool = False
    """Whether all captions of the data are labels."""
    large_groups: int = 0
    """Groups that are too large to be held out."""

    def to_dict(self) -> dict[str, object]:
        """The counts as plain data, for JSON."""
        return dataclasses.asdict(self)

    def summary(self) -> str:
        """The counts in one line."""
        line = (
            f"held out {self.held_out:,} of {self.pairs:,} pairs; together on one side:"
            f" {self.repeated_images:,} that repeat an image, {self.like_another:,} whose image"
            f" looks like another, {self.equal_captions:,} with equal captions"
        )
        if self.all_labels:
            return f"{line}; captions are labels, and link nothing"
        if self.labels:
            line += f"; {self.labels:,} captions of {self.labelled:,} pairs are labels"
        return line


@dataclass(frozen=True, kw_only=True)
class Sides:
    """The side of every pair."""

    moved: frozenset[int] = frozenset()
    """Digests of the images that are on another side than their own digest says: on that of their
    group."""
    counts: LinkCounts | None = None
    """What was linked; None where nothing was."""

    def of(self, found: Found) -> Side:
        """The side of a pair. A bad pair belongs to the side of training: nothing tells its own."""
        if not isinstance(found, Pair):
            return "train"
        digest = image_digest(found.image)
        return "held_out" if (digest % HELD_OUT_OF == 0) != (digest in self.moved) else "train"

    def held_out(self, digests: NDArray[np.uint64]) -> NDArray[np.bool_]:
        """Whether each of N images, by their digests, is held out."""
        moved = np.isin(digests, np.array(sorted(self.moved), dtype=np.uint64))
        result: NDArray[np.bool_] = (digests % HELD_OUT_OF == 0) != moved
        return result


def image_digest(image: bytes) -> int:
    """64 bits that tell an encoded image from all others."""
    return int.from_bytes(hashlib.sha256(image).digest()[:8])


@dataclass(frozen=True, kw_only=True)
class Links:
    """Which of the N distinct images of some pairs belong together, and by what."""

    digests: NDArray[np.uint64]
    """(N,), ascending."""
    image: NDArray[np.int64]
    """The image of each pair."""
    thing: NDArray[np.int64]
    """(N,): equal for images that look alike, or are linked by others that do."""
    group: NDArray[np.int64]
    """(N,): equal for images that look alike or share a caption."""
    captions: NDArray[np.uint64]
    """The distinct captions."""
    caption_things: NDArray[np.int64]
    """How many things have each caption."""
    is_label: NDArray[np.bool_]
    """Whether a caption links nothing."""
    caption: NDArray[np.int64]
    """The caption at each place of `caption_pair`."""
    caption_pair: NDArray[np.int64]
    """The pair at each place: all captions of all pairs."""

    @classmethod
    def of(cls, records: PairRecords, *, captions_are_labels: bool = False) -> Links:
        """Links pairs, in whatever order they were read."""
        digests, first, image = np.unique(records.digests, return_index=True, return_inverse=True)
        count = len(digests)
        alike = pairs_alike(records.bits[first], records.colours[first])
        _, thing = _components(count, alike)
        captions, caption = np.unique(records.captions, return_inverse=True)
        owner = image[records.caption_pair]
        of_things = np.unique(np.stack([caption, thing[owner]]), axis=1)[0]
        things = np.bincount(of_things, minlength=len(captions))
        distinct = max(1, len(captions))
        all_labels = captions_are_labels or things.sum() / distinct > MAX_THINGS_PER_CAPTION
        is_label = (things > MAX_CAPTION_THINGS) | all_labels
        links = ~is_label[caption]
        by_caption = (count + caption[links], owner[links])
        joined = [np.concatenate(ends) for ends in zip(alike, by_caption, strict=True)]
        _, group = _components(count + len(captions), (joined[0], joined[1]))
        return cls(
            digests=digests,
            image=image,
            thing=thing,
            group=np.unique(group[:count], return_inverse=True)[1],
            captions=captions,
            caption_things=things,
            is_label=is_label,
            caption=caption,
            caption_pair=records.caption_pair,
        )

    def sides(self) -> Sides:
        """Puts each group on the side of its image with the smallest digest."""
        alone = self.digests % HELD_OUT_OF == 0
        _, representative = np.unique(self.group, return_index=True)
        sizes = np.bincount(self.group)
        is_large = sizes > max(MIN_LARGE_GROUP, MAX_GROUP_SHARE * len(self.digests))
        held_out = (alone[representative] & ~is_large)[self.group]
        counts = dataclasses.replace(
            self.counts(),
            held_out=int(held_out[self.image].sum()),
            large_groups=int(is_large.sum()),
        )
        moved = self.digests[held_out != alone]
        return Sides(moved=frozenset(moved.tolist()), counts=counts)

    def counts(self) -> LinkCounts:
        """What was found."""
        all_labels = bool(self.is_label.all()) and len(self.captions) > 0
        is_linking = ~self.is_label & (self.caption_things > 1)
        return LinkCounts(
            pairs=len(self.image),
            repeated_images=len(self.image) - len(self.digests),
            like_another=int((np.bincount(self.thing) > 1)[self.thing][self.image].sum()),
            equal_captions=int(self._has(is_linking).sum()),
            labels=int(self.is_label.sum()),
            labelled=int(self._has(self.is_label).sum()),
            all_labels=all_labels,
        )

    def shared(self, own: NDArray[np.bool_]) -> dict[str, int]:
        """How many of some of the pairs, those of one split, have in another split the same
        `image`, one that looks `alike`, or the same `caption`, labels aside."""
        return {
            "image": self._shared(self.image, own),
            "alike": self._shared(self.thing[self.image], own),
            "caption": self._shared_captions(own),
        }

    def _shared(self, of: NDArray[np.int64], own: NDArray[np.bool_]) -> int:
        elsewhere = np.unique(of[~own])
        return int(np.isin(of[own], elsewhere).sum())

    def _shared_captions(self, own: NDArray[np.bool_]) -> int:
        is_own = own[self.caption_pair]
        both = np.zeros(len(self.captions), dtype=bool)
        both[np.intersect1d(self.caption[is_own], self.caption[~is_own])] = True
        return int(self._has(both & ~self.is_label)[own].sum())

    def _has(self, captions: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Whether each pair has one of some captions."""
        pairs = np.zeros(len(self.image), dtype=bool)
        pairs[self.caption_pair[captions[self.caption]]] = True
        return pairs


def _components(
    count: int, edges: tuple[NDArray[np.int64], NDArray[np.int64]]
) -> tuple[int, NDArray[np.int64]]:
    ones = np.ones(len(edges[0]), dtype=np.bool_)
    number, labels = connected_components(
        sparse.coo_array((ones, edges), (count, count)), directed=False
    )
    return number, labels.astype(np.int64)
