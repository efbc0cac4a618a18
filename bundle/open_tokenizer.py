"""The tokenizer that a manifest describes."""

from __future__ import annotations

from pathlib import Path

from bundle.clip_tokenizer import ClipTokenizer
from bundle.manifest import Tokenization
from bundle.pipeline_tokenizer import PipelineTokenizer
from bundle.tokenizer import Tokenizer, TokenizerError


def open_tokenizer(path: Path, context_length: int, tokenization: Tokenization) -> Tokenizer:
    """Reads a tokenizer.json for rows of `context_length` tokens. Raises TokenizerError."""
    if tokenization.kind == "clip_bpe":
        if tokenization.cleaning != "lower" or tokenization.pad_id or tokenization.padding:
            raise TokenizerError("tokenization: clip_bpe has the cleaning lower and pads with 0")
        return ClipTokenizer.open(path, context_length)
    return PipelineTokenizer.open(
        path,
        context_length,
        kind=tokenization.kind,
        cleaning=tokenization.cleaning,
        pad_id=tokenization.pad_id,
        pad_left=tokenization.padding == "left",
    )
