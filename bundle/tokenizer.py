"""Texts to token ids, without torch. B batch, T tokens."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import regex
    import tokenizers

WORD_PATTERN = r"""|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"""
"""How CLIP cuts a cleaned text into words. The alternatives for its special tokens come first."""

MAX_CHARACTERS = 16_384
"""Longer texts are refused. Normalising Unicode takes time quadratic in a run of accents: a quarter
of a second at this length."""


class TokenizerError(ValueError):
    """A text or a tokenizer.json that cannot be used."""


@dataclass(frozen=True, kw_only=True)
class Tokenizer:
    """CLIP's byte-level BPE, equal to open_clip's SimpleTokenizer with its default cleaning.

    The BPE itself runs in the `tokenizers` library. Texts are cleaned and cut into words by the two
    Python libraries that open_clip uses, because Rust's Unicode tables are of other versions.
    """

    model: tokenizers.models.Model
    pattern: regex.Pattern[str]
    special_tokens: dict[str, int]
    """Token ids by text. The first one starts every row and the second one ends it."""
    vocabulary: int
    """How many token ids there are."""
    context_length: int
    """T."""

    @classmethod
    def open(cls, path: Path, context_length: int) -> Tokenizer:
        """Reads a tokenizer.json for rows of `context_length` tokens.

        Raises TokenizerError for another file, for a model that is no BPE with start and end
        tokens, and for a context of less than 2 tokens.
        """
        import regex
        import tokenizers

        try:
            tokenizer = tokenizers.Tokenizer.from_file(str(path))
        except Exception:  # the library raises no narrower class
            raise TokenizerError(f"{path.name}: not a tokenizer") from None
        added = tokenizer.get_added_tokens_decoder()
        special_tokens = {added[i].content: i for i in sorted(added)}
        if len(special_tokens) < 2 or not isinstance(tokenizer.model, tokenizers.models.BPE):
            raise TokenizerError(f"{path.name}: not a BPE with start and end tokens")
        if context_length < 2:
            raise TokenizerError("context_length: must be at least 2")
        pattern = "|".join(map(regex.escape, special_tokens)) + WORD_PATTERN
        return cls(
            model=tokenizer.model,
            pattern=regex.compile(pattern, regex.IGNORECASE),
            special_tokens=special_tokens,
            vocabulary=tokenizer.get_vocab_size(),
            context_length=context_length,
        )

    def encode(self, texts: Sequence[str]) -> NDArray[np.int64]:
        """Token ids (B, T) int64 of texts: start, words, end, then zeros.

        A text that is too long is cut and keeps its end token.

        Raises TokenizerError for a text of more than MAX_CHARACTERS.
        """
        return self.encode_counted(texts)[0]

    def encode_counted(self, texts: Sequence[str]) -> tuple[NDArray[np.int64], list[int]]:
        """Token ids as `encode` gives them, and how many tokens each whole text has.

        The count includes the start and the end. It is over T for a text that was cut.
        """
        start, end = list(self.special_tokens.values())[:2]
        ids = np.zeros((len(texts), self.context_length), dtype=np.int64)
        counts = []
        for row, text in zip(ids, texts, strict=True):
            all_words = self._words(text)
            words = all_words[: self.context_length - 2]
            row[0], row[len(words) + 1] = start, end
            row[1 : len(words) + 1] = words
            counts.append(len(all_words) + 2)
        return ids, counts

    def _words(self, text: str) -> list[int]:
        """The ids of a text's words, without its start and end."""
        if len(text) > MAX_CHARACTERS:
            raise TokenizerError(f"text: more than {MAX_CHARACTERS} characters")
        ids: list[int] = []
        for match in self.pattern.finditer(clean(text)):
            word = match.group()
            if word in self.special_tokens:
                ids.append(self.special_tokens[word])
            else:
                ids.extend(token.id for token in self.model.tokenize(_byte_text(word)))
        return ids


def clean(text: str) -> str:
    """open_clip's default cleaning: repairs the encoding, unescapes HTML, makes single spaces and
    lower case.

    Lone surrogates become U+FFFD, so that the result can always be written as UTF-8.
    """
    import ftfy

    text = html.unescape(html.unescape(ftfy.fix_text(text)))
    return " ".join(text.split()).lower()


def byte_characters() -> list[str]:
    """GPT-2's printable character for each of the 256 bytes, in the order of the bytes."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    unprintable = (b for b in range(256) if b not in printable)
    table: dict[int, int] = {b: b for b in printable}
    table |= {b: 256 + n for n, b in enumerate(unprintable)}
    return [chr(table[b]) for b in range(256)]


_BYTE_CHARACTERS: Any = dict(enumerate(byte_characters()))


def _byte_text(word: str) -> str:
    """The UTF-8 bytes of a word, each as its printable character: what the BPE's model reads."""
    # latin-1 maps each byte to the code point of the same number, which the table then replaces.
    result: str = word.encode("utf-8").decode("latin-1").translate(_BYTE_CHARACTERS)
    return result
