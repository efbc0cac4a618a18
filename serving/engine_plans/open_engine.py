"""Opens the engine that a configuration asks for."""

from __future__ import annotations

import dataclasses

from bundle.store import Bundle
from serving.engines import AUTO, ENGINES
from serving.engines.base import Engine, EngineConfig


def open_engine(bundle: Bundle, config: EngineConfig, cores: int = 0) -> Engine:
    """Opens the engine that `config` names.

    Raises PluginError when a library of the engine is missing, and what Engine.open raises.
    """
    config = resolve(bundle, config)
    return ENGINES.load(config.name).open(bundle, config, cores)


def resolve(bundle: Bundle, config: EngineConfig) -> EngineConfig:
    """The configuration with an engine and a precision in place of `auto`."""
    name = ENGINES.names[0] if config.name == AUTO else config.name
    return dataclasses.replace(config, name=name, precision="fp32")
