"""Unary embedding: order, limits, per-item failures, retries, deadlines, identity."""

from __future__ import annotations

import io
import time
from pathlib import Path

import grpc
import numpy as np
import pytest
from google.rpc import error_details_pb2
from PIL import Image

from sparseclip import AsyncClient, CallError, Client, FieldViolation, Health
from tests.sparseclip.conftest import FAST
from tests.sparseclip.scripted import WIDTH, Scripted, abort, code_of, retry_info

BUSY = abort(grpc.StatusCode.UNAVAILABLE, "busy")


def test_many_items_become_calls_within_the_limits_and_keep_their_order(
    client: Client, script: Scripted
) -> None:
    images = [bytes([number]) * 3 for number in range(10)]
    texts = [f"text {number}" for number in range(7)]
    answers = client.embed(images, texts)
    assert [answer.source for answer in answers] == [f"image[{n}]" for n in range(10)] + texts
    for answer, content in zip(answers, images + [text.encode() for text in texts], strict=True):
        assert answer.indices.tolist() == code_of(content)[0]
        assert answer.values.tolist() == code_of(content)[1]
    for request in script.requests:
        kinds = [entry.WhichOneof("content") for entry in request.inputs]
        assert kinds.count("image") <= 4
        assert kinds.count("text") <= 3
    assert len(script.requests) == 5


def test_calls_stay_below_the_message_limit(client: Client, script: Scripted) -> None:
    client.embed([bytes(20 * 1024)] * 4)
    assert all(request.ByteSize() <= script.limits.message_bytes for request in script.requests)
    assert len(script.requests) == 4


def test_an_item_that_fails_does_not_fail_the_others(client: Client, tmp_path: Path) -> None:
    good = tmp_path / "good.bin"
    good.write_bytes(b"abc")
    answers = client.embed(
        [
            good,
            str(tmp_path / "missing.png"),
            "https://example.org/a.png",
            b"poison",
            bytes(31 * 1024),
            b"x",
        ],
        ["fine", "\ud800", "long" * 26],
    )
    codes = [answer.status.code.name for answer in answers]
    refused = "INVALID_ARGUMENT"
    assert codes == ["OK", "NOT_FOUND", refused, refused, refused, "OK", "OK", refused, refused]
    assert "not fetched" in answers[2].status.message
    assert str(tmp_path) not in answers[1].status.message
    assert answers[8].status.message == "text: more than 100 bytes"
    assert [len(answers.ok), len(answers.failed)] == [3, 6]


def test_to_csr_holds_the_successful_rows(client: Client) -> None:
    answers = client.embed([b"abc", b"poison", b"aab"])
    matrix = answers.to_csr()
    assert matrix.shape == (2, WIDTH)
    assert matrix.dtype == np.float32
    expected = np.zeros((2, WIDTH))
    for row, content in enumerate([b"abc", b"aab"]):
        ids, values = code_of(content)
        expected[row, ids] = values
    np.testing.assert_array_equal(matrix.toarray(), expected)
    unit = answers.to_csr(normalize=True).toarray()
    np.testing.assert_allclose(np.linalg.norm(unit, axis=1), 1.0, rtol=1e-6)


def test_to_csr_of_nothing(client: Client) -> None:
    assert client.embed([b"poison"]).to_csr().shape == (0, 0)
    assert len(client.embed()) == 0


def test_a_pil_image_is_sent_as_png(client: Client, script: Scripted) -> None:
    client.embed([Image.new("RGB", (2, 3), "red")])
    with Image.open(io.BytesIO(script.requests[0].inputs[0].image)) as sent:
        assert (sent.format, sent.size) == ("PNG", (2, 3))


def test_a_lone_path_is_refused(client: Client) -> None:
    with pytest.raises(TypeError, match="lists"):
        client.embed("cat.png")


def test_busy_servers_are_asked_again(client: Client, script: Scripted) -> None:
    script.faults = [BUSY, BUSY]
    assert client.embed([b"abc"])[0].ok
    assert script.calls == 3


def test_retries_end(client: Client, script: Scripted) -> None:
    script.faults = [BUSY] * 20
    with pytest.raises(CallError, match="UNAVAILABLE: busy"):
        client.embed([b"abc"])
    assert script.calls == FAST.attempts


def test_other_errors_are_not_retried_and_name_the_field(client: Client, script: Scripted) -> None:
    violation = error_details_pb2.BadRequest.FieldViolation(field="inputs", description="empty")
    detail = error_details_pb2.BadRequest(field_violations=[violation])
    script.faults = [abort(grpc.StatusCode.INVALID_ARGUMENT, "bad request", detail)]
    with pytest.raises(CallError, match="inputs: empty") as caught:
        client.embed([b"abc"])
    assert caught.value.violations == (FieldViolation(field="inputs", description="empty"),)
    assert script.calls == 1


def test_retry_info_is_honoured(client: Client, script: Scripted) -> None:
    client.model_info()
    script.faults = [abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "quota", retry_info(0.3))]
    began = time.monotonic()
    assert client.embed([b"abc"])[0].ok
    assert time.monotonic() - began >= 0.3


def test_a_named_delay_beyond_the_deadline_ends_the_call(client: Client, script: Scripted) -> None:
    script.faults = [abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "quota", retry_info(3600))]
    with pytest.raises(CallError) as caught:
        client.embed([b"abc"])
    assert caught.value.retry_after == 3600
    assert script.calls == 1


def test_the_deadline_ends_a_call(client: Client, script: Scripted) -> None:
    client.model_info()
    script.faults = [lambda context: time.sleep(1.0)]
    with pytest.raises(CallError) as caught:
        client.embed([b"abc"], timeout=0.1)
    assert caught.value.code is grpc.StatusCode.DEADLINE_EXCEEDED


def test_broken_details_do_not_hide_the_error(client: Client, script: Scripted) -> None:
    def fault(context: grpc.ServicerContext) -> None:
        context.set_trailing_metadata((("grpc-status-details-bin", b"\xff\xff\xff"),))
        context.abort(grpc.StatusCode.NOT_FOUND, "no such model")

    script.faults = [fault]
    with pytest.raises(CallError, match="NOT_FOUND: no such model"):
        client.embed([b"abc"])


def test_rows_of_two_versions_are_told_apart(client: Client, script: Scripted) -> None:
    assert client.embed([b"abc"])[0].width == WIDTH
    script.version = "2"
    second = client.embed([b"abc"])
    assert second[0].width == 2 * WIDTH
    assert second[0].model is not None
    assert second[0].model.version == "2"


def test_one_matrix_never_mixes_versions(client: Client, script: Scripted) -> None:
    def reload(context: grpc.ServicerContext) -> None:
        script.version = "2"

    script.faults = [lambda context: None, reload]
    answers = client.embed([b"abc"] * 5)
    with pytest.raises(ValueError, match="different models"):
        answers.to_csr()


def test_the_token_goes_with_every_call(address: str, script: Scripted) -> None:
    with Client(address, token="s3cret") as client:
        client.embed([b"abc"])
    assert script.metadata[0]["authorization"] == "Bearer s3cret"


def test_a_token_does_not_leave_the_machine_in_plaintext() -> None:
    with pytest.raises(ValueError, match="plaintext"):
        Client("example.org:443", token="s3cret")
    Client("example.org:443", token="s3cret", insecure=True).close()
    Client("[::1]:443", token="s3cret").close()


def test_health(client: Client) -> None:
    assert client.health("sparseclip.v1.EmbeddingService") is Health.SERVING
    assert client.health("asleep") is Health.NOT_SERVING
    with pytest.raises(CallError, match="NOT_FOUND"):
        client.health("nobody")


def test_no_server_is_one_clear_error(tmp_path: Path) -> None:
    with Client(f"unix:{tmp_path}/nobody", retry=FAST) as client:
        with pytest.raises(CallError) as caught:
            client.model_info()
        assert caught.value.code is grpc.StatusCode.UNAVAILABLE


async def test_asyncio_does_the_same(address: str, script: Scripted, tmp_path: Path) -> None:
    script.faults = [BUSY, BUSY]
    async with AsyncClient(address, retry=FAST, token="s3cret") as client:
        answers = await client.embed([b"abc", tmp_path / "missing", b"poison"], ["text"] * 4)
        codes = [answer.status.code.name for answer in answers[:3]]
        assert codes == ["OK", "NOT_FOUND", "INVALID_ARGUMENT"]
        assert answers.to_csr().shape == (5, WIDTH)
        assert script.metadata[0]["authorization"] == "Bearer s3cret"
        assert await client.health() is Health.SERVING
        script.faults = [abort(grpc.StatusCode.INVALID_ARGUMENT, "bad request")]
        with pytest.raises(CallError, match="INVALID_ARGUMENT"):
            await client.embed([b"abc"])
        script.faults = [BUSY] * 20
        script.calls = 0
        with pytest.raises(CallError, match="UNAVAILABLE"):
            await client.embed([b"abc"])
        assert script.calls == FAST.attempts


@pytest.mark.parametrize("timeout", [0.0, -1.0, float("nan")])
def test_a_timeout_that_is_no_time_is_refused(client: Client, address: str, timeout: float) -> None:
    with pytest.raises(ValueError, match="timeout: must be"):
        Client(address, timeout=timeout)
    with pytest.raises(ValueError, match="timeout: must be"):
        client.embed([b"abc"], timeout=timeout)
    with pytest.raises(ValueError, match="timeout: must be"):
        next(client.chat("What?", timeout=timeout))


@pytest.mark.parametrize("timeout", [float("inf"), 1e300])
def test_an_endless_timeout_is_a_long_one(client: Client, timeout: float) -> None:
    assert client.embed([b"abc"], timeout=timeout)[0].ok
