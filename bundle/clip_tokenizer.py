"""CLIP's byte-level BPE, as open_clip runs it. T tokens."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bundle.text import clean_text
from bundle.tokenizer import TokenizedText, Tokenizer, TokenizerError, read_tokenizer_json

if TYPE_CHECKING:
    import regex
    import tokenizers

WORD_PATTERN = r"""'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"""
"""How CLIP cuts a cleaned text into words."""


@dataclass(frozen=True, kw_only=True)
class ClipTokenizer(Tokenizer):
    """CLIP's byte-level BPE: equal to open_clip's SimpleTokenizer with its default cleaning, on
    texts without ignorable characters and without the names of special tokens.

    Training and serving both read texts with it. A special token's name in a text is plain text, so
    that no text can end a row early. The BPE itself runs in the `tokenizers` library. Texts are
    cleaned and cut into words by the two Python libraries that open_clip uses, because Rust's
    Unicode tables are of other versions.
    """

    model: tokenizers.models.Model
    pattern: regex.Pattern[str]
    special_tokens: dict[str, int]
    """Token ids by text. The first one starts every row and the second one ends it."""

    @classmethod
    def open(cls, path: Path, context_length: int) -> ClipTokenizer:
        """Reads a tokenizer.json for rows of `context_length` tokens.

        Raises TokenizerError for another file, for a model that is no BPE with start and end
        tokens, and for a context of less than 2 tokens.
        """
        import regex
        import tokenizers

        tokenizer = read_tokenizer_json(path)
        added = tokenizer.get_added_tokens_decoder()
        special_tokens = {added[i].content: i for i in sorted(added)}
        if len(special_tokens) < 2 or not isinstance(tokenizer.model, tokenizers.models.BPE):
            raise TokenizerError(f"{path.name}: not a BPE with start and end tokens")
        if context_length < 2:
            raise TokenizerError("context_length: must be at least 2")
        return cls(
            model=tokenizer.model,
            pattern=regex.compile(WORD_PATTERN, regex.IGNORECASE),
            special_tokens=special_tokens,
            vocabulary=tokenizer.get_vocab_size(),
            context_length=context_length,
        )

    def tokenize(self, text: object) -> TokenizedText:
        """The token ids of one text. One that is too long is cut and keeps its end token.

        Raises TextError for a text that `clean_text` refuses.
        """
        cleaned, room = clean_text(text), self.context_length - 2
        words: list[int] = []
        read_to = 0
        for match in self.pattern.finditer(cleaned):
            words.extend(token.id for token in self.model.tokenize(_byte_text(match.group())))
            if len(words) <= room:
                read_to = match.end()
        start, end = list(self.special_tokens.values())[:2]
        ids = np.zeros(self.context_length, dtype=np.int64)
        row = words[:room]
        ids[0], ids[len(row) + 1] = start, end
        ids[1 : len(row) + 1] = row
        return TokenizedText(ids, len(words) + 2, cleaned[:read_to])


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
