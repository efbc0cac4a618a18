"""An adapter on disk: a projector, the words' defaults and the LLM it speaks through.

adapter/
  adapter.json            AdapterConfig
  projector.safetensors
  llm/                    a Hugging Face directory, unless `llm` names one that is fetched
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path

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
"""LLMs that a package holds: fetched and converted when they are first wanted."""


class AdapterError(ValueError):
    """An adapter that cannot be used; the message names file and field."""


@dataclass(frozen=True, kw_only=True)
class WordDefaults:
    """How a word becomes concepts where the caller does not say, as measured on held-out
    images."""

    top: int = DEFAULT_TOP
    """Concepts of a word."""
    strength: float = DEFAULT_STRENGTH
    """What SET gives them."""


@dataclass(frozen=True, kw_only=True)
class AdapterConfig:
    """What a reader must know before it opens the weights."""

    concepts: int
    """C of the vision backbone."""
    patches: int
    """P of the vision backbone."""
    width: int
    """H of the LLM."""
    backbone: str
    """Name and version of the bundle that the projector was trained on."""
    llm: str = LLM_FOLDER
    """`llm`: the directory beside this file; else one of PACKAGED_LLMS."""
    system: str = ""
    """The system message in training, which every conversation begins with; empty for none."""
    words: WordDefaults = field(default_factory=WordDefaults)
    recipe: str = ""
    """What it was trained by."""
    training: dict[str, float] = field(default_factory=dict)
    """`samples`, the conversations that it was trained on, and `seconds`."""
    schema: int = SCHEMA

    @property
    def visual_tokens(self) -> int:
        """Of an image: one for it as a whole, and one a patch."""
        return 1 + self.patches


@dataclass(frozen=True, kw_only=True)
class Adapter:
    """A projector in evaluation mode and where its LLM is."""

    config: AdapterConfig
    projector: Projector
    llm: Path


def read_config(folder: Path) -> AdapterConfig:
    """adapter.json alone. Raises AdapterError."""
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
    """Reads an adapter, and fetches its LLM if it is one that a package holds.

    Raises AdapterError, and DataError when the package cannot be had.
    """
    config = read_config(folder)
    projector = Projector(config.concepts, config.width)
    try:
        projector.load_state_dict(
            {k: v.float() for k, v in load_file(folder / PROJECTOR_FILE).items()}
        )
    except (OSError, RuntimeError, ValueError):  # safetensors' own error is a ValueError
        raise AdapterError(
            f"{PROJECTOR_FILE}: not the weights that {CONFIG_FILE} describes"
        ) from None
    llm = folder / LLM_FOLDER if config.llm == LLM_FOLDER else PACKAGED_LLMS[config.llm]()
    return Adapter(config=config, projector=projector.eval(), llm=llm)


def write_adapter(folder: Path, config: AdapterConfig, projector: Projector) -> None:
    """Writes adapter.json and the projector, whose weights are stored as float16."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {k: v.detach().half().contiguous() for k, v in projector.state_dict().items()}
    save_file(weights, folder / PROJECTOR_FILE)
    (folder / CONFIG_FILE).write_text(json.dumps(dataclasses.asdict(config), indent=1) + "\n")
