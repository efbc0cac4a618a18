"""A tokenizer's ids for pieces of a prompt: the same as for the whole text."""

from __future__ import annotations

import secrets
from typing import Any

from tokenizers import AddedToken, Tokenizer


class PieceEncoder:
    """Encodes pieces that follow each other.

    Many tokenizers put a space before a text, but not before what follows a special token. So a
    piece that does not begin the prompt is encoded behind a token of our own, whose id is dropped.
    """

    def __init__(self, tokenizer: Any) -> None:
        serialized = tokenizer.backend_tokenizer.to_str()
        self._full = Tokenizer.from_str(serialized)
        # No caller can write this token. It is not special, or `_plain` would not know it.
        self._border = f"<{secrets.token_hex(16)}>"
        border = AddedToken(self._border, special=False, normalized=False)
        self._full.add_tokens([border])
        self._plain = Tokenizer.from_str(serialized)
        self._plain.add_tokens([border])
        self._plain.encode_special_tokens = True
        added = tokenizer.added_tokens_decoder
        self._special = {i for i, token in added.items() if token.special}
        bos = tokenizer.bos_token_id
        adds_bos = bos is not None and tokenizer.encode("")[:1] == [bos]
        self._bos: list[int] = [bos] if adds_bos else []

    def __call__(self, text: str, first: bool) -> list[int]:
        """The ids of template text and of contents without special tokens. `first` says whether
        the prompt begins with it."""
        if not text:
            return []
        if first:
            return _encode(self._full, text)
        return _encode(self._full, self._border + text)[1:]

    def plain(self, text: str) -> list[int]:
        """The ids of a text in which no special token is recognized."""
        return _encode(self._plain, self._border + text)[1:]

    def holds_special(self, text: str) -> bool:
        """Whether a text holds the characters of a special token."""
        return not self._special.isdisjoint(_encode(self._full, text))

    def missing_bos(self, ids: list[int]) -> list[int]:
        """The token that begins a text, where the tokenizer wants one and a template has written
        none."""
        return [] if self._bos and self._bos[0] in ids else self._bos


def _encode(tokenizer: Tokenizer, text: str) -> list[int]:
    ids: list[int] = tokenizer.encode(text, add_special_tokens=False).ids
    return ids
