"""What a causal LM's Hugging Face directory must hold, checked before any weight is loaded.

transformers follows names that it finds in these files, allocates what the configuration says, and
puts random numbers in the place of weights that are missing. Here the files are compared with each
other first, so that a load is bounded by the size of its files.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open

from mllm_adapter.model.llm_types import LLM_TYPES
from training.core.torchvision_compat import transformers

MAX_LAYERS = 512
"""Transformer layers of an LLM; the largest published ones have about 130."""

MAX_BUFFER_BYTES = 256 * 2**20
"""What a model may compute beside its weights, such as tables of positions."""

_MAX_JSON_BYTES = 16 * 2**20
"""Size of a configuration; tokenizer.json, which is larger, is read by the tokenizer's library."""

_CODE_ENDINGS = {".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".py", ".h5", ".msgpack"}

_JSON_FILES = ("config.json", "generation_config.json", "tokenizer_config.json")


_LAYER = re.compile(r"\blayers\.(\d+)\.")

_WEIGHT_TYPES = ("F64", "F32", "F16", "BF16")
"""Types of numbers that mean what they say. Whole numbers and those of 8 bits need a scale, which
only the library that wrote them knows."""


class LLMError(ValueError):
    """An LLM that cannot be used; the message names its directory and says why."""


def check_directory(path: Path, *, own: bool = False) -> None:
    """Checks that a directory holds a language model of a supported type, a tokenizer and
    safetensors, that it names no file outside of itself, and that it has no file that could run
    code when it is loaded.

    In a directory that a user names for training, such files and the names of such code may be:
    models are published with them, and they are never run. `own` says that it is one. Raises
    LLMError.
    """
    if not (path / "config.json").is_file():
        raise LLMError(f"{path.name}: no config.json: not a Hugging Face directory")
    _check_type(path, read_json(path, "config.json"))
    if not (path / "tokenizer.json").is_file():
        raise LLMError(f"{path.name}: no tokenizer.json")
    if not any(path.glob("*.safetensors")):
        raise LLMError(f"{path.name}: no safetensors; other weight formats are not read")
    for file in path.iterdir():
        if file.suffix in _CODE_ENDINGS and not own:
            raise LLMError(f"{path.name}: holds {file.name}; only safetensors and JSON are read")
    for name in _JSON_FILES:
        if (path / name).is_file():
            _check_names(path, name, read_json(path, name), own=own)
    for file in path.glob("*.safetensors.index.json"):
        shards = read_json(path, file.name).get("weight_map")
        if not isinstance(shards, dict):
            raise LLMError(f"{path.name}: {file.name}: no weight_map")
        for shard in set(map(str, shards.values())):
            if Path(shard).name != shard or not (path / shard).is_file():
                raise LLMError(f"{path.name}: {file.name}: names a file that is not beside it")
            if not shard.endswith(".safetensors"):
                raise LLMError(f"{path.name}: {file.name}: names a file that is no safetensors")


def read_json(path: Path, name: str) -> dict[str, Any]:
    """The object in a JSON file of the directory `path`. Raises LLMError."""
    try:
        if (path / name).stat().st_size > _MAX_JSON_BYTES:
            raise LLMError(f"{path.name}: {name}: over {_MAX_JSON_BYTES} bytes")
        data = json.loads((path / name).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        if isinstance(error, LLMError):
            raise
        raise LLMError(f"{path.name}: {name}: cannot be read as JSON") from None
    if not isinstance(data, dict):
        raise LLMError(f"{path.name}: {name}: not an object")
    return data


def check_weights(path: Path) -> None:
    """Checks that the weights are those of the configuration, and that all of them are finite.

    The configured model is built without memory for its weights (PyTorch's meta device), and its
    size is compared with the headers of the safetensors. Raises LLMError.
    """
    tensors = _stored_tensors(path)
    config = read_config(path)
    layers = int(getattr(config.get_text_config(), "num_hidden_layers", 0) or 0)
    if not 0 < layers <= min(MAX_LAYERS, len(tensors)):
        raise LLMError(
            f"{path.name}: config.json: num_hidden_layers: {layers}; the files hold "
            f"{len(tensors)} tensors, and the limit is {MAX_LAYERS} layers"
        )
    try:
        with torch.device("meta"):
            model = transformers().AutoModelForCausalLM.from_config(config)
    except Exception as error:  # a model's constructor raises anything for numbers that do not fit
        raise LLMError(f"{path.name}: config.json: {one_line(error)}") from None
    _check_tensors(path, tensors, dict(model.named_parameters()), layers)
    weights = sum(parameter.numel() for parameter in model.parameters())  # tied ones count once
    stored = sum(tensor.shape.numel() for tensor in tensors.values())
    if weights > stored:
        raise LLMError(
            f"{path.name}: config.json describes {weights:,} weights, the files hold {stored:,}"
        )
    if sum(buffer.nbytes for buffer in model.buffers()) > MAX_BUFFER_BYTES:
        raise LLMError(f"{path.name}: config.json: over {MAX_BUFFER_BYTES} bytes of buffers")
    for name, tensor in _tensors(path):
        if not is_finite(tensor):
            raise LLMError(f"{path.name}: {name}: holds numbers that are not finite")


def is_finite(tensor: torch.Tensor) -> bool:
    """Whether a tensor holds no NaN and no infinity."""
    if not tensor.is_floating_point() or not tensor.numel():
        return True
    if tensor.element_size() < 2:  # 8-bit floats have no minimum in torch
        tensor = tensor.float()
    return all(bool(torch.isfinite(bound)) for bound in torch.aminmax(tensor))


def check_complete(path: Path, missing: list[str]) -> None:
    """Refuses a model whose loading left weights out. Raises LLMError."""
    if missing:
        raise LLMError(f"{path.name}: the files lack weights: {', '.join(sorted(missing)[:3])}")


def _check_type(path: Path, config: dict[str, Any]) -> None:
    """Refuses all but causal language models of the supported types, with whole weights."""
    name = f"{path.name}: config.json"
    model_type = str(config.get("model_type", ""))[:40]
    if model_type not in LLM_TYPES:
        types = ", ".join(LLM_TYPES)
        raise LLMError(f"{name}: model_type: {model_type!r} is not supported; {types} are")
    classes = config.get("architectures") or []
    if not isinstance(classes, list) or not all(str(c).endswith("ForCausalLM") for c in classes):
        raise LLMError(f"{name}: architectures: not a causal language model")
    if config.get("quantization_config"):
        raise LLMError(f"{name}: quantization_config: quantized weights are not read")


def _check_names(path: Path, name: str, data: dict[str, Any], *, own: bool) -> None:
    """Refuses names of Python code and of files elsewhere."""
    if "auto_map" in data and not own:
        raise LLMError(f"{path.name}: {name}: auto_map: code of a model is not run")
    for key, value in data.items():
        if key.endswith("_file") and value is not None and Path(str(value)).name != value:
            raise LLMError(f"{path.name}: {name}: {key}: names a file that is not beside it")


def read_config(path: Path) -> Any:
    """The configuration as transformers reads it, with its defaults. Raises LLMError."""
    try:
        return transformers().AutoConfig.from_pretrained(path, local_files_only=True)
    except Exception as error:  # see check_weights
        raise LLMError(f"{path.name}: config.json: {one_line(error)}") from None


class _StoredTensor(NamedTuple):
    """What a header says of a tensor."""

    shape: torch.Size
    dtype: str
    """As safetensors writes it, such as BF16."""


def _check_tensors(
    path: Path,
    tensors: Mapping[str, _StoredTensor],
    parameters: Mapping[str, torch.nn.Parameter],
    layers: int,
) -> None:
    """Refuses tensors that cannot be the parameters of their names, and layers that would be left
    out. Raises LLMError."""
    for name, (shape, dtype) in tensors.items():
        at = f"{path.name}: {name}"
        layer = _LAYER.search(name)
        if layer is not None and int(layer[1]) >= layers:
            raise LLMError(f"{at}: config.json: num_hidden_layers: {layers}; the files hold more")
        if name not in parameters:
            continue
        if shape != parameters[name].shape:
            wanted, found = (" x ".join(map(str, s)) for s in (parameters[name].shape, shape))
            raise LLMError(f"{at}: config.json describes {wanted}, the files hold {found}")
        if dtype not in _WEIGHT_TYPES:
            raise LLMError(f"{at}: {dtype}: quantized weights are not read")


def _stored_tensors(path: Path) -> dict[str, _StoredTensor]:
    """The tensors by their names, from the headers alone. Raises LLMError."""
    found = {}
    for file in sorted(path.glob("*.safetensors")):
        try:
            with safe_open(file, framework="pt") as tensors:
                for name in tensors.keys():  # noqa: SIM118  a safe_open is not a mapping
                    header = tensors.get_slice(name)
                    shape = torch.Size(header.get_shape())
                    found[name] = _StoredTensor(shape, header.get_dtype())
        except SafetensorError as error:
            raise LLMError(f"{path.name}: {file.name}: {one_line(error)}") from None
    return found


def _tensors(path: Path) -> Iterator[tuple[str, torch.Tensor]]:
    for file in sorted(path.glob("*.safetensors")):
        with safe_open(file, framework="pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118  a safe_open is not a mapping
                yield name, tensors.get_tensor(name)


def one_line(error: Exception) -> str:
    """What a library says, in one line of bounded length."""
    return " ".join(str(error).split())[:300]
