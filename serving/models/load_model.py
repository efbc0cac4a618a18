"""From a bundle on disk to a model that is warm and ready to answer."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

from bundle.store import Bundle, open_bundle
from serving.chat.load_chat_model import LOAD_FAILED, LanguageModel, NoChat, open_chat
from serving.core.config import ServerConfig
from serving.core.errors import ServingError
from serving.core.memory import settle_memory
from serving.core.metrics import Metrics
from serving.core.requests import EmbedItem, ImageItem, TextItem
from serving.engine_plans.open_engine import settled
from serving.engines.base import EngineError, EngineFactory, OpenedEngine
from serving.models.load_trial import try_graphs
from serving.models.loaded_model import ServedModel
from serving.models.sample_inputs import SAMPLE_TEXT, run_samples, sample_image

T = TypeVar("T")

log = logging.getLogger(__name__)

_WARM_UP_S = 60.0
"""The plain inputs of the warm-up are answered in this time, or the model is refused."""


class ChatLoadError(EngineError):
    """A bundle's chat cannot be loaded, or does not answer."""


async def load_model(
    path: Path,
    config: ServerConfig,
    metrics: Metrics,
    engine_factory: EngineFactory,
    *,
    guarded: bool = False,
) -> ServedModel:
    """Opens a bundle, loads its graphs, starts its decode workers and warms it all up.

    `guarded` is for a server that already answers. The graphs are then tried in another process
    first, and a bundle whose chat cannot be loaded is refused; otherwise that costs the chat alone.

    When it is cancelled, it ends as soon as nothing of the load is left: a process is killed, and a
    thread, which cannot be, has ended and what it made is closed. Raises BundleError, EngineError,
    PluginError or StartupError; what was started is closed then.
    """
    bundle = await _in_thread(lambda: open_bundle(path))
    if guarded:
        engine_config = await _in_thread(lambda: settled(bundle, config.engine))
        config = dataclasses.replace(config, engine=engine_config)
        await try_graphs(bundle, config.engine, config.batch)
    engine, language_model = await _in_thread(
        lambda: _open_parts(bundle, config, engine_factory), _close_parts
    )
    if guarded and language_model is LOAD_FAILED:
        engine.close()
        raise ChatLoadError("chat: its adapter or its language model cannot be opened")
    model = ServedModel(bundle, engine, language_model, config, metrics)
    try:
        await model.decoders.start()
        await _answer_samples(model)
        await _warm_up_chat(model, guarded)
        await _in_thread(bundle.check_unchanged)
        await _in_thread(settle_memory)
    except BaseException:
        await asyncio.shield(model.close())
        raise
    return model


def _open_parts(
    bundle: Bundle, config: ServerConfig, engine_factory: EngineFactory
) -> tuple[OpenedEngine, LanguageModel | NoChat]:
    engine = engine_factory(bundle, config.engine)
    try:
        run_samples(bundle, engine, config.batch)
        # These are read on first use, which would stop the event loop in the middle of a call.
        bundle.concepts.search("a", 1)
        bundle.known_words.unknown("a")
        _ = bundle.captions
        return engine, open_chat(bundle, config)
    except BaseException:
        engine.close()
        raise


async def _close_parts(parts: tuple[OpenedEngine, LanguageModel | NoChat]) -> None:
    engine, language_model = parts
    if not isinstance(language_model, NoChat):
        await language_model.close()
    engine.close()


async def _answer_samples(model: ServedModel) -> None:
    """Answers an encoded image, also with patches where the model has them, and a text, the way
    callers' items go.

    Raises EngineError.
    """
    deadline = asyncio.get_running_loop().time() + _WARM_UP_S
    items: list[EmbedItem] = [
        ImageItem(id="", data=sample_image()),
        TextItem(id="", text=SAMPLE_TEXT),
    ]
    for patches in {False, "patches" in model.batchers}:
        for result in await model.embed(items, deadline, patches=patches):
            if isinstance(result, ServingError):
                raise EngineError(f"a plain image or text is not answered: {result.message}")


async def _warm_up_chat(model: ServedModel, guarded: bool) -> None:
    """Answers a conversation about an image. Raises ChatLoadError if `guarded`."""
    if not model.has_chat:
        return
    try:
        await model.chat.warm_up(sample_image(), _WARM_UP_S)
    except EngineError as error:
        if guarded:
            raise ChatLoadError(str(error)) from None
        log.error("%s", error)
        await model.remove_chat(LOAD_FAILED)


async def _in_thread(
    work: Callable[[], T], discard: Callable[[T], Awaitable[None]] | None = None
) -> T:
    """Runs `work` in a thread. When cancelled, waits for its end and has its result discarded."""
    running = asyncio.get_running_loop().run_in_executor(None, work)
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        with contextlib.suppress(Exception):  # the cancellation is what the caller hears of
            result = await running
            if discard is not None:
                await discard(result)
        raise
