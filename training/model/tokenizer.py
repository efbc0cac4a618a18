"""CLIP's vocabulary for the text tower: the stock one, or its first merges only."""

from __future__ import annotations

import gzip
import tempfile
from pathlib import Path
from typing import Any

from bundle.tokenizer import PATTERN
from training.core.compat import open_clip

STOCK = 49_408
"""Ids of CLIP's own vocabulary: 2 x 256 bytes, 48,894 merges, 2 special tokens."""


def truncated_bpe(size: int, path: Path) -> None:
    """Writes open_clip's merges file cut to a vocabulary of `size` ids, gzipped, the same bytes
    each time.

    A small model spends its parameters on the frequent words and spells the rare ones. Raises
    ValueError for a size outside of 514 (bytes alone) to 49,408.
    """
    if not 514 <= size <= STOCK:
        raise ValueError(f"vocabulary: must be 514 to {STOCK}")
    open_clip()
    from open_clip.tokenizer import default_bpe

    with gzip.open(default_bpe(), "rt", encoding="utf-8") as source:
        lines = source.read().split("\n")[: 1 + size - 514]
    # No newline at the end: open_clip would read an empty merge after it. No name and no time in
    # the gzip header: they would change the bytes.
    with (
        path.open("wb") as raw,
        gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0) as target,
    ):
        target.write("\n".join(lines).encode())


def open_clip_tokenizer(size: int, context_length: int) -> Any:
    """open_clip's SimpleTokenizer with a vocabulary of `size` ids."""
    module = open_clip()
    if size == STOCK:
        return module.SimpleTokenizer(context_length=context_length)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bpe.txt.gz"
        truncated_bpe(size, path)
        return module.SimpleTokenizer(bpe_path=str(path), context_length=context_length)


def write_tokenizer_json(tokenizer: Any, path: Path) -> None:
    """Writes an open_clip SimpleTokenizer as tokenizer.json, whole: any `tokenizers` runs it.

    Only ftfy's and HTML's part of the cleaning has no place in that format; `bundle.tokenizer`
    adds it. Raises ValueError for a tokenizer with another cleaning, or one that drops tokens.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
    from tokenizers.processors import TemplateProcessing

    if tokenizer.clean_fn.__name__ != "_clean_lower" or tokenizer.reduction_fn is not None:
        raise ValueError("tokenizer: only the default cleaning without a reduction mask")
    merges = sorted(tokenizer.bpe_ranks, key=tokenizer.bpe_ranks.__getitem__)
    specials = [tokenizer.decoder[i] for i in tokenizer.all_special_ids]
    whole = Tokenizer(models.BPE(vocab=tokenizer.encoder, merges=merges, end_of_word_suffix="</w>"))
    whole.normalizer = normalizers.Sequence(
        [normalizers.Replace(Regex(r"\s+"), " "), normalizers.Strip(), normalizers.Lowercase()]
    )
    whole.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PATTERN[1:]), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    whole.decoder = decoders.ByteLevel()
    whole.add_special_tokens(specials)
    whole.post_processor = TemplateProcessing(
        single=f"{specials[0]} $A {specials[1]}",
        special_tokens=list(zip(specials, tokenizer.all_special_ids, strict=True))[:2],
    )
    whole.save(str(path), pretty=False)
