"""Texts to token ids without torch. B batch, T tokens."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import regex
    import tokenizers

PATTERN = r"""|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"""
"""How CLIP cuts a cleaned text into words, after the alternatives for its special tokens."""

MAX_CHARACTERS = 16_384
"""Longer texts are refused: Unicode's normal form costs quadratic time on runs of accents, a
quarter of a second here."""


class TokenizerError(ValueError):
    """A text or a tokenizer.json that cannot be used."""


@dataclass(frozen=True, kw_only=True)
class Tokenizer:
    """CLIP's byte-level BPE, equal to open_clip's SimpleTokenizer with its default cleaning.

    The BPE itself runs in the `tokenizers` library. Cleaning and cutting into words stay with the
    two Python libraries that open_clip uses, since Rust's Unicode tables are other versions.
    """

    model: tokenizers.models.Model
    pattern: regex.Pattern[str]
    specials: dict[str, int]
    """Token ids by text; the first starts every row, the second ends it."""
    vocabulary: int
    context_length: int

    @classmethod
    def open(cls, path: Path, context_length: int) -> Tokenizer:
        """Reads a tokenizer.json. Raises TokenizerError for anything else."""
        import regex
        import tokenizers

        try:
            whole = tokenizers.Tokenizer.from_file(str(path))
        except Exception:  # the library raises nothing narrower
            raise TokenizerError(f"{path.name}: not a tokenizer") from None
        added = whole.get_added_tokens_decoder()
        specials = {added[i].content: i for i in sorted(added)}
        if len(specials) < 2 or not isinstance(whole.model, tokenizers.models.BPE):
            raise TokenizerError(f"{path.name}: not a BPE with start and end tokens")
        if context_length < 2:
            raise TokenizerError("context_length: must be at least 2")
        pattern = "|".join(map(regex.escape, specials)) + PATTERN
        return cls(
            model=whole.model,
            pattern=regex.compile(pattern, regex.IGNORECASE),
            specials=specials,
            vocabulary=whole.get_vocab_size(),
            context_length=context_length,
        )

    def encode(self, texts: Sequence[str]) -> NDArray[np.int64]:
        """Texts to ids (B, T): start, words, end, then 0. Long texts are cut, the end kept.

        Raises TokenizerError for a text of more than MAX_CHARACTERS.
        """
        start, end = list(self.specials.values())[:2]
        ids = np.zeros((len(texts), self.context_length), dtype=np.int64)
        for row, text in zip(ids, texts, strict=True):
            words = self._words(text)[: self.context_length - 2]
            row[0], row[len(words) + 1] = start, end
            row[1 : len(words) + 1] = words
        return ids

    def _words(self, text: str) -> list[int]:
        """The ids of the first words of a text: at least T - 2 ids, if it has so many."""
        if len(text) > MAX_CHARACTERS:
            raise TokenizerError(f"text: more than {MAX_CHARACTERS} characters")
        ids: list[int] = []
        # A word has at least one token, so no more than T words can matter.
        for match in islice(self.pattern.finditer(clean(text)), self.context_length):
            word = match.group()
            if word in self.specials:
                ids.append(self.specials[word])
            else:
                ids.extend(t.id for t in self.model.tokenize(_printable(word)))
        return ids


def clean(text: str) -> str:
    """open_clip's default cleaning: mended encoding, HTML entities, single spaces, lower case.

    Lone surrogates become U+FFFD in it, so that the result can always be written as UTF-8.
    """
    import ftfy

    text = html.unescape(html.unescape(ftfy.fix_text(text)))
    return " ".join(text.split()).lower()


def byte_characters() -> list[str]:
    """GPT-2's printable character for each of the 256 bytes, in order of the bytes."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = (b for b in range(256) if b not in printable)
    table: dict[int, int] = {b: b for b in printable}
    table |= {b: 256 + n for n, b in enumerate(others)}
    return [chr(table[b]) for b in range(256)]


_TABLE: Any = dict(enumerate(byte_characters()))


def _printable(word: str) -> str:
    # latin-1 maps each byte to the code point of the same number, which the table then renames
    result: str = word.encode("utf-8").decode("latin-1").translate(_TABLE)
    return result
