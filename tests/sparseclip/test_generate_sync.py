"""The blocking client is what protos/generate_sync.py makes of the asyncio one."""

from __future__ import annotations

import inspect

import pytest

from generate_sync import GENERATED, PACKAGE, blocking
from sparseclip import AdminClient, AsyncAdminClient, AsyncClient, Client


@pytest.mark.parametrize("name", GENERATED)
def test_the_committed_file_is_the_generated_one(name: str) -> None:
    fresh = blocking((PACKAGE / name).read_text(), name)
    committed = (PACKAGE / GENERATED[name]).read_text()
    assert fresh == committed, "run python protos/generate_sync.py"


def test_nothing_of_asyncio_is_left() -> None:
    source = (
        "import asyncio\n\n\n"
        "async def echo(items: Iterable[ImageInput | Item] | AsyncIterable[ImageInput | Item]):\n"
        "    async for item in iterate_async(items):\n"
        "        await asyncio.sleep(1)\n"
        "        yield AsyncThing(await anext(item))\n"
    )
    assert blocking(source, "aio.py") == (
        "# Written by protos/generate_sync.py from aio.py: edit that file.\n"
        "import time\n\n\n"
        "def echo(items: Iterable[ImageInput | Item]):\n"
        "    for item in iter(items):\n"
        "        time.sleep(1)\n"
        "        yield Thing(next(item))\n"
    )


@pytest.mark.parametrize(("one", "other"), [(Client, AsyncClient), (AdminClient, AsyncAdminClient)])
def test_both_clients_have_the_same_methods(one: type, other: type) -> None:
    def parameters(kind: type) -> dict[str, list[tuple[str, object]]]:
        return {
            name: [
                (each.name, each.default) for each in inspect.signature(member).parameters.values()
            ]
            for name, member in inspect.getmembers(kind, inspect.isfunction)
            if not name.startswith("_") or name == "__init__"
        }

    assert parameters(one) == parameters(other)
    assert "close" in parameters(one)
