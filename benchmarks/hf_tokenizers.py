"""Vocabularies like SigLIP's and Gemma's: trained on words, and filled up to any size with pieces
that no text has."""

from __future__ import annotations

import io
import json
import random
from typing import Any

from training.model.tokenizer import STOCK_VOCABULARY, open_clip_tokenizer

SCRIPTS = (
    "Một con mèo đang ngồi trên ghế, nhìn ra cửa sổ.",
    "고양이가 창문 옆에 앉아 있다. 강아지는 자고 있다.",
    "日本語のテキストとパソコン、ガラスの窓。カタカナ。",
    "一只猫坐在窗边，看着外面的鸟。",
    "Привет, мир! Кошка сидит у окна.",
    "Η γάτα κάθεται δίπλα στο παράθυρο, ο δρόμος είναι κενός.",
    "مُحَمَّد يجلس القط بجانب النافذة",
    "חתול יושב ליד החלון",
    "बिल्ली खिड़की के पास बैठी है",
    "แมวนั่งอยู่ข้างหน้าต่าง",
    "Ein Häuschen über dem Fluß, naïve café, İstanbul 😀 👍 ❤ ½ ™",
)
"""Lines of several scripts."""


def _lines() -> list[str]:
    """Frequent words of CLIP's vocabulary at random, and lines of several scripts."""
    rng, encoder = random.Random(0), open_clip_tokenizer(STOCK_VOCABULARY, 77).encoder
    words = [piece.removesuffix("</w>") for piece in encoder if piece.endswith("</w>")]
    words = [word for word in words if word.isalpha() and word.isascii()][:6_000]
    weights = [1 / (10 + rank) for rank in range(len(words))]
    lines = [" ".join(rng.choices(words, weights, k=12)) for _ in range(3_000)]
    return lines + [line.lower() for line in SCRIPTS] * 20


def sentencepiece_model(pieces: int, vocabulary: int) -> Any:
    """A SentencePiece model as SigLIP's is: `</s>` is 1, `<unk>` is 2."""
    import sentencepiece
    from transformers.convert_slow_tokenizer import import_protobuf

    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(_lines()),
        model_writer=model,
        vocab_size=pieces,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        num_threads=1,
        minloglevel=2,
    )
    messages: Any = import_protobuf
    proto = messages().ModelProto.FromString(model.getvalue())
    lowest = min(piece.score for piece in proto.pieces)
    for number in range(len(proto.pieces), vocabulary):
        proto.pieces.add(piece=_unused(number), score=lowest, type=1)
    return proto


def gemma_bpe(pieces: int, vocabulary: int) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """A vocabulary and merges as Gemma's are."""
    from tokenizers import Tokenizer, models, normalizers, trainers

    specials = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", *(f"<0x{n:02X}>" for n in range(256))]
    bpe = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True))
    bpe.normalizer = normalizers.Replace(" ", "▁")
    trainer = trainers.BpeTrainer(vocab_size=pieces, special_tokens=specials, show_progress=False)
    bpe.train_from_iterator(_lines(), trainer)
    model = json.loads(bpe.to_str())["model"]
    table = dict(model["vocab"])
    for number in range(len(table), vocabulary):
        table[_unused(number)] = number
    return table, [tuple(merge) for merge in model["merges"]]


def _unused(number: int) -> str:
    """A piece that no text has: of private characters."""
    return "\ue000" + "".join(chr(0xE100 + int(digit)) for digit in str(number))
