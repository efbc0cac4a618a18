"""The cache of plans: damage, other machines, rights, and who may build."""

from __future__ import annotations

import os
import shutil
import threading
from pathlib import Path

import pytest

from bundle.store import Bundle
from serving.engine_plans.build_plan import ReferenceOutputs
from serving.engine_plans.plan_cache import PLAN_FILE, DamagedPlanError, PlanCache, PlanKey
from serving.engine_plans.ready_plan import ready_plan
from serving.engines.base import EngineUnavailableError
from tests.serving.engine_plans.conftest import config
from tests.serving.engine_plans.shaky_engine import ShakyEngine


@pytest.mark.parametrize(
    "damage",
    ["changed", "cut", "gone", "record", "pipe", "pipe for a record", "file", "fifo", "link"],
)
def test_a_damaged_plan_is_never_opened_and_built_again(
    damage: str, reference: ReferenceOutputs, cache: PlanCache, shaky: type[ShakyEngine]
) -> None:
    wanted = config("shaky", "fp32")
    record = ready_plan(reference, wanted, cache, lambda line: None)
    assert record is not None
    folder = cache.root / record.key.digest
    file = folder / "image" / "note"
    elsewhere = cache.root / "elsewhere"
    if damage == "gone":
        file.unlink()
    elif damage == "record":
        (folder / PLAN_FILE).write_text("{}")
    elif damage.startswith("pipe"):  # to open it would block
        path = file if damage == "pipe" else folder / PLAN_FILE
        path.unlink()
        os.mkfifo(path)
    elif damage in ("file", "fifo"):
        shutil.rmtree(folder)
        folder.write_text("") if damage == "file" else os.mkfifo(folder)
    elif damage == "link":
        folder.rename(elsewhere)
        folder.symlink_to(elsewhere)
        (elsewhere / PLAN_FILE).write_text("{}")
    else:
        file.write_text("fp3" if damage == "cut" else "fp64")
    with pytest.raises(DamagedPlanError):
        cache.find(record.key)
    lines: list[str] = []
    count = len(shaky.built)
    again = ready_plan(reference, wanted, cache, lines.append)
    assert again is not None
    assert again.files == record.files
    assert len(shaky.built) == 2 * count
    assert "damaged" in lines[0]
    assert cache.find(record.key) == again
    assert damage != "link" or (elsewhere / PLAN_FILE).read_text() == "{}"


def test_a_plan_of_another_machine_or_version_is_not_found(
    reference: ReferenceOutputs,
    cache: PlanCache,
    shaky: type[ShakyEngine],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    record = ready_plan(reference, config("shaky", "fp32"), cache, lambda line: None)
    assert record is not None
    monkeypatch.setattr(ShakyEngine, "identity", classmethod(lambda cls, device: "shaky 2"))
    key = PlanKey.of(reference.bundle, "shaky", "cpu", "fp32")
    assert key != record.key
    assert cache.find(key) is None
    # Nor does a record count that was copied to where the other's should be.
    (cache.root / record.key.digest).rename(cache.root / key.digest)
    with pytest.raises(DamagedPlanError):
        cache.find(key)


def test_a_cache_that_cannot_be_written_is_one_line(
    reference: ReferenceOutputs, tmp_path: Path, shaky: type[ShakyEngine]
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EngineUnavailableError, match=r"^engine\.cache: cannot be written"):
        ready_plan(reference, config("shaky", "fp32"), PlanCache(tmp_path / "file"), print)


def test_a_cache_that_cannot_be_read_holds_nothing(bundle: Bundle, cache: PlanCache) -> None:
    """That of another user: `auto` must start without it."""
    cache.root.mkdir(mode=0)
    root = os.geteuid() == 0
    if root:  # for whom there are no rights
        os.seteuid(65_534)
    try:
        assert list(cache.records()) == []
        assert not cache.holds("openvino", bundle)
        with pytest.raises(PermissionError):
            cache.names()
    finally:
        if root:
            os.seteuid(0)


def test_who_builds_keeps_others_waiting(cache: PlanCache) -> None:
    said = threading.Event()
    order: list[str] = []

    def build() -> None:
        with PlanCache(cache.root).exclusive(lambda line: said.set()):
            order.append("second")

    with cache.exclusive(print):
        other = threading.Thread(target=build)
        other.start()
        assert said.wait(30)
        order.append("first")
    other.join(30)
    assert order == ["first", "second"]
