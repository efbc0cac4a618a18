"""Opens the engine that a configuration asks for."""

from __future__ import annotations

import logging
import sys
from dataclasses import replace

from bundle.store import Bundle
from serving.engine_plans.build_plan import ReferenceOutputs, Say
from serving.engine_plans.choose_engine import EngineChooser
from serving.engine_plans.plan_cache import PlanCache, PlanRecord
from serving.engine_plans.ready_plan import is_reference, ready_plan
from serving.engines import AUTO, ENGINES
from serving.engines.base import REFERENCE, Engine, EngineConfig

log = logging.getLogger(__name__)


def say(line: str) -> None:
    """Shows a line about building and measuring, which may take minutes, on stderr."""
    line = " ".join(line.split())  # errors of a library have several
    print(f"sparseclip: engine: {line}", file=sys.stderr, flush=True)


def open_engine(bundle: Bundle, config: EngineConfig, cores: int = 0) -> Engine:
    """Opens the engine that `config` names, or the one that `auto` chooses; builds what it needs.

    Raises PluginError when a library of the engine is missing, EngineUnavailableError for a device,
    a precision or a parity that is not to be had, and what Engine.open raises.
    """
    config = resolve(bundle, config, cores)
    cache = PlanCache(config.cache)
    record = _ready(bundle, config, cores, cache)
    plans = cache.plans(record) if record is not None else None
    return ENGINES.load(config.name).open(bundle, config, cores, plans)


def runtime_of(bundle: Bundle, config: EngineConfig, cores: int = 0) -> str:
    """What decides the bytes of the outputs of an engine that `config` names: its description and,
    where it was built into files, which of its builds. Builds it if it is not built, and raises, as
    `open_engine` does."""
    described = ENGINES.load(config.name).describe(config)
    record = _ready(bundle, config, cores, PlanCache(config.cache))
    return described if record is None or not record.files else f"{described} {record.digest}"


def settled(bundle: Bundle, config: EngineConfig) -> EngineConfig:
    """The configuration for a bundle that is loaded beside calls which are answered.

    Nothing is measured then: it would be slow, and wrong. `auto` takes what was chosen before, or
    else fp32, and ONNX Runtime. Only an engine for a lower precision that is named must be looked
    for. Raises as `open_engine` does.
    """
    if config.is_chosen or config.precision not in (AUTO, REFERENCE.precision):
        return config
    chooser = EngineChooser(ReferenceOutputs(bundle), config, PlanCache(config.cache), say)
    choice = chooser.kept()
    if choice is not None:
        return replace(config, name=choice.engine, precision=choice.precision)
    name = REFERENCE.name if config.name == AUTO else config.name
    log.warning(
        "engine: nothing was measured for this bundle: %s %s serves it; `sparseclip engine bench`"
        " measures",
        name,
        REFERENCE.precision,
    )
    return replace(config, name=name, precision=REFERENCE.precision)


def resolve(
    bundle: Bundle, config: EngineConfig, cores: int = 0, report: Say = say
) -> EngineConfig:
    """The configuration with an engine and a precision in place of `auto`. Raises as `open_engine`
    does."""
    if config.is_chosen:
        return config
    reference, cache = ReferenceOutputs(bundle, cores), PlanCache(config.cache)
    with cache.exclusive(report):
        return EngineChooser(reference, config, cache, report).choose()


def _ready(bundle: Bundle, config: EngineConfig, cores: int, cache: PlanCache) -> PlanRecord | None:
    """The plan of a configuration that leaves nothing to `auto`. None for the reference, which
    waits for nobody who builds."""
    if is_reference(config.name, config.precision, config.device):
        return None
    with cache.exclusive(say):
        return ready_plan(ReferenceOutputs(bundle, cores), config, cache, say)
