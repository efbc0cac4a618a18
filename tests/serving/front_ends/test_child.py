"""A process that its supervisor starts again and again."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from serving.core.errors import StartupError
from serving.front_ends import child
from serving.front_ends.child import Child


async def starts(path: Path, seconds: float) -> int:
    """How often a process is started that ends as soon as it is ready."""
    short_lived = Child("engine", "tests.serving.front_ends.short_lived", {"starts": str(path)})
    await short_lived.start()
    keeping = asyncio.ensure_future(short_lived.keep())
    await asyncio.sleep(seconds)
    short_lived.kill()
    keeping.cancel()
    await asyncio.gather(keeping, return_exceptions=True)
    await short_lived.wait()
    return len(path.read_text().splitlines())


async def test_one_that_ends_as_soon_as_it_is_ready_is_paused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child, "_PAUSES_S", (0.0, 60.0))
    assert await starts(tmp_path / "starts", 3.0) == 2


async def test_one_that_has_lived_long_is_started_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child, "_PAUSES_S", (0.0, 60.0))
    monkeypatch.setattr(child, "_STEADY_S", 0.0)
    assert await starts(tmp_path / "starts", 3.0) > 2


async def test_why_one_does_not_start_names_it_once(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(child, "_PAUSES_S", (0.0, 60.0))
    kept = Child("engine", "tests.serving.front_ends.short_lived", {"starts": str(tmp_path / "a")})
    await kept.start()
    kept.settings = {}  # the next process ends with a traceback
    keeping = asyncio.ensure_future(kept.keep())
    while "does not start" not in caplog.text:
        await asyncio.sleep(0.05)
    kept.kill()
    keeping.cancel()
    await asyncio.gather(keeping, return_exceptions=True)
    assert "engine: does not start: its process ended with status 1" in caplog.text
    with pytest.raises(StartupError, match="^engine: its process ended"):
        await kept.start()
