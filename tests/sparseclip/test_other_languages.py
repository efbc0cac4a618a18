"""The calls of docs/protos.md, run as they stand there against a server of its own process."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.packaging.pages import scan
from tests.serving.support.server_process import command
from tests.support.paths import ROOT

PAGE = ROOT / "docs" / "protos.md"
ADDRESS = "localhost:50051"
CODE = {
    language: [block.code for block in scan(PAGE.name, PAGE.read_text()) if language in block]
    for language in ("bash", "js")
}
NODE_PACKAGES = ("@grpc/grpc-js", "@grpc/proto-loader")


@pytest.fixture(scope="module")
def address(tiny_bundle: Path) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [
            *command("--reflection", "--chat", "off"),
            "--bundle",
            str(tiny_bundle),
            "--port",
            str(port),
        ],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr is not None
        assert "serving on" in process.stderr.readline()
        yield f"localhost:{port}"
    finally:
        process.terminate()
        assert process.wait(timeout=30) == 0


def run(command: list[str], code: str, address: str) -> subprocess.CompletedProcess[str]:
    """Runs code of the page in a clone of the repository."""
    assert ADDRESS in code
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    return subprocess.run(
        command,
        input=code.replace(ADDRESS, address),
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )


def printed(command: list[str], code: str, address: str) -> str:
    done = run(command, code, address)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_buf_curl_reads_the_folder_of_protos(address: str) -> None:
    [embed, _] = CODE["bash"]
    reply = json.loads(printed(["bash", "-e"], embed, address))
    assert reply["model"] == {"name": "tiny", "version": "1"}
    [result] = reply["results"]
    assert 1 <= len(result["concepts"]) <= 3
    assert "status" not in result


def test_buf_curl_asks_a_server_that_describes_itself(address: str) -> None:
    [_, reflection] = CODE["bash"]
    listing, _, reply = printed(["bash", "-e"], reflection, address).partition("{")
    assert "sparseclip.v1.EmbeddingService/EmbedStream" in listing.splitlines()
    [match] = json.loads("{" + reply)["matches"]
    assert match["concept"]["name"] == "dog"


def test_buf_curl_shows_the_field_that_is_wrong(address: str) -> None:
    [embed, _] = CODE["bash"]
    wrong = embed.replace('{"text": "a red apple"}', "{}")
    assert wrong != embed
    done = run(["bash", "-e"], wrong, address)
    error = json.loads(done.stderr)
    assert done.returncode != 0
    assert error["code"] == "invalid_argument"
    assert error["message"] == "inputs[0].content: an image or a text is needed"
    assert error["details"][0]["type"] == "google.rpc.BadRequest"


def has_node() -> bool:
    if shutil.which("node") is None:
        return False
    script = "".join(f"require.resolve('{name}');" for name in NODE_PACKAGES)
    return subprocess.run(["node", "-e", script], capture_output=True, cwd=ROOT).returncode == 0


@pytest.mark.skipif(
    not has_node(),
    reason=f"node with {' and '.join(NODE_PACKAGES)} is not here; set NODE_PATH to node_modules",
)
def test_node_loads_the_folder_of_protos(address: str) -> None:
    [embed] = CODE["js"]
    image, text = printed(["node", "-"], embed, address).replace("'", '"').split("]\n", 1)
    assert 1 <= len(json.loads(image + "]")) <= 3
    assert 1 <= len(json.loads(text)) <= 3
