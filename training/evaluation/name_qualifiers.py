"""Tells concepts of one name apart by their evidence: `cat`, `cat (sitting)`, `cat (weary)`.

Several concepts often have the same best word. The one that the word itself sets most keeps it
alone. Each other one gets a qualifier: a further word of its own evidence that the others of that
name lack. It stands in brackets, as lists of names have commas.

The evidence E(k, q) for a word q on concept k is the share of k's EVIDENCE_IMAGES strongest
training images, weighted by how strongly k fires on them, that have q in their caption or keywords.
The qualifier is the word of the largest margin, E(k, q) less the largest E(j, q) of the other
concepts j of that name. A margin below MIN_MARGIN tells nothing apart, and then the qualifier is a
number. C concepts, N images.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from scipy import sparse

from bundle.known_words import is_function_word
from training.evaluation.firing import strongest
from training.evaluation.name_trials import parts_of

EVIDENCE_IMAGES = 32
MIN_MARGIN = 0.3
"""With 0.1, more concepts had a word in brackets that most of their images do not show."""
MAX_CHARACTERS = 24
"""Of a qualifier. Longer ones make a name that no longer fits on a line."""

_QUALIFIER = re.compile(r"[^\W\d_]{2,}(?: [^\W\d_]{2,})?")
"""One or two words of letters."""


class ConceptName(NamedTuple):
    """The name of a concept, before it is told apart from others."""

    concept: int
    word: str
    score: float
    """The word's score (ConceptNaming.words_kept). Of concepts of one name, the one of the highest
    score keeps it alone: the word itself sets this one most."""


def told_apart(
    names: Sequence[ConceptName],
    codes: sparse.csr_array,
    image_words: Sequence[Collection[str]],
) -> dict[int, str]:
    """The qualifiers, by concept, of all concepts of a name but the one that the name fits best.
    They are short and differ within a name.

    `codes` (N, C) are those of training images, without zeros, and `image_words` (N,) the single
    words and phrases of their captions and keywords.
    """
    groups: dict[str, list[ConceptName]] = defaultdict(list)
    for name in names:
        groups[name.word].append(name)
    groups = {word: group for word, group in groups.items() if len(group) > 1}
    members = sorted(name.concept for group in groups.values() for name in group)
    images = codes[:, members].tocsc()
    rows = strongest(images, EVIDENCE_IMAGES)
    shown = {}
    for k, of, (start, end) in zip(members, rows, pairwise(images.indptr.tolist()), strict=True):
        values = -np.sort(-images.data[start:end])[:EVIDENCE_IMAGES]  # in the order of the rows
        shown[k] = [(image_words[i], v) for i, v in zip(of.tolist(), values.tolist(), strict=True)]
    qualifiers: dict[int, str] = {}
    for word, group in groups.items():
        evidence = [_evidence(shown[name.concept]) for name in group]
        qualifiers |= _of_group(word, group, evidence)
    return qualifiers


def _evidence(shown: Sequence[tuple[Collection[str], float]]) -> dict[str, float]:
    """E(k, q) of one concept by word, on images with these words and values."""
    evidence: dict[str, float] = defaultdict(float)
    total = sum(value for _, value in shown)
    for words, value in shown:
        for word in words:
            evidence[word] += value / total
    return evidence


def _of_group(
    word: str, group: Sequence[ConceptName], evidence: Sequence[Mapping[str, float]]
) -> dict[int, str]:
    """The qualifiers of the concepts of one name. No two concepts can have more evidence of a word
    than all others, so words differ."""
    order = sorted(range(len(group)), key=lambda i: (-group[i].score, group[i].concept))
    qualifiers: dict[int, str] = {}
    numbered = 1  # the one without a qualifier
    for i in order[1:]:
        others = [entry for j, entry in enumerate(evidence) if j != i]
        margins = {
            q: own - max(other.get(q, 0.0) for other in others)
            for q, own in evidence[i].items()
            if own >= MIN_MARGIN and _may_qualify(q, word)
        }
        telling = [q for q, margin in margins.items() if margin >= MIN_MARGIN]
        if telling:
            best = min(telling, key=lambda q: (-round(margins[q], 6), q))
        else:
            numbered += 1
            best = str(numbered)
        qualifiers[group[i].concept] = best
    return qualifiers


def _may_qualify(qualifier: str, word: str) -> bool:
    """Whether a word says something beside another one: `cats` does not beside `cat`."""
    if not _QUALIFIER.fullmatch(qualifier) or len(qualifier) > MAX_CHARACTERS:
        return False
    parts, own = parts_of(qualifier), parts_of(word)
    return not any(is_function_word(p) or any(_is_form(p, o) for o in own) for p in parts)


def _is_form(word: str, other: str) -> bool:
    """Whether two words may be forms of one, as `berry` and `berries`."""
    shorter, longer = sorted((word, other), key=len)
    start = shorter[: max(3, len(shorter) - 1)]
    return word == other or (len(longer) - len(shorter) <= 3 and longer.startswith(start))
