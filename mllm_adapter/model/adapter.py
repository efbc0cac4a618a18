"""An adapter on disk: a projector, the defaults for words, and the LLM that reads visual tokens.

adapter/
  adapter.json            AdapterConfig
  projector.safetensors   weights in float16
  llm/                    a Hugging Face directory, unless adapter.json names one of PACKAGED_LLMS
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from bundle.schema import SchemaError, from_dict
from mllm_adapter.model.projector import Projector
from mllm_adapter.model.smollm2 import smollm2
from mllm_adapter.steering.phrases import DEFAULT_STRENGTH, DEFAULT_TOP

SCHEMA = 1
CONFIG_FILE = "adapter.json"
PROJECTOR_FILE = "projector.safetensors"
LLM_FOLDER = "llm"
PACKAGED_LLMS = {"smollm2": smollm2}
"""LLMs that come from a Python package: fetched and converted on first use."""


class AdapterError(ValueError):
    """An adapter that cannot be used; the message names the file and the field."""


@dataclass(frozen=True, kw_only=True)
class WordDefaults:
    """How a word becomes concepts where the caller does not say; chosen on held-out images."""

    top: int = DEFAULT_TOP
    """How many concepts a word becomes."""
    strength: float = DEFAULT_STRENGTH
    """The value that SET gives the strongest of them."""


@dataclass(frozen=True, kw_only=True)
class AdapterConfig:
    """adapter.json: what a reader needs before it opens the weights."""

    concepts: int
    """C, the concepts of the vision backbone."""
    patches: int
    """P, the patches that the vision backbone makes of an image."""
    width: int
    """H, the width of the LLM's embeddings."""
    backbone: str
    """NAME/VERSION of the bundle that the projector was trained on."""
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
        """Visual tokens per image: one for the whole image and one per patch."""
        return 1 + self.patches


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
    if config.llm != LLM_FOLDER and config.llm not in PACKAGED_LLMS:
        raise AdapterError(
            f"{CONFIG_FILE}: llm: must be one of {LLM_FOLDER}, {', '.join(PACKAGED_LLMS)}"
        )
    return config


def open_adapter(folder: Path) -> Adapter:
    """Reads an adapter, and fetches its LLM if that comes from a package.

    Raises AdapterError, or DataError when the package cannot be fetched.
    """
    config = read_config(folder)
    projector = Projector(config.concepts, config.width)
    try:
        projector.load_state_dict(
            {name: tensor.float() for name, tensor in load_file(folder / PROJECTOR_FILE).items()}
        )
    except (OSError, RuntimeError, SafetensorError):
        raise AdapterError(
            f"{PROJECTOR_FILE}: not the weights that {CONFIG_FILE} describes"
        ) from None
    llm = folder / LLM_FOLDER if config.llm == LLM_FOLDER else PACKAGED_LLMS[config.llm]()
    return Adapter(config=config, projector=projector.eval(), llm=llm)


def write_adapter(folder: Path, config: AdapterConfig, projector: Projector) -> None:
    """Writes adapter.json and the projector's weights, in float16."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {
        name: tensor.detach().half().contiguous() for name, tensor in projector.state_dict().items()
    }
    save_file(weights, folder / PROJECTOR_FILE)
    (folder / CONFIG_FILE).write_text(json.dumps(dataclasses.asdict(config), indent=1) + "\n")
