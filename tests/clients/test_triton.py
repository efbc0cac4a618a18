"""tritonclient, unmodified: blocking, asyncio and streams, with the values of our own client."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bundle.store import open_bundle
from sparseclip import Client, Outputs
from tests.clients.client_program import run
from tests.serving.support.certificates import ALICE, ROOT, bearer, write_tokens
from tests.serving.support.model_versions import copy_version
from tests.serving.support.running_server import PNG, encoded_image
from tests.serving.support.server_process import Process

pytestmark = pytest.mark.clients

IMAGES = [PNG, encoded_image(1), encoded_image(2)]
TEXTS = ["a red circle", "the blue square", "Ein Bär"]


def call(name: str, *elements: bytes, **more: Any) -> dict[str, Any]:
    return {
        "input": name,
        "elements": [base64.b64encode(one).decode() for one in elements],
        **more,
    }


@pytest.fixture(scope="module")
def own(server: Process) -> Iterator[Client]:
    with Client(server.address) as client:
        yield client


@pytest.fixture
def given(server: Process) -> dict[str, Any]:
    return {"address": server.address, "model": "tiny"}


def test_what_the_server_says_of_itself(given: dict[str, Any], tiny_bundle: Path) -> None:
    told = run("triton_calls.py", "about", given=given)
    assert [told[name] for name in ("live", "ready", "model", "other")] == [True] * 3 + [False]
    assert told["server"]["name"] == "sparseclip"
    assert told["index"]["models"] == [{"name": "tiny", "version": "1", "state": "READY"}]
    assert [one["name"] for one in told["metadata"]["inputs"]] == ["image", "text"]
    names = [one["name"] for one in told["metadata"]["outputs"]]
    assert names == ["indices", "values", "active", "norm", "names", "dense"]
    assert [one["name"] for one in told["config"]["config"]["output"]] == names
    [statistics] = told["statistics"]["model_stats"]
    assert (statistics["name"], statistics["version"]) == ("tiny", "1")


def test_one_item_has_the_values_of_our_own_client_bit_for_bit(
    given: dict[str, Any], own: Client, tiny_bundle: Path
) -> None:
    """One after another: runs of different sizes add numbers up in different orders."""
    architecture = open_bundle(tiny_bundle).manifest.architecture
    parameters = {"top_concepts": 3}
    given["calls"] = [call("image", one, parameters=parameters, id="a") for one in IMAGES]
    given["calls"] += [call("text", one.encode(), parameters=parameters, id="a") for one in TEXTS]
    told = run("triton_calls.py", "blocking", given=given)
    outputs = Outputs(sparse=True, dense=True, top_concepts=3)
    for place, made in enumerate([*IMAGES, *TEXTS]):
        [expected] = own.embed(
            [made] if place < 3 else [], [made] if place >= 3 else [], outputs=outputs
        )
        width = architecture.image_topk if place < 3 else architecture.text_topk
        one = told[place]
        assert (one["id"], one["version"]) == ("a", "1")
        assert one["shapes"]["indices"] == one["shapes"]["values"] == [1, width]
        assert one["types"]["indices"] == "int32"
        assert one["types"]["values"] == one["types"]["norm"] == one["types"]["dense"] == "float32"
        values = one["values"]
        count = len(expected.indices)
        assert values["indices"][0][:count] == expected.indices.tolist()
        assert values["values"][0][:count] == expected.values.tolist()
        assert not any(values["values"][0][count:])
        assert values["active"] == [expected.active]
        assert values["norm"] == [expected.norm]
        assert values["dense"] == [expected.dense.tolist()]
        named = [concept.name for concept in expected.concepts]
        assert values["names"] == [named + [""] * (3 - len(named))]


def mixed() -> list[dict[str, Any]]:
    """Twenty calls; the fifth and the seventh fail."""
    calls = [
        call("image", *IMAGES, outputs=["norm"], id=str(i))
        if i % 2
        else call("text", *(one.encode() for one in TEXTS), outputs=["norm"], id=str(i))
        for i in range(20)
    ]
    calls[5] = call("image", PNG, b"nonsense", outputs=["norm"], id="5")
    calls[7] = call("text", b"a", outputs=["norm"], parameters={"top_concept": 1}, id="7")
    return calls


@pytest.mark.parametrize("mode", ["blocking", "callbacks", "aio", "stream", "aio_stream"])
def test_many_calls_are_answered_and_two_are_refused(
    given: dict[str, Any], own: Client, mode: str
) -> None:
    given["calls"] = mixed()
    told = run("triton_calls.py", mode, given=given)
    assert len(told) == 20
    norms = {
        "image": [answer.norm for answer in own.embed(IMAGES) if answer.ok],
        "text": [answer.norm for answer in own.embed([], TEXTS) if answer.ok],
    }
    for place, (one, made) in enumerate(zip(told, given["calls"], strict=True)):
        if place in (5, 7):
            continue
        assert one["id"] == str(place)
        np.testing.assert_allclose(one["values"]["norm"], norms[made["input"]], atol=1e-5)
    assert told[5]["error"].startswith("inputs.image[1]: ")
    assert told[7]["error"].startswith("parameters.top_concept: is not known")
    if "stream" not in mode:
        assert told[5]["status"] == "StatusCode.INVALID_ARGUMENT"


def test_front_ends_answer_as_one_process_does(given: dict[str, Any], tiny_bundle: Path) -> None:
    given["calls"] = [call("image", one) for one in IMAGES]
    alone = run("triton_calls.py", "blocking", given=given)
    process = Process(tiny_bundle, "--chat", "off", "--front-ends", "2")
    try:
        given["address"] = process.address
        assert run("triton_calls.py", "blocking", given=given) == alone
    finally:
        process.close()


def test_tokens_and_the_repository(tiny_bundle: Path, tmp_path: Path) -> None:
    models = tmp_path / "models"
    for version in ("1", "2"):
        copy_version(tiny_bundle, models, version)
    (models / "tiny" / "CURRENT").write_text("2\n")
    tokens = write_tokens(tmp_path / "tokens.json")
    flags = ("--models", str(models), "--tokens", str(tokens), "--admin-port", "0")
    process = Process(models / "tiny" / "1", "--chat", "off", *flags)
    try:
        given: dict[str, Any] = {"address": process.address, "model": "tiny"}
        given["headers"] = [dict(bearer(ALICE)), dict(bearer(ROOT))]
        told = run("triton_calls.py", "repository", given=given)
        assert told["errors"][:2] == ["StatusCode.PERMISSION_DENIED", None]
        assert "must keep one version" in told["errors"][2]
        assert [one["version"] for one in told["index"]["models"]] == ["1", "2"]
        given["calls"] = [call("text", b"a")]
        given["headers"] = None
        [refused] = run("triton_calls.py", "blocking", given=given)
        assert refused["status"] == "StatusCode.UNAUTHENTICATED"
        given["headers"] = dict(bearer(ALICE))
        [answered] = run("triton_calls.py", "blocking", given=given)
        assert answered["version"] == "2"
    finally:
        process.close()
