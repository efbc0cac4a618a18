"""What an abandoned load leaves behind."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import psutil
import pytest

from serving.core.config import ServerConfig
from serving.core.metrics import Metrics
from serving.engine_plans.open_engine import open_engine
from serving.models import load_model as module


async def test_a_load_that_is_cancelled_at_its_very_end_leaves_nothing(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settling, go_on = threading.Event(), threading.Event()

    def settle() -> None:
        settling.set()
        assert go_on.wait(30)

    monkeypatch.setattr(module, "settle_memory", settle)
    before = set(psutil.Process().children())
    config = ServerConfig(decode_workers=1)
    loading = asyncio.create_task(module.load_model(tiny_bundle, config, Metrics(), open_engine))
    assert await asyncio.to_thread(settling.wait, 60)
    assert set(psutil.Process().children()) > before
    loading.cancel()
    await asyncio.sleep(0.01)
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await loading
    assert set(psutil.Process().children()) <= before
