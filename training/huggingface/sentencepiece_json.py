"""SigLIP's SentencePiece model as a tokenizer.json."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

from bundle.character_map import CharacterMap, CharacterMapError
from training.huggingface.model_error import ModelImportError

_NORMAL, _UNKNOWN, _CONTROL = 1, 2, 3
"""Types of pieces in sentencepiece_model.proto. Others are matched before the model runs."""

_UNIGRAM = 1
"""The type of the model there."""

_WORD_START = "\u2581"


def siglip_tokenizer_json(tokenizer: Any) -> dict[str, Any]:
    """The tokenizer.json of a SiglipTokenizer: its Unigram model, its character map, its end token.

    The canonical form of texts (lower case, no punctuation) is not in it; see the cleaning `siglip`
    of bundle.text. Raises ModelImportError for a SentencePiece model of another form.
    """
    if not tokenizer.do_lower_case:
        raise ModelImportError("tokenizer: do_lower_case: must be true")
    model = _read(Path(tokenizer.vocab_file))
    normalizer = model.normalizer_spec
    if model.trainer_spec.model_type != _UNIGRAM or model.trainer_spec.byte_fallback:
        raise ModelImportError("tokenizer: spiece.model: only Unigram models without byte fallback")
    if any(p.type not in (_NORMAL, _UNKNOWN, _CONTROL) for p in model.pieces):
        raise ModelImportError("tokenizer: spiece.model: symbols of a user are not supported")
    charsmap = bytes(normalizer.precompiled_charsmap)
    try:
        reads_spaces = CharacterMap.read(charsmap)("a" + _WORD_START + "b") == "a b"
    except CharacterMapError:
        reads_spaces = False
    if not (reads_spaces and normalizer.remove_extra_whitespaces and normalizer.escape_whitespaces):
        raise ModelImportError("tokenizer: spiece.model: only the normalizer nmt_nfkc is supported")
    specials = {
        number: piece.piece
        for number, piece in enumerate(model.pieces)
        if piece.type in (_UNKNOWN, _CONTROL)
    }
    end = tokenizer.eos_token_id
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [_added(number, piece) for number, piece in specials.items()],
        "normalizer": {
            "type": "Precompiled",
            "precompiled_charsmap": base64.b64encode(charsmap).decode(),
        },
        "pre_tokenizer": {
            "type": "Metaspace",
            "replacement": _WORD_START,
            "prepend_scheme": "always",
            "split": False,
        },
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [
                {"Sequence": {"id": "A", "type_id": 0}},
                {"SpecialToken": {"id": "end", "type_id": 0}},
            ],
            "pair": [
                {"Sequence": {"id": "A", "type_id": 0}},
                {"SpecialToken": {"id": "end", "type_id": 0}},
                {"Sequence": {"id": "B", "type_id": 1}},
                {"SpecialToken": {"id": "end", "type_id": 1}},
            ],
            "special_tokens": {
                "end": {"id": "end", "ids": [end], "tokens": [tokenizer.eos_token]},
            },
        },
        "decoder": {
            "type": "Metaspace",
            "replacement": _WORD_START,
            "prepend_scheme": "always",
            "split": False,
        },
        "model": {
            "type": "Unigram",
            "unk_id": model.trainer_spec.unk_id,
            "vocab": [[piece.piece, piece.score] for piece in model.pieces],
            "byte_fallback": False,
        },
    }


def _read(path: Path) -> Any:
    from google.protobuf.message import DecodeError
    from transformers.convert_slow_tokenizer import import_protobuf

    messages: Any = import_protobuf
    model = messages().ModelProto()
    try:
        model.ParseFromString(path.read_bytes())
    except (OSError, DecodeError):
        raise ModelImportError("tokenizer: spiece.model: not a SentencePiece model") from None
    return model


def _added(number: int, piece: str) -> dict[str, Any]:
    return {
        "id": number,
        "content": piece,
        "single_word": False,
        "lstrip": False,
        "rstrip": False,
        "normalized": False,
        "special": True,
    }
