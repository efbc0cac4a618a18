"""Folders of open_clip with random weights, in its own format.

Weights are random, so only speed, memory and parity mean something.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

from training.core.torchvision_compat import open_clip
from training.importing._golden_inputs import CORPUS

Config = dict[str, Any]

ARCHITECTURES = ("ViT-B-32", "ViT-B-16-SigLIP", "MobileCLIP2-S0", "PE-Core-T-16-384")
"""One for each kind of tower: CLIP's own, attention pooling, a convolutional network, and rotary
positions with a class token and attention pooling."""


def write_architecture(name: str, folder: Path) -> None:
    """Writes one of ARCHITECTURES, with the preprocessing of its pretrained weights."""
    clip = open_clip()
    config = clip.get_model_config(name)
    [tag, *_] = clip.list_pretrained_tags_by_model(name)
    keys = ("mean", "std", "interpolation", "resize_mode")
    entry = clip.pretrained.get_pretrained_cfg(name, tag)
    write_open_clip(folder, config, {key: entry[key] for key in keys if entry.get(key)})
    if config["text_cfg"].get("hf_tokenizer_name"):
        write_unigram(folder, config["text_cfg"]["vocab_size"])


def write_open_clip(
    folder: Path, config: dict[str, Any], preprocess: dict[str, Any] | None = None
) -> Path:
    """A folder for `local-dir:` with random weights. Norms and biases are random, too, and so is
    each batch statistic: none of them may be forgotten unnoticed."""
    import torch
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    content = {"model_cfg": config, "preprocess_cfg": preprocess or {}}
    (folder / "open_clip_config.json").write_text(json.dumps(content))
    torch.manual_seed(0)
    logging.disable(logging.WARNING)
    try:
        model = open_clip().create_model(f"local-dir:{folder}", pretrained_text=False)
    finally:
        logging.disable(logging.NOTSET)
    with torch.no_grad():
        for name, tensor in model.state_dict(keep_vars=True).items():
            if tensor.is_floating_point() and tensor.ndim == 1:
                noise = torch.rand_like(tensor) * 0.2
                tensor.add_(noise if "running_var" in name else noise - 0.1)
    weights = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    save_file(weights, folder / "open_clip_model.safetensors")
    return folder


def write_unigram(folder: Path, ids: int) -> None:
    """A tokenizer of `ids` ids as SigLIP's is: Unigram, an end token, and padding. Its pieces are
    trained on the corpus of the importer, and filled up with pieces that no text has."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    trained = Tokenizer(models.Unigram())
    trained.pre_tokenizer = pre_tokenizers.Metaspace()
    specials = ["<unk>", "<pad>", "</s>"]
    trainer = trainers.UnigramTrainer(
        vocab_size=min(ids, 1_000), special_tokens=specials, unk_token="<unk>", show_progress=False
    )
    trained.train_from_iterator([f"{text} {text.lower()}" * 3 for text in CORPUS], trainer)
    vocabulary = [tuple(entry) for entry in json.loads(trained.to_str())["model"]["vocab"]][:ids]
    lowest = min(score for _, score in vocabulary)
    unused = [(f"\ue000{n}", lowest - 1) for n in range(len(vocabulary), ids)]
    tokenizer = Tokenizer(models.Unigram([*vocabulary, *unused], unk_id=0))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 2)]
    )
    wrapper: Any = PreTrainedTokenizerFast
    wrapper(
        tokenizer_object=tokenizer, unk_token="<unk>", pad_token="<pad>", eos_token="</s>"
    ).save_pretrained(folder)
