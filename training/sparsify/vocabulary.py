"""The texts that stand for the world of a data set, beside captions or in their place."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from training.bundling.naming import words_of_data
from training.loading.pair_data import PairData
from training.sparsify.embeddings.embedding_cache import readable_texts

TEMPLATES = ("{}", "a photo of a {}")
"""What a word becomes: CLIP knows captions better than words (arXiv 2103.00020, section 3.1.4)."""

MAX_TEXTS = 30_000
"""Texts of a vocabulary. Each passes through the text tower once."""


def vocabulary_texts(
    words: Sequence[str], captions: Iterable[str], templates: Sequence[str] = TEMPLATES
) -> list[str]:
    """The words, captions, and the words in further templates, at most MAX_TEXTS. Of more captions
    than half of that an even part is taken; of words the first ones."""
    first, *further = ([t.replace("{}", word) for word in words] for t in templates)
    distinct = readable_texts(captions)
    every = -(-len(distinct) // (MAX_TEXTS // 2)) or 1
    own = distinct[::every]
    filled = [text for texts in zip(*further, strict=True) for text in texts]
    return readable_texts([*first[: MAX_TEXTS - len(own)], *own, *filled])[:MAX_TEXTS]


def words_for(data: PairData, own: Sequence[str]) -> list[str]:
    """A user's own words, and then those of the data set, each once."""
    return list(dict.fromkeys([*own, *words_of_data(data)]))
