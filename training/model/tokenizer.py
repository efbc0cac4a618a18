"""The tokenizers of text towers: CLIP's, with the stock vocabulary or with its first merges only,
and that of a sentence encoder."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from bundle.atomic import work_directory
from bundle.clip_tokenizer import WORD_PATTERN
from bundle.manifest import Tokenization
from bundle.open_tokenizer import open_tokenizer
from bundle.tokenizer import TokenizedText, Tokenizer
from training.core.torchvision_compat import open_clip
from training.model.sentence_source import SentenceSource, described_source, resolved_text
from training.model.sentence_tower import SentenceTextConfig, SentenceTower
from training.model.sparse_clip import SparseCLIP

STOCK_VOCABULARY = 49_408
"""Size of CLIP's vocabulary: 2 x 256 bytes, 48,894 merges, 2 special tokens."""


class CaptionTokens(NamedTuple):
    """What a text tower reads of captions."""

    ids: Int[Tensor, "B T"]
    cut: int
    """How many of the captions have more tokens than a row, and were cut."""


@dataclass(frozen=True, kw_only=True)
class CaptionTokenizer:
    """Reads captions in training, by the code that reads the texts of the served model."""

    source: Any
    """The tokenizer of open_clip or transformers that it was made of."""
    reader: Tokenizer
    tokenization: Tokenization
    """How the bundle's manifest describes it."""
    json: bytes
    """The bundle's tokenizer.json."""

    @classmethod
    def of_size(cls, size: int, context_length: int) -> CaptionTokenizer:
        """CLIP's tokenizer with a vocabulary of `size` ids. Raises ValueError for another size."""
        return cls.of_clip(open_clip_tokenizer(size, context_length))

    @classmethod
    def of_clip(cls, source: Any) -> CaptionTokenizer:
        """A SimpleTokenizer of open_clip. Raises ValueError; see write_tokenizer_json."""
        return cls._read(
            source,
            lambda path: write_tokenizer_json(source, path),
            Tokenization(kind="clip_bpe"),
            source.context_length,
        )

    @classmethod
    def of_encoder(cls, source: SentenceSource, context_length: int) -> CaptionTokenizer:
        """The tokenizer of a sentence encoder."""
        tokenizer = source.tokenizer
        return cls._read(
            source.library_tokenizer, tokenizer.write, tokenizer.tokenization, context_length
        )

    @classmethod
    def of_model(cls, model: SparseCLIP) -> CaptionTokenizer:
        """The tokenizer of a model's text tower. That of a sentence encoder is read where the
        encoder is. Raises DataError, or ModelImportError for another encoder than the model's."""
        text = model.text
        if isinstance(text, SentenceTower):
            return cls.of_text(model.config.text)
        return cls.of_size(text.vocabulary, text.context_length)

    @classmethod
    def of_text(cls, text: Mapping[str, Any]) -> CaptionTokenizer:
        """That of a `model.text` over a sentence encoder. Raises as `of_model`, and SchemaError."""
        config = SentenceTextConfig.of(text)
        if config.context_length is None:
            config = SentenceTextConfig.of(resolved_text(text))
        with described_source(config) as source:
            return cls.of_encoder(source, config.context_length or source.limit)

    @classmethod
    def _read(
        cls,
        source: Any,
        write: Callable[[Path], None],
        tokenization: Tokenization,
        context_length: int,
    ) -> CaptionTokenizer:
        with work_directory() as folder:
            path = folder / "tokenizer.json"
            write(path)
            return cls(
                source=source,
                reader=open_tokenizer(path, context_length, tokenization),
                tokenization=tokenization,
                json=path.read_bytes(),
            )

    def write(self, path: Path) -> None:
        """Writes the bundle's tokenizer.json."""
        path.write_bytes(self.json)

    def library_rows(self, texts: list[str]) -> Int[Tensor, "B T"]:
        """The token ids of texts by the library's own tokenizer."""
        if self.tokenization.kind == "clip_bpe":
            rows: Tensor = self.source(texts)
        else:
            length = self.reader.context_length
            rows = self.source(
                texts,
                padding="max_length",
                truncation=True,
                max_length=length,
                return_tensors="pt",
            )["input_ids"]
        return rows

    def tokenize(self, caption: object) -> TokenizedText:
        """The token ids of one caption, and whether it was cut. Raises bundle.text.TextError."""
        return self.reader.tokenize(caption)

    def __call__(self, captions: Sequence[str]) -> CaptionTokens:
        """The token ids of captions. Raises bundle.text.TextError when one of them is refused."""
        read = [self.tokenize(caption) for caption in captions]
        ids = torch.from_numpy(np.stack([caption.ids for caption in read]))
        return CaptionTokens(ids, sum(caption.truncated for caption in read))


def truncated_bpe(size: int, path: Path) -> None:
    """Writes open_clip's merges file, cut to a vocabulary of `size` ids and gzipped; the same size
    always gives the same bytes.

    A small model so spends its parameters on frequent words and spells rare ones. Raises ValueError
    for a size outside of 514 (bytes alone) to 49,408.
    """
    if not 514 <= size <= STOCK_VOCABULARY:
        raise ValueError(f"vocabulary: must be 514 to {STOCK_VOCABULARY}")
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
    if size == STOCK_VOCABULARY:
        return module.SimpleTokenizer(context_length=context_length)
    with work_directory() as folder:
        path = folder / "bpe.txt.gz"
        truncated_bpe(size, path)
        return module.SimpleTokenizer(bpe_path=str(path), context_length=context_length)


def write_tokenizer_json(tokenizer: Any, path: Path) -> None:
    """Writes an open_clip SimpleTokenizer as a tokenizer.json that the library `tokenizers` runs.

    The format cannot express all of the cleaning; `ClipTokenizer` does it before the file's
    model runs. Raises ValueError for a tokenizer with other cleaning, or one that drops tokens.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
    from tokenizers.processors import TemplateProcessing

    if tokenizer.clean_fn.__name__ != "_clean_lower" or tokenizer.reduction_fn is not None:
        raise ValueError("tokenizer: only the default cleaning without a reduction mask")
    merges = sorted(tokenizer.bpe_ranks, key=tokenizer.bpe_ranks.__getitem__)
    specials = [tokenizer.decoder[i] for i in tokenizer.all_special_ids]
    exported = Tokenizer(
        models.BPE(vocab=tokenizer.encoder, merges=merges, end_of_word_suffix="</w>")
    )
    exported.normalizer = normalizers.Sequence(
        [normalizers.Replace(Regex(r"\s+"), " "), normalizers.Strip(), normalizers.Lowercase()]
    )
    exported.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORD_PATTERN), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    exported.decoder = decoders.ByteLevel()
    exported.add_special_tokens(specials)
    exported.post_processor = TemplateProcessing(
        single=f"{specials[0]} $A {specials[1]}",
        special_tokens=list(zip(specials, tokenizer.all_special_ids, strict=True))[:2],
    )
    exported.save(str(path), pretty=False)
