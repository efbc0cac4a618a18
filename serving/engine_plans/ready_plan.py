"""A plan that is fit to be served: found intact, or built."""

from __future__ import annotations

from serving.engine_plans.build_plan import ReferenceOutputs, Say, build_plan
from serving.engine_plans.plan_cache import DamagedPlanError, PlanCache, PlanKey, PlanRecord
from serving.engines import ENGINES, Device, EnginePrecision
from serving.engines.base import REFERENCE, EngineConfig, EngineUnavailableError


def is_reference(name: str, precision: str, device: Device) -> bool:
    """Whether this is what every engine is compared with: it needs no plan."""
    return (name, precision, device) == (REFERENCE.name, REFERENCE.precision, REFERENCE.device)


def find_plan(key: PlanKey, cache: PlanCache, say: Say) -> PlanRecord | None:
    """The intact plan of a key. A damaged one is not opened, and counts as none, with a word."""
    try:
        return cache.find(key)
    except DamagedPlanError as error:
        if key.digest not in cache.told:
            cache.told.add(key.digest)
            say(f"the plan of {key.engine} {key.precision} is damaged ({error}); it is not used")
        return None


def ready_plan(
    reference: ReferenceOutputs, config: EngineConfig, cache: PlanCache, say: Say
) -> PlanRecord | None:
    """The plan that `config` names, built if there is none. None for the reference itself.

    Raises EngineUnavailableError for a precision that the engine does not have here, a plan that
    the gate refuses, and a cache that cannot be written; PluginError and EngineError as
    `build_plan` does.
    """
    if is_reference(config.name, config.precision, config.device):
        return None
    check_precision(config)
    key = PlanKey.of(reference.bundle, config.name, config.device, config.chosen_precision)
    record = find_plan(key, cache, say)
    if record is None:
        try:
            record = build_plan(reference, config, cache, say)
        except OSError as error:
            raise EngineUnavailableError(
                f"engine.cache: cannot be written: {error.strerror or 'no space'}"
            ) from None
    if record.refused:
        raise EngineUnavailableError(
            f"engine.precision: {config.name} {config.precision} does not pass the parity gate for"
            f" this model: {record.refused}"
        )
    return record


def check_precision(config: EngineConfig) -> None:
    """Raises EngineUnavailableError for a precision that the engine does not have here."""
    offered: tuple[EnginePrecision, ...] = ENGINES.load(config.name).precisions(config.device)
    if config.precision not in offered:
        raise EngineUnavailableError(
            f"engine.precision: {config.name} on this {config.device} has no {config.precision};"
            f" it has {', '.join(offered)}"
        )
