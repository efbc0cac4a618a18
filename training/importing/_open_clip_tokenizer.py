"""The tokenizer of a model of open_clip, as a bundle keeps it. T tokens."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from bundle.manifest import Tokenization
from bundle.text import Cleaning
from training.core.torchvision_compat import open_clip
from training.huggingface.model_error import ModelImportError
from training.huggingface.tokenizer_json import KINDS, prepare
from training.model.tokenizer import write_tokenizer_json

CLEANINGS: dict[str, Cleaning] = {
    "_clean_lower": "lower",
    "_clean_whitespace": "whitespace",
    "_clean_canonicalize": "canonicalize",
}
"""The cleaning of each function of open_clip."""


@dataclass(frozen=True, kw_only=True)
class OpenClipTokenizer:
    """open_clip's tokenizer, and how a bundle runs it."""

    source: Any
    """open_clip's own object."""
    tokenization: Tokenization
    context_length: int
    """T."""
    write: Callable[[Path], None]
    """Writes tokenizer.json."""


def read_tokenizer(model_name: str, text: dict[str, Any]) -> OpenClipTokenizer:
    """The tokenizer that open_clip takes for a model whose text_cfg is `text`.

    Raises ModelImportError for one that cannot be had, or that a bundle cannot run.
    """
    name = text.get("hf_tokenizer_name")
    if text.get("tokenizer_mode"):
        raise ModelImportError(f"text_cfg.tokenizer_mode: {text['tokenizer_mode']!r} is not run")
    if (text.get("tokenizer_kwargs") or {}).get("strip_sep_token"):
        raise ModelImportError("text_cfg.tokenizer_kwargs: strip_sep_token is not run")
    try:
        source = open_clip().get_tokenizer(model_name)
    except Exception as error:
        raise ModelImportError(
            f"open_clip: cannot read the tokenizer{f' {name}, of the hub' if name else ''}; it may"
            " lie beside the weights, in a folder that local-dir: names"
        ) from error
    cleaning = CLEANINGS.get(getattr(source.clean_fn, "__name__", ""))
    if cleaning is None:
        raise ModelImportError("text_cfg.tokenizer_kwargs: clean is not known")
    if not name:
        return _simple(source, cleaning)
    return _pipeline(source, cleaning)


def _simple(source: Any, cleaning: Cleaning) -> OpenClipTokenizer:
    if cleaning != "lower" or source.reduction_fn is not None:
        raise ModelImportError("text_cfg.tokenizer_kwargs: of CLIP's tokenizer only the default")
    return OpenClipTokenizer(
        source=source,
        tokenization=Tokenization(kind="clip_bpe"),
        context_length=int(source.context_length),
        write=lambda path: write_tokenizer_json(source, path),
    )


def _pipeline(source: Any, cleaning: Cleaning) -> OpenClipTokenizer:
    tokenizer = source.tokenizer
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise ModelImportError("tokenizer: has no form that the library tokenizers runs")
    kind = KINDS.get(type(backend.model).__name__)
    if kind is None:
        raise ModelImportError(f"tokenizer: a {type(backend.model).__name__} is not run")
    if tokenizer.padding_side != "right" or tokenizer.truncation_side != "right":
        raise ModelImportError("tokenizer: only one that pads and cuts at the end of a text")

    def write(path: Path) -> None:
        # A copy, by its own file: the original goes on cutting and padding.
        copy = prepare(json.loads(backend.to_str()))
        path.write_text(json.dumps(copy), encoding="utf-8")

    return OpenClipTokenizer(
        source=source,
        tokenization=Tokenization(
            kind=kind, cleaning=cleaning, pad_id=int(cast(int, tokenizer.pad_token_id))
        ),
        context_length=int(source.context_length),
        write=write,
    )
