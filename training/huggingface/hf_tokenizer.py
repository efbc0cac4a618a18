"""A tokenizer of Hugging Face as the tokenizer.json of a bundle. T tokens."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bundle.manifest import Tokenization
from training.huggingface.model_error import ModelImportError
from training.huggingface.sentencepiece_json import siglip_tokenizer_json
from training.huggingface.tokenizer_json import KINDS, prepare


@dataclass(frozen=True, kw_only=True)
class HFTokenizer:
    """What a bundle says and holds of a tokenizer."""

    tokenization: Tokenization
    text: str
    """tokenizer.json."""
    vocabulary: int
    """All token ids are below it."""

    @classmethod
    def of(cls, tokenizer: Any) -> HFTokenizer:
        """That of a tokenizer of transformers, which is no matter of the files it was read from.

        Most run in the library `tokenizers`, and what runs there is taken as it is. SigLIP's runs
        in SentencePiece, and is converted. Raises ModelImportError for another one, and for
        settings that a bundle cannot say.
        """
        name = type(tokenizer).__name__
        if tokenizer.truncation_side != "right":
            raise ModelImportError("tokenizer: truncation_side: must be right")
        if tokenizer.pad_token_id is None:
            raise ModelImportError("tokenizer: no pad_token")
        backend = getattr(tokenizer, "backend_tokenizer", None)
        if backend is not None:
            data = json.loads(backend.to_str())
        elif name == "SiglipTokenizer":
            data = siglip_tokenizer_json(tokenizer)
        else:
            raise ModelImportError(f"tokenizer: {name} is not run")
        kind = KINDS.get(data["model"]["type"])
        if kind is None:
            raise ModelImportError(f"tokenizer: a {data['model']['type']} is not run")
        return cls(
            tokenization=Tokenization(
                kind=kind,
                cleaning="siglip" if backend is None else "none",
                pad_id=tokenizer.pad_token_id,
                padding="left" if tokenizer.padding_side == "left" else None,
            ),
            text=json.dumps(prepare(data), ensure_ascii=False),
            vocabulary=1 + max(tokenizer.get_vocab().values()),
        )

    def write(self, path: Path) -> None:
        """Writes tokenizer.json."""
        path.write_text(self.text, encoding="utf-8")
