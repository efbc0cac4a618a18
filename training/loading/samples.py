"""Samples of splits, for evaluation and for the naming of concepts, of any data."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from PIL import Image

from bundle.image import (
    DecodedImage,
    ImageError,
    ImageLimits,
    Reduction,
    decode_frame,
    decode_image,
)
from bundle.progress import show_progress
from training.data.data_recipe import DataError
from training.data.shards import read_index, read_split
from training.loading.pair_data import ALL, TRAIN, PairData, PairSplit
from training.loading.sides import Sides
from training.loading.sources.base import BadPair, Damage, Found, OtherMembers, Pair
from training.loading.tally import PairTally, ReadReport

MAX_SAMPLES = 10_000
"""Pairs of one split of a user's own data that are read. Their images stay in memory."""

MAX_PIECES = 100
"""Files of a user's own data that samples are taken from, when there are more of them."""

MAX_WORDS = 10_000
"""Words of the captions of a user's own data that may name concepts: the most frequent ones."""

MIN_PAIRS_OF_WORD = 2

_WORD = re.compile(r"[^\W\d_]{2,}")

_FUNCTION_WORDS = frozenset(
    "a about above after all also an and any are as at be because been before being below between "  # noqa: SIM905
    "both but by can did do does during each for from had has have having he her here his how i if "
    "in into is it its just me more most my near next no nor not of off on one only onto or other "
    "our out over own s same she so some such t than that the their them then there these they "
    "this those through to too two under until up upon very was we were what when where which "
    "while who with you your".split()
)
"""English words that name nothing. Of other languages the evidence of images has to rule them out.
"""


class LabelledImage(Protocol):
    """An image with what is known about it."""

    @property
    def key(self) -> str:
        """Unique in its split."""

    @property
    def meta(self) -> Mapping[str, Any]:
        """`caption`, `captions`, `keywords`, `name`, `set` and `group`, as in a built data set."""

    def image(self) -> Image.Image:
        """The image decoded, alpha and all."""

    def decoded(self, reduction: Reduction) -> DecodedImage:
        """The image as serving decodes it for a model: a large JPEG smaller."""


@dataclass(frozen=True, kw_only=True)
class OwnSample:
    """A pair of a user's own data. See LabelledImage."""

    key: str
    encoded: bytes
    meta: Mapping[str, Any]

    def image(self) -> Image.Image:
        """See LabelledImage."""
        return decode_image(self.encoded, ImageLimits())

    def decoded(self, reduction: Reduction) -> DecodedImage:
        """See LabelledImage."""
        return decode_frame(self.encoded, ImageLimits(), reduction)


@dataclass(frozen=True, kw_only=True)
class DataDescription:
    """What a bundle's record and card say about the data."""

    name: str
    digest: str
    """Of the recipe of a built data set; empty for a user's own data."""
    pairs: int
    """Pairs of the split that was trained on. An estimate where the data have no splits."""
    licences: Mapping[str, int]
    """Images by licence; empty where nobody has said."""
    is_built: bool
    """Whether `sparseclip data build` wrote the data."""

    @property
    def reference(self) -> str:
        """The name, and the digest where there is one."""
        return f"{self.name}@{self.digest}" if self.digest else self.name


def as_pair_data(data: Path | PairData) -> PairData:
    """The data of a path. Raises DataError."""
    return PairData(data) if isinstance(data, Path) else data


def describe(data: PairData, trained: str) -> DataDescription:
    """Describes data of which the split `trained` was trained on. Raises DataError."""
    split = data.split(trained)
    if not data.is_built:
        return DataDescription(
            name=data.name, digest="", pairs=split.pairs, licences={}, is_built=False
        )
    index = read_index(data.path)
    return DataDescription(
        name=str(index["recipe"]),
        digest=str(index["recipe_sha256"])[:12],
        pairs=int(index["splits"][trained]["samples"]),
        licences=index["licences"],
        is_built=True,
    )


def held_out_splits(data: Path | PairData, trained: str = TRAIN) -> list[str]:
    """The splits that are not trained on, by a run on the split `trained`. Raises DataError."""
    return [] if trained == ALL else [s for s in as_pair_data(data).splits if s != trained]


def read_samples(data: PairData, splits: Sequence[str]) -> dict[str, Sequence[LabelledImage]]:
    """The samples of some splits: all of a built data set, each of whose shards is verified, and at
    most MAX_SAMPLES of each split of a user's own data. Raises DataError."""
    if data.is_built:
        return {name: list(read_split(data.path, name)) for name in splits}
    if data.has_splits:
        pairs = {name: _take(data.split(name), (ALL,))[ALL] for name in splits}
    elif list(splits) == [ALL]:
        pairs = _take(data.split(ALL), (ALL,))
    else:  # one pass for both sides
        pairs = _take(data.split(ALL), splits, data.sides)
    if not any(pairs.values()):
        raise DataError(f"data.path: {data.name} holds no good pair of {', '.join(splits)}")
    words = _frequent_words(pair for found in pairs.values() for pair in found)
    return {
        name: [
            OwnSample(key=pair.key, encoded=pair.image, meta=_meta(pair, data.name, words))
            for pair in pairs[name]
        ]
        for name in splits
    }


def metas_of(pairs: Sequence[Pair], data: str) -> list[dict[str, Any]]:
    """The metadata of pairs of a user's own data; see LabelledImage. Their images are not read."""
    words = _frequent_words(pairs)
    return [_meta(pair, data, words) for pair in pairs]


def _take(
    split: PairSplit, names: Sequence[str], sides: Sides | None = None
) -> dict[str, list[Pair]]:
    """Up to MAX_SAMPLES good pairs of each of some sides, from all over the data. Without `sides`
    the only name is ALL."""
    pieces = list(split.pieces)
    random.Random(0).shuffle(pieces)
    pieces = pieces[:MAX_PIECES]
    taken: dict[str, list[Pair]] = {name: [] for name in names}
    tally = PairTally(split.data, len(split.pieces))
    total = len(names) * min(MAX_SAMPLES, split.pairs)
    with show_progress(split.data, total, "pairs") as advance:
        for number, piece in enumerate(pieces, 1):
            most = -(-MAX_SAMPLES * number // len(pieces))  # of this piece and those before it
            for found in split.read(piece):
                if all(len(pairs) >= most for pairs in taken.values()):
                    break
                side = ALL if sides is None else sides.of(found)
                if isinstance(found, Pair) and (side not in taken or len(taken[side]) >= most):
                    continue
                report = _report(found)
                tally.add(report)
                if report.good and isinstance(found, Pair):
                    taken[side].append(found)
                    advance()
    return taken


def _report(found: Found) -> ReadReport:
    if isinstance(found, OtherMembers):
        return ReadReport(others=(found,))
    if isinstance(found, Damage):
        return ReadReport(damaged=(found,))
    if isinstance(found, Pair):
        try:
            decode_image(found.image, ImageLimits())
            return ReadReport(good=1)
        except ImageError as error:
            found = BadPair(found.key, str(error))
    return ReadReport(reasons=Counter([found.reason]), bad=(found,))


def _words(pair: Pair) -> set[str]:
    words = {word for text in pair.captions for word in _WORD.findall(text.lower())}
    return words - _FUNCTION_WORDS


def _frequent_words(pairs: Iterable[Pair]) -> frozenset[str]:
    uses = Counter(word for pair in pairs for word in _words(pair))
    frequent = sorted(uses.items(), key=lambda item: (-item[1], item[0]))[:MAX_WORDS]
    # Of very few pairs no two may share a word.
    return frozenset(w for w, n in frequent if n >= MIN_PAIRS_OF_WORD) or frozenset(uses)


def _meta(pair: Pair, data: str, words: frozenset[str]) -> dict[str, Any]:
    """Metadata as a built data set has them. Keywords are the words of the pair's captions that
    other pairs have, too."""
    return {
        "caption": pair.captions[0],
        "captions": list(pair.captions),
        "keywords": sorted(_words(pair) & words),
        "name": pair.key,
        "set": data,
        "group": None,
    }
