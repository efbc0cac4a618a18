"""Plans are built, compared, kept, checked and chosen."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest

from bundle.store import Bundle
from serving.engine_plans.build_plan import RECIPES, WHOLE, ReferenceOutputs, build_plan
from serving.engine_plans.gate_inputs import drawn_images, gate_inputs
from serving.engine_plans.open_engine import open_engine, say
from serving.engine_plans.plan_cache import PlanCache
from serving.engine_plans.ready_plan import ready_plan
from serving.engines import ENGINES
from serving.engines.base import (
    REFERENCE,
    BuildTask,
    EngineError,
    EngineUnavailableError,
    OutOfMemoryError,
)
from tests.serving.engine_plans.conftest import config
from tests.serving.engine_plans.shaky_engine import ShakyEngine


def test_the_first_recipe_that_passes_is_kept(
    reference: ReferenceOutputs, cache: PlanCache, shaky: type[ShakyEngine]
) -> None:
    lines: list[str] = []
    record = build_plan(reference, config("shaky", "bf16"), cache, lines.append)
    assert record.refused == ""
    assert {graph: built.recipe for graph, built in record.graphs.items()} == {
        "image": "head",
        "text": "head",
        "patches": "head",
    }
    assert "top16" in " ".join(record.graphs["image"].tried["plain"])
    assert cache.find(record.key) == record
    plans = cache.plans(record)
    assert plans["image"].kept == RECIPES["head"]
    assert plans["image"].folder is not None
    assert any("recipe plain" in line for line in lines)
    assert not list(cache.root.glob(".sparseclip*"))


def test_a_refused_plan_is_remembered_without_its_files(
    reference: ReferenceOutputs,
    cache: PlanCache,
    shaky: type[ShakyEngine],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ShakyEngine, "cured_by", "nothing")
    with pytest.raises(EngineUnavailableError, match=r"parity gate.*top16 0\.\d+ is below"):
        ready_plan(reference, config("shaky", "bf16"), cache, lambda line: None)
    [record] = cache.records()
    assert record.files == {}
    assert record.graphs["image"].recipe == WHOLE
    count = len(shaky.built)
    assert count == len(RECIPES)
    with pytest.raises(EngineUnavailableError, match="parity gate"):
        ready_plan(reference, config("shaky", "bf16"), cache, lambda line: None)
    assert len(shaky.built) == count


@pytest.mark.parametrize(
    ("graph", "precision", "error"),
    [
        ("image", "bf16", EngineError),
        ("image", "fp32", EngineError),
        ("text", "fp32", EngineError),
        ("text", "bf16", OutOfMemoryError),
    ],
)
def test_a_build_that_fails_is_no_verdict(
    graph: str,
    precision: str,
    error: type[EngineError],
    reference: ReferenceOutputs,
    cache: PlanCache,
    shaky: type[ShakyEngine],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nothing is kept of it: the next build may succeed."""

    def build(task: BuildTask) -> None:
        if task.graph == graph:
            raise error("not today")

    monkeypatch.setattr(ShakyEngine, "cured_by", "head")
    monkeypatch.setattr(ShakyEngine, "build", build)
    with pytest.raises(error, match="not today"):
        build_plan(reference, config("shaky", precision), cache, lambda line: None)
    assert list(cache.records()) == []


def test_an_error_of_a_library_is_shown_on_one_line(capfd: pytest.CaptureFixture[str]) -> None:
    say("image, recipe plain: no:\n\n  at this place")
    expected = "sparseclip: engine: image, recipe plain: no: at this place\n"
    assert capfd.readouterr().err == expected


def test_a_library_that_a_build_misses_is_named_with_its_extra(
    reference: ReferenceOutputs,
    cache: PlanCache,
    shaky: type[ShakyEngine],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def build(task: BuildTask) -> None:
        raise ModuleNotFoundError("No module", name="onnx")

    monkeypatch.setitem(ENGINES.table, "shaky", ENGINES.table["shaky"]._replace(extra="torch"))
    monkeypatch.setattr(ShakyEngine, "build", build)
    with pytest.raises(EngineUnavailableError, match=r"shaky: onnx is .*'sparseclip\[torch\]'"):
        ready_plan(reference, config("shaky", "fp32"), cache, lambda line: None)


def test_a_failure_on_a_full_disk_is_one_of_the_disk(
    reference: ReferenceOutputs,
    cache: PlanCache,
    shaky: type[ShakyEngine],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A library says `iostream error`. For texts, it would otherwise leave the graph in fp32."""

    def build(task: BuildTask) -> None:
        if task.graph == "text" and task.precision != "fp32":
            raise EngineError("iostream error")

    monkeypatch.setattr(ShakyEngine, "cured_by", "head")
    monkeypatch.setattr(ShakyEngine, "build", build)
    full = shutil.disk_usage(cache.root.parent)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: full)
    with pytest.raises(EngineUnavailableError, match=r"engine\.cache: .*No space left on device"):
        ready_plan(reference, config("shaky", "bf16"), cache, lambda line: None)
    assert list(cache.records()) == []


def test_a_graph_beside_the_images_may_stay_in_fp32(
    reference: ReferenceOutputs,
    cache: PlanCache,
    shaky: type[ShakyEngine],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def build(task: BuildTask) -> None:
        if task.graph == "text" and task.precision != "fp32":
            raise EngineError("this compiler knows no texts")

    monkeypatch.setattr(ShakyEngine, "build", build)
    monkeypatch.setattr(ShakyEngine, "run", ShakyEngine.__mro__[1].run)
    record = build_plan(reference, config("shaky", "bf16"), cache, lambda line: None)
    assert record.refused == ""
    assert (record.graphs["text"].recipe, record.graphs["text"].precision) == (WHOLE, "fp32")
    assert record.graphs["text"].tried["plain"] == ["this compiler knows no texts"]


def test_int8_asks_for_images(
    reference: ReferenceOutputs, cache: PlanCache, shaky: type[ShakyEngine]
) -> None:
    with pytest.raises(EngineError, match="sparseclip engine build .*--images FOLDER"):
        ready_plan(reference, config("shaky", "int8"), cache, lambda line: None)


def test_a_precision_that_is_not_there_is_refused_by_name(
    reference: ReferenceOutputs, cache: PlanCache
) -> None:
    with pytest.raises(EngineUnavailableError, match=r"^engine\.precision: onnxruntime .*fp16"):
        ready_plan(reference, config("onnxruntime", "fp16"), cache, lambda line: None)


def test_the_engine_that_is_opened_answers_as_the_reference(
    bundle: Bundle, reference: ReferenceOutputs, cache: PlanCache, capfd: pytest.CaptureFixture[str]
) -> None:
    """int8 of ONNX Runtime is built for real; its plan is cut off, and it is built again."""
    wanted = config("onnxruntime", "int8", cache=str(cache.root))
    pixels = reference.gate.pixels[:4]
    outputs = []
    for _ in range(2):
        engine = open_engine(bundle, wanted, 1)
        assert engine.description.endswith(" cpu int8")
        outputs.append(engine.run("image", pixels).dense)
        engine.close()
        [file] = cache.root.glob("*/image/image.onnx")
        file.write_bytes(file.read_bytes()[:1000])
    np.testing.assert_array_equal(outputs[0], outputs[1])
    assert "damaged (image/image.onnx); it is not used" in capfd.readouterr().err
    exact = open_engine(bundle, dataclasses.replace(REFERENCE, threads=1, runs=1), 1)
    assert not np.array_equal(exact.run("image", pixels).dense, outputs[0])
    exact.close()


def test_drawn_images_are_the_same_everywhere() -> None:
    first, second = drawn_images(), drawn_images()
    assert [image.tobytes() for image in first] == [image.tobytes() for image in second]
    assert len({image.size for image in first}) > 20


def test_images_of_the_user_are_split_between_comparison_and_calibration(
    bundle: Bundle, tmp_path: Path
) -> None:
    for number, image in enumerate(drawn_images()):
        image.save(tmp_path / f"{number:02}.png")
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    gate = gate_inputs(bundle, tmp_path)
    assert gate.calibration_pixels is not None
    assert len(gate.pixels) + len(gate.calibration_pixels) == 32
    assert (str(gate.left_out), gate.images) == ("1 unsupported image", "32 images")
    calibration = {pixels.tobytes() for pixels in gate.calibration_pixels}
    assert not calibration & {pixels.tobytes() for pixels in gate.pixels}
