"""What an edited picture is to become in training: another label, a phrase, or itself in part.

A caller may name any phrase, and only some are labels of pictures. So a part of the edits is to
phrases that are made of the captions' and keywords' words, and the answer is the phrase: the
language model learns to say what the text tower's codes stand for, as a decoder of text codes does
(DeCap, arXiv 2303.03032).
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from mllm_adapter.labels import Labels
from mllm_adapter.recipe import SteeringConfig

Meta = Mapping[str, Any]

RECOMBINED = 20_000
"""Phrases put together from the ends of two captions."""
ARTICLE = 0.2
"""Probability that an edit names `a dog` where the answer is `dog`."""


class Target(NamedTuple):
    """One edit of a picture: which words lose their concepts, which ones get them, and what the
    picture then counts as."""

    old: str
    new: str
    about: Meta
    part: bool = False
    """The rest of the picture's label stays, so the old words have to go."""


class Targets:
    """Draws targets for pictures of a split, none of which is a held-out label."""

    def __init__(
        self,
        meta: Sequence[Meta],
        config: SteeringConfig,
        labels: Labels,
        held_out: Collection[str],
        seed: int,
    ) -> None:
        self._config, self._labels = config, labels
        self._held_out = {label.casefold() for label in held_out}
        self._pictures: dict[str, list[Meta]] = {}
        for m in meta:
            self._pictures.setdefault(m["caption"], []).append(m)
        labels.learn(caption for m in meta for caption in m["captions"])
        self._captions = sorted(filter(labels.known, self._pictures))
        self._kinds = self._phrases(meta, random.Random(seed)) if config.phrases else []
        self._holes: dict[tuple[str, ...], list[str]] = {}
        self._words: dict[str, list[str]] = {"first": [], "last": []}
        for caption in self._captions:
            words = caption.split()
            for hole in _holes(words):
                self._holes.setdefault(hole, []).append(caption)
            if len(words) > 1:
                self._words["first"].append(words[0])
                self._words["last"].append(words[-1])

    def draw(self, picture: Meta, rng: random.Random) -> Target:
        """A target for one picture."""
        kind = rng.random()
        if kind < self._config.parts:
            found = self._part(picture["caption"], rng)
            if found is not None:
                return found
        elif kind < self._config.parts + self._config.phrases:
            phrase = rng.choice(rng.choice(self._kinds))
            return Target(picture["caption"], self._named(phrase, rng), named(phrase))
        caption = rng.choice(self._captions)
        about = rng.choice(self._pictures[caption])
        phrase = rng.choice(about["captions"])
        if rng.random() < 0.5 or not self._labels.known(phrase):
            phrase = caption
        return Target(picture["caption"], self._named(phrase, rng), about)

    def _named(self, phrase: str, rng: random.Random) -> str:
        article = with_article(phrase)
        return article if rng.random() < ARTICLE and self._labels.known(article) else phrase

    def _part(self, caption: str, rng: random.Random) -> Target | None:
        """One word of a caption becomes another: one that makes a known caption, or any."""
        words = caption.split()
        if len(words) < 2:
            return None
        place = rng.randrange(len(words))
        hole = _holes(words)[place]
        others = [other for other in self._holes.get(hole, ()) if other != caption]
        if others and rng.random() < 0.5:
            changed = rng.choice(others)
            about = rng.choice(self._pictures[changed])
        else:
            word = rng.choice(self._words["last" if place == len(words) - 1 else "first"])
            changed = " ".join([*words[:place], word, *words[place + 1 :]])
            about = named(changed)
        old, new = words[place], changed.split()[place]
        if new in words or changed.casefold() in self._held_out:
            return None
        if not (self._labels.known(old) and self._labels.known(new)):
            return None
        return Target(old, new, about, part=True)

    def _phrases(self, meta: Sequence[Meta], rng: random.Random) -> list[list[str]]:
        """Words, neighbours in a caption, and the ends of two captions put together."""
        split = [caption.split() for caption in self._captions]
        counts = Counter(word for words in split for word in words)
        single = {word for word, count in counts.items() if count > 1 and len(word) > 1}
        single.update(k for m in meta for k in m["keywords"] if re.fullmatch(r"[\w\- ]+", k))
        pairs = {" ".join(words[i : i + 2]) for words in split for i in range(len(words) - 1)}
        recombined = set()
        for _ in range(RECOMBINED):
            first, last = rng.choice(split), rng.choice(split)
            made = [*first[: rng.randint(1, 2)], *last[-rng.randint(1, 2) :]]
            recombined.add(" ".join(made))
        self._labels.learn(single | pairs | recombined)
        return [
            sorted(
                phrase
                for phrase in kind
                if phrase.casefold() not in self._held_out and self._labels.known(phrase)
            )
            for kind in (single, pairs, recombined)
        ]


def named(phrase: str) -> Meta:
    """A picture of which nothing is known but what it is called."""
    return {"caption": phrase, "captions": [phrase], "keywords": [], "category": None}


def with_article(phrase: str) -> str:
    """`a dog`, `an apple`."""
    return f"{'an' if phrase[:1].casefold() in set('aeiou') else 'a'} {phrase}"


def _holes(words: Sequence[str]) -> list[tuple[str, ...]]:
    """A caption with each of its words left out in turn."""
    return [(*words[:i], "", *words[i + 1 :]) for i in range(len(words))]
