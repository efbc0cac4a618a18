"""`auto`: the fastest engine that passes the parity gate on this machine, measured once.

    <cache>/choices/<key>.json    what was measured and chosen

The key covers the bundle's graphs, the engines that could be chosen with their versions, and the
machine. A new library, a new plan or another machine leads to another key, and is measured anew.
"""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import json
import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bundle.atomic import write_file
from bundle.plugins import PluginError
from bundle.schema import SchemaError, from_dict
from serving.engine_plans.build_plan import ReferenceOutputs, Say
from serving.engine_plans.measure_rates import BATCHES, ImageRate, measure_rates, warm_up
from serving.engine_plans.plan_cache import LAYOUT, PlanCache, PlanKey, graphs_digest
from serving.engine_plans.ready_plan import (
    check_precision,
    find_plan,
    is_reference,
    ready_plan,
)
from serving.engines import AUTO, ENGINES, SLOW_BUILDS, EnginePrecision
from serving.engines._hardware import cpu
from serving.engines.base import (
    Engine,
    EngineConfig,
    EngineError,
    EngineUnavailableError,
    available_cores,
)

NOT_BUILT = "not built; `sparseclip engine build` does it"

NOT_TRIED = "not built, nor does auto build it; `sparseclip engine list` shows whether it can be"
"""Of an engine that takes minutes to build: its library is not even imported."""


@dataclass(frozen=True, kw_only=True)
class EngineChoice:
    """What was chosen, and why."""

    engine: str
    precision: EnginePrecision
    rates: dict[str, dict[str, ImageRate]]
    """Images per second by `ENGINE PRECISION` and batch size; empty where there was no choice."""
    left_out: dict[str, str]
    """What was not measured, with the reason."""
    measured: str
    """The day."""


@dataclass(frozen=True, kw_only=True)
class Candidates:
    """What `auto` may choose from."""

    configs: list[EngineConfig] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    """For each: what its plan is, or would be."""
    left_out: dict[str, str] = field(default_factory=dict)


class EngineChooser:
    """Chooses for one bundle, as far as a configuration leaves engine and precision to `auto`."""

    def __init__(
        self, reference: ReferenceOutputs, config: EngineConfig, cache: PlanCache, say: Say
    ) -> None:
        self._reference, self._config, self._cache, self._say = reference, config, cache, say

    def choose(self) -> EngineConfig:
        """The configuration with an engine and a precision in place of `auto`.

        Raises EngineUnavailableError when nothing that it allows can be used, and PluginError for
        an engine that is named and not installed.
        """
        choice = self.kept()
        if choice is None:
            model = self._reference.bundle.manifest
            self._say(
                f"nothing was measured for {model.name}/{model.version} here: engines are built,"
                " compared and measured once, which may take minutes"
            )
            choice = self.measure()
        else:
            self._say(f"{choice.engine} {choice.precision}, which was chosen on {choice.measured}")
        return dataclasses.replace(self._config, name=choice.engine, precision=choice.precision)

    def kept(self) -> EngineChoice | None:
        """The choice among today's candidates, if it was made before."""
        return self._read(self._candidates(self._say))

    def measure(self, batches: Sequence[int] = BATCHES, rounds: int = 3) -> EngineChoice:
        """Builds what is missing, measures what passes the gate, and keeps the choice."""
        found = self._candidates(self._say)
        engines: dict[str, Engine] = {}
        usable: dict[str, EngineConfig] = {}
        left_out = dict(found.left_out)
        try:
            for candidate in found.configs:
                label = f"{candidate.name} {candidate.precision}"
                try:
                    engines[label] = self._open(candidate)
                    warm_up(engines[label], self._reference.gate.pixels, batches)
                    usable[label] = candidate
                except EngineError as error:
                    left_out[label] = str(error)
                    if label in engines:
                        engines.pop(label).close()
            if not usable:
                reasons = "; ".join(f"{label}: {reason}" for label, reason in left_out.items())
                raise EngineUnavailableError(f"engine: none can be used: {reasons}")
            rates = {}
            if len(engines) > 1:
                self._say(f"measuring {', '.join(engines)}")
                pixels = self._reference.gate.pixels
                rates = measure_rates(engines, pixels, batches, rounds)
        finally:
            for engine in engines.values():
                engine.close()
        best = max(usable, key=lambda label: _score(rates.get(label, {})))
        choice = EngineChoice(
            engine=usable[best].name,
            precision=usable[best].chosen_precision,
            rates=rates,
            left_out=left_out,
            measured=datetime.date.today().isoformat(),
        )
        self._keep(choice, usable)
        shown = [f"{r.median:g} images/s at batch {b}" for b, r in rates.get(best, {}).items()]
        self._say(f"{best} is chosen: {', '.join(shown) or 'nothing else can be used'}")
        return choice

    def _open(self, candidate: EngineConfig) -> Engine:
        reference = self._reference
        record = ready_plan(reference, candidate, self._cache, self._say)
        plans = self._cache.plans(record) if record is not None else None
        engine = ENGINES.load(candidate.name)
        return engine.open(reference.bundle, candidate, reference.cores, plans)

    def _candidates(self, say: Say) -> Candidates:
        """The engines and precisions that the configuration allows and that can be used here.

        int8 is among them only once it is built: `auto` does not guess on which images to
        calibrate. Nor are engines that take minutes to build, unless the configuration names one.
        """
        config, found = self._config, Candidates()
        for name in ENGINES.names if config.name == AUTO else (config.name,):
            # Its library, which may be large, is not even imported then.
            if self._is_too_slow(name) and not self._cache.holds(name, self._reference.bundle):
                found.left_out[name] = NOT_TRIED
                continue
            try:
                engine = ENGINES.load(name)
                offered = engine.precisions(config.device)
                if config.precision != AUTO:
                    check_precision(dataclasses.replace(config, name=name))
                    offered = (config.chosen_precision,)
            except (PluginError, EngineError) as error:
                if config.name != AUTO:
                    raise
                found.left_out[name] = str(error)
                continue
            for precision in offered:
                self._add(found, dataclasses.replace(config, name=name, precision=precision), say)
        return found

    def _is_too_slow(self, name: str) -> bool:
        return self._config.name == AUTO and name in SLOW_BUILDS

    def _add(self, found: Candidates, candidate: EngineConfig, say: Say) -> None:
        label = f"{candidate.name} {candidate.precision}"
        made = ""
        if not is_reference(candidate.name, candidate.precision, candidate.device):
            bundle = self._reference.bundle
            precision = candidate.chosen_precision
            key = PlanKey.of(bundle, candidate.name, candidate.device, precision)
            record = find_plan(key, self._cache, say)
            if record is None and (precision == "int8" or self._is_too_slow(candidate.name)):
                found.left_out[label] = NOT_BUILT
                return
            if record is not None and record.refused:
                found.left_out[label] = f"refused by the parity gate: {record.refused}"
                return
            files = record.files.values() if record is not None else ()
            made = " ".join([key.digest, *(entry.sha256 for entry in files)])
        found.configs.append(candidate)
        found.keys.append(f"{label} {made}")

    def _read(self, found: Candidates) -> EngineChoice | None:
        try:
            text = self._path(found).read_text(encoding="utf-8")
            choice = from_dict(EngineChoice, json.loads(text), at="")
        except (OSError, SchemaError, ValueError, RecursionError):
            return None
        allowed = {(config.name, config.precision) for config in found.configs}
        return choice if (choice.engine, choice.precision) in allowed else None

    def _keep(self, choice: EngineChoice, usable: Collection[str]) -> None:
        # By now every plan is built or refused: the next start finds these candidates.
        found = self._candidates(lambda line: None)
        labels = [f"{config.name} {config.precision}" for config in found.configs]
        failed = [label for label in labels if label not in usable]
        if failed:
            reasons = "; ".join(f"{label} failed: {choice.left_out.get(label)}" for label in failed)
            self._say(f"the choice is not kept, and the next start tries again: {reasons}")
            return
        path = self._path(found)
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            write_file(path, json.dumps(dataclasses.asdict(choice), indent=1).encode())
        except OSError:
            self._say("the choice cannot be kept: engine.cache cannot be written")

    def _path(self, found: Candidates) -> Path:
        config = self._config
        cores = self._reference.cores or available_cores()
        parts = [graphs_digest(self._reference.bundle), config.device, config.threads, config.runs]
        text = json.dumps([LAYOUT, *parts, cores, cpu(), found.keys])
        digest = hashlib.sha256(text.encode()).hexdigest()[:32]
        return self._cache.root / "choices" / f"{digest}.json"


def _score(rates: dict[str, ImageRate]) -> float:
    """The geometric mean over batch sizes: single calls count as much as full batches."""
    return math.prod(rate.median for rate in rates.values()) ** (1 / max(1, len(rates)))
