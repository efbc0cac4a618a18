"""A bundle's adapter and its language model, if it has them and their libraries are there."""

from __future__ import annotations

import logging
from typing import Any, NamedTuple

from bundle.manifest import NO_CONCEPTS
from bundle.plugins import PluginError
from bundle.store import Bundle
from mllm_adapter.engines import GENERATION_ENGINES
from serving.core.config import ServerConfig
from serving.core.errors import StartupError

log = logging.getLogger(__name__)

LanguageModel = Any
"""mllm_adapter.chat_model.ChatModel, whose import needs torch."""

ADAPTER_FILE = "adapter/adapter.json"
"""A bundle whose manifest lists this file has chat."""


class NoChat(NamedTuple):
    """Why a model answers no conversations; the caller is told."""

    reason: str


DENSE = NoChat(NO_CONCEPTS)
PATCHLESS = NoChat("this model has no patches, which its chat would read")
NO_ADAPTER = NoChat("this model has no chat")
TURNED_OFF = NoChat("chat is off on this server")
LOAD_FAILED = NoChat("this model's chat cannot be loaded; the server's log says why")


def check_chat_engine(config: ServerConfig) -> None:
    """Imports the library of a chat engine that is not the default; called in a thread.

    The default engine may be missing: the server then runs without chat. An engine that was asked
    for by name must be there. Raises StartupError, which names the extra that installs it.
    """
    if config.chat == "off" or config.chat_engine == GENERATION_ENGINES.names[0]:
        return
    try:
        GENERATION_ENGINES.load(config.chat_engine)
    except PluginError as error:
        raise StartupError(str(error)) from None


def open_chat(bundle: Bundle, config: ServerConfig) -> LanguageModel | NoChat:
    """Loads the language model, which takes seconds; called in a thread.

    A failure here is logged and costs only the chat: embeddings are still served, and callers of
    Chat are told why it is missing.
    """
    if not bundle.is_sparse:
        return DENSE
    if ADAPTER_FILE not in bundle.manifest.files:
        return NO_ADAPTER
    if config.chat == "off":
        return TURNED_OFF
    if bundle.manifest.architecture.patch_grid is None:
        return PATCHLESS
    try:
        model = _open(bundle, config)
    except ModuleNotFoundError as error:  # of the default engine: see check_chat_engine
        log.warning(
            "serving without chat, which needs %s: pip install 'sparseclip[chat]'", error.name
        )
        return NoChat("chat is not installed on this server: pip install 'sparseclip[chat]'")
    except Exception:  # libraries raise anything for files that are damaged
        log.exception("chat: the adapter cannot be loaded")
        return LOAD_FAILED
    log.info("chat: %s", model.engine.description)
    return model


def _open(bundle: Bundle, config: ServerConfig) -> LanguageModel:
    from mllm_adapter.chat_model import ChatModel
    from mllm_adapter.model.adapter import AdapterError, read_config

    folder, architecture = bundle.root / "adapter", bundle.manifest.architecture
    adapter = read_config(folder)
    if (adapter.concepts, adapter.patches) != (architecture.concepts, architecture.patches):
        raise AdapterError("adapter.json: concepts, patches: they differ from those of the bundle")
    return ChatModel.open(folder, config.chat_engine, config.chat_batch)
