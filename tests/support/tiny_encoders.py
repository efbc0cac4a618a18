"""Folders of tiny sentence encoders with random weights, as sentence-transformers writes them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

LINES = (
    "a red circle and a blue square",
    "the dog sits under a green tree",
    "cat house star arrow heart sun moon cloud",
    "Ein Häuschen über dem Fluß, naïve café",
    "Привет мир кошка сидит у окна",
    "一只猫坐在窗边",
    "emoji 😀 👍 ❤",
)
"""What the vocabularies are trained on."""

SIZES = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}

LIMIT = 20
"""Tokens that the encoders read."""


def write_encoder(
    folder: Path, family: str = "bert", *, pooling: str = "mean", normalize: bool = True
) -> Path:
    """Writes an encoder of one of FAMILIES into a new folder, and returns it."""
    import torch

    from training.core.torchvision_compat import transformers

    library = transformers()
    torch.manual_seed(0)
    tokenizer = FAMILIES[family](library)
    tokenizer.model_max_length = LIMIT
    config = library.AutoConfig.for_model(
        family,
        vocab_size=len(tokenizer),
        pad_token_id=tokenizer.pad_token_id,
        max_position_embeddings=LIMIT + (0 if family in ("bert", "distilbert") else 2),
        initializer_range=0.3,
        **_sizes(family),
    )
    library.AutoModel.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "modules.json").write_text(modules_json(normalize=normalize))
    (folder / "1_Pooling").mkdir()
    modes = {"mean": "pooling_mode_mean_tokens", "cls": "pooling_mode_cls_token"}
    modes |= {"max": "pooling_mode_max_tokens"}
    (folder / "1_Pooling" / "config.json").write_text(
        json.dumps({key: name == pooling for name, key in modes.items()})
    )
    (folder / "README.md").write_text("---\nlibrary_name: x\nlicense: apache-2.0\n---\n# tiny\n")
    return folder


def modules_json(*, normalize: bool) -> str:
    """The modules of an encoder, as sentence-transformers lists them."""
    modules = [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")]
    entries = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (path, kind) in enumerate(modules[: 3 if normalize else 2])
    ]
    return json.dumps(entries)


def _sizes(family: str) -> dict[str, int]:
    if family == "distilbert":
        return {"dim": 24, "n_layers": 2, "n_heads": 2, "hidden_dim": 32}
    return {**SIZES, "intermediate_size": 32}


def _wordpiece(specials: list[str], name: str) -> Callable[[Any], Any]:
    def build(library: Any) -> Any:
        from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

        model = Tokenizer(models.WordPiece(unk_token="[UNK]"))
        model.normalizer = normalizers.BertNormalizer()
        model.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        model.train_from_iterator(
            LINES,
            trainers.WordPieceTrainer(vocab_size=400, special_tokens=specials, show_progress=False),
        )
        return getattr(library, name)(vocab=model.get_vocab())

    return build


def _unigram(library: Any) -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    model = Tokenizer(models.Unigram())
    model.pre_tokenizer = pre_tokenizers.Metaspace()
    specials = ["<s>", "<pad>", "</s>", "<unk>"]
    model.train_from_iterator(
        LINES,
        trainers.UnigramTrainer(
            vocab_size=200, special_tokens=specials, unk_token="<unk>", show_progress=False
        ),
    )
    pieces = json.loads(model.to_str())["model"]["vocab"]
    return library.XLMRobertaTokenizer(vocab=[tuple(piece) for piece in pieces])


def _bpe(library: Any) -> Any:
    from tokenizers import ByteLevelBPETokenizer

    model = ByteLevelBPETokenizer()
    specials = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    model.train_from_iterator(LINES, vocab_size=400, special_tokens=specials, show_progress=False)
    state = json.loads(model.to_str())["model"]
    merges = [tuple(merge) for merge in state["merges"]]
    return library.RobertaTokenizer(vocab=state["vocab"], merges=merges)


_BERT = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
_MPNET = ["<s>", "<pad>", "</s>", "<unk>", "[UNK]", "<mask>"]

FAMILIES: dict[str, Callable[[Any], Any]] = {
    "bert": _wordpiece(_BERT, "BertTokenizer"),
    "distilbert": _wordpiece(_BERT, "BertTokenizer"),
    "mpnet": _wordpiece(_MPNET, "MPNetTokenizer"),
    "roberta": _bpe,
    "xlm-roberta": _unigram,
}
"""Makers of a tokenizer by config.json's model_type."""
