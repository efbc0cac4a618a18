"""A directory of Hugging Face: its files, checked before the library reads any of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from training.huggingface.model_error import ModelImportError
from training.huggingface.stored_weights import StoredWeights, check_layers, stored_weights

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"

_MAX_JSON_BYTES = 64 * 2**20

_PROCESSORS = ("preprocessor_config.json", "processor_config.json")

_TOKENIZERS = (
    "tokenizer.json",
    "spiece.model",
    "sentencepiece.bpe.model",
    "tokenizer.model",
    "vocab.json",
    "vocab.txt",
)

_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")


@dataclass(frozen=True, kw_only=True)
class HFDirectory:
    """The files of one model."""

    path: Path
    config: dict[str, Any]
    """config.json."""
    weights: Sequence[Path]
    """One file of safetensors, or all that the index names."""
    stored: StoredWeights

    @classmethod
    def open(cls, path: Path, *, what: str, has_images: bool) -> HFDirectory:
        """Finds the files that a model needs: those of a tokenizer, and with `has_images` those of
        a processor. Messages about the folder itself begin with `what`.

        Raises ModelImportError for a file that is missing, weights that are not safetensors, and
        files that ask for code of their own.
        """
        if not path.is_dir():
            raise ModelImportError(
                f"{what}: no such folder; `hf download ORG/REPO --local-dir PATH` fetches a"
                " model of the hub"
            )
        if not (path / "config.json").is_file():
            raise ModelImportError(f"{what}: no config.json in this folder")
        configs = {name: read_json(path / name) for name in ("config.json", *_PROCESSORS)}
        configs["tokenizer_config.json"] = read_json(path / "tokenizer_config.json")
        for name, config in configs.items():
            if _has_key(config, "auto_map"):
                raise ModelImportError(f"{name}: auto_map: needs code of its own, which is not run")
        if "quantization_config" in configs["config.json"]:
            raise ModelImportError("config.json: quantization_config: not read")
        weights = _weight_files(path)
        stored = stored_weights(weights)
        check_layers("config.json", configs["config.json"], stored.tensors)
        for name, section in configs["config.json"].items():
            check_layers(f"config.json: {name}", section, stored.tensors)
        if has_images and not any((path / name).is_file() for name in _PROCESSORS):
            raise ModelImportError(
                "no preprocessor_config.json: save the model's processor beside it"
            )
        if not any((path / name).is_file() for name in _TOKENIZERS):
            raise ModelImportError("no tokenizer.json: save the model's tokenizer beside it")
        return cls(path=path, config=configs["config.json"], weights=weights, stored=stored)

    def section(self, name: str) -> dict[str, Any]:
        """An object of config.json by its key; an empty one where it is left out."""
        value = self.config.get(name)
        return value if isinstance(value, dict) else {}

    @property
    def licence(self) -> str | None:
        """The text of the licence beside the model; None without one."""
        for name in ("LICENSE", "LICENSE.txt", "LICENSE.md", "LICENCE"):
            file = self.path / name
            if file.is_file() and file.stat().st_size < 2**20:
                return file.read_text(encoding="utf-8", errors="replace")
        return None


def read_json(path: Path) -> dict[str, Any]:
    """The object in a file; an empty one for a file that is not there. Raises ModelImportError."""
    data = read_json_value(path) if path.is_file() else {}
    if not isinstance(data, dict):
        raise ModelImportError(f"{path.name}: not an object")
    return data


def read_json_value(path: Path) -> Any:
    """What a file of JSON holds. Raises ModelImportError."""
    if path.stat().st_size > _MAX_JSON_BYTES:
        raise ModelImportError(f"{path.name}: over {_MAX_JSON_BYTES} bytes")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError:
        raise ModelImportError(f"{path.name}: you may not read it") from None
    except (ValueError, RecursionError):
        raise ModelImportError(f"{path.name}: not JSON") from None


def _weight_files(path: Path) -> list[Path]:
    if (path / WEIGHTS).is_file():
        return [path / WEIGHTS]
    if not (path / INDEX).is_file():
        if any(file for pattern in _PICKLES for file in path.glob(pattern)):
            raise ModelImportError(
                "weights: only pickles, which can run code; save the model again with transformers,"
                " which writes model.safetensors"
            )
        raise ModelImportError("no model.safetensors")
    shards = read_json(path / INDEX).get("weight_map")
    names = set(map(str, shards.values())) if isinstance(shards, dict) else set()
    if not names:
        raise ModelImportError(f"{INDEX}: no weight_map")
    for name in sorted(names):
        if Path(name).name != name or not name.endswith(".safetensors"):
            raise ModelImportError(f"{INDEX}: names a file that is no safetensors beside it")
        if not (path / name).is_file():
            raise ModelImportError(f"weights: {name} is missing")
    return sorted(path / name for name in names)


def _has_key(value: Any, key: str) -> bool:
    if isinstance(value, dict):
        return key in value or any(_has_key(entry, key) for entry in value.values())
    return isinstance(value, list) and any(_has_key(entry, key) for entry in value)
