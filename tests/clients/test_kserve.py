"""KServe's gRPC client, unmodified, with the values of our own client."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from sparseclip import Client, Outputs
from tests.clients.client_program import run
from tests.serving.support.running_server import PNG
from tests.serving.support.server_process import Process

pytestmark = pytest.mark.clients


def call(name: str, *elements: bytes, **more: Any) -> dict[str, Any]:
    return {
        "input": name,
        "elements": [base64.b64encode(one).decode() for one in elements],
        "raw": False,
        **more,
    }


def test_it_embeds_what_our_own_client_does(server: Process) -> None:
    text = "a cat under a tree"
    calls = [
        call("image", PNG, raw=True),
        call("image", PNG),
        call("text", text.encode(), raw=True, outputs=["names"], parameters={"top_concepts": 2}),
        call("text", text.encode(), outputs=["values", "norm"]),
        call("image", PNG, b"nonsense"),
    ]
    told = run(
        "kserve_calls.py", given={"address": server.address, "model": "tiny", "calls": calls}
    )
    assert (told["live"], told["ready"], told["model"]) == (True, True, True)
    with Client(server.address) as own:
        outputs = Outputs(sparse=True, dense=True, top_concepts=10)
        [image], [described] = (
            own.embed([PNG], outputs=outputs),
            own.embed([], [text], outputs=outputs),
        )
    raw, contents, names, chosen, failed = told["calls"]
    assert raw == contents
    values = raw["values"]
    count = len(image.indices)
    assert values["indices"][0][:count] == image.indices.tolist()
    assert values["values"][0][:count] == image.values.tolist()
    assert values["dense"] == [image.dense.tolist()]
    assert values["active"] == [image.active]
    assert [name for name in values["names"][0] if name] == [one.name for one in image.concepts]
    assert names["values"] == {"names": [[one.name for one in described.concepts[:2]]]}
    assert set(chosen["values"]) == {"values", "norm"}
    assert chosen["values"]["norm"] == [described.norm]
    assert (raw["id"], failed["error"][:17]) == ("kserve", "inputs.image[1]: ")
