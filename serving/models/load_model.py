"""From a bundle on disk to a model that is warm and ready to answer."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np

from bundle.onnx_graph import GRAPHS
from bundle.store import Bundle, open_bundle
from serving.chat.load_chat_model import LanguageModel, NoChat, open_chat
from serving.core.config import BatchConfig, ServerConfig
from serving.core.metrics import Metrics
from serving.engines.base import Engine, EngineError, EngineFactory
from serving.models.loaded_model import ServedModel


async def load_model(
    path: Path, config: ServerConfig, metrics: Metrics, engine_factory: EngineFactory
) -> ServedModel:
    """Opens a bundle, loads its graphs, starts its decode workers and warms it all up.

    Raises BundleError, EngineError, PluginError or StartupError; what was started is closed then.
    """

    def read() -> tuple[Bundle, Engine, LanguageModel | NoChat]:
        bundle = open_bundle(path)
        engine = engine_factory(bundle, config.engine)
        # These are read on first use, which would stop the event loop in the middle of a call.
        bundle.concepts.search("a", 1)
        bundle.tokenizer.encode(["a"])
        bundle.known_words.unknown("a")
        return bundle, engine, open_chat(bundle, config)

    loop = asyncio.get_running_loop()
    bundle, engine, language_model = await loop.run_in_executor(None, read)
    model = ServedModel(bundle, engine, language_model, config, metrics)
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(model.decoders.start())
            group.create_task(_warm_up(model, config.batch))
            if model.has_chat:
                group.create_task(model.chat.warm_up())
    except BaseException as error:
        await model.close()
        if isinstance(error, BaseExceptionGroup):
            raise error.exceptions[0] from None
        raise
    return model


async def _warm_up(model: ServedModel, batch: BatchConfig) -> None:
    """Runs every graph with one item and with the largest batch, so that no call pays for either.

    Raises EngineError.
    """
    loop = asyncio.get_running_loop()
    for graph in GRAPHS:
        for size in {1, batch.max_texts if graph == "text" else batch.max_images}:
            inputs = np.repeat(model.sample(graph)[None], size, axis=0)
            for row in await loop.run_in_executor(None, model.runner(graph), inputs):
                if isinstance(row, EngineError):
                    raise row
