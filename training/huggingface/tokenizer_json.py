"""Tokenizers of the library `tokenizers`, as tokenizer.json has them."""

from __future__ import annotations

from typing import Any, Literal

PipelineKind = Literal["bpe", "unigram", "wordpiece"]

KINDS: dict[str, PipelineKind] = {"BPE": "bpe", "Unigram": "unigram", "WordPiece": "wordpiece"}
"""The kind of Tokenization by the type of the model."""


def prepare(data: dict[str, Any]) -> dict[str, Any]:
    """A tokenizer.json that neither cuts nor pads, and whose special tokens no text can hold.

    A Unigram model finds every piece of its vocabulary in a text, and the special tokens are among
    them with the best score: the text `</s>` would become the end token. A NUL, which no text may
    hold, comes before their names. The ids stay: the template knows the special tokens by them.
    """
    data = data | {"truncation": None, "padding": None}
    if data["model"]["type"] != "Unigram":
        return data
    special = {token["id"] for token in data["added_tokens"] if token["special"]}
    pieces = [
        ["\0" + piece, score] if number in special else [piece, score]
        for number, (piece, score) in enumerate(data["model"]["vocab"])
    ]
    added = [token for token in data["added_tokens"] if not token["special"]]
    return data | {"added_tokens": added, "model": data["model"] | {"vocab": pieces}}
