"""The guide's programs for others' clients run as they stand."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.clients.client_program import execute
from tests.packaging.pages import Block, blocks
from tests.serving.support.server_process import Process
from tests.support.paths import ROOT

pytestmark = pytest.mark.clients


@pytest.fixture(scope="module")
def demo() -> Iterator[Process]:
    process = Process(ROOT / "models" / "demo", "--chat", "off", "--http-port", "0")
    try:
        yield process
    finally:
        process.close()


def test_there_are_programs() -> None:
    assert len(blocks("py")) >= 3


@pytest.mark.parametrize("block", blocks("py"), ids=lambda block: block.place)
def test_a_program_runs(block: Block, demo: Process) -> None:
    program = block.code.replace("localhost:50051", demo.address)
    assert demo.http_address
    program = program.replace("http://localhost:8080", demo.http_address)
    printed = execute("-c", program, cwd=ROOT)
    if "a puppy" in program:
        assert printed == "dog\n"
    assert printed
