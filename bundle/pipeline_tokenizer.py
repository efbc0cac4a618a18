"""The tokenizer of another library, as its tokenizer.json describes it. T tokens."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bundle.character_map import CharacterMap, CharacterMapError
from bundle.text import Cleaning, clean_text
from bundle.tokenizer import TokenizedText, Tokenizer, TokenizerError, read_tokenizer_json

if TYPE_CHECKING:
    import tokenizers

MODELS = {"bpe": "BPE", "unigram": "Unigram", "wordpiece": "WordPiece"}
"""The class in the library `tokenizers` of each kind of Tokenization."""


@dataclass(frozen=True, kw_only=True)
class PipelineTokenizer(Tokenizer):
    """Runs the normalizer, the pre-tokenizer, the model and the template of a tokenizer.json.

    A special token's name in a text is plain text, so that no text can end a row early.
    """

    pipeline: tokenizers.Tokenizer
    """It neither cuts nor pads."""
    cleaning: Cleaning
    pad_id: int
    pad_left: bool = False
    """Whether the padding stands before the text."""
    character_map: CharacterMap | None = None
    """What changes a text after its cleaning, in place of the file's normalizer."""

    @classmethod
    def open(
        cls,
        path: Path,
        context_length: int,
        *,
        kind: str,
        cleaning: Cleaning,
        pad_id: int,
        pad_left: bool = False,
    ) -> PipelineTokenizer:
        """Reads a tokenizer.json for rows of `context_length` tokens.

        With the cleaning `siglip` the file's normalizer is a character map, which is applied as
        SentencePiece does it. Raises TokenizerError for another file, for a model of another kind,
        and for a context that has no room for the special tokens and one more.
        """
        import tokenizers

        pipeline = read_tokenizer_json(path)
        model = type(pipeline.model).__name__
        if model != MODELS[kind]:
            raise TokenizerError(f"{path.name}: must be of the kind {kind}, has the model {model}")
        pipeline.no_truncation()
        pipeline.no_padding()
        pipeline.encode_special_tokens = True
        if context_length <= pipeline.num_special_tokens_to_add(is_pair=False):
            raise TokenizerError("context_length: no room beside the special tokens")
        character_map = None
        if cleaning == "siglip":
            try:
                character_map = CharacterMap.of_normalizer(
                    json.loads(path.read_text())["normalizer"]
                )
            except CharacterMapError as error:
                raise TokenizerError(f"{path.name}: {error}") from None
            pipeline.normalizer = tokenizers.normalizers.Sequence([])
        return cls(
            vocabulary=max(pipeline.get_vocab(with_added_tokens=True).values()) + 1,
            context_length=context_length,
            pipeline=pipeline,
            cleaning=cleaning,
            pad_id=pad_id,
            pad_left=pad_left,
            character_map=character_map,
        )

    def tokenize(self, text: object) -> TokenizedText:
        """See Tokenizer.tokenize."""
        cleaned = clean_text(text, self.cleaning)
        if self.character_map is not None:
            cleaned = self.character_map(cleaned)
        encoding = self.pipeline.encode(cleaned)
        tokens, read = len(encoding.ids), cleaned
        if tokens > self.context_length:
            # Cuts the words and keeps the special tokens around them.
            words = self.pipeline.encode(cleaned, add_special_tokens=False)
            specials = tokens - len(words.ids)
            words.truncate(self.context_length - specials)
            encoding = self.pipeline.post_process(words)
            read = cleaned[: words.offsets[-1][1]] if words.offsets else ""
        ids = np.full(self.context_length, self.pad_id, dtype=np.int64)
        first = len(ids) - len(encoding.ids) if self.pad_left else 0
        ids[first : first + len(encoding.ids)] = encoding.ids
        return TokenizedText(ids, tokens, read)
