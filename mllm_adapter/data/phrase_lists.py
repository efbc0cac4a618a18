"""Phrases that an adapter learns to say without an image: where they come from, and what is left.

Images and texts share their concepts, so that the text code of a phrase is a picture of it.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bundle.text import TextError, clean_text
from mllm_adapter.data.texts_config import TextsConfig
from training.data.data_recipe import DataError
from training.data.words import WORDS_FILE
from training.loading.sources.base import printable
from training.loading.tally import by_number, too_many_bad
from training.loading.word_list import read_lines

log = logging.getLogger(__name__)

MAX_PHRASE_CHARACTERS = 100
"""A longer phrase is nothing that a caller sets."""
MAX_LIST_BYTES = 64 * 2**20

_WORD = re.compile(r"[^\W_]+")

HELD_OUT = "a caption of held-out images"
WITHHELD = "texts.without"


class WithheldWords:
    """Words and phrases that a run must learn neither from texts nor from images."""

    def __init__(self, path: Path | None = None) -> None:
        """Reads a list of one word or phrase a line. Raises DataError."""
        lines = [] if path is None else read_list(path, "texts.without")
        self._phrases = {tuple(_words(line)) for line in lines} - {()}
        self._longest = max(map(len, self._phrases), default=0)

    def __len__(self) -> int:
        return len(self._phrases)

    def within(self, text: str) -> bool:
        """Whether a text has one of them, as whole words."""
        if not self._phrases:
            return False
        words = _words(text)
        return any(
            tuple(words[i : i + length]) in self._phrases
            for length in range(1, self._longest + 1)
            for i in range(len(words) - length + 1)
        )

    def from_meta(self, meta: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """What is known about an image without them. None where its caption has one."""
        if not self._phrases:
            return meta
        if self.within(meta["caption"]):
            return None
        category = meta.get("category")
        kept = {
            field: [text for text in meta[field] if not self.within(text)]
            for field in ("captions", "keywords")
        }
        return {**meta, **kept, "category": None if self.within(category or "") else category}

    def digest_inputs(self) -> Iterator[str]:
        """What identifies them."""
        return (" ".join(phrase) for phrase in sorted(self._phrases))


class PhraseList:
    """Distinct phrases of all sources, and counts of what was left out, by reason."""

    def __init__(self) -> None:
        self._by_key: dict[str, str] = {}
        self.found = 0
        self.dropped: Counter[str] = Counter()

    @classmethod
    def read(
        cls,
        config: TextsConfig,
        folder: Path,
        meta: Sequence[Mapping[str, Any]],
        held_out: Iterable[str],
        withheld: WithheldWords,
    ) -> PhraseList:
        """The phrases of a recipe. `folder` is that of the data, `meta` is known about its images,
        and `held_out` are the captions of other splits, which no phrase may be unless an image that
        is learned from has it. Raises DataError."""
        phrases = cls()
        trained = {_key(caption) for m in meta for caption in m["captions"]}
        held_out_keys = {_key(caption) for caption in held_out} - trained
        for source, problem in _sources(config, folder, meta):
            phrases.found += len(source)
            bad = sum(phrases._add(text, held_out_keys, withheld) for text in source)
            if problem and (bad == len(source) or too_many_bad(bad, len(source))):
                raise DataError(f"{problem}: {bad} of {len(source)} lines are no phrases")
        if not phrases.phrases:
            raise DataError(f"texts: no phrase is left of {phrases.summary()}")
        return phrases

    @property
    def phrases(self) -> list[str]:
        """The phrases, in the order of the sources."""
        return list(self._by_key.values())

    def _add(self, text: str, held_out: set[str], withheld: WithheldWords) -> bool:
        """Takes a phrase, or counts why not. Returns whether it is no phrase at all."""
        try:
            key = clean_text(text)
            if len(key) > MAX_PHRASE_CHARACTERS:
                raise TextError(f"more than {MAX_PHRASE_CHARACTERS} characters")
            if not key.isprintable():
                raise TextError("holds a character that cannot be shown")
            if not _words(key):
                raise TextError("has no word")
        except TextError as error:
            self.dropped[error.problem] += 1
            return True
        if key in self._by_key:
            self.dropped["there before"] += 1
        elif withheld.within(key):
            self.dropped[WITHHELD] += 1
        elif key in held_out:
            self.dropped[HELD_OUT] += 1
        else:
            self._by_key[key] = " ".join(text.split())
        return False

    def digest(self, text_graph: str, withheld: WithheldWords) -> str:
        """Identifies the phrases, their codes and what is withheld: a run goes on with the same
        ones. `text_graph` is the SHA-256 of the graph of texts."""
        parts = (text_graph, *self.phrases, "", *withheld.digest_inputs())
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()

    def drop(self, problems: Mapping[str, str]) -> None:
        """Takes phrases out that have a problem. Raises DataError when none is left."""
        self.dropped.update(problems.values())
        self._by_key = {k: text for k, text in self._by_key.items() if text not in problems}
        if not self._by_key:
            raise DataError(f"texts: no phrase is left of {self.summary()}")

    def summary(self) -> str:
        """The counts in one line."""
        line = f"{self.found} phrases found, {len(self._by_key)} learned from"
        lost = self.dropped.total()
        return line + (f", {lost} left out ({by_number(self.dropped)})" if lost else "")


def _sources(
    config: TextsConfig, folder: Path, meta: Sequence[Mapping[str, Any]]
) -> Iterator[tuple[list[str], str]]:
    """Each source's phrases, and for a file the beginning of an error about it. Captions come first
    because the spelling of the first of equal phrases is kept."""
    if config.captions:
        yield list(dict.fromkeys(c for m in meta for c in (m["caption"], *m["captions"]))), ""
    if config.keywords:
        yield list(dict.fromkeys(k for m in meta for k in m["keywords"])), ""
    for name in config.lists:
        path = Path(name)
        yield read_list(path, "texts.lists"), f"texts.lists: {printable(path.name)}"
    if config.words:
        path = folder / WORDS_FILE
        yield read_list(path, "texts.words")[: config.words], f"texts.words: {WORDS_FILE}"


def read_list(path: Path, field: str) -> list[str]:
    """The lines of a UTF-8 file that are not blank. Raises DataError, which names `field`."""
    lines = [line.strip() for line in read_lines(path, field, MAX_LIST_BYTES)]
    phrases = [line for line in lines if line]
    if not phrases:
        raise DataError(f"{field}: {printable(path.name)}: holds no phrase")
    return phrases


def _key(text: str) -> str:
    try:
        return clean_text(text)
    except TextError:
        return ""


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower())
