"""The files of a sentence encoder as sentence-transformers keeps them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from training.huggingface.hf_directory import HFDirectory, read_json, read_json_value
from training.huggingface.model_error import ModelImportError
from training.model.sentence_encoder import Pooling

_POOLINGS: dict[str, Pooling] = {
    "mean": "mean",
    "cls": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "cls",
}
"""By what 1_Pooling/config.json names them, newer and older."""

_MODULES = ("Transformer", "Pooling", "Normalize")

_DROPPED = ("architectures", "dtype", "torch_dtype", "transformers_version")
"""Keys of config.json that say nothing about the encoder."""


@dataclass(frozen=True, kw_only=True)
class SentenceFiles:
    """What the files beside the weights say."""

    root: Path
    directory: HFDirectory
    """The folder of the transformer, which may be one inside of `root`."""
    pooling: Pooling
    normalize: bool
    limits: tuple[object, ...]
    """What the files say of the number of tokens; any JSON."""

    @classmethod
    def open(cls, root: Path) -> SentenceFiles:
        """Reads the folder of an encoder. Without modules.json it is one of transformers alone,
        whose states are averaged. Raises ModelImportError."""
        paths = _modules(root)
        directory = HFDirectory.open(
            root / paths.get("Transformer", ""), what="the folder", has_images=False
        )
        if directory.config.get("is_encoder_decoder") or directory.config.get("is_decoder"):
            raise ModelImportError("config.json: a decoder, and no encoder of whole texts")
        settings = read_json(directory.path / "sentence_bert_config.json")
        if settings.get("do_lower_case"):
            raise ModelImportError("sentence_bert_config.json: do_lower_case: must be false")
        prompts = read_json(root / "config_sentence_transformers.json")
        if prompts.get("default_prompt_name"):
            raise ModelImportError("config_sentence_transformers.json: prompts are not supported")
        pooling_path = paths.get("Pooling", "1_Pooling")
        return cls(
            root=root,
            directory=directory,
            pooling=_pooling(read_json(root / pooling_path / "config.json")),
            normalize="Normalize" in paths,
            limits=(
                settings.get("max_seq_length"),
                directory.config.get("max_position_embeddings"),
            ),
        )

    @property
    def config(self) -> dict[str, Any]:
        """config.json, without what says nothing about the encoder, and without paths."""
        config = self.directory.config
        return {k: v for k, v in config.items() if k not in _DROPPED and not k.startswith("_")}

    def limit(self, tokenizer_limit: object) -> int:
        """The smallest of the numbers of tokens that the files name. Raises ModelImportError."""
        limits = (*self.limits, tokenizer_limit)
        known = [int(n) for n in limits if isinstance(n, int | float) and 1 <= n < 2**16]
        if not known:
            raise ModelImportError("tokenizer_config.json: model_max_length: must be 1 or more")
        return min(known)


def _modules(root: Path) -> dict[str, str]:
    """The folder of each module of modules.json by its class. Raises ModelImportError for others
    than those that are computed here."""
    path = root / "modules.json"
    if not path.is_file():
        return {}
    paths: dict[str, str] = {}
    entries = read_json_value(path)
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise ModelImportError("modules.json: not a list of objects")
    for entry in entries:
        kind = str(entry.get("type", "")).rpartition(".")[2]
        folder = str(entry.get("path", ""))
        if kind not in _MODULES:
            raise ModelImportError(f"modules.json: {kind}: only {', '.join(_MODULES)} are run")
        if folder and Path(folder).name != folder:
            raise ModelImportError(f"modules.json: {kind}: its path leads out of the folder")
        paths[kind] = folder
    if "Transformer" not in paths or "Pooling" not in paths:
        raise ModelImportError("modules.json: must have a Transformer and a Pooling")
    return paths


def _pooling(config: dict[str, Any]) -> Pooling:
    """Raises ModelImportError for any but one of `mean` and `cls`."""
    if not config:
        return "mean"
    named = config.get("pooling_mode")
    modes = (
        [named]
        if isinstance(named, str)
        else [
            key
            for key, value in config.items()
            if key.startswith("pooling_mode_") and value is True
        ]
    )
    if len(modes) != 1 or modes[0] not in _POOLINGS:
        shown = ", ".join(map(str, modes)) or "none"
        raise ModelImportError(f"1_Pooling/config.json: {shown}: must be the mean, or cls alone")
    return _POOLINGS[modes[0]]
