"""`auto` measures what passes the gate, once, and takes the fastest."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
from numpy.typing import NDArray

from bundle.onnx_graph import GraphName
from bundle.store import Bundle
from serving.engine_plans import choose_engine
from serving.engine_plans.build_plan import ReferenceOutputs
from serving.engine_plans.choose_engine import EngineChooser
from serving.engine_plans.open_engine import settled
from serving.engine_plans.plan_cache import PlanCache
from serving.engines.base import EngineOutput, OutOfMemoryError
from tests.serving.engine_plans.conftest import config
from tests.serving.engine_plans.shaky_engine import ShakyEngine


def test_auto_measures_once_and_says_what_it_takes(
    reference: ReferenceOutputs, cache: PlanCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[str] = []
    wanted = dataclasses.replace(config("auto", "fp32"), cache=str(cache.root))
    chooser = EngineChooser(reference, wanted, cache, lines.append)
    monkeypatch.setattr("serving.engine_plans.measure_rates._BLOCK_S", 0.01)
    chosen = chooser.choose()
    assert chosen.is_chosen
    assert chosen.name in ("onnxruntime", "openvino")
    assert "nothing was measured for tiny/1 here" in lines[0]
    assert "is chosen" in lines[-1]
    [path] = (cache.root / "choices").glob("*.json")
    kept = json.loads(path.read_text())
    assert set(kept["rates"]) == {"onnxruntime fp32", "openvino fp32"}
    assert "not built" in kept["left_out"]["torch"]

    def fail(*_: object) -> None:
        raise AssertionError("measured again")

    monkeypatch.setattr(choose_engine, "measure_rates", fail)
    assert EngineChooser(reference, wanted, cache, lines.append).choose() == chosen
    assert lines[-1] == f"{chosen.name} fp32, which was chosen on {kept['measured']}"
    # A choice is one for a number of cores.
    other = ReferenceOutputs(reference.bundle, cores=2)
    with pytest.raises(AssertionError, match="measured again"):
        EngineChooser(other, wanted, cache, lines.append).choose()


def test_auto_tries_again_what_failed(
    reference: ReferenceOutputs,
    cache: PlanCache,
    shaky: type[ShakyEngine],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An engine that has no memory is left out, and the choice without it is not kept."""
    monkeypatch.setattr("serving.engine_plans.measure_rates._BLOCK_S", 0.01)
    monkeypatch.setattr(ShakyEngine, "cured_by", "head")
    lines: list[str] = []
    chooser = EngineChooser(reference, config("shaky", "auto"), cache, lines.append)
    run = ShakyEngine.run

    def fail(self: ShakyEngine, graph: GraphName, inputs: NDArray[Any]) -> EngineOutput:
        if len(inputs) == 16 and self.plans["image"].precision == "fp32":  # type: ignore[attr-defined]
            raise OutOfMemoryError("no memory")
        return run(self, graph, inputs)

    monkeypatch.setattr(ShakyEngine, "run", fail)
    choice = chooser.measure()
    assert choice.precision == "bf16"
    assert choice.left_out["shaky fp32"] == "no memory"
    assert any("not kept" in line and "shaky fp32 failed: no memory" in line for line in lines)
    assert chooser.kept() is None
    monkeypatch.setattr(ShakyEngine, "run", run)
    assert set(chooser.measure().rates) == {"shaky fp32", "shaky bf16"}
    assert chooser.kept() is not None


def test_a_choice_of_something_else_does_not_count(
    reference: ReferenceOutputs, cache: PlanCache, shaky: type[ShakyEngine]
) -> None:
    chooser = EngineChooser(reference, config("shaky", "fp32"), cache, lambda line: None)
    assert chooser.measure() == chooser.kept()
    [path] = (cache.root / "choices").glob("*.json")
    path.write_text(path.read_text().replace('"precision": "fp32"', '"precision": "int8"'))
    assert chooser.kept() is None


@pytest.mark.parametrize(
    ("wanted", "settles"),
    [
        (("auto", "auto"), ("onnxruntime", "fp32")),
        (("shaky", "auto"), ("shaky", "fp32")),
        (("shaky", "bf16"), ("shaky", "bf16")),
    ],
)
def test_beside_calls_nothing_is_measured(
    wanted: tuple[str, str],
    settles: tuple[str, str],
    bundle: Bundle,
    cache: PlanCache,
    shaky: type[ShakyEngine],
) -> None:
    settled_config = settled(bundle, config(*wanted, cache=str(cache.root)))
    assert (settled_config.name, settled_config.precision) == settles
    assert shaky.built == []


def test_auto_leaves_out_what_the_gate_refuses(
    reference: ReferenceOutputs,
    cache: PlanCache,
    shaky: type[ShakyEngine],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ShakyEngine, "cured_by", "nothing")
    chooser = EngineChooser(reference, config("shaky", "auto"), cache, lambda line: None)
    choice = chooser.measure()
    assert (choice.engine, choice.precision, choice.rates) == ("shaky", "fp32", {})
    assert "parity gate" in choice.left_out["shaky bf16"]
    assert "not built" in choice.left_out["shaky int8"]
