"""The embedding classes of LangChain and LlamaIndex, unmodified, with the vectors of our client."""

from __future__ import annotations

import numpy as np
import pytest

from sparseclip import Client, Outputs
from tests.clients.client_program import run
from tests.serving.http.support import data_uri
from tests.serving.support.running_server import PNG
from tests.serving.support.server_process import Process

pytestmark = pytest.mark.clients

TEXTS = ["a red circle", "dog"]


@pytest.mark.parametrize("framework", ["langchain", "llama_index"])
def test_it_embeds_what_our_own_client_does(server: Process, framework: str) -> None:
    given = {"address": server.http_address, "texts": TEXTS, "images": [data_uri()]}
    told = run("framework_calls.py", framework, given=given)
    with Client(server.address) as own:
        rows = own.embed([PNG], TEXTS, outputs=Outputs(dense=True)).to_dense()
    rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    np.testing.assert_allclose(told["images"], rows[:1], atol=1e-5)
    np.testing.assert_allclose(told["texts"], rows[1:], atol=1e-5)
    np.testing.assert_allclose(told["aio"], rows[1:], atol=1e-5)
    np.testing.assert_allclose(told["query"], rows[1], atol=1e-5)
