"""What every tokenizer gives. B batch, T tokens."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import tokenizers


class TokenizerError(ValueError):
    """A tokenizer.json that cannot be used."""


class TokenizedText(NamedTuple):
    """What the model reads of a text, and how long all of it is."""

    ids: NDArray[np.int64]
    """(T,): start, words, end, then padding."""
    tokens: int
    """The tokens of the whole text, its start and end included."""
    read: str
    """The cleaned text, as far as the row holds its words."""

    @property
    def truncated(self) -> bool:
        """Whether the text was cut: it has more tokens than a row has."""
        return self.tokens > len(self.ids)


@dataclass(frozen=True, kw_only=True)
class Tokenizer(ABC):
    """Texts to rows of token ids."""

    vocabulary: int
    """All token ids are below it."""
    context_length: int
    """T."""

    @abstractmethod
    def tokenize(self, text: object) -> TokenizedText:
        """The token ids of one text. One that is too long is cut and keeps its end token.

        Raises TextError for a text that `clean_text` refuses.
        """

    def is_cut(self, text: object) -> bool:
        """Whether a row holds the beginning of a text only. Raises TextError."""
        return self.tokenize(text).truncated

    def encode(self, texts: Iterable[object]) -> NDArray[np.int64]:
        """The token ids (B, T) int64 of texts. Raises TextError when one of them is refused."""
        rows = [self.tokenize(text).ids for text in texts]
        return np.stack(rows) if rows else np.zeros((0, self.context_length), dtype=np.int64)


def read_tokenizer_json(path: Path) -> tokenizers.Tokenizer:
    """Raises TokenizerError for a file that the library `tokenizers` does not read."""
    import tokenizers

    try:
        return tokenizers.Tokenizer.from_file(str(path))
    except Exception:  # the library raises no narrower class
        raise TokenizerError(f"{path.name}: not a tokenizer") from None
