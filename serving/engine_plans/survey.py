"""What can run a bundle on this machine: every engine of the table, in every precision."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import get_args

from bundle.plugins import PluginError
from bundle.store import Bundle
from serving.engine_plans.build_plan import Say
from serving.engine_plans.choose_engine import EngineChoice
from serving.engine_plans.measure_rates import ImageRate
from serving.engine_plans.plan_cache import PlanCache, PlanKey, PlanRecord
from serving.engine_plans.ready_plan import find_plan, is_reference
from serving.engines import ENGINES, Device, EnginePrecision
from serving.engines.base import EngineError


@dataclass(frozen=True, kw_only=True)
class SurveyRow:
    """One engine in one precision."""

    engine: str
    precision: str
    """Empty for an engine that is not here at all."""
    state: str
    """Whether it is built and passes, or why it cannot be used."""
    chosen: bool = False
    """Whether `auto` takes it."""
    plan: PlanRecord | None = None
    """With its parity; None where there is no plan."""
    rates: dict[str, ImageRate]
    """Images per second by batch size; empty before it is measured."""


def survey(
    bundle: Bundle, device: Device, cache: PlanCache, choice: EngineChoice | None, say: Say
) -> Iterator[SurveyRow]:
    """A row for each engine and precision, in the order of the tables."""
    for name in ENGINES.names:
        try:
            offered = ENGINES.load(name).precisions(device)
        except (PluginError, EngineError) as error:
            yield SurveyRow(engine=name, precision="", state=str(error), rates={})
            continue
        for precision in get_args(EnginePrecision):
            if precision in offered:
                yield _row(bundle, name, precision, device, cache, choice, say)


def _row(
    bundle: Bundle,
    name: str,
    precision: EnginePrecision,
    device: Device,
    cache: PlanCache,
    choice: EngineChoice | None,
    say: Say,
) -> SurveyRow:
    record = None
    if is_reference(name, precision, device):
        state = "the reference"
    else:
        record = find_plan(PlanKey.of(bundle, name, device, precision), cache, say)
        state = _state(record)
    chosen = choice is not None and (choice.engine, choice.precision) == (name, precision)
    rates = choice.rates.get(f"{name} {precision}", {}) if choice is not None else {}
    return SurveyRow(
        engine=name, precision=precision, state=state, chosen=chosen, plan=record, rates=rates
    )


def _state(record: PlanRecord | None) -> str:
    if record is None:
        return "not built"
    if record.refused:
        return f"refused: {record.refused}"
    recipes = {graph: built.recipe for graph, built in record.graphs.items()}
    mixed = [f"{graph} {recipe}" for graph, recipe in recipes.items() if recipe != "plain"]
    return "passes" + (f", {', '.join(mixed)}" if mixed else "")
